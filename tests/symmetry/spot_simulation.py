"""Spot lists of tilted crystals for the tests of indexing, from excitation errors alone.

Kept apart from the package's own simulator: another rod profile (sinc²), no exposure model.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.physics import wavelength
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import kinematic_table

Floats = NDArray[np.float64]
PIXEL = 0.01


@cache
def phase(name: str) -> Crystal:
    """A common phase by its name."""
    return {c.name: c for c in common_phases()}[name]


def near_zone(crystal: Crystal, zone: tuple[int, int, int], tilt: float, azimuth: float) -> Floats:
    """Orientation matrix ``tilt`` mrad off a zone axis."""
    return np.asarray(tilted(zone_axis_orientation(crystal, zone), tilt, azimuth).as_matrix())


def random_turn(seed: int) -> Floats:
    """Some orientation matrix."""
    return np.asarray(Rotation.random(random_state=seed).as_matrix())


def simulate(
    crystal: Crystal,
    matrix: Floats,
    *,
    thickness: float = 80.0,
    reach: float = 110.0,
    limit: float = 0.01,
    energy: float = 200e3,
    noise: float = 0.4,
    missing: float = 0.0,
    stray: float = 0.0,
    ellipse: float = 0.0,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """(N, 2) spot vectors in px and (N,) intensities, strongest first."""
    rng = np.random.default_rng(seed)
    table = kinematic_table(crystal)
    g = table.g @ matrix.T
    s_g = -g[:, 2] - wavelength(energy) * table.length**2 / 2
    intensity = table.strength * np.sinc(s_g * thickness) ** 2
    p = g[:, :2] / PIXEL
    radius = np.hypot(*p.T)
    keep = (intensity > limit) & (radius < reach) & (radius > 5) & (np.abs(s_g) < 1 / thickness)
    keep &= rng.random(len(p)) > missing
    p, intensity = p[keep], intensity[keep]
    p = p * [1 + ellipse / 2, 1 - ellipse / 2] + rng.normal(0, noise, p.shape)
    count = round(stray * len(p))
    far, angle = reach * np.sqrt(rng.random(count)), 2 * np.pi * rng.random(count)
    p = np.concatenate([p, np.stack([far * np.cos(angle), far * np.sin(angle)], 1)])
    intensity = np.concatenate([intensity, rng.choice(intensity, count) if count else []])
    intensity = intensity * np.exp(rng.normal(0, 0.5, len(intensity)))
    order = np.argsort(-intensity)[:60]
    return p[order], intensity[order]


def view_of(
    crystal: Crystal, matrix: Floats, *, known: bool = True, error: float = 0.03, **how: float
) -> SpotView:
    """A simulated pattern as indexing sees it, its stated scale 2 % off."""
    p, intensity = simulate(crystal, matrix, **how)  # type: ignore[arg-type]
    return SpotView.from_spots(
        p, intensity, 0.5, scale=1.02 * PIXEL if known else None, scale_error=error
    )
