"""Who is near whom: the strongest of a neighbourhood."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]


def beside(
    pattern: NDArray[np.int64], row: Floats, col: Floats, distance: float
) -> NDArray[np.bool_]:
    """(N,) whether another of the same pattern lies within ``distance`` px."""
    near = np.zeros(len(pattern), bool)
    if len(pattern):
        tree = _pattern_by_pattern(pattern, row, col, distance)
        near[tree.query_pairs(distance, output_type="ndarray")] = True
    return near


def strongest(
    pattern: NDArray[np.int64],
    row: Floats,
    col: Floats,
    strength: Floats,
    spacing: float,
    limit: int,
) -> NDArray[np.int64]:
    """Indices of those that have no stronger one within ``spacing`` px, by pattern and strength.

    In rounds: each keeps what is the strongest of its neighbourhood, and clears that.
    """
    if len(pattern) == 0:
        return np.zeros(0, np.int64)
    tree = _pattern_by_pattern(pattern, row, col, spacing)
    pairs = tree.query_pairs(spacing, output_type="ndarray")
    rank = np.empty(len(pattern), np.int64)
    order = np.lexsort((-strength, pattern))
    rank[order] = np.arange(len(order))
    alive = np.ones(len(pattern), bool)
    kept = np.zeros(len(pattern), bool)
    while len(pairs):
        stronger = np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
        weaker = pairs.sum(1) - stronger
        top = alive.copy()
        top[weaker] = False
        kept |= top
        alive[weaker[top[stronger]]] = False
        alive &= ~top
        pairs = pairs[alive[pairs].all(1)]
    kept |= alive
    chosen = order[kept[order]]
    first = np.searchsorted(pattern[chosen], pattern[chosen])
    return np.asarray(chosen[np.arange(len(chosen)) - first < limit])


def _pattern_by_pattern(
    pattern: NDArray[np.int64], row: Floats, col: Floats, distance: float
) -> cKDTree:
    """Places with those of different patterns well beyond ``distance`` of each other."""
    apart = 10 * distance + 2 * float(np.abs([row, col]).max())
    return cKDTree(np.stack([row, col, pattern * apart], 1))
