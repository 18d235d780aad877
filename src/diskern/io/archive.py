"""Zip archives: the readable file inside is unpacked to a temporary folder and read from there."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from diskern.errors import DiskernError
from diskern.io.files import bomb, fault, label, printable
from diskern.io.h5_arrays import choose
from diskern.io.recording import Recording
from diskern.io.registry import Format, formats, open_file

_MOST_MEMBERS = 10_000
_MOST_BYTES = 16 << 30
_COMPANIONS = (".hdr", ".xml", ".emi", ".ser", ".raw")


def sniff(head: bytes, path: Path) -> bool:
    """Whether the file is a zip archive."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def read_zip(path: Path, dataset: str | None = None) -> Recording:
    """Read the one dataset inside, or the member that ``dataset`` names.

    The unpacked copy lives as long as the data it backs.
    """
    with zipfile.ZipFile(path) as archive:
        members = {m.filename: m for m in archive.infolist()[:_MOST_MEMBERS] if not m.is_dir()}
        endings = {e for form in formats() for e in form.extensions} - {".hdr", ".zip"}
        readable = {
            name: ""
            for name in members
            if PurePosixPath(name).suffix.lower() in endings and not _is_companion(name, members)
        }
        name = choose(path, readable, dataset, "dataset")
        folder = Path(tempfile.mkdtemp(prefix="diskern-"))
        try:
            # Flat and under their last names only: no member can leave the folder.
            for other in _with_companions(name, members):
                _extract(path, archive, members[other], folder / _flat(other))
            recording = _open_inside(path, name, folder / _flat(name))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    weakref.finalize(recording.data, shutil.rmtree, folder, ignore_errors=True)
    return replace(recording, metadata={"archive member": name, **recording.metadata})


def _open_inside(path: Path, name: str, unpacked: Path) -> Recording:
    """Open the unpacked member; an error names the archive, not the temporary copy."""
    try:
        return open_file(unpacked)
    except DiskernError as error:
        shown = f"{label(path)} ({printable(name, 80)})"
        raise DiskernError(str(error).replace(label(unpacked), shown)) from error


def _flat(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name.replace("\0", "") or "member"


def _is_companion(name: str, members: dict[str, zipfile.ZipInfo]) -> bool:
    """Whether the member only goes with another one (``.ser`` with its ``.emi``)."""
    stem, ending = name.rpartition(".")[::2]
    if ending.lower() == "ser":
        return f"{stem.rpartition('_')[0]}.emi" in members
    return ending.lower() == "raw" and any(other.lower().endswith(".xml") for other in members)


def _with_companions(name: str, members: dict[str, zipfile.ZipInfo]) -> list[str]:
    """The member and those beside it that its reader may look for."""
    folder = PurePosixPath(name).parent
    beside = [
        other
        for other in members
        if other != name
        and PurePosixPath(other).parent == folder
        and PurePosixPath(other).suffix.lower() in _COMPANIONS
    ]
    stem = PurePosixPath(name).stem
    related = [o for o in beside if PurePosixPath(o).stem.startswith(stem) or name.endswith("xml")]
    return [name, *related]


def _extract(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    size, packed = member.file_size, member.compress_size
    if size > _MOST_BYTES or bomb(size, packed):
        raise fault(path, f"a member claims {size} bytes from {packed}", "unpack it yourself")
    if size > 0.9 * shutil.disk_usage(target.parent).free:
        raise fault(path, f"no room to unpack {size} bytes", f"make room in {target.parent.parent}")
    if member.flag_bits & 1:
        raise fault(path, "the archive is encrypted", "unpack it and give the file inside")
    with archive.open(member) as source, target.open("wb") as sink:
        written = 0
        while block := source.read(1 << 20):
            written += len(block)
            if written > size:
                raise ValueError("a member is longer than it says")
            sink.write(block)


FORMATS = (Format("zip archive", (".zip",), sniff, read_zip),)
