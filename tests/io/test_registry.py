"""Recognition by content, and the one line that every unusable input gives."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from microscope_files import blo_file, dm_file, frames, mib_file, mrc_file, ser_file, smv_file

from diskern import DiskernError
from diskern.io import formats, open_file, recognise

PLAIN = [(1.0, 0.0, "")] * 2


def _refusal(path: object, dataset: str | None = None) -> str:
    """The error's text, after checking its form."""
    with pytest.raises(DiskernError) as caught:
        open_file(path, dataset)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text  # what is wrong; what mends it
    assert len(text) < 700
    return text


@pytest.mark.parametrize("ending", ["tif", "png", "h5", "mib", "raw", "cif", "", "DM4"])
@pytest.mark.parametrize(
    ("content", "name"),
    [(dm_file(frames(64, 80), PLAIN), "DM4"), (mib_file(frames(1, 64, 64)), "Merlin"),
     (mrc_file(frames(1, 20, 30)), "MRC"), (smv_file(frames(20, 30), {}), "SMV"),
     (ser_file(frames(1, 20, 30)), "SER"),
     (blo_file(frames(1, 1, 20, 20, dtype=np.uint8)), "blockfile")],
    ids=["dm", "mib", "mrc", "smv", "ser", "blo"],
)  # fmt: skip
def test_content_decides_over_the_name(
    tmp_path: Path, content: bytes, name: str, ending: str
) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    recording = open_file(path)
    assert recording.format == name
    fits = {"mib": "Merlin", "DM4": "DM4"}.get(ending) == name
    renamed = any("but the content is" in note for note in recording.notes)
    assert renamed == (not fits and ending not in ("", "cif"))


def test_every_format_is_complete() -> None:
    assert len(formats()) > 15
    for form in formats():
        assert form.name
        assert all(e.startswith(".") and e == e.lower() for e in form.extensions)
        assert form.sniff(b"", Path(__file__)) is False
        assert form.sniff(b"\0" * 4096, Path(__file__)) is False


def test_recognise(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(mib_file(frames(1, 64, 64)))
    assert recognise(str(path)).name == "Merlin"


# --- paths --------------------------------------------------------------------------------------
def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in _refusal(tmp_path / "none.dm4")


def test_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a.dm4").symlink_to(tmp_path / "b.dm4")
    (tmp_path / "b.dm4").symlink_to(tmp_path / "a.dm4")
    assert "a.dm4" in _refusal(tmp_path / "a.dm4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "no permission" in _refusal(path)


def test_devices_and_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dm4")
    assert "device or pipe" in _refusal(tmp_path / "pipe.dm4")
    assert "device or pipe" in _refusal("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "device or pipe" in _refusal(tmp_path / "s")


@pytest.mark.parametrize("path", ["a\0b.dm4", "x" * 5000, "", "a\nb.dm4", b"bytes.dm4", 3])
def test_odd_paths(path: object) -> None:
    _refusal(path)


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe\n.dm4"
    path = os.fsdecode(name)
    with open(name, "wb") as stream:
        stream.write(b"nothing")
    _refusal(path).encode()  # can be printed


# --- contents -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.dm4", b"", "empty file"),
        ("a.dm4", b"\0\0\0\5" + bytes(100), "no DM4 file (it starts with 00 00 00 05"),
        ("a.txt", b"1 2 3\n4 5 6\n", "a text, not a diffraction image"),
        ("a.cif", b"data_Al\n", "--candidates"),
        ("a.raw", b"\1\2" * 5000, "raw numbers without a header"),
        ("a.bin", bytes(5000), "raw numbers without a header"),
        ("a.hdr", b"HDR,\t\r\n", "give the .mib file"),
        ("a.xyz", bytes(5000), "not a format that can be read"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "truncated or damaged PNG"),
        ("a.tif", b"II*\0", "truncated or damaged TIFF"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "truncated or damaged HDF5"),
        ("a.blo", b"IMGBLO", "truncated or damaged blockfile"),
        ("a.mib", b"MQ1,000001,00384,", "truncated or damaged Merlin"),
        ("a.img", b"{\nHEADER_BYTES=512;\n", "SMV header without SIZE1"),
        ("a.img", bytes(5000), "raw numbers without a header"),
    ],
)
def test_unusable_contents(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    text = _refusal(path)
    assert name in text
    assert why in text


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, 1),
               (273, 4, 8), (277, 3, 1), (278, 4, height),
               (279, 4, 2 * width * height % 2**32)]  # fmt: skip
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def _dm(dims: tuple[int, int]) -> bytes:
    content = dm_file(frames(64, 80), PLAIN)
    old = struct.pack("<I", 80), struct.pack("<I", 64)
    at = content.rindex(old[0], 0, content.rindex(b"Name"))
    return content[:at] + struct.pack("<I", dims[0]) + content[at + 4 :]


