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

from diskern.crystal.crystal import Crystal
from diskern.physics import wavelength
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.saed_options import SaedOptions
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
    coupled = bool(rng.random() < recipe.double_diffraction)
    if not coupled:
        # What is extinct or nearly so stays dark, and costs nothing when left out here.
        table = table.select(np.abs(table.F) > 1e-4 * np.abs(table.F).max())
    views = _views(recipe, crystal, rng)
    axes = np.array([v.axis for v in views])
    reach = TAILS * np.array([v.width for v in views])
    near = within_cones(table, axes, energy, reach, 3 * math.radians(recipe.tilt))
    return [
        Exposure(v.zone, v.orientations, _simulate(table.select(own), v, energy, coupled))
        for v, own in zip(views, near, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _View:
    """Patterns about one direction, before they are computed.

    Attributes
    ----------
    zone : (3,) indices, or zeros for a general direction.
    axis : (3,) unit vector of the direction in the crystal's frame.
    thickness : Å.
    width : rms rel-rod in 1/Å.
    orientations : (B, 3, 3) crystal → lab.
    """

    zone: Ints
    axis: Floats
    thickness: float
    width: float
    orientations: Floats


def _views(
    recipe: SpotsRecipe | PatternsRecipe, crystal: Crystal, rng: np.random.Generator
) -> list[_View]:
    """Everything that is drawn of one crystal's patterns."""
    spread = math.radians(recipe.tilt)
    zones = zone_list(recipe.max_index)
    vectors = zones @ crystal.lattice
    # Long zone axes show few reflections, so microscopists stop at short ones.
    weight = 1 / np.linalg.norm(vectors, axis=1)
    weight /= weight.sum()
    views = []
    for _ in range(-(-recipe.per_crystal // recipe.per_direction)):
        if rng.random() >= recipe.zone_share:
            zone, vector = np.zeros(3, dtype=np.int64), rng.normal(size=3)
        else:
            chosen = int(rng.choice(len(zones), p=weight))
            zone, vector = zones[chosen], vectors[chosen]
        axis = vector / np.linalg.norm(vector)
        thickness = float(draw(recipe.thickness, rng))
        width = width_of(thickness) * float(draw(recipe.bend, rng))
        turns = orientations_about(axis, spread, recipe.per_direction, rng)
        views.append(_View(zone, axis, thickness, width, turns))
    return views


def _simulate(near: Reflections, view: _View, energy: float, coupled: bool) -> SpotBatch:
    turns, thickness, width = view.orientations, view.thickness, view.width
    if not len(near):
        empty = np.zeros((len(turns), 1))
        return SpotBatch(
            np.zeros((*empty.shape, 3), dtype=np.int64),
            np.zeros((*empty.shape, 2)),
            empty,
            empty,
            np.zeros(len(turns), dtype=np.int64),
            energy,
            thickness,
        )
    options = SaedOptions(width=width, max_excitation_error=TAILS * width, min_intensity=WEAKEST)
    return simulate_coupled(near, turns, energy, thickness, options, coupled)


def simulate_coupled(
    near: Reflections,
    orientations: Floats,
    energy: float,
    thickness: float,
    options: SaedOptions,
    coupled: bool,
) -> SpotBatch:
    """Kinematic patterns, with double diffraction where it is asked for and can be afforded.

    Parameters
    ----------
    near : (P,) reflections that can come near the Ewald sphere.
    orientations : (B, 3, 3) crystal → lab.
    energy, thickness : eV and Å.
    options : of the patterns without double diffraction.
    coupled : ask for the second Born order; patterns of more than `MOST_COUPLED` reflections go
        without it.

    Returns
    -------
    SpotBatch, strongest reflections first.
    """
    spots = simulate_saed_batch(
        near, orientations, energy=energy, thickness=thickness, options=options
    )
    if coupled and 2 < spots.intensity.shape[1] <= MOST_COUPLED:
        # The first Born orders hold for thin foils; a thicker one gets what 80 Å would scatter.
        thin = min(thickness, COUPLED_THICKNESS)
        both = replace(options, double_diffraction=True)
        spots = simulate_saed_batch(near, orientations, energy=energy, thickness=thin, options=both)
        spots = replace(spots, thickness=thickness)
    return spots


@cache
def zone_list(largest: int) -> Ints:
    """(Z, 3) coprime indices up to ``largest`` in absolute value."""
    axis = range(-largest, largest + 1)
    return np.array([u for u in product(axis, repeat=3) if math.gcd(*u) == 1])


def within_cones(
    table: Reflections, axes: Floats, energy: float, reach: Floats | float, spread: float
) -> NDArray[np.bool_]:
    """(D, P) whether a beam within ``spread`` rad of an axis can bring |s_g| below ``reach``.

    Parameters
    ----------
    axes : (D, 3) unit vectors in the crystal's frame.
    reach : in 1/Å, one or (D,).
    """
    square = np.einsum("pi,pi->p", table.g, table.g)
    # s ≈ -(g_z + λ g²/2), and a tilt moves g_z by up to |g| times its angle.
    s = axes @ table.g.T
    s += 0.5 * wavelength(energy) * square
    np.abs(s, out=s)
    s -= spread * np.sqrt(square) + 1e-3
    return np.asarray(s <= 1.05 * np.asarray(reach)[..., None])


def orientations_about(axis: Floats, spread: float, count: int, rng: np.random.Generator) -> Floats:
    """(count, 3, 3) rotations that bring ``axis`` near +z, turned by any angle about it."""
    x = _cross(np.eye(3)[int(np.abs(axis).argmin())], axis)
    x /= np.linalg.norm(x)
    base = np.array([x, _cross(axis, x), axis])
    tilt = np.clip(rng.normal(0, spread, (count, 2)), -2.1 * spread, 2.1 * spread)
    turn = np.exp(1j * rng.uniform(0, 2 * np.pi, count))[:, None]
    tilted = _tilts(tilt) @ base
    xy = (tilted[:, 0] + 1j * tilted[:, 1]) * turn
    return np.stack([xy.real, xy.imag, tilted[:, 2]], 1)


def _tilts(vectors: Floats) -> Floats:
    """(N, 3, 3) rotations about (N, 2) vectors across the beam, by their lengths in rad."""
    a, b = vectors.T
    angle = np.hypot(a, b)
    sine, verse = np.sinc(angle / np.pi), 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    rows = [
        [1 - verse * b * b, verse * a * b, sine * b],
        [verse * a * b, 1 - verse * a * a, -sine * a],
        [-sine * b, sine * a, np.cos(angle)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _cross(a: Floats, b: Floats) -> Floats:
    # numpy's own takes ten times as long for two vectors.
    return np.asarray(a[[1, 2, 0]] * b[[2, 0, 1]] - a[[2, 0, 1]] * b[[1, 2, 0]])
