"""Simple indicators of thickness: how much is scattered, and how strongly for its V_g."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.mapping.lattice_map import LatticeMap
from diskern.mapping.points import per_pattern_sum
from diskern.physics import interaction_parameter

Floats = NDArray[np.float64]

_KINEMATIC = 1.0  # σ V_g t above which a beam is no longer weak
_STEPS = 4


@dataclass(frozen=True, eq=False)
class ThicknessMap:
    """Two indicators, neither a calibrated thickness.

    Attributes
    ----------
    scattered : (Y, X) −ln of the direct beam's share of all disks: 0 in vacuum, grows with
        thickness until the beams beat.  NaN where the direct beam was not measured.
    thickness : (Y, X) in Å, from weak beams: I_g/ΣI = (σ V_g t)² sinc²(t s_g), the median over
        the disks; NaN where V_g and q_z are unknown.  A lower bound where beams beat.
    spread : (Y, X) relative scatter of the disks' own answers.
    strong : (Y, X) True where the strongest beam is beyond weak diffraction, σ V_g t > 1: there
        the number is not to be trusted.
    """

    scattered: Floats
    thickness: Floats
    spread: Floats
    strong: NDArray[np.bool_]


def thickness_map(lattices: LatticeMap, energy: float | None = None) -> ThicknessMap:
    """Indicators of thickness at each scan position.

    Parameters
    ----------
    energy : of the beam in eV; needed for the thickness in Å, which also needs V_g and q_z.

    Raises
    ------
    DiskernError
        For an impossible energy.
    """
    points = lattices.points
    held = lattices.slot >= 0
    beam = held & (lattices.indices == 0).all(axis=1)
    bright = np.maximum(np.nan_to_num(points.intensity), 0)
    sums = per_pattern_sum(np.stack([bright * beam, bright * held]), points.offsets)
    with np.errstate(divide="ignore", invalid="ignore"):
        scattered = np.where(sums[0] > 0, -np.log(sums[0] / sums[1]), np.nan)
    shape = lattices.scan_shape
    nothing = np.full(shape, np.nan)
    known = held & ~beam & np.isfinite(points.v_g) & np.isfinite(points.q_z) & (points.v_g > 0)
    if energy is None or not known.any():
        none = np.zeros(shape, dtype=bool)
        return ThicknessMap(scattered.reshape(shape), nothing, nothing.copy(), none)
    sigma_v = interaction_parameter(energy) * np.where(known, points.v_g, 1.0)
    share = bright / np.maximum(sums[1], 1e-12)[points.pattern]
    amplitude = np.sqrt(share) / sigma_v
    thickness, spread = _median_of(amplitude, known, points.offsets)
    for _ in range(_STEPS):
        # The rocking curve lowers a beam off its Bragg angle; near its zeros it says nothing.
        fall = np.abs(np.sinc(thickness[points.pattern] * np.nan_to_num(points.q_z)))
        use = known & (fall > 0.5)
        thickness, spread = _median_of(amplitude / np.maximum(fall, 0.5), use, points.offsets)
    strongest = np.zeros(points.patterns)
    np.maximum.at(strongest, points.pattern[known], sigma_v[known])
    strong = strongest * np.nan_to_num(thickness) > _KINEMATIC
    return ThicknessMap(
        scattered.reshape(shape),
        thickness.reshape(shape),
        spread.reshape(shape),
        strong.reshape(shape),
    )


def _median_of(
    value: Floats, use: NDArray[np.bool_], offsets: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """(P,) median over the disks in use and (P,) half the relative 68 % range; NaN for none."""
    pattern = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((value, ~use, pattern))
    count = per_pattern_sum(use.astype(np.float64)[None], offsets)[0].astype(np.int64)
    some = count > 0
    first = offsets[:-1][some]
    out = np.full((3, len(count)), np.nan)
    for row, quantile in zip(out, (0.16, 0.5, 0.84), strict=True):
        row[some] = value[order[first + np.rint(quantile * (count[some] - 1)).astype(np.int64)]]
    low, middle, high = out
    return middle, (high - low) / 2 / middle
