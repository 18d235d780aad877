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
from diskern.crystal.spacegroups import (
    DENOMINATOR,
    DiffractionSymbol,
    diffraction_symbols,
    operations,
    space_group,
    symbol_of,
    systematically_absent,
)
from diskern.crystal.symmetry import find_symmetry
from diskern.errors import DiskernError

Floats = NDArray[np.float64]

TIGHT, LOOSE = 0.01, 0.1
"""Tolerances in Å between which a trustworthy symmetry label must not change."""

NEIGHBOURS: Floats = np.stack(
    np.meshgrid(*[np.arange(-1.0, 2.0)] * 3, indexing="ij"), axis=-1
).reshape(-1, 3)
"""(27, 3) lattice translations to a cell and its neighbours."""

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


@dataclass(frozen=True)
class CheckedSymmetry:
    """A space-group label with the tolerances at which it was checked.

    Attributes
    ----------
    number : space group at `TIGHT`.
    loose : space group at `LOOSE`.
    """

    number: int
    loose: int

    @property
    def stable(self) -> bool:
        """True where both tolerances give the same group."""
        return self.number == self.loose


def check_symmetry(crystal: Crystal) -> CheckedSymmetry:
    """Label a crystal at both tolerances."""
    return CheckedSymmetry(
        find_symmetry(crystal, TIGHT).number, find_symmetry(crystal, LOOSE).number
    )


def random_crystal(
    number: int, rng: np.random.Generator, options: GenerateOptions | None = None
) -> Crystal:
    """A random crystal of one space group, confirmed by spglib at both tolerances.

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
        label = check_symmetry(crystal)
        if label.stable and label.number == number and not accidental_symbols(crystal, number):
            return crystal
    raise DiskernError(
        f"no random crystal of space group {number} in {options.attempts} attempts; "
        "lower packing or closeness"
    )


def accidental_symbols(crystal: Crystal, number: int) -> tuple[DiffractionSymbol, ...]:
    """Stricter diffraction symbols that the crystal's reflections fulfil by accident.

    The crystal must stand in the reference setting of ``number``.  Point atoms of weight Z
    are enough here: an accidental absence comes from positions, not from form factors.
    """
    hkl = _index_box()
    phases = np.exp(2j * np.pi * (hkl @ crystal.fractional.T))
    strength = np.abs(phases @ (crystal.numbers * crystal.occupancy)) ** 2
    own = _box_absences(number)
    dark = strength < 1e-4 * np.median(strength[~own])
    found = []
    for symbol in diffraction_symbols():
        other = symbol.space_groups[0]
        if symbol == symbol_of(number) or space_group(other).system != space_group(number).system:
            continue
        further = _box_absences(other) & ~own
        if further.any() and dark[further].all():
            found.append(symbol)
    return tuple(found)


@cache
def _index_box() -> NDArray[np.int64]:
    """(N, 3) half of all indices up to 6: every reflection condition repeats within them."""
    axis = np.arange(-6, 7)
    hkl = np.stack(np.meshgrid(axis, axis, axis[6:], indexing="ij"), axis=-1).reshape(-1, 3)
    return hkl[hkl.any(axis=1)]


@cache
def _box_absences(number: int) -> NDArray[np.bool_]:
    return systematically_absent(number, _index_box())


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
    points = []
    for start in rng.random((12, 3)):
        which = int(rng.integers(len(rotations)))
        images = [start]
        while len(images) < 6:
            image = rotations[which] @ images[-1] + translations[which]
            if np.abs(image - start).max() < 1e-9:
                break
            images.append(image - np.round(image - images[0]))
        point = np.mean(images, axis=0)
        moved = rotations[which] @ point + translations[which] - point
        points.append(point if np.abs(moved - np.round(moved)).max() < 1e-6 else start)
    return np.array(points)


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
    radius = _radii(np.array([z]))[0]
    for start in candidates:
        orbit = (np.einsum("nij,j->ni", rotations, start) + translations) % 1.0
        apart = orbit - orbit[0]
        apart -= np.round(apart)
        first = np.linalg.norm(apart @ lattice, axis=1) < 1e-3
        _, keep = np.unique(np.round(orbit, 5) % 1.0, axis=0, return_index=True)
        orbit = orbit[np.sort(keep)]
        if first.sum() * len(orbit) != len(rotations):
            continue  # rounding split or merged the orbit: too close to a symmetry element
        everything = [*orbits, (z, orbit)]
        others = np.concatenate([o for _, o in everything])
        reach = np.concatenate([np.full(len(o), _radii(np.array([k]))[0]) for k, o in everything])
        distance = np.linalg.norm(
            ((others - orbit[0])[:, None] + NEIGHBOURS[None]) @ lattice, axis=-1
        )
        distance[distance < 1e-6] = np.inf
        if (distance.min(axis=1) >= options.closeness * (reach + radius)).all():
            return np.asarray(orbit)
    return None


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
    apart = crystal.fractional - crystal.fractional[atom]
    distance = np.linalg.norm((apart[:, None] + NEIGHBOURS[None]) @ crystal.lattice, axis=-1)
    distance[distance < 1e-6] = np.inf
    return float((distance.min(axis=1) / (radii + radii[atom])).min())
