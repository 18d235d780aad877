"""How much disks scatter about their nodes beyond what their uncertainties say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from diskern.mapping.fit import LatticeFits, Noise
from diskern.mapping.points import Points

Floats = NDArray[np.float64]

_MEDIAN = 0.45493642  # of χ² with one degree of freedom
_FEWEST = 100  # residuals below which the scatter is not estimated
_TAIL = 9.0  # squared standardised residual that 0.27 % of good ones pass
_FLOOR = 1e-8  # px²


def estimate_noise(points: Points, fits: LatticeFits, noise: Noise) -> Noise:
    """Excess variance and the share of pulled disks from the residuals of a first fit.

    The median of the squared residuals, each over its expected variance (leverage taken out),
    must be that of χ² with one degree of freedom; pulled disks and clutter hardly move it.
    """
    members = (fits.member > 0.5) & (fits.count[points.pattern] > 3.5)
    if 2 * members.sum() < _FEWEST:
        return noise
    own = points.covariance[members, :2]
    residual = fits.residual[members]
    share = _share_left(points, fits, noise)[members]

    def excess_of_median(log_excess: float) -> float:
        expected = (own + np.exp(log_excess)) * share
        return float(np.median(residual**2 / expected)) - _MEDIAN

    low, high = np.log(_FLOOR), np.log(np.median(residual**2) * 10 + 10 * _FLOOR)
    if excess_of_median(low) <= 0 or low >= high:
        excess = _FLOOR
    else:
        excess = float(np.exp(brentq(excess_of_median, low, high)))
    squared = residual**2 / ((own + excess) * share)
    # A pulled disk passes the tail with probability 0.45 (variance × 16), a good one 0.0027.
    tail = float((squared > _TAIL).mean())
    pulled = float(np.clip((tail - 0.0027) / 0.45, 0.002, 0.3))
    return replace(noise, excess=excess, pulled=pulled)


def _share_left(points: Points, fits: LatticeFits, noise: Noise) -> Floats:
    """(N, 2) part of a residual's variance that the fit leaves, 1 − leverage."""
    u = np.concatenate([np.ones((len(points), 1)), fits.indices], axis=1)
    blocks = fits.covariance.reshape(-1, 3, 2, 3, 2)[points.pattern]
    predicted = np.stack(
        [np.einsum("nj,njk,nk->n", u, blocks[:, :, d, :, d], u) for d in (0, 1)], axis=1
    )
    return np.clip(1 - predicted / (points.covariance[:, :2] + noise.excess), 0.05, 1.0)
