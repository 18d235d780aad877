"""TVIPS recordings (``.tvips``): one file, or a run ``name_000.tvips``, ``name_001.tvips``, …

Layout: a header of 256 bytes in the first file, then per frame a header and the pixels.  The
header states the detector's physical pixel in nm and, in diffraction, the camera length in mm.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern import physics
from diskern.io.calibration import Stated, finish, pixel_on_screen
from diskern.io.files import fault, refuse_dataset
from diskern.io.lazy import FrameStack, LazyArray, RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_HEADER = struct.Struct("<13I")
_NAMES = (
    "size", "version", "columns", "rows", "bits", "offset_x", "offset_y", "binning_x",
    "binning_y", "physical_pixel", "voltage", "magnification", "frame_header",
)  # fmt: skip
_PIXELS = {8: "u1", 16: "<u2", 32: "<u4"}
_MODE_AT, _DIFFRACTION = 24, 2
_FIRST_VERSION_FRAME_HEADER = 12


def _described(head: bytes) -> dict[str, int]:
    return dict(zip(_NAMES, _HEADER.unpack_from(head), strict=True))


def sniff(head: bytes, path: Path) -> bool:
    """Whether the numbers at the start are those of a TVIPS header."""
    if len(head) < 256:
        return False
    said = _described(head)
    sane = said["version"] in (1, 2) and said["bits"] in _PIXELS and said["size"] == 256
    return sane and 0 < said["columns"] < 1 << 17 and 0 < said["rows"] < 1 << 17


def read_tvips(path: Path, dataset: str | None = None) -> Recording:
    """Read the stack lazily, over all files of the run."""
    refuse_dataset(path, dataset, "TVIPS")
    with path.open("rb") as stream:
        said = _described(stream.read(_HEADER.size))
        stream.seek(said["size"])
        first = stream.read(64)
    rows, columns = said["rows"], said["columns"]
    extra = said["frame_header"] if said["version"] == 2 else _FIRST_VERSION_FRAME_HEADER
    dtype = np.dtype(_PIXELS[said["bits"]])
    record = extra + rows * columns * dtype.itemsize
    files = _run_of(path)
    counts = [
        (file.stat().st_size - (said["size"] if i == 0 else 0)) // record
        for i, file in enumerate(files)
    ]
    if counts[0] < 1:
        raise fault(path, f"truncated TVIPS: no whole frame of {rows}×{columns} px")
    load = _Frames(tuple(files), tuple(counts), said["size"], extra, (rows, columns), dtype)
    data: LazyArray
    if len(files) == 1:
        strides = (record, columns * dtype.itemsize, dtype.itemsize)
        start = said["size"] + extra
        data = RawArray(path, dtype, (counts[0], rows, columns), start, strides)
    else:
        data = FrameStack(path, (sum(counts),), (rows, columns), dtype.newbyteorder("="), load)
    return finish(path, data, "TVIPS", _stated(said, first, extra))


def _run_of(path: Path) -> list[Path]:
    """The files of the run that starts with ``path``."""
    named = re.fullmatch(r"(.*_)000", path.stem)
    if named is None:
        return [path]
    following = (path.with_name(f"{named[1]}{i:03d}{path.suffix}") for i in count(1))
    files = [path]
    for other in following:
        if not other.is_file():
            return files
        files.append(other)
    return files


@dataclass(frozen=True)
class _Frames:
    """Reads one frame of a run."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    file_header: int
    frame_header: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __call__(self, index: int) -> NDArray[Any]:
        which = int(np.searchsorted(np.cumsum(self.counts), index, side="right"))
        within = index - sum(self.counts[:which])
        record = self.frame_header + self.shape[0] * self.shape[1] * self.dtype.itemsize
        start = (self.file_header if which == 0 else 0) + within * record + self.frame_header
        return RawArray(self.files[which], self.dtype, self.shape, start)[...]


def _stated(said: dict[str, int], first: bytes, extra: int) -> Stated:
    # Programs write volts or kilovolts; no microscope runs at 5 kV or 5 MV in diffraction.
    energy = said["voltage"] * (1e3 if said["voltage"] < 5000 else 1.0)
    stated = Stated(energy=energy or None, metadata=said)
    has_mode = extra > _MODE_AT + 4 and len(first) >= _MODE_AT + 4
    if has_mode and struct.unpack_from("<I", first, _MODE_AT)[0] == _DIFFRACTION:
        length, pixel = said["magnification"] * 1e-3, said["physical_pixel"] * 1e-9
        stated.camera_length = length or None
        if length and pixel and 1e3 <= energy <= 1e7:
            binned = pixel * max(said["binning_x"], 1)
            stated.pixel_size = pixel_on_screen(binned, length, physics.wavelength(energy))
    elif has_mode:
        stated.notes.append("recorded in an imaging mode, by the file's own account")
    return stated


FORMATS = (Format("TVIPS", (".tvips",), sniff, read_tvips),)
