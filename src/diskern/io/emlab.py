"""The EMLab ``.img`` file: four 16-bit numbers, then little-endian float32 pixels.

Layout inferred from the sample of pyemaps: columns, rows, bytes per pixel (4), type (2 = real).
"""

from __future__ import annotations

import struct
from pathlib import Path

from diskern.io.calibration import Stated, finish
from diskern.io.files import refuse_dataset
from diskern.io.lazy import RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_HEADER = struct.Struct("<4H")
_FLOAT32 = (4, 2)


def sniff(head: bytes, path: Path) -> bool:
    """Whether the four numbers describe exactly the bytes that follow."""
    if len(head) < _HEADER.size:
        return False
    columns, rows, *kind = _HEADER.unpack_from(head)
    size = _HEADER.size + 4 * columns * rows
    return tuple(kind) == _FLOAT32 and min(rows, columns) > 0 and path.stat().st_size == size


def read_emlab(path: Path, dataset: str | None = None) -> Recording:
    """Read the image; the file states no calibration."""
    refuse_dataset(path, dataset, "EMLab image")
    with path.open("rb") as stream:
        columns, rows, *_ = _HEADER.unpack(stream.read(_HEADER.size))
    data = RawArray(path, "<f4", (rows, columns), _HEADER.size)
    return finish(path, data, "EMLab image", Stated())


FORMATS = (Format("EMLab image", (".img",), sniff, read_emlab),)
