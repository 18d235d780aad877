"""Quantum Detectors Merlin (Medipix) files, ``.mib``.

Every frame follows an ASCII header (``MQ1,`` number, header bytes, chips, columns, rows, type,
layout …).  ``U08``/``U16``/``U32`` frames are finished big-endian images; ``R64`` frames are as
the chips deliver them: 64-bit words with their pixels in reverse, and for four chips side by side
as 4 3 2 1 with the lower two turned by 180°.  Frames are stored bottom row first, as Merlin's own
display shows.  A ``.hdr`` beside the file states the scan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.io.calibration import Stated, finish
from diskern.io.files import fault, printable, refuse_dataset
from diskern.io.lazy import FrameStack, LazyArray, RawArray, Reshaped
from diskern.io.recording import Recording
from diskern.io.registry import Format

_FINISHED = {"U01": "u1", "U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
_RAW_BITS = {1: "u1", 6: "u1", 12: "u2", 24: "u4"}
_CHIP = 256
_LONGEST_HEADER = 16384
_PAUSES_LOOKED_AT = 4096


@dataclass(frozen=True)
class _Header:
    """The header of the first frame."""

    bytes: int
    shape: tuple[int, int]
    kind: str
    layout: str
    chips: int
    depth: int
    words: tuple[str, ...]

    @property
    def raw(self) -> bool:
        """Whether the frames still have the order of the chips."""
        return self.kind.startswith("R")

    @property
    def frame_bytes(self) -> int:
        """Bytes of the pixels of one frame."""
        rows, columns = self.shape
        if not self.raw:
            return rows * columns * np.dtype(_FINISHED[self.kind]).itemsize
        bits = {1: 1, 6: 8, 12: 16, 24: 16}[self.depth]  # 24: columns counts both halves
        return rows * columns * bits // 8


def sniff(head: bytes, path: Path) -> bool:
    """Whether the file starts with a Merlin frame header."""
    return re.match(rb"MQ1,\d+,\d{3,6},", head) is not None


def read_mib(path: Path, dataset: str | None = None) -> Recording:
    """Read a frame, a stack or (with a ``.hdr`` or regular line pauses) a scan, lazily."""
    refuse_dataset(path, dataset, "Merlin")
    header = _header(path)
    stride = header.bytes + header.frame_bytes
    count, rest = divmod(path.stat().st_size, stride)
    if count == 0:
        raise fault(path, f"truncated Merlin: {path.stat().st_size} of {stride} bytes of a frame")
    stated = Stated(metadata=_about(header))
    if rest:
        stated.notes.append("the last frame is incomplete and left out")
    data: LazyArray = _raw(path, header, count) if header.raw else _finished(path, header, count)
    scan = _scan_shape(path, header, count, stated) if count > 1 else None
    if scan is not None:
        data = Reshaped(data, scan)
    return finish(path, data, "Merlin", stated)


def _header(path: Path) -> _Header:
    with path.open("rb") as stream:
        head = stream.read(_LONGEST_HEADER)
    size = int(head.split(b",", 3)[2])
    words = tuple(w.strip() for w in head[:size].decode("latin-1").strip("\0 ").split(","))
    kind, layout = words[6], words[7]
    depths = [int(w) for w in words[-3:] if w.isdecimal()]
    header = _Header(
        bytes=size,
        shape=(int(words[5]), int(words[4])),
        kind=kind,
        layout=layout,
        chips=int(words[3]),
        depth=depths[-1] if depths else 0,
        words=words,
    )
    if not (0 < size <= len(head) and min(header.shape) > 0):
        raise ValueError(f"header of {size} bytes, frames of {header.shape}")
    if not (kind in _FINISHED or (kind == "R64" and header.depth in _RAW_BITS)):
        raise fault(path, f"Merlin frames of type {kind[:8]}", "export them as U16 from Merlin")
    return header


def _about(header: _Header) -> dict[str, Any]:
    names = {3: "chips", 6: "type", 7: "layout", 9: "time", 10: "exposure (s)"}
    words = header.words
    return {name: words[i] for i, name in names.items() if i < len(words)} | {
        "counter depth": header.depth
    }


def _finished(path: Path, header: _Header, count: int) -> LazyArray:
    rows, columns = header.shape
    dtype = np.dtype(_FINISHED[header.kind])
    line = columns * dtype.itemsize
    stride = header.bytes + rows * line
    first = header.bytes + (rows - 1) * line
    return RawArray(path, dtype, (count, rows, columns), first, (stride, -line, dtype.itemsize))


def _raw(path: Path, header: _Header, count: int) -> LazyArray:
    rows, columns = header.shape
    columns //= 2 if header.depth == 24 else 1
    quad = header.chips == 4 and header.layout.startswith("2x2") and columns == 4 * rows
    if quad:
        shape = (2 * rows, 2 * rows)
    elif header.chips == 1:
        shape = (rows, columns)
    else:
        what = f"raw Merlin frames of {header.chips} chips as {printable(header.layout, 12)}"
        raise fault(path, what, "export them as U16 from Merlin")
    if columns % 64:
        raise ValueError(f"raw rows of {columns} pixels")
    decode = _RawFrame(path, header.bytes, header.frame_bytes, (rows, columns), header.depth, quad)
    return FrameStack(path, (count,), shape, _RAW_BITS[header.depth], decode)


@dataclass(frozen=True)
class _RawFrame:
    """Decodes one R64 frame."""

    path: Path
    header_bytes: int
    frame_bytes: int
    shape: tuple[int, int]
    depth: int
    quad: bool

    def __call__(self, index: int) -> NDArray[Any]:
        with self.path.open("rb") as stream:
            stream.seek(index * (self.header_bytes + self.frame_bytes) + self.header_bytes)
            packed = np.frombuffer(stream.read(self.frame_bytes), np.uint8)
        if self.depth == 24:
            high, low = packed.reshape(2, -1)
            image = self._unpack(high, 12).astype(np.uint32) << 12
            image += self._unpack(low, 12)
        else:
            image = self._unpack(packed, self.depth)
        if self.quad:
            image = _join_chips(image)
        return image[::-1]

    def _unpack(self, packed: NDArray[np.uint8], depth: int) -> NDArray[Any]:
        if depth == 1:
            bits = np.unpackbits(packed.reshape(-1, 8)[:, ::-1], axis=1, bitorder="little")
            return bits.reshape(self.shape)
        if depth == 6:
            return packed.reshape(-1, 8)[:, ::-1].reshape(self.shape)
        words = packed.view(">u2").reshape(-1, 4)[:, ::-1]
        return words.reshape(self.shape).astype(np.uint16)


def _join_chips(side_by_side: NDArray[Any]) -> NDArray[Any]:
    """(N, 4N) chips in the order 4 3 2 1 to the (2N, 2N) detector: 1 2 above, 3 4 turned below."""
    fourth, third, second, first = np.hsplit(side_by_side, 4)
    below = np.hstack([third[::-1, ::-1], fourth[::-1, ::-1]])
    return np.vstack([np.hstack([first, second]), below])


def _scan_shape(path: Path, header: _Header, count: int, stated: Stated) -> tuple[int, int] | None:
    """(scan_y, scan_x) from the ``.hdr``, else from the pauses between scan lines."""
    words = _hdr_words(path)
    stated.metadata = {**stated.metadata, **words}

    def whole(name: str) -> int:
        text = words.get(name, "")
        return int(text) if text.isdecimal() else 0

    wide, high = whole("ScanX"), whole("ScanY")
    if not (wide and high):
        wide = whole("Frames per Trigger (Number)")
        wide = wide if wide > 1 else _frames_per_line(path, header, count)
        high = count // wide if wide else 0
    if wide and wide * high == count:
        return (high, wide)
    if wide > 1:
        note = f"{count} frames do not fill a scan {wide} wide (skipped or missing frames)"
        stated.notes.append(f"{note}: kept as one row")
    elif count > 1:
        stated.notes.append("the scan's shape is not stated: frames kept as one row")
    return None


def _hdr_words(path: Path) -> dict[str, str]:
    beside = next((p for e in (".hdr", ".HDR") if (p := path.with_suffix(e)).is_file()), None)
    if beside is None:
        return {}
    with beside.open("rb") as stream:
        text = stream.read(65536).decode("latin-1")
    pairs = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return {key.strip().rstrip(":"): value.strip("\0 \t") for key, value in pairs}


def _frames_per_line(path: Path, header: _Header, count: int) -> int:
    """Frames between the regular pauses of a scan (the probe's flyback), or 0."""
    stride = header.bytes + header.frame_bytes
    times = []
    with path.open("rb") as stream:
        for index in range(min(count, _PAUSES_LOOKED_AT)):
            stream.seek(index * stride)
            stamp = stream.read(160).split(b",")[9].decode("latin-1").strip()
            try:
                times.append(datetime.fromisoformat(stamp).timestamp())
            except ValueError:
                return 0
    gaps = np.diff(times)
    if len(gaps) < 3 or gaps.min() <= 0:
        return 0
    after = np.flatnonzero(gaps > 1.5 * np.median(gaps)) + 1
    line = int(after[0]) if len(after) else 0
    regular = line > 1 and np.array_equal(after, np.arange(line, len(gaps) + 1, line))
    return line if regular and count % line == 0 else 0


FORMATS = (Format("Merlin", (".mib",), sniff, read_mib),)