def _patched(content: bytes, at: int, layout: str, *values: int) -> bytes:
    raw = bytearray(content)
    struct.pack_into(layout, raw, at, *values)
    return bytes(raw)


HUGE: dict[str, Callable[[], bytes]] = {
    "a.png": lambda: _png(60_000, 60_000),
    "b.png": lambda: _png(12_000, 12_000),
    "a.tif": lambda: _tiff(60_000, 60_000),
    "b.tif": lambda: _tiff(12_000, 12_000),
    "a.dm4": lambda: _dm((0x7FFFFFFF, 64)),
    "a.mrc": lambda: _patched(mrc_file(frames(2, 20, 30)), 0, "<3i", 1_000_000, 1_000_000, 1000),
    "b.mrc": lambda: _patched(mrc_file(frames(2, 20, 30)), 92, "<i", -5),
    "c.mrc": lambda: _patched(mrc_file(frames(2, 20, 30)), 92, "<i", 2**31 - 1),
    "a.blo": lambda: _patched(blo_file(frames(1, 1, 20, 20, dtype=np.uint8)), 20, "<H", 65535),
    "a_1.ser": lambda: _patched(ser_file(frames(2, 20, 30)), 14, "<2i", 2**31 - 1, 2**31 - 1),
    "b_1.ser": lambda: _patched(ser_file(frames(2, 20, 30)), 22, "<i", -1),
    "a.mib": lambda: mib_file(frames(1, 64, 64)).replace(b",0064,0064,", b",9999,9999,"),
    "a.img": lambda: smv_file(frames(20, 30), {"SIZE1": 10**9, "SIZE2": 10**9}),
    "b.img": lambda: smv_file(frames(20, 30), {"SIZE1": "9" * 4000}),
    "a.bmp": lambda: b"BM" + struct.pack("<4I2i2H", 954, 0, 54, 40, 50000, 50000, 1, 8).ljust(900),
    "a.gif": lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0," + bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_huge_claims_are_refused_without_allocating(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HUGE[name]())
    formats()
    tracemalloc.start()
    try:
        text = _refusal(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert name in text
    assert peak < 30e6


def test_a_dataset_of_a_file_that_holds_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib_file(frames(1, 64, 64)))
    assert "leave it out" in _refusal(path, "entry/data")


def test_tiff_offsets_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames(20, 30), metadata=None)
    raw = bytearray(path.read_bytes())
    at = struct.unpack_from("<I", raw, 4)[0]
    count = struct.unpack_from("<H", raw, at)[0]
    struct.pack_into("<I", raw, at + 2 + 12 * count, at)  # the next page is this one
    path.write_bytes(raw)
    assert open_file(path).data.shape == (20, 30)


@pytest.mark.parametrize(
    ("ending", "package"), [("rpl", "rsciio.ripple"), ("unf", "rsciio.semper")]
)
def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"key\tvalue\nwidth\t2\ndata-length\t1\n" + bytes(1000))
    assert "pip install diskern[io]" in _refusal(path)


def test_opening_an_image_loads_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib_file(frames(1, 64, 64)))
    code = (
        "import sys; from diskern.patterns.read import read; read(sys.argv[1]); "
        "print([m for m in ('torch','h5py','PIL','tifffile','rsciio','zarr','matplotlib','scipy')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
