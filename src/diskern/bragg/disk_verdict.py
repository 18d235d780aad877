"""Whether what a proposer named and a fit measured is a disk: neither decides alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_neighbours import beside
from diskern.bragg.disks import Candidates, Disks

Floats = NDArray[np.float64]

WEIGHTS = tuple(f"verdict_{i}" for i in range(5))
BELIEVED = "verdict_believed"
"""Names in a card's calibration."""
EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1."""


@dataclass(frozen=True)
class Verdict:
    """How the two are weighed; `diskern.train.disks_verdict` fits it to a network.

    For proposers without a card the weights are those of an earlier network.

    Attributes
    ----------
    weights : of `verdict_features`.
    believed : probability from which on a candidate is taken for a disk.
    """

    weights: tuple[float, ...] = (-1.5, 0.7, 0.95, -0.35, 0.65)
    believed: float = 0.55

    @classmethod
    def of(cls, calibration: Mapping[str, float]) -> Self:
        """As a card states it, or the usual one."""
        if not all(name in calibration for name in (*WEIGHTS, BELIEVED)):
            return cls()
        return cls(tuple(calibration[name] for name in WEIGHTS), calibration[BELIEVED])

    def __call__(self, named: Candidates, found: Disks, overlap: float) -> NDArray[np.bool_]:
        """(N,) which measured candidates are disks; those closer than ``overlap`` px overlap."""
        odds = verdict_features(named, found, overlap) @ np.array(self.weights)
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))) >= self.believed)


def verdict_features(named: Candidates, found: Disks, overlap: float) -> Floats:
    """What is known of measured candidates.

    Returns
    -------
    (N, 5) 1, log-odds of the proposer, ln(1 + intensity over its σ), and the first and the last
    again of a disk that overlaps no other: its intensity is its own, and says more.
    """
    p = np.clip(named.probability, EDGE, 1 - EDGE)
    ratio = np.nan_to_num(found.intensity / found.sigma_intensity, posinf=0.0, neginf=0.0)
    stands_out = np.log1p(np.maximum(ratio, 0))
    alone = ~beside(named.pattern, named.row, named.col, overlap)
    return np.stack(
        [np.ones(len(p)), np.log(p / (1 - p)), stands_out, alone, alone * stands_out], axis=1
    )
