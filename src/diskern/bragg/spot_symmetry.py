"""What the nodes of a net show of its symmetry: operations that intensities obey, rows that fade.

The two-dimensional counterpart of merging R-factors, for every operation that a net can have
when it is told in a reduced basis; and how bright the classes of nodes are that screw axes and
glide planes darken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

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
_CHANGES = np.concatenate([np.kron(m, m) - np.eye(4) for m in OPERATIONS], 1)
"""(4, operations · 4) how the four numbers of a net's metric change by each operation."""
_LIT = 1 + len(CLASSES) + 2 * len(ROWS)
_CLASS = 1 + np.arange(len(CLASSES))
_ODD = 1 + len(CLASSES) + np.arange(len(ROWS))
_TOLD = [
    *np.stack([_CLASS, _LIT + _CLASS], 1).ravel(),
    *np.stack([_ODD, _LIT + _ODD, _LIT + _ODD + len(ROWS)], 1).ravel(),
]
"""Of `_means`, brightness before shares that are lit, what is told: both for each class and for
odd steps along each row, and the share for twice those."""
SYMMETRY_FIELDS = 3 * len(OPERATIONS) + 2 * len(CLASSES) + 3 * len(ROWS)


def net_symmetry(level: Floats, there: Bools, frame: Floats) -> Floats:
    """(B, `SYMMETRY_FIELDS`) of B nets.

    Parameters
    ----------
    level : (B, 2R+1, 2R+1) brightness of nodes from 0 (dark) to 1, node (0, 0) in the middle.
    there : the same shape, which nodes are within the pattern.
    frame : (B, 2, 2) rows of the basis.
    """
    known = _geometry(level.shape[1] // 2)
    bright, seen = level.reshape(len(level), -1), there.reshape(len(level), -1) & known.counted
    means = _means(bright, seen, known.classes)
    # Of each class the brightness beside the even nodes'.
    means[:, 0, 1 : 1 + len(CLASSES)] -= means[:, 0, :1]
    facts = means.reshape(len(level), -1)[:, _TOLD]
    return np.concatenate([_operations(bright, seen, frame, known), facts], 1)


@dataclass(frozen=True, eq=False)
class _Geometry:
    """What does not depend on a pattern, for N nodes.

    Attributes
    ----------
    counted : (N,) all nodes but the middle.
    image : (O, N) where each operation takes each node, as a row; 0 where it leaves.
    tells : (O, N) nodes that stay within and are not on the mirror, which says nothing.
    classes : (N, 1 + classes + 2 · rows) 1 for even nodes, for those of each of `CLASSES`, for odd
        steps along each of `ROWS`, and for twice those.
    """

    counted: Bools
    image: Ints
    tells: Bools
    classes: Floats


@cache
def _geometry(reach: int) -> _Geometry:
    axis = np.arange(-reach, reach + 1)
    node = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    image = node @ np.swapaxes(OPERATIONS, 1, 2)
    inside = (np.abs(image) <= reach).all(-1)
    still = (image == node).all(-1) | (image == -node).all(-1)
    step = np.array([_along(node, row) for row in ROWS])
    parity = [(node % 2 == even_or_odd).all(1) for even_or_odd in ((0, 0), *CLASSES)]
    return _Geometry(
        counted=np.asarray(node.any(1)),
        image=np.where(inside[..., None], image + reach, 0) @ [2 * reach + 1, 1],
        tells=inside & ~still,
        classes=np.concatenate([parity, step % 2 == 1, step % 4 == 2]).T.astype(np.float64),
    )


def _operations(bright: Floats, seen: Bools, frame: Floats, known: _Geometry) -> Floats:
    """(B, 3 · operations): of each the strain it asks of the net, its R-factor, and the share of
    nodes."""
    metric = (frame @ np.swapaxes(frame, 1, 2)).reshape(-1, 4)
    changed = (metric @ _CHANGES).reshape(len(frame), len(OPERATIONS), 4)
    strain = np.sqrt((changed**2).sum(-1) / (metric**2).sum(-1)[:, None])
    out = np.zeros((*strain.shape, 3))
    out[..., 0] = np.minimum(strain / STRAIN, 2) / 2
    # Few nets allow more than one or two operations.
    net, operation = np.nonzero(strain < STRAIN)
    image = net[:, None], known.image[operation]
    both = seen[net] & known.tells[operation] & seen[image]
    here, there = bright[net] * both, bright[image] * both
    apart, total = np.abs(here - there).sum(1), (here + there).sum(1)
    out[net, operation, 1] = np.where(total > 0, 1 - apart / np.maximum(total, 1e-9), 0)
    out[net, operation, 2] = np.log1p((here > 0).sum(1)) / 5
    return out.reshape(len(frame), -1)


def _along(node: Ints, row: tuple[int, int]) -> Ints:
    """How many steps of a row's vector lead to each node, 0 off the row."""
    m, n = node[:, 0], node[:, 1]
    if row == (1, 0):
        return np.where(n == 0, np.abs(m), 0)
    if row == (0, 1):
        return np.where(m == 0, np.abs(n), 0)
    return np.where(m == row[1] * n, np.abs(m), 0)


def _means(bright: Floats, seen: Bools, classes: Floats) -> Floats:
    """(B, 2, C) brightness and share that is lit of the seen nodes of each class, 0 without any."""
    sums = np.stack([bright * seen, (bright > 0) & seen, seen], 1) @ classes
    return np.asarray(sums[:, :2] / np.maximum(sums[:, 2:], 1))
