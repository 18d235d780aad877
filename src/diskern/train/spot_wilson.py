"""Zone-axis patterns of potentials that have nothing but their symmetry, thousands a second.

A random potential is made invariant under a space group, so that it has the group's absences,
its Laue symmetry and its phases, and statistics of intensities that are Wilson's (Acta Cryst. 2,
318 (1949), doi:10.1107/S0365110X49000813).  A foil of it is a phase object: multiple scattering
within the zone, with the rows that Gjønnes and Moodie showed to stay dark, costs two Fourier
transforms.  What it leaves out (higher zones, chemistry, how the curved Ewald sphere takes part
in multiple scattering) is for patterns of true crystals to teach.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft2, ifft2

from diskern.bragg.lattice_reduce import reduction
from diskern.crystal.generate import random_lattice
from diskern.crystal.spacegroups import DENOMINATOR, operations, space_group
from diskern.physics import wavelength
from diskern.simulate.shape_factors import width_of
from diskern.symmetry.hypotheses_zones import plane_basis
from diskern.train.camera import SpotLists
from diskern.train.exposures import WEAKEST, draw, zone_list
from diskern.train.recipe import Range
from diskern.train.spot_sets_recipe import SpotSetsRecipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Complexes = NDArray[np.complex64]

REACH = 8
"""Largest index, in a reduced basis of the zone, of a node that scatters."""
GRID = 36
"""Samples of the projected potential along each basis vector."""
STRONGEST = 110
"""Spots of a pattern that are kept."""
VOLUME = Range(low=25, high=450)
"""Å³ of primitive cells."""
PHASE = Range(low=0.03, high=2.0)
"""rms phase in rad that the potential gives the wave."""
NORMALS = 4093
"""Random amplitudes of a potential, which its reflections are given by a hash of their indices."""

_HALF: Ints = np.array(
    [(m, n) for n in range(REACH + 1) for m in range(-REACH, REACH + 1) if n > 0 or m > 0]
)
_CODE = np.array([1, 67, 4489])
_BINARY = np.array([4, 2, 1])
_PARITIES: Ints = np.array([(i >> 2 & 1, i >> 1 & 1, i & 1) for i in range(8)])


@dataclass(frozen=True, eq=False)
class Foils:
    """Patterns of C crystals along P zones of each, crystal after crystal.

    Attributes
    ----------
    lists : spots of the C·P patterns.
    zone : (C·P, 3).
    thickness, energy : (C·P,) in Å and eV.
    """

    lists: SpotLists
    zone: Ints
    thickness: Floats
    energy: Floats


def wilson_foils(groups: Ints, recipe: SpotSetsRecipe, rng: np.random.Generator) -> Foils:
    """``recipe.per_block`` patterns of a random potential of each of the (C,) space groups."""
    zones, planes, amplitudes, places = [], [], [], []
    for number in groups.tolist():
        lattice = _lattice(number, rng)
        zone = _zones(lattice, recipe, rng)
        plane, place = _nodes(zone, lattice)
        hkl = (_HALF @ plane).reshape(-1, 3)
        zones.append(zone)
        planes.append(plane)
        amplitudes.append(structure_factors(number, hkl, rng).reshape(len(zone), -1))
        places.append(place)
    plane, place = np.concatenate(planes), np.concatenate(places)
    count, each = len(groups), recipe.per_block
    energy = rng.choice(recipe.voltages, count) * 1e3
    thickness = draw(recipe.thickness, rng, count)
    width = np.array([width_of(float(t)) for t in thickness]) * draw(recipe.bend, rng, count)
    spread = np.radians(draw(recipe.tilt, rng, count))
    lengths = np.array([wavelength(float(e)) for e in energy])
    q = _HALF.astype(np.float64) @ place
    factor = np.concatenate(amplitudes) * _fall(q, recipe.g_max, count, rng)
    intensity = _scattered(factor, count, rng)
    both = np.concatenate([q, -q], 1)
    tilt = np.repeat(spread, each)[:, None] * np.clip(rng.normal(size=(len(q), 2)), -2.1, 2.1)
    s = (both @ tilt[..., None])[..., 0]
    s -= 0.5 * np.repeat(lengths, each)[:, None] * (both**2).sum(-1)
    intensity *= np.exp(-0.5 * (s / np.repeat(width, each)[:, None]) ** 2)
    inside = np.linalg.norm(both, axis=-1) < _edge(place, recipe.g_max)[:, None]
    intensity *= inside
    top = intensity.max(1, keepdims=True)
    intensity = np.where(intensity > WEAKEST * top, intensity, 0.0)
    order = np.argsort(-intensity, axis=1)[:, :STRONGEST]
    rows = np.arange(len(q))[:, None]
    node = np.concatenate([_HALF, -_HALF])[order]
    hkl = np.rint(node.astype(np.float64) @ plane.astype(np.float64)).astype(np.int64)
    return Foils(
        SpotLists(both[rows, order], intensity[rows, order], hkl),
        np.concatenate(zones),
        np.repeat(thickness, each),
        np.repeat(energy, each),
    )


# --- the crystal ----------------------------------------------------------------------------
def _lattice(number: int, rng: np.random.Generator) -> Floats:
    group = space_group(number)
    primitive = float(draw(VOLUME, rng))
    return random_lattice(group.system, primitive * len(_symmetry(number)[2]), rng)


@cache
def _symmetry(number: int) -> tuple[Ints, Floats, Floats]:
    """One operation of each rotation part (its translation in cells), and the centring vectors."""
    rotations, shifts = operations(number)
    flat = rotations.reshape(len(rotations), -1)
    _, first = np.unique(flat, axis=0, return_index=True)
    identity = (flat == np.eye(3, dtype=np.int64).ravel()).all(1)
    return rotations[first], shifts[first] / DENOMINATOR, shifts[identity] / DENOMINATOR


def structure_factors(number: int, hkl: Ints, rng: np.random.Generator) -> Complexes:
    """(N,) amplitudes of a random potential that a space group leaves as it is.

    Their mean square is about 1, apart from what absences and symmetry do to it; classes of
    indices modulo 2 differ in strength, as those of superstructures do.
    """
    rotations, shifts, centring = _symmetry(number)
    normals = (rng.normal(size=(NORMALS, 2)) @ np.array([1, 1j]) / 2**0.5).astype(np.complex64)
    strength = np.exp(rng.normal(0, rng.choice([0.0, 0.5, 1.2]), 8)).astype(np.float32)
    index = hkl.astype(np.float64)
    # Hashes and parities of the images h R, without the images themselves.
    code = (index @ (rotations @ _CODE).T).astype(np.int32)
    value = normals[np.abs(code) % NORMALS]
    # A real potential: Friedel's law.
    np.conjugate(value, out=value, where=code < 0)
    parity = (_PARITIES @ rotations % 2) @ _BINARY
    value *= strength[parity.T][hkl % 2 @ _BINARY]
    value *= np.exp((2j * np.pi * (index @ shifts.T)).astype(np.complex64))
    whole = index @ centring.T
    allowed = (np.abs(whole - np.rint(whole)) < 1e-6).all(1)
    return np.asarray(value.sum(1) * allowed / len(rotations) ** 0.5, dtype=np.complex64)


# --- its zones ------------------------------------------------------------------------------
@cache
def _planes(largest: int) -> Ints:
    """(Z, 2, 3) a basis of the reciprocal plane of each zone of `zone_list`."""
    return np.array([plane_basis(zone) for zone in zone_list(largest)])


def _zones(lattice: Floats, recipe: SpotSetsRecipe, rng: np.random.Generator) -> Ints:
    """(P, 3) different zones, short ones preferred."""
    known = zone_list(recipe.max_index)
    weight = np.linalg.norm(known @ lattice, axis=1) ** -recipe.short_zones
    chosen = rng.choice(len(known), recipe.per_block, replace=False, p=weight / weight.sum())
    return np.asarray(known[chosen])


def _nodes(zone: Ints, lattice: Floats) -> tuple[Ints, Floats]:
    """(P, 2, 3) reduced basis of each zone in hkl, and (P, 2, 2) in 1/Å, turned at random.

    Columns are x and y of the image, which sees the crystal along the beam.
    """
    largest = int(np.abs(zone).max())
    row = [int(np.flatnonzero((zone_list(largest) == z).all(1))[0]) for z in zone]
    plane = _planes(largest)[row]
    axis = zone @ lattice
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    vectors = plane @ np.linalg.inv(lattice).T
    x = vectors[:, 0] / np.linalg.norm(vectors[:, 0], axis=1, keepdims=True)
    y = np.cross(axis, x)
    flat = np.stack([(vectors * x[:, None]).sum(-1), (vectors * y[:, None]).sum(-1)], -1)
    change = reduction(flat[..., ::-1])
    return change @ plane, change @ flat


def _edge(place: Floats, g_max: float) -> Floats:
    """(B,) radius within which no node is missing."""
    area = np.abs(np.linalg.det(place))
    longest = np.linalg.norm(place, axis=-1).max(1)
    return np.asarray(np.minimum(g_max, (REACH + 0.9) * area / longest))


# --- scattering -----------------------------------------------------------------------------
def _fall(q: Floats, g_max: float, count: int, rng: np.random.Generator) -> Floats:
    """How amplitudes fall with |q|: electron form factors and thermal motion."""
    each = len(q) // count
    square = (q**2).sum(-1)
    knee = np.repeat(rng.uniform(0.3, 1.0, count), each)[:, None]
    thermal = np.repeat(rng.uniform(0.5, 4.0, count), each)[:, None]
    fall = np.exp(-thermal * square / 4) / (1 + square / knee**2)
    return np.asarray(fall * (square < g_max**2))


def _scattered(factor: Complexes, count: int, rng: np.random.Generator) -> Floats:
    """(B, 2K) intensities of the nodes of `_HALF` and their Friedel mates behind a phase object."""
    b, each = len(factor), len(factor) // count
    grid = np.zeros((b, GRID, GRID), dtype=np.complex64)
    m, n = _HALF.T
    grid[:, m, n], grid[:, -m, -n] = factor, factor.conj()
    projected = ifft2(grid, norm="forward").real
    spread = np.sqrt(2 * (np.abs(factor) ** 2).sum(1))
    # Zones of one foil differ in strength as their potentials do.
    typical = np.repeat(spread.reshape(count, each).mean(1), each)
    rms = np.repeat(draw(PHASE, rng, count), each)
    scale = rms / np.maximum(typical, 1e-30)
    wave = np.exp(1j * (scale[:, None, None].astype(np.float32) * projected))
    out = np.abs(fft2(wave, norm="forward")) ** 2
    return np.concatenate([out[:, m, n], out[:, -m, -n]], 1).astype(np.float64)
