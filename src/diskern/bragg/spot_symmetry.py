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
    bases, odd, twice = known.bases, known.odd, known.twice
    base, *classes = _means(bright, seen, bases)
    lit = bright > 0
    for mean, share in zip(classes, _means(lit, seen, bases[1:]), strict=True):
        parts += [mean - base, share]
    for row in zip(
        _means(bright, seen, odd), _means(lit, seen, odd), _means(lit, seen, twice), strict=True
    ):
        parts += row
    return np.stack(parts, 1)


@dataclass(frozen=True, eq=False)
class _Geometry:
    """What does not depend on a pattern, for N nodes.

    Attributes
    ----------
    counted : (N,) all nodes but the middle.
    image : (O, N) where each operation takes each node, as a row; 0 where it leaves.
    tells : (O, N) nodes that stay within and are not on the mirror, which says nothing.
    bases : (1 + classes, N) even nodes, then those of each of `CLASSES`.
    odd, twice : (rows, N) odd steps along each of `ROWS`, and twice those.
    """

    counted: Bools
    image: Ints
    tells: Bools
    bases: Bools
    odd: Bools
    twice: Bools


@cache
def _geometry(reach: int) -> _Geometry:
    axis = np.arange(-reach, reach + 1)
    node = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    image = node @ np.swapaxes(OPERATIONS, 1, 2)
    inside = (np.abs(image) <= reach).all(-1)
    still = (image == node).all(-1) | (image == -node).all(-1)
    step = np.array([_along(node, row) for row in ROWS])
    return _Geometry(
        counted=np.asarray(node.any(1)),
        image=np.where(inside[..., None], image + reach, 0) @ [2 * reach + 1, 1],
        tells=inside & ~still,
        bases=np.array([(node % 2 == parity).all(1) for parity in ((0, 0), *CLASSES)]),
        odd=step % 2 == 1,
        twice=step % 4 == 2,
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


def _means(values: NDArray[np.generic], seen: Bools, classes: Bools) -> list[Floats]:
    """(B,) means over the seen nodes of each class, 0 without any."""
    member = classes.astype(np.float64).T
    total = np.where(seen, values, 0.0).astype(np.float64) @ member
    return list((total / np.maximum(seen.astype(np.float64) @ member, 1)).T)
