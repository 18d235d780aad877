"""What the nodes of a net show of its symmetry: operations that intensities obey, rows that fade.

The two-dimensional counterpart of merging R-factors, for every operation that a net can have
when it is told in a reduced basis; and how bright the classes of nodes are that screw axes and
glide planes darken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OPERATIONS: Ints = np.array(
    [
        [[1, 0], [0, -1]], [[0, 1], [1, 0]],
        [[1, 1], [0, -1]], [[1, -1], [0, -1]], [[1, 0], [1, -1]], [[1, 0], [-1, -1]],
        [[0, -1], [1, 0]], [[0, -1], [1, -1]], [[0, -1], [1, 1]],
    ]
)  # fmt: skip
"""Mirrors, then turns by 90° and 60° or 120°, on columns (m, n); each stands for its opposite
too, since diffraction of a thin foil adds a centre."""
ROWS = ((1, 0), (0, 1), (1, 1), (1, -1))
CLASSES = ((1, 0), (0, 1), (1, 1))
"""Parities (m, n) that a glide or a screw may darken."""
STRAIN = 0.12
"""Relative change of the metric up to which an operation is looked at."""
SYMMETRY_FIELDS = 3 * len(OPERATIONS) + 2 * len(CLASSES) + 3 * len(ROWS)


def net_symmetry(level: Floats, there: NDArray[np.bool_], frame: Floats) -> Floats:
    """(B, `SYMMETRY_FIELDS`) of B nets.

    Parameters
    ----------
    level : (B, 2R+1, 2R+1) brightness of nodes from 0 (dark) to 1, node (0, 0) in the middle.
    there : the same shape, which nodes are within the pattern.
    frame : (B, 2, 2) rows of the basis.
    """
    reach = level.shape[1] // 2
    axis = np.arange(-reach, reach + 1)
    node = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    bright, seen = level.reshape(len(level), -1), there.reshape(len(level), -1)
    seen = seen & node.any(1)
    parts = [*_operations(bright, seen, node, frame, reach)]
    base = _mean(bright, seen & (node % 2 == 0).all(1))
    for parity in CLASSES:
        own = seen & (node % 2 == parity).all(1)
        parts += [_mean(bright, own) - base, _mean(bright > 0, own)]
    for row in ROWS:
        step = _along(node, row)
        odd, twice = seen & (step % 2 == 1), seen & (step % 4 == 2)
        parts += [_mean(bright, odd), _mean(bright > 0, odd), _mean(bright > 0, twice)]
    return np.stack(parts, 1)


def _operations(
    bright: Floats, seen: NDArray[np.bool_], node: Ints, frame: Floats, reach: int
) -> list[Floats]:
    """Of each operation the strain it asks of the net, its R-factor, and the share of nodes."""
    metric = frame @ np.swapaxes(frame, 1, 2)
    size = np.linalg.norm(metric, axis=(1, 2))
    out = []
    for operation in OPERATIONS:
        changed = operation.T @ metric @ operation
        strain = np.linalg.norm(changed - metric, axis=(1, 2)) / size
        image = node @ operation.T
        inside = (np.abs(image) <= reach).all(1)
        place = np.where(inside[:, None], image + reach, 0) @ [2 * reach + 1, 1]
        both = seen & inside & seen[:, place]
        # Nodes on a mirror say nothing.
        both &= ~((image == node).all(1) | (image == -node).all(1))
        apart = (np.abs(bright - bright[:, place]) * both).sum(1)
        total = ((bright + bright[:, place]) * both).sum(1)
        fits = strain < STRAIN
        out += [
            np.minimum(strain / STRAIN, 2) / 2,
            np.where(fits & (total > 0), 1 - apart / np.maximum(total, 1e-9), 0),
            np.where(fits, np.log1p((both & (bright > 0)).sum(1)) / 5, 0),
        ]
    return out


def _along(node: Ints, row: tuple[int, int]) -> Ints:
    """How many steps of a row's vector lead to each node, 0 off the row."""
    m, n = node[:, 0], node[:, 1]
    if row == (1, 0):
        return np.where(n == 0, np.abs(m), 0)
    if row == (0, 1):
        return np.where(m == 0, np.abs(n), 0)
    return np.where(m == row[1] * n, np.abs(m), 0)


def _mean(values: NDArray[np.generic], where: NDArray[np.bool_]) -> Floats:
    """(B,) mean over the chosen nodes, 0 without any."""
    return np.asarray((values * where).sum(1) / np.maximum(where.sum(1), 1), dtype=np.float64)
