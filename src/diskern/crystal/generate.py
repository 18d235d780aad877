"""Crystals that nobody has made: random ones of any space group, and substituted prototypes.

Random symmetric crystals teach a network symmetry instead of chemistry (Schopmans et al.,
Digital Discovery 2023, 10.1039/D3DD00071K).  One element always fills a general position,
for special positions alone nearly always have a supergroup; spglib confirms the group, and
absences that the atoms add by accident are looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import gemmi
import numpy as np
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal, lattice_from_parameters
from diskern.crystal.extinction_groups import DiffractionSymbol, diffraction_symbols, symbol_of
from diskern.crystal.phase_sums import phase_sums
from diskern.crystal.spacegroups import DENOMINATOR, operations, space_group, systematically_absent
from diskern.crystal.symmetry import symmetry_dataset
from diskern.errors import DiskernError

Floats = NDArray[np.float64]

TIGHT, LOOSE = 0.01, 0.1
"""Tolerances in Å between which a trustworthy symmetry label must not change."""

NEIGHBOURS: Floats = np.stack(
    np.meshgrid(*[np.arange(-1.0, 2.0)] * 3, indexing="ij"), axis=-1
).reshape(-1, 3)
"""(27, 3) lattice translations to a cell and its neighbours."""

_BOX = (np.arange(-6, 7), np.arange(-6, 7), np.arange(7))
"""Half of all indices up to 6: every reflection condition repeats within them."""

COMMON_ELEMENTS = tuple(
    z for z in range(3, 84) if z not in (10, 18, 36, 43, 54, 61)
)  # no noble gases, nothing without stable isotopes
"""Atomic numbers that random crystals draw from unless told otherwise."""


@dataclass(frozen=True)
class GenerateOptions:
    """Ranges of random crystals.

    Attributes
    ----------
    elements : atomic numbers to draw from.
    special : fewest and most further orbits, placed on random special or general positions.
    packing : range of the volume that covalent spheres fill.
    closeness : shortest allowed distance over the sum of covalent radii.
    attempts : crystals tried before giving up.
    """

    elements: Sequence[int] = COMMON_ELEMENTS
    special: tuple[int, int] = (0, 3)
    packing: tuple[float, float] = (0.25, 0.5)
    closeness: float = 0.8
    attempts: int = 60


def random_crystal(
    number: int, rng: np.random.Generator, options: GenerateOptions | None = None
) -> Crystal:
    """A random crystal of one space group, confirmed by spglib at `LOOSE` and so at `TIGHT`.

    Raises
    ------
    DiskernError
        For an impossible group number, or where no attempt succeeded (too tight a packing).
    """
    options = options or GenerateOptions()
    group = space_group(number)
    for _ in range(options.attempts):
        crystal = _attempt(number, group.system, rng, options)
        if crystal is None:
            continue
        if _has_only_its_own_symmetry(crystal, number) and not accidental_symbols(crystal, number):
            return crystal
    raise DiskernError(
        f"no random crystal of space group {number} in {options.attempts} attempts; "
        "lower packing or closeness"
    )


def _has_only_its_own_symmetry(crystal: Crystal, number: int) -> bool:
    """Whether a crystal built with the operations of a group has no others within `LOOSE`.

    Then every tighter tolerance finds the same group, for those operations hold exactly.
    """
    found = symmetry_dataset(crystal, LOOSE)[0]
    return bool(found.number == number and len(found.rotations) == len(operations(number)[0]))


def accidental_symbols(crystal: Crystal, number: int) -> tuple[DiffractionSymbol, ...]:
    """Stricter diffraction symbols that the crystal's reflections fulfil by accident.

    The crystal must stand in the reference setting of ``number``.  Point atoms of weight Z
    are enough here: an accidental absence comes from positions, not from form factors.
    """
    weights = crystal.numbers * crystal.occupancy
    strength = np.abs(phase_sums(crystal.fractional, weights, _BOX).reshape(-1)) ** 2
    bright = strength >= 1e-4 * np.median(strength[~_box_absences(number)])
    symbols, further = _stricter_symbols(number)
    return tuple(s for s, own in zip(symbols, further, strict=True) if not bright[own].any())


@cache
def _stricter_symbols(number: int) -> tuple[tuple[DiffractionSymbol, ...], NDArray[np.bool_]]:
    """(S,) symbols of the group's system with more absences, and (S, M) those of the box."""
    own, system = _box_absences(number), space_group(number).system
    others = [s for s in diffraction_symbols() if s.system == system and s != symbol_of(number)]
    further = np.zeros((len(others), len(own)), dtype=bool)
    for row, symbol in zip(further, others, strict=True):
        row[:] = _box_absences(symbol.space_groups[0]) & ~own
    more = np.flatnonzero(further.any(1))
    return tuple(others[i] for i in more), further[more]


