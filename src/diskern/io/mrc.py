"""MRC/CCP4 images and stacks (MRC2014, Cheng et al., J. Struct. Biol. 192, 146 (2015)).

The extended headers ``FEI1`` and ``FEI2`` of Thermo Fisher's programs state energy, camera length
and, in diffraction mode, the pixel in 1/m.
"""

from __future__ import annotations

import struct
from pathlib import Path

from diskern.io.calibration import Axis, Stated, finish
from diskern.io.files import Cursor, fault, refuse_dataset
from diskern.io.lazy import RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_HEADER_BYTES = 1024
_PIXELS = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_ENDINGS = (".mrc", ".mrcs", ".map", ".ali", ".st", ".rec")
# Offsets within the FEI extended header, always little-endian in practice.
_FEI_ENERGY, _FEI_PIXEL, _FEI_PROJECTION, _FEI_LENGTH = 84, 156, 248, 301
_FEI_DIFFRACTION = 1


def _order(head: bytes) -> str | None:
    """``<`` or ``>`` by the first four numbers, or None where they are no MRC's."""
    if len(head) < 224:
        return None
    for order in "<>":
        *shape, mode = struct.unpack_from(f"{order}4i", head)
        if mode in (*_PIXELS, 3, 4, 101) and all(0 < n < 1 << 20 for n in shape):
            return order
    return None


def sniff(head: bytes, path: Path) -> bool:
    """Whether ``MAP`` stands at its place; files of before 2000 go by name and plausible sizes."""
    marked = head[208:211] == b"MAP"
    return marked or (path.suffix.lower() in _ENDINGS and _order(head) is not None)


def read_mrc(path: Path, dataset: str | None = None) -> Recording:
    """Read an image or a stack, lazily."""
    refuse_dataset(path, dataset, "MRC")
    with Cursor(path) as cursor:
        head = cursor.take(_HEADER_BYTES)
        order = _order(head)
        if order is None:
            raise ValueError("impossible sizes or mode in the header")
        nx, ny, nz, mode = struct.unpack_from(f"{order}4i", head)
        mx, my = struct.unpack_from(f"{order}2i", head, 28)
        cell = struct.unpack_from(f"{order}2f", head, 40)
        extended = struct.unpack_from(f"{order}i", head, 92)[0]
        kind = head[104:108]
        if mode not in _PIXELS:
            raise fault(path, f"holds MRC mode {mode} (complex or packed)", "save real numbers")
        if extended < 0:
            raise ValueError(f"extended header of {extended} bytes")
        more = cursor.take(min(extended, 1024, cursor.size - _HEADER_BYTES))
    data = RawArray(path, order + _PIXELS[mode], (nz, ny, nx), _HEADER_BYTES + extended)
    stated = Stated(metadata={"mode": mode, "labels": head[224:304].strip(b"\0 ")})
    if kind in (b"FEI1", b"FEI2"):
        _from_fei(more, stated)
    elif mx > 0 and my > 0 and cell[0] > 0 and cell[1] > 0:
        stated.detector = (Axis(cell[1] / my, "Å"), Axis(cell[0] / mx, "Å"))
    return finish(path, data, "MRC", stated)


def _from_fei(header: bytes, stated: Stated) -> None:
    if len(header) < _FEI_LENGTH + 8:
        return
    energy = struct.unpack_from("<d", header, _FEI_ENERGY)[0]
    columns, rows = struct.unpack_from("<2d", header, _FEI_PIXEL)
    diffraction = struct.unpack_from("<i", header, _FEI_PROJECTION)[0] == _FEI_DIFFRACTION
    stated.energy = energy
    unit = "1/m" if diffraction else "m"
    if rows > 0 and columns > 0:
        stated.detector = (Axis(rows, unit), Axis(columns, unit))
    if diffraction:
        stated.camera_length = struct.unpack_from("<d", header, _FEI_LENGTH)[0]


FORMATS = (Format("MRC", _ENDINGS, sniff, read_mrc),)
