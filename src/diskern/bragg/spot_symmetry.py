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
    parts = _operations(bright, seen, frame, known)
    mean, lit = _means(np.stack([bright, bright > 0]), seen, known.classes)
    count = len(CLASSES)
    # Of each class the brightness beside the even nodes' and the share that is lit.
    parts += [x for i in range(1, count + 1) for x in (mean[i] - mean[0], lit[i])]
    for i in range(count + 1, count + 1 + len(ROWS)):
        parts += [mean[i], lit[i], lit[i + len(ROWS)]]
    return np.stack(parts, 1)


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


def _operations(bright: Floats, seen: Bools, frame: Floats, known: _Geometry) -> list[Floats]:
    """Of each operation the strain it asks of the net, its R-factor, and the share of nodes."""
    metric = (frame @ np.swapaxes(frame, 1, 2))[:, None]
    changed = np.swapaxes(OPERATIONS, 1, 2) @ metric @ OPERATIONS
    size = np.sqrt((metric**2).sum((-1, -2)))
    strain = np.sqrt(((changed - metric) ** 2).sum((-1, -2))) / size
    both = seen[:, None] & known.tells & seen[:, known.image]
    there, image = bright[:, None], bright[:, known.image]
    apart = np.einsum("bon,bon->bo", np.abs(there - image), both)
    total = np.einsum("bon,bon->bo", there + image, both)
    fits = strain < STRAIN
    strains = np.minimum(strain / STRAIN, 2) / 2
    alike = np.where(fits & (total > 0), 1 - apart / np.maximum(total, 1e-9), 0)
    share = np.where(fits, np.log1p((both & (there > 0)).sum(-1)) / 5, 0)
    return list(np.stack([strains, alike, share], -1).reshape(len(bright), -1).T)


def _along(node: Ints, row: tuple[int, int]) -> Ints:
    """How many steps of a row's vector lead to each node, 0 off the row."""
    m, n = node[:, 0], node[:, 1]
    if row == (1, 0):
        return np.where(n == 0, np.abs(m), 0)
    if row == (0, 1):
        return np.where(m == 0, np.abs(n), 0)
    return np.where(m == row[1] * n, np.abs(m), 0)


def _means(values: Floats, seen: Bools, classes: Floats) -> Floats:
    """(K, C, B) means of (K, B, N) values over the seen nodes of each class, 0 without any."""
    count = seen.astype(np.float64) @ classes
    return np.moveaxis((values * seen) @ classes / np.maximum(count, 1), 2, 1)
