"""SMV (``.img``): a text header in braces, then 16-bit pixels; used by 3D-ED cameras.

Header words as in the ADSC and Stockholm (cRED) files: lengths in mm, wavelength in Å.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from diskern.io.calibration import Stated, energy_of_wavelength, finish, number, pixel_on_screen
from diskern.io.files import fault, refuse_dataset
from diskern.io.lazy import RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_START = re.compile(rb"\{\s*HEADER_BYTES\s*=\s*(\d{1,6})\s*;", re.IGNORECASE)
_ENTRY = re.compile(r"([A-Za-z]\w*)\s*=\s*([^;]*);")
_TYPES = {
    "unsigned_short": "u2",
    "signed_short": "i2",
    "unsigned_long": "u4",
    "long_integer": "i4",
    "signed_long": "i4",
    "unsigned_char": "u1",
    "float": "f4",
}


def sniff(head: bytes, path: Path) -> bool:
    """Whether the file starts with ``{`` and HEADER_BYTES."""
    return _START.match(head) is not None


def read_smv(path: Path, dataset: str | None = None) -> Recording:
    """Read one SMV frame with the calibration of its header."""
    refuse_dataset(path, dataset, "SMV")
    header, start = _header(path)
    kind = _TYPES.get(header.get("TYPE", "unsigned_short").lower())
    if kind is None:
        raise fault(path, f"SMV pixels of type {header['TYPE'][:40]!r}", "convert it to TIFF")
    big = header.get("BYTE_ORDER", "little_endian").lower().startswith("big")
    rows, columns = int(header["SIZE2"]), int(header["SIZE1"])
    data = RawArray(path, f"{'>' if big else '<'}{kind}", (rows, columns), start)

    wavelength = number(header.get("WAVELENGTH"))
    energy = energy_of_wavelength(wavelength) if wavelength else None
    pixel, distance = number(header.get("PIXEL_SIZE")), number(header.get("DISTANCE"))
    scale = None
    if energy and wavelength and pixel and distance and min(pixel, distance) > 0:
        scale = pixel_on_screen(pixel, distance, wavelength)
    stated = Stated(
        pixel_size=scale,
        energy=energy,
        camera_length=distance / 1e3 if distance else None,
        centre=_centre(header, pixel, (rows, columns)),
        metadata=header,
    )
    return finish(path, data, "SMV", stated)


def _header(path: Path) -> tuple[dict[str, str], int]:
    with path.open("rb") as stream:
        head = stream.read(64)
        match = _START.match(head)
        start = int(match[1]) if match else 0
        text = (head + stream.read(max(0, start - 64)))[:start].decode("latin-1")
    header = {key.upper(): value.strip() for key, value in _ENTRY.findall(text)}
    for needed in ("SIZE1", "SIZE2"):
        if not header.get(needed, "").isdecimal():
            raise fault(path, f"SMV header without {needed}")
    return header, start


def _centre(
    header: Mapping[str, str], pixel: float | None, shape: tuple[int, int]
) -> tuple[float, float] | None:
    """(row, column) of BEAM_CENTER, which is in mm for ADSC and in pixels in Stockholm's files.

    Read as mm it must fall on the detector, else it was in pixels; DENZO_X_BEAM, always in mm,
    decides where a file has both.
    """
    x, y = number(header.get("BEAM_CENTER_X")), number(header.get("BEAM_CENTER_Y"))
    if x is None or y is None:
        return None
    denzo = number(header.get("DENZO_X_BEAM"))
    millimetres = (
        bool(pixel) and 0 < x / (pixel or 1) < shape[1] and 0 < y / (pixel or 1) < shape[0]
    )
    if pixel and denzo is not None and abs(x * pixel - denzo) < 0.6 * pixel:
        millimetres = False
    return (y / pixel, x / pixel) if millimetres and pixel else (y, x)


FORMATS = (Format("SMV", (".img",), sniff, read_smv),)
