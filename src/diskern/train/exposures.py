"""Kinematic patterns of one crystal about a few directions, quick enough to make on the fly.

A direction is a zone axis or any other; patterns about it are tilted off it a little and turned
about the beam.  Only reflections that such a cone can bring near the Ewald sphere are looked
at, a few in a thousand for large cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.physics import wavelength
from diskern.simulate.kinematic import SaedOptions, simulate_saed_batch
from diskern.simulate.shape_factors import width_of
from diskern.simulate.spot_pattern import SpotBatch
from diskern.simulate.structure_factors import Reflections
from diskern.train.recipe import PatternsRecipe, Range, SpotsRecipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WEAKEST = 1e-5
"""Reflections below this share of the strongest are below any background."""
TAILS = 3.0
"""Rel-rods are followed to this many rms widths: 1 % of the peak."""
MOST_COUPLED = 120
"""Reflections of a pattern up to which double diffraction is worked out."""
COUPLED_THICKNESS = 80.0
"""Å: thickest foil for which the second Born order is asked."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """Patterns about one direction.

    Attributes
    ----------
    zone : (3,) indices, or zeros for a general direction.
    orientations : (B, 3, 3) crystal → lab.
    spots : their reflections, strongest first.
    """

    zone: Ints
    orientations: Floats
    spots: SpotBatch


def draw(values: Range, rng: np.random.Generator, size: int | None = None) -> Floats:
    """One number, or (size,), within a range."""
    if values.log:
        return np.asarray(np.exp(rng.uniform(math.log(values.low), math.log(values.high), size)))
    return np.asarray(rng.uniform(values.low, values.high, size))


def expose(
    recipe: SpotsRecipe | PatternsRecipe, crystal: Crystal, rng: np.random.Generator
) -> list[Exposure]:
    """All patterns of one crystal: ``per_crystal`` in groups of ``per_direction``."""
    table = Reflections.of(crystal, recipe.g_max)
    energy = float(rng.choice(recipe.voltages)) * 1e3
    coupled = rng.random() < recipe.double_diffraction
    if not coupled:
        # What is extinct or nearly so stays dark, and costs nothing when left out here.
        table = table.select(np.abs(table.F) > 1e-4 * np.abs(table.F).max())
    groups = -(-recipe.per_crystal // recipe.per_direction)
    return [_about_direction(recipe, table, energy, bool(coupled), rng) for _ in range(groups)]


def _about_direction(
    recipe: SpotsRecipe | PatternsRecipe,
    table: Reflections,
    energy: float,
    coupled: bool,
    rng: np.random.Generator,
) -> Exposure:
    zone, axis = _direction(recipe, table.crystal, rng)
    thickness = float(draw(recipe.thickness, rng))
    width = width_of(thickness) * float(draw(recipe.bend, rng))
    spread = math.radians(recipe.tilt)
    near = table.select(within_cone(table, axis, energy, TAILS * width, 3 * spread))
    matrices = orientations_about(axis, spread, recipe.per_direction, rng)
    options = SaedOptions(width=width, max_excitation_error=TAILS * width, min_intensity=WEAKEST)
    spots = _simulate(near, matrices, energy, thickness, options, coupled)
    return Exposure(zone, matrices, spots)


def _simulate(
    near: Reflections,
    matrices: Floats,
    energy: float,
    thickness: float,
    options: SaedOptions,
    coupled: bool,
) -> SpotBatch:
    if not len(near):
        empty = np.zeros((len(matrices), 1))
        return SpotBatch(
            np.zeros((*empty.shape, 3), dtype=np.int64),
            np.zeros((*empty.shape, 2)),
            empty,
            empty,
            np.zeros(len(matrices), dtype=np.int64),
            energy,
            thickness,
        )
    spots = simulate_saed_batch(near, matrices, energy=energy, thickness=thickness, options=options)
    if coupled and 2 < spots.intensity.shape[1] <= MOST_COUPLED:
        # The first Born orders hold for thin foils; a thicker one gets what 80 Å would scatter.
        thin = min(thickness, COUPLED_THICKNESS)
        both = replace(options, double_diffraction=True)
        spots = simulate_saed_batch(near, matrices, energy=energy, thickness=thin, options=both)
        spots = replace(spots, thickness=thickness)
    return spots


def _direction(
    recipe: SpotsRecipe | PatternsRecipe, crystal: Crystal, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Zone indices (or zeros) and the (3,) unit vector in the crystal's frame."""
    if rng.random() >= recipe.zone_share:
        vector = rng.normal(size=3)
        return np.zeros(3, dtype=np.int64), vector / np.linalg.norm(vector)
    zones = zone_list(recipe.max_index)
    # Long zone axes show few reflections, so microscopists stop at short ones.
    length = np.linalg.norm(zones @ crystal.lattice, axis=1)
    weight = 1 / length
    zone = zones[int(rng.choice(len(zones), p=weight / weight.sum()))]
    vector = zone @ crystal.lattice
    return zone, vector / np.linalg.norm(vector)


@cache
def zone_list(largest: int) -> Ints:
    """(Z, 3) coprime indices up to ``largest`` in absolute value."""
    axis = range(-largest, largest + 1)
    return np.array([u for u in product(axis, repeat=3) if math.gcd(*u) == 1])


def within_cone(
    table: Reflections, axis: Floats, energy: float, limit: float, spread: float
) -> NDArray[np.bool_]:
    """(P,) whether a beam within ``spread`` rad of ``axis`` can bring |s_g| below ``limit``."""
    along = table.g @ axis
    square = (table.g * table.g).sum(1)
    # s ≈ -(g_z + λ g²/2), and a tilt moves g_z by up to |g| times its angle.
    s = along + 0.5 * wavelength(energy) * square
    return np.asarray(np.abs(s) <= 1.05 * limit + spread * np.sqrt(square) + 1e-3)


def orientations_about(axis: Floats, spread: float, count: int, rng: np.random.Generator) -> Floats:
    """(count, 3, 3) rotations that bring ``axis`` near +z, turned by any angle about it."""
    helper = np.eye(3)[int(np.abs(axis).argmin())]
    x = np.cross(helper, axis)
    x /= np.linalg.norm(x)
    base = np.array([x, np.cross(axis, x), axis])
    tilt = np.clip(rng.normal(0, spread, (count, 2)), -2.1 * spread, 2.1 * spread)
    tilts = Rotation.from_rotvec(np.concatenate([tilt, np.zeros((count, 1))], 1))
    turns = Rotation.from_rotvec([[0, 0, a] for a in rng.uniform(0, 2 * np.pi, count)])
    return np.asarray((turns * tilts).as_matrix() @ base)
