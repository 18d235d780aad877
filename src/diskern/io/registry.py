"""Which reader reads a file: content first, the name's ending second."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path

from diskern.io.files import check_path, fault, head_of, printable, reading
from diskern.io.recording import Recording


@dataclass(frozen=True)
class Format:
    """One format: how it is recognised and read.

    Attributes
    ----------
    name : as shown to the user.
    extensions : usual endings in lower case, with the dot.
    sniff : whether the first bytes (and, for formats without a signature, the name, the size or
        a file beside it) are this format's.
    read : gives one dataset of the file; ``dataset`` chooses where there are several.
    """

    name: str
    extensions: tuple[str, ...]
    sniff: Callable[[bytes, Path], bool]
    read: Callable[[Path, str | None], Recording]


# Formats with a signature first; those told by size or name last.
_MODULES = (
    "images", "tiff", "dm", "hdf5", "numpy_files", "archive", "blo", "mib", "ser", "smv", "cbf",
    "tvips", "mrc", "zarr_store", "empad", "emlab", "vendor",
)  # fmt: skip


@cache
def formats() -> tuple[Format, ...]:
    """All formats, in the order in which they are tried."""
    return tuple(form for name in _MODULES for form in import_module(f"diskern.io.{name}").FORMATS)


def recognise(path: str | os.PathLike[str]) -> Format:
    """The format of the file at ``path``.

    Raises
    ------
    DiskernError
        For an unreadable path or a content that no reader knows; the line says what the file
        seems to be and what to do.
    """
    checked = check_path(path)
    head = b"" if checked.is_dir() else head_of(checked)
    with reading(checked, "file"):
        for form in formats():
            if form.sniff(head, checked):
                return form
    raise _unknown(checked, head)


def open_file(path: str | os.PathLike[str], dataset: str | None = None) -> Recording:
    """Open a microscope file (or a Zarr folder).

    Parameters
    ----------
    path : the file.
    dataset : which dataset of a file that holds several: a path inside HDF5 and Zarr, the
        member of a zip or npz, the number of an image of a DM or TIFF file.

    Raises
    ------
    DiskernError
        One line with the file's name, what is wrong with it and what would mend it.
    """
    checked = check_path(path)
    form = recognise(checked)
    with reading(checked, form.name):
        recording = form.read(checked, dataset)
    claimed = _claimed(checked)
    if claimed and form.name not in {f.name for f in claimed}:
        note = f"named {checked.suffix} but the content is {form.name}"
        recording = replace(recording, notes=(note, *recording.notes))
    return recording


def _claimed(path: Path) -> list[Format]:
    ending = path.suffix.lower()
    return [form for form in formats() if ending in form.extensions]


_TEXT_MENDS = {
    ".cif": "give it with --candidates or --crystal",
    ".hdr": "give the .mib file beside it",
}


def _unknown(path: Path, head: bytes) -> Exception:
    ending = path.suffix.lower()
    if path.is_dir():
        return fault(path, "a folder, not a file", "give one file, or a Zarr folder")
    if ending in _TEXT_MENDS:
        return fault(path, f"a {ending} file holds no image", _TEXT_MENDS[ending])
    if ending in (".raw", ".bin", ".dat", ".img"):
        mend = "load it with numpy.fromfile(…).reshape(…) and save it with numpy.save"
        return fault(path, "raw numbers without a header, so shape and type are unknown", mend)
    if claimed := _claimed(path):
        start = printable(head[:12].hex(" "))
        return fault(path, f"no {claimed[0].name} file (it starts with {start})")
    if head.isascii() and not any(b < 9 for b in head):
        return fault(path, "a text, not a diffraction image", "give an image or microscope file")
    known = "png jpg tif dm3 dm4 mrc ser emi blo mib tvips img cbf raw emd hspy h5 npy npz zarr zip"
    return fault(path, "not a format that can be read", f"convert it to one of: {known}")