@cache
def _box_absences(number: int) -> NDArray[np.bool_]:
    """(13·13·7,) of the box, 000 among them."""
    hkl = np.stack(np.meshgrid(*_BOX, indexing="ij"), axis=-1).reshape(-1, 3)
    return systematically_absent(number, hkl)


def substituted(
    prototype: Crystal,
    replacement: dict[int, int],
    *,
    closeness: float = 0.65,
) -> Crystal:
    """The prototype with other elements, its cell scaled by the sum of covalent-sphere volumes.

    Raises
    ------
    DiskernError
        Where two atoms come closer than ``closeness`` times the sum of their covalent radii.
    """
    numbers = np.array([replacement.get(int(z), int(z)) for z in prototype.numbers])
    before, after = (_sphere_volumes(n).sum() for n in (prototype.numbers, numbers))
    scale = float(after / before) ** (1 / 3)
    made = Crystal.from_arrays(
        prototype.lattice * scale,
        prototype.fractional,
        numbers,
        prototype.occupancy,
        prototype.u_iso,
        source=f"{prototype.name or prototype.formula} substituted",
    )
    worst = min(_closest(made, i) for i in range(len(made)))
    if worst < closeness:
        raise DiskernError(
            f"{made.formula} on {prototype.formula}: atoms at {worst:.2f} of their summed radii"
        )
    return replace(made, name=made.formula)


