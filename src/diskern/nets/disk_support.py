"""Whether disks that a network proposes stand where the others' lattice would put them.

The network looks at a neighbourhood; that disks repeat across the whole pattern it cannot see.  A
candidate is supported by a sure disk where the step between the two also lies between two other
sure disks.  In a crystal's pattern most disks are supported by most others, in noise hardly any,
so the support tells faint disks from noise far better than their counts do.  No lattice is
fitted: several crystals, a few rows or the rings of a tilted zone support their own as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SURE = 0.5
"""Probability from which on a disk supports others."""
FEWEST = 3
"""Sure disks without which there is no step to compare with."""
MOST_SURE = 150
"""Sure disks that support others, likeliest first."""
SAME_STEP = 0.25
"""Disk radii within which two steps are one, and `SAME_STEP_PX` px at least."""
SAME_STEP_PX = 0.8
WEIGHTS = tuple(f"support_{i}" for i in range(7))
"""Names of the weights in a card's calibration."""
EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1."""
SHRINKAGE = 0.01
"""Of the fitted weights towards 0."""


def support_features(place: Floats, probability: Floats, radius: float) -> Floats:
    """What is known of each candidate of one pattern.

    Parameters
    ----------
    place : (N, 2) row and column in px.
    probability : (N,) by the network alone.
    radius : of the disks in px.

    Returns
    -------
    (N, 7) 1, log-odds, ln(1 + supporting disks), share of the sure disks that support, ln(1 + sure
    disks), and the share times the latter and times the log-odds.
    """
    p = np.clip(probability, EDGE, 1 - EDGE)
    odds = np.log(p / (1 - p))
    sure = np.flatnonzero(p >= SURE)
    sure = sure[np.argsort(-p[sure], kind="stable")[:MOST_SURE]]
    count, share = np.zeros(len(p)), np.zeros(len(p))
    if len(sure) >= FEWEST:
        count, others = _supporting(place, sure, max(SAME_STEP_PX, SAME_STEP * radius))
        share = count / others
    size = np.full(len(p), np.log1p(len(sure)))
    return np.stack(
        [np.ones(len(p)), odds, np.log1p(count), share, size, share * size, share * odds], 1
    )


def _supporting(
    place: Floats, sure: NDArray[np.int64], tolerance: float
) -> tuple[Floats, NDArray[np.int64]]:
    """(N,) sure disks that support each candidate, and (N,) those that could."""
    steps = (place[sure][:, None] - place[sure]).reshape(-1, 2)
    steps = steps[(np.arange(len(sure))[:, None] != np.arange(len(sure))).ravel()]
    asked = place[:, None] - place[sure]
    reach = float(max(np.abs(steps).max(), np.abs(asked).max())) + 2 * tolerance
    side = int(2 * reach / tolerance) + 3
    bins = ((steps + reach) / tolerance).astype(np.int64)
    tally = np.bincount(bins[:, 0] * side + bins[:, 1], minlength=side * side).reshape(side, side)
    # A step and its neighbours in the grid are the same step.
    rows = tally[:-2] + tally[1:-1] + tally[2:]
    near = np.zeros_like(tally)
    near[1:-1, 1:-1] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    at = ((asked + reach) / tolerance).astype(np.int64)
    times = near[at[..., 0], at[..., 1]]
    # A sure disk's own step is in the tally, and says nothing for it.
    own = np.zeros(len(place), dtype=np.int64)
    own[sure] = 1
    yes = times > own[:, None]
    yes[sure, np.arange(len(sure))] = False
    return yes.sum(1).astype(np.float64), len(sure) - own


def has_support(calibration: Mapping[str, float]) -> bool:
    """Whether a card's calibration has weights for the support."""
    return all(name in calibration for name in WEIGHTS)


def supported(features: Floats, calibration: Mapping[str, float]) -> Floats:
    """(N,) probabilities from (N, 7) features with a card's weights."""
    odds = features @ np.array([calibration[name] for name in WEIGHTS])
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))))


def fit_support(features: Floats, right: Bools) -> dict[str, float]:
    """Weights for a card's calibration, by logistic regression.

    Parameters
    ----------
    features : (N, 7) of candidates; ``right`` (N,) whether each was a disk.
    """
    return dict(zip(WEIGHTS, fit_logistic(features, right).tolist(), strict=True))


def fit_logistic(features: Floats, right: Bools) -> Floats:
    """(K,) weights of (N, K) features by logistic regression on (N,) answers."""
    sign = np.where(right, 1.0, -1.0)

    def cost(weights: Floats) -> tuple[float, Floats]:
        margin = sign * (features @ weights)
        pull = -sign / (1 + np.exp(np.clip(margin, -30, 30)))
        value = np.logaddexp(0, -margin).sum() + SHRINKAGE * (weights @ weights)
        return float(value), features.T @ pull + 2 * SHRINKAGE * weights

    found = minimize(cost, np.zeros(features.shape[1]), jac=True, method="BFGS")
    return np.asarray(found.x)
