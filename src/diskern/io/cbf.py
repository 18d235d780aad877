"""Miniature CBF (``.cbf``), as Dectris and other hybrid-pixel cameras write it.

A text header with the calibration in comments, then one image compressed by "byte offset":
each value as its difference to the one before, in 1, 3 or 7 bytes (Bernstein & Hammersley,
International Tables for Crystallography G, chapter 5.6).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diskern.io.calibration import (
    MAX_FRAME_PIXELS,
    Stated,
    energy_of_wavelength,
    finish,
    number,
    pixel_on_screen,
)
from diskern.io.files import fault, refuse_dataset
from diskern.io.recording import Recording
from diskern.io.registry import Format

_PIXELS_START = b"\x0c\x1a\x04\xd5"
_LONGEST_HEADER = 1 << 20
_ESCAPE8, _ESCAPE16, _ESCAPE32 = -128, -32768, -(1 << 31)
_FIELD = re.compile(r"^(X-Binary-[\w-]+|conversions)[:=]\s*\"?([^\"\r\n;]*)", re.MULTILINE)
_COMMENT = re.compile(r"^# (\w+):? +([^\r\n]+)", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def sniff(head: bytes, path: Path) -> bool:
    """Whether the file has the CBF signature."""
    return head.startswith(b"###CBF")


def read_cbf(path: Path, dataset: str | None = None) -> Recording:
    """Read one image; masked pixels (negative) become NaN."""
    refuse_dataset(path, dataset, "CBF")
    with path.open("rb") as stream:
        head = stream.read(_LONGEST_HEADER)
        start = head.find(_PIXELS_START)
        if start < 0:
            raise ValueError("no pixels")
        text = head[:start].decode("latin-1")
        fields = {key.lower(): value.strip() for key, value in _FIELD.findall(text)}
        if "x-CBF_BYTE_OFFSET" not in text and "X-CBF_BYTE_OFFSET" not in text:
            raise fault(path, "a CBF that is not byte-offset compressed", "convert it to TIFF")
        rows, columns, size = (
            int(fields[f"x-binary-size{part}"])
            for part in ("-second-dimension", "-fastest-dimension", "")
        )
        if not (0 < rows * columns <= MAX_FRAME_PIXELS and min(rows, columns, size) > 0):
            raise fault(path, f"impossible size of {rows}×{columns} px in {size} bytes")
        stream.seek(start + len(_PIXELS_START))
        packed = stream.read(size)
    if len(packed) < size or rows * columns > size:
        raise ValueError(f"{size} bytes of {rows}×{columns} px announced, {len(packed)} there")
    image = undo_byte_offset(packed, rows * columns).reshape(rows, columns)
    return finish(path, _without_mask(image), "CBF", _stated(dict(_COMMENT.findall(text))))


def undo_byte_offset(packed: bytes, count: int) -> NDArray[np.int64]:
    """(count,) values from byte-offset compressed differences."""
    raw = np.frombuffer(packed, np.int8)
    differences = raw.astype(np.int64)
    used = np.ones(len(raw), dtype=bool)
    free = 0  # bytes before this one belong to a wider difference
    for at in np.flatnonzero(raw == _ESCAPE8).tolist():
        if at < free:
            continue
        value, width = int.from_bytes(packed[at + 1 : at + 3], "little", signed=True), 3
        if value == _ESCAPE16:
            value, width = int.from_bytes(packed[at + 3 : at + 7], "little", signed=True), 7
        if value == _ESCAPE32 or at + width > len(packed):
            raise ValueError("a difference of more than 32 bits")
        differences[at] = value
        free = at + width
        used[at + 1 : free] = False
    differences = differences[used]
    if len(differences) < count:
        raise ValueError(f"{count} pixels announced, {len(differences)} there")
    return np.cumsum(differences[:count])


def _without_mask(image: NDArray[np.int64]) -> NDArray[np.int32] | NDArray[np.float32]:
    if image.min() < 0:
        return np.where(image < 0, np.nan, image).astype(np.float32)
    if image.max() >= 1 << 31:
        raise ValueError("counts of more than 31 bits")
    return image.astype(np.int32)


def _stated(words: dict[str, str]) -> Stated:
    def numbers(name: str) -> list[float]:
        return [v for w in _NUMBER.findall(words.get(name, "")) if (v := number(w)) is not None]

    wavelength = next(iter(numbers("Wavelength")), 0.0)
    distance = next(iter(numbers("Detector_distance")), 0.0)
    pixel = next(iter(numbers("Pixel_size")), 0.0)
    beam = numbers("Beam_xy")
    energy = energy_of_wavelength(wavelength)
    scale = None
    if energy and distance > 0 and pixel > 0:
        scale = pixel_on_screen(pixel, distance, wavelength)
    return Stated(
        pixel_size=scale,
        energy=energy,
        camera_length=distance or None,
        centre=(beam[1], beam[0]) if len(beam) == 2 else None,
        metadata=words,
    )


FORMATS = (Format("CBF", (".cbf",), sniff, read_cbf),)