def _attempt(
    number: int, system: str, rng: np.random.Generator, options: GenerateOptions
) -> Crystal | None:
    rotations, shifts = operations(number)
    translations = shifts / DENOMINATOR
    n_special = int(rng.integers(options.special[0], options.special[1] + 1))
    elements = rng.choice(np.asarray(options.elements), n_special + 1, replace=True)
    orbits: list[tuple[int, Floats]] = []
    starts = [
        rng.random((40, 3)),
        *(_special(rotations, translations, rng) for _ in range(n_special)),
    ]
    counts = [len(rotations)] + [len(rotations) // 2] * n_special
    volume = sum(
        c * float(_sphere_volumes(np.array([z]))[0]) for c, z in zip(counts, elements, strict=True)
    ) / rng.uniform(*options.packing)
    lattice = random_lattice(system, volume, rng)
    for z, candidates in zip(elements.tolist(), starts, strict=True):
        placed = _place(z, candidates, orbits, (rotations, translations), lattice, options)
        if placed is None:
            if not orbits:
                return None
            continue
        orbits.append((z, placed))
    positions = np.concatenate([o for _, o in orbits])
    numbers = np.concatenate([np.full(len(o), z) for z, o in orbits])
    made = Crystal.from_arrays(lattice, positions, numbers, u_iso=0.006)
    return replace(made, name=f"random {number}", source="random symmetric crystal")


def random_lattice(system: str, volume: float, rng: np.random.Generator) -> Floats:
    """(3, 3) cell rows in Å of a crystal system (hexagonal axes for trigonal) and volume in Å³."""
    a, b, c = np.exp(rng.normal(0, 0.3, 3))
    angles = [90.0, 90.0, 90.0]
    if system == "triclinic":
        angles = (90 + rng.choice([-1, 1], 3) * rng.uniform(3, 25, 3)).tolist()
    elif system == "monoclinic":
        angles[1] = float(rng.uniform(93, 120))
    elif system == "tetragonal":
        b = a
    elif system in ("trigonal", "hexagonal"):
        b, angles[2] = a, 120.0
    elif system == "cubic":
        b = c = a
    lattice = lattice_from_parameters(a, b, c, *angles)
    scale = float(volume / abs(np.linalg.det(lattice))) ** (1 / 3)
    return np.asarray(lattice * scale)


def _special(
    rotations: NDArray[np.int64], translations: Floats, rng: np.random.Generator
) -> Floats:
    """(K, 3) points, most of them on a symmetry element.

    The mean of a point's images under a cyclic subgroup is invariant where the operation has
    no screw or glide part, so no table of Wyckoff positions is needed.
    """
    starts = rng.random((12, 3))
    which = rng.integers(len(rotations), size=len(starts))
    turn, shift = rotations[which], translations[which]

    def moved(points: Floats) -> Floats:
        return np.asarray((turn @ points[..., None])[..., 0] + shift)

    image, total = starts, starts.copy()
    count, going = np.ones(len(starts)), np.ones(len(starts), dtype=bool)
    for _ in range(5):  # no rotation has an order above 6
        image = moved(image)
        going &= np.abs(image - starts).max(1) >= 1e-9
        image = image - np.round(image - starts)
        total += np.where(going[:, None], image, 0.0)
        count += going
    points = total / count[:, None]
    apart = moved(points) - points
    fixed = np.abs(apart - np.round(apart)).max(1) < 1e-6
    return np.where(fixed[:, None], points, starts)


def _place(
    z: int,
    candidates: Floats,
    orbits: list[tuple[int, Floats]],
    symmetry: tuple[NDArray[np.int64], Floats],
    lattice: Floats,
    options: GenerateOptions,
) -> Floats | None:
    """The orbit of the first candidate that keeps its distance, or None."""
    rotations, translations = symmetry
    known = [positions for _, positions in orbits]
    radii = np.concatenate([_radii([]), *(np.full(len(o), _covalent_radius(k)) for k, o in orbits)])
    radius = _covalent_radius(z)
    for start in candidates:
        images = (rotations @ start + translations) % 1.0
        reach = np.concatenate([radii, np.full(len(images), radius)])
        apart = np.concatenate([*known, images]) - images[0]
        distance = _nearest(apart, lattice, strangers=len(radii))
        if (distance >= options.closeness * (reach + radius)).all():
            orbit = _distinct(images, lattice)
            if orbit is not None:
                return orbit
    return None


def _distinct(images: Floats, lattice: Floats) -> Floats | None:
    """(N, 3) orbit without repeats, or None where it is too close to a symmetry element."""
    apart = images - images[0]
    apart -= np.round(apart)
    stabiliser = (np.linalg.norm(apart @ lattice, axis=1) < 1e-3).sum()
    grid = np.rint(images * 1e5).astype(np.int64) % 10**5
    keep = np.unique(grid @ np.array([10**10, 10**5, 1]), return_index=True)[1]
    if stabiliser * len(keep) != len(images):
        return None  # rounding split or merged the orbit
    return np.asarray(images[np.sort(keep)])


def _nearest(apart: Floats, lattice: Floats, strangers: int = 0) -> Floats:
    """(N,) shortest length in Å of (N, 3) fractional differences and their lattice neighbours.

    Zero is left out: it is the atom itself, except in the first rows, of ``strangers``.
    """
    vectors, steps = apart @ lattice, NEIGHBOURS @ lattice
    square = 2 * vectors @ steps.T
    square += (vectors * vectors).sum(1)[:, None] + (steps * steps).sum(1)
    own = square[strangers:]
    own[own < 1e-8] = np.inf
    return np.asarray(np.sqrt(square.min(axis=1).clip(0)))


@cache
def _covalent_radius(z: int) -> float:
    return float(gemmi.Element(z).covalent_r)


def _radii(numbers: Iterable[int] | NDArray[np.int64]) -> Floats:
    """(N,) covalent radii in Å."""
    return np.array([_covalent_radius(int(z)) for z in numbers])


def _sphere_volumes(numbers: NDArray[np.int64]) -> Floats:
    """(N,) volumes in Å³ of covalent spheres."""
    return np.asarray(4 / 3 * np.pi * _radii(numbers) ** 3)


def _closest(crystal: Crystal, atom: int) -> float:
    """Shortest distance from one atom over the sum of covalent radii."""
    radii = _radii(crystal.numbers)
    distance = _nearest(crystal.fractional - crystal.fractional[atom], crystal.lattice)
    return float((distance / (radii + radii[atom])).min())
