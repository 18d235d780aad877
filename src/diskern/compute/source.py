"""Scans as work in blocks sees them: tiles of scan positions, what travels, what it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.io.lazy import LazyArray

CHUNK = 4
"""Scan positions along the edge of a usual HDF5 or Zarr chunk; tiles begin at multiples of it."""
BLOCK_BYTES = 1 << 25
"""Size of a block as float32 patterns."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of scan positions, the unit of work.

    Attributes
    ----------
    rows, cols : first and one past the last scan_y and scan_x.
    """

    index: int
    rows: tuple[int, int]
    cols: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of positions."""
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]

    @property
    def patterns(self) -> int:
        """Number of positions."""
        return self.shape[0] * self.shape[1]

    def positions(self, width: int) -> NDArray[np.int64]:
        """(B,) y · width + x of each pattern, in the order of `read`."""
        y, x = np.arange(*self.rows), np.arange(*self.cols)
        return np.asarray((y[:, None] * width + x).reshape(-1), dtype=np.int64)

    def read(self, data: Any) -> NDArray[Any]:
        """(B, Q_y, Q_x) patterns of a (scan_y, scan_x, Q_y, Q_x) array."""
        block = np.asarray(data[slice(*self.rows), slice(*self.cols)])
        return block.reshape(-1, *block.shape[2:])


def tiles(scan_shape: tuple[int, int], patterns: int) -> tuple[Tile, ...]:
    """Cut a scan into tiles of about so many patterns, in scan order."""
    ny, nx = scan_shape
    edge = max(CHUNK, isqrt(max(patterns, 1)) // CHUNK * CHUNK)
    height, width = min(edge, ny), min(edge, nx)
    # A scan narrower than the tile gives its patterns to the other direction.
    height = min(ny, max(height, patterns // width // CHUNK * CHUNK))
    width = min(nx, max(width, patterns // height // CHUNK * CHUNK))
    corners = [(y, x) for y in range(0, ny, height) for x in range(0, nx, width)]
    return tuple(
        Tile(i, (y, min(y + height, ny)), (x, min(x + width, nx)))
        for i, (y, x) in enumerate(corners)
    )


def block_patterns(pattern_shape: tuple[int, int]) -> int:
    """Patterns in a block of `BLOCK_BYTES`, at least one chunk."""
    return max(CHUNK**2, BLOCK_BYTES // (4 * pattern_shape[0] * pattern_shape[1]))


def travels(data: Any) -> bool:
    """Whether a scan can be sent to another process as the name of its file."""
    return isinstance(data, LazyArray) or any(
        isinstance(part, LazyArray) for part in getattr(data, "__dict__", {}).values()
    )


def identity(data: Any) -> str:
    """Hexadecimal hash that changes when a scan does.

    A file counts by name, size and time of change and by a few of its patterns, a simulated
    scan by its configuration, an array in memory by all its numbers.
    """
    digest = hashlib.sha256(f"{tuple(data.shape)} {np.dtype(data.dtype).str}".encode())
    configuration = getattr(data, "configuration", None)
    if isinstance(configuration, str):
        digest.update(configuration.encode())
        return digest.hexdigest()
    ny, nx = data.shape[:2]
    if travels(data):
        for path in sorted({*_paths(data, 3)}):
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
        places = [(0, 0), (ny // 2, nx // 2), (ny - 1, nx - 1)]
        for y, x in places:
            digest.update(np.ascontiguousarray(data[y, x]).tobytes())
    else:
        for y in range(ny):
            digest.update(np.ascontiguousarray(data[y]).tobytes())
    return digest.hexdigest()


def _paths(value: Any, depth: int) -> Iterator[Path]:
    """Files named anywhere in a lazy array."""
    for part in getattr(value, "__dict__", {}).values():
        if isinstance(part, os.PathLike):
            yield Path(part)
        elif depth:
            yield from _paths(part, depth - 1)
