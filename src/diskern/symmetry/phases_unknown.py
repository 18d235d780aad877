"""Evidence for "a phase that is not among the candidates"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diskern.symmetry.indexing_view import GRID, SpotView
from diskern.symmetry.orientation_fit import LEAST_STRAY, RESIDUAL_DISTORTION

Floats = NDArray[np.float64]


def unknown_evidence(view: SpotView) -> float:
    """Natural-log evidence, over "all spots are stray", of the best fitted plane lattice.

    An unknown crystal may show any lattice, so the fit pays for its four free numbers; nothing
    is predicted of its intensities.
    """
    return max((_lattice_evidence(view, basis) for basis in view.pairs), default=0.0)


def _lattice_evidence(view: SpotView, basis: Floats) -> float:
    n, area = len(view), view.area
    indices = np.rint(view.p @ np.linalg.inv(basis))
    variance = view.sigma**2 + RESIDUAL_DISTORTION**2 * (view.p**2).sum(1)
    squared = ((view.p - indices @ basis) ** 2).sum(1)
    density = np.exp(-0.5 * squared / variance) / (2 * np.pi * variance)
    density[~indices.any(1)] = 0.0
    nodes = max(1.0, _visible_nodes(view, basis))
    null = n * np.log(n / area) - n
    best = -np.inf
    for lit in np.linspace(0.05, 1.0, 20):
        rate = max(LEAST_STRAY * n + 0.2, n - lit * nodes) / area
        gain = np.log(rate + lit * density).sum() - rate * area - lit * nodes - null
        best = max(best, float(gain))
    # Two basis vectors anywhere in sight, each pinned to the spread of a mean of the spots.
    pinned = 2 * np.pi * float(np.median(variance)) / max(n, 1)
    return best - 2 * float(np.log(np.pi * view.reach**2 / pinned))


def _visible_nodes(view: SpotView, basis: Floats) -> float:
    """Number of nodes in the visible area, but for the rim."""
    cell = abs(float(np.linalg.det(basis)))
    return float(view.seen.sum()) * (2 * view.reach / GRID) ** 2 / cell
