"""FEI TIA series (``.ser``), and the ``.emi`` that goes with them.

Layout after the public description by C. Boothroyd ("ser file format"): a header, the scan's
dimensions, the offset of each frame, and per frame 50 bytes of calibration before the pixels.
Frames are stored bottom row first.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.io.calibration import Axis, Stated, finish, number
from diskern.io.files import Cursor, fault, printable, refuse_dataset
from diskern.io.lazy import FrameStack, LazyArray, RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_SIGNATURE = b"II\x97\x01"
_IMAGES = 0x4122
_WIDE_OFFSETS = 0x220
_PIXELS = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8"}
_FRAME_HEADER = 50
_MOST_FRAMES = 50_000_000


@dataclass(frozen=True)
class _Series:
    """The header: scan axes (slowest first) with their sizes, and where the frames lie."""

    sizes: tuple[int, ...]
    axes: tuple[Axis, ...]
    offsets: NDArray[np.int64]


def sniff(head: bytes, path: Path) -> bool:
    """Whether the file has the TIA signature."""
    return head.startswith(_SIGNATURE)


def read_ser(path: Path, dataset: str | None = None) -> Recording:
    """Read an image, a series or a scan; energy and camera length come from an ``.emi`` beside."""
    refuse_dataset(path, dataset, "SER")
    with Cursor(path) as cursor:
        series = _header(path, cursor)
        cursor.seek(int(series.offsets[0]))
        off_x, step_x, at_x, off_y, step_y, at_y = cursor.unpack("<ddiddi")
        kind, columns, rows = cursor.unpack("<hii")
    if kind not in _PIXELS:
        raise fault(path, f"holds pixels of SER type {kind}", "save real numbers")
    dtype = np.dtype(_PIXELS[kind])
    data = _frames(path, series, dtype, (rows, columns))
    # The unit is metre or 1/metre and not said; a pixel of more than a metre is reciprocal.
    unit = "1/m" if min(abs(step_x), abs(step_y)) > 1 else "m"
    stated = Stated(
        detector=(
            Axis(-step_y, unit, off_y - at_y * step_y + (rows - 1) * step_y),
            Axis(step_x, unit, off_x - at_x * step_x),
        ),
        scan=(series.axes[0], series.axes[1]) if len(series.sizes) == 2 else None,
    )
    beside = _emi_beside(path)
    if beside is not None:
        _from_emi(beside, stated)
    return finish(path, data, "SER", stated)


def read_emi(path: Path, dataset: str | None = None) -> Recording:
    """Read the series that belongs to an ``.emi``; ``dataset`` is its number (1, 2, …)."""
    stem = path.stem
    series = sorted(
        other for other in path.parent.iterdir()
        if other.suffix.lower() == ".ser" and other.stem.startswith(f"{stem}_")
        and other.stem[len(stem) + 1 :].isdecimal()
    )  # fmt: skip
    if not series:
        raise fault(path, f"its pixels are in {stem}_1.ser, which is not there", "copy both files")
    if dataset is None:
        chosen = series[0]
    else:
        chosen = path.with_name(f"{stem}_{dataset}.ser")
        if chosen not in series:
            wrong = f"no series {printable(dataset, 40)!r}"
            raise fault(path, wrong, f"give 1 to {len(series)}")
    recording = read_ser(chosen)
    if len(series) > 1 and dataset is None:
        note = f"first of {len(series)} series; choose another by dataset"
        recording = replace(recording, notes=(note, *recording.notes))
    return recording


def _header(path: Path, cursor: Cursor) -> _Series:
    cursor.seek(4)
    version, kind, _tag, _total, valid = cursor.unpack("<hiiii")
    where = cursor.one("<i" if version < _WIDE_OFFSETS else "<q")
    dimensions = cursor.one("<i")
    if kind != _IMAGES:
        raise fault(path, "holds spectra, not images", "give a diffraction image")
    if not (0 < valid <= _MOST_FRAMES and 0 <= dimensions <= 8):
        raise ValueError(f"{valid} frames in {dimensions} dimensions")
    sizes, axes = [], []
    for _ in range(dimensions):
        size, offset, step, _at = cursor.unpack("<iddi")
        cursor.skip(cursor.one("<i"))  # description
        unit = cursor.take(cursor.one("<i")).decode("latin-1")
        sizes.append(size)
        axes.append(Axis(step, unit, offset))
    cursor.seek(where)
    width = 4 if version < _WIDE_OFFSETS else 8
    offsets = np.frombuffer(cursor.take(width * valid), f"<i{width}").astype(np.int64)
    if math.prod(sizes) != valid or min(sizes, default=0) < 1:
        sizes, axes = [valid], axes[:1]  # an aborted scan is kept as a row of frames
    return _Series(tuple(sizes[::-1]), tuple(axes[::-1]), offsets)


def _frames(path: Path, series: _Series, dtype: np.dtype[Any], shape: tuple[int, int]) -> LazyArray:
    """The frames with their top row first; mapped where they lie evenly, else read one by one."""
    rows, columns = shape
    line = columns * dtype.itemsize
    scan = tuple(n for n in series.sizes if n > 1)
    if len(scan) > 2:
        scan = (math.prod(scan),)
    first = int(series.offsets[0]) + _FRAME_HEADER + (rows - 1) * line
    steps = np.unique(np.diff(series.offsets))
    if len(steps) > 1:
        load = _Frame(path, dtype, shape, tuple(int(o) for o in series.offsets))
        load(len(series.offsets) - 1)  # the last frame must be there
        return FrameStack(path, scan, shape, dtype.newbyteorder("="), load)
    step = int(steps[0]) if len(steps) else 0
    strides = tuple(math.prod(scan[i + 1 :]) * step for i in range(len(scan)))
    return RawArray(path, dtype, (*scan, rows, columns), first, (*strides, -line, dtype.itemsize))


@dataclass(frozen=True)
class _Frame:
    """Reads one frame of an unevenly stored series."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    offsets: tuple[int, ...]

    def __call__(self, index: int) -> NDArray[Any]:
        raw = RawArray(self.path, self.dtype, self.shape, self.offsets[index] + _FRAME_HEADER)
        return raw[::-1]


def _emi_beside(path: Path) -> Path | None:
    stem = re.sub(r"_\d+$", "", path.stem)
    beside = path.with_name(f"{stem}.emi")
    return beside if beside != path and beside.is_file() else None


_EMI_WORDS = {
    "AcceleratingVoltage": re.compile(rb"<AcceleratingVoltage>\s*([-+.\deE]{1,30})\s*<"),
    "Camera length": re.compile(
        rb"<Label>Camera length</Label>\s*<Value>\s*([-+.\deE]{1,30})\s*</Value>"
    ),
    "Mode": re.compile(rb"<Label>Mode</Label>\s*<Value>([^<]{1,80})</Value>"),
    "Microscope": re.compile(rb"<Label>Microscope</Label>\s*<Value>([^<]{1,80})</Value>"),
}
_MOST_EMI_BYTES = 64 << 20


def _from_emi(path: Path, stated: Stated) -> None:
    """Energy (V) and camera length (m) from the words of an ``.emi``, whose rest is not public."""
    with path.open("rb") as stream:
        text = stream.read(_MOST_EMI_BYTES)
    words = {name: match[1] for name, form in _EMI_WORDS.items() if (match := form.search(text))}
    stated.energy = number(words.get("AcceleratingVoltage"))
    stated.camera_length = number(words.get("Camera length"))
    stated.metadata = {**stated.metadata, **words}


def _is_emi(head: bytes, path: Path) -> bool:
    return head.startswith(b"JK") and path.suffix.lower() == ".emi"


FORMATS = (
    Format("SER", (".ser",), sniff, read_ser),
    Format("EMI", (".emi",), _is_emi, read_emi),
)
