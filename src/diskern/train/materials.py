"""The crystals that a recipe names, each with what a split must know of it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from diskern.crystal.common import check_elements, common_phases, load_candidates
from diskern.crystal.crystal import Crystal
from diskern.crystal.generate import (
    COMMON_ELEMENTS,
    LOOSE,
    TIGHT,
    GenerateOptions,
    random_crystal,
    substituted,
)
from diskern.crystal.prototype import prototype
from diskern.crystal.selection import square_root_selection
from diskern.crystal.symmetry import find_symmetry
from diskern.errors import DiskernError
from diskern.train.recipe import (
    CommonSource,
    FolderSource,
    RandomSource,
    Recipe,
    Source,
    SubstitutedSource,
)

Ints = NDArray[np.int64]

log = logging.getLogger(__name__)

_ATTEMPTS = 40
"""Substitutions tried for each one that is wanted."""
_CACHE = 512
"""Crystals kept in memory by a process."""


@dataclass(frozen=True, eq=False)
class Material:
    """A crystal of a training set, built when it is first needed.

    Attributes
    ----------
    key : unique within the recipe; what shards call it.
    space_group : 1 to 230, the same at 0.01 and 0.1 Å.
    prototype : label of its structure type.  A random crystal is a type of its own: it always
        fills a general position.
    formula : reduced formula, ``""`` of a random crystal.
    build : makes the crystal, in the standardised conventional cell.
    """

    key: str
    space_group: int
    prototype: str
    formula: str
    name: str
    origin: str
    build: Callable[[], Crystal]

    def crystal(self, displacement: float) -> Crystal:
        """The structure; atoms without a stated motion get an rms ``displacement`` in Å."""
        return _built(self, displacement)


@lru_cache(maxsize=_CACHE)
def _built(material: Material, displacement: float) -> Crystal:
    made = material.build()
    still = (made.u_iso <= 0) if made.u_aniso is None else np.zeros(len(made), dtype=bool)
    return replace(made, u_iso=np.where(still, displacement**2, made.u_iso))


def materials_of(recipe: Recipe) -> tuple[Material, ...]:
    """All crystals of a recipe, in an order that depends on the recipe alone.

    Crystals with partial occupancies, and those whose space group changes between 0.01 and
    0.1 Å, are left out; the log says how many.

    Raises
    ------
    DiskernError
        Where a source gives nothing, or a folder cannot be read.
    """
    found: list[Material] = []
    for place, source in enumerate(recipe.crystals):
        given = list(_READERS[type(source)](source, recipe.seed, place))
        if not given:
            raise DiskernError(
                f"{recipe.name}: source {source.source!r} gives no usable crystal; widen its "
                "space_groups, elements or max_volume"
            )
        found += given
    unique = {m.key: m for m in found}
    chosen = tuple(unique.values())
    if recipe.balance is None:
        return chosen
    picked = square_root_selection(
        [m.prototype for m in chosen],
        seed=recipe.seed,
        total=recipe.balance.total,
        cap=recipe.balance.cap,
    )
    return tuple(chosen[i] for i in picked.chosen)


def _common(source: Source, seed: int, place: int) -> Iterator[Material]:
    assert isinstance(source, CommonSource)
    return _checked(common_phases(source.elements or None), source, "common")


def _folder(source: Source, seed: int, place: int) -> Iterator[Material]:
    assert isinstance(source, FolderSource)
    return _checked(load_candidates(Path(source.path)), source, "cif")


def _checked(crystals: Iterable[Crystal], source: Source, origin: str) -> Iterator[Material]:
    """Ordered crystals with a trustworthy label, within the source's limits."""
    refused = 0
    for crystal in crystals:
        made = _material(crystal, origin)
        refused += made is None
        if made is not None and _within(made, crystal.volume, source):
            yield made
    if refused:
        log.info("%s: %d crystals left out (disorder or an unsteady space group)", origin, refused)


@lru_cache(maxsize=4096)
def _material(crystal: Crystal, origin: str) -> Material | None:
    if (crystal.occupancy < 1 - 1e-6).any():
        return None
    try:
        kind = prototype(crystal, TIGHT)
        loose = find_symmetry(crystal, LOOSE).number
    except DiskernError as error:
        log.warning("%s: %s", crystal.name, error)
        return None
    if loose != kind.number:
        return None
    key = f"{origin}:{crystal.name or crystal.formula}:{crystal.source}"
    return Material(
        key=key,
        space_group=kind.number,
        prototype=kind.label,
        formula=_sorted_formula(crystal),
        name=crystal.name,
        origin=crystal.source,
        build=partial(Crystal.conventional, crystal),
    )


def _within(material: Material, volume: float, source: Source) -> bool:
    groups = source.space_groups
    return volume <= source.max_volume and (not groups or material.space_group in groups)


def _substituted(source: Source, seed: int, place: int) -> Iterator[Material]:
    """Prototype × elements; every prototype of a space group is drawn equally often."""
    assert isinstance(source, SubstitutedSource)
    pool = np.array(_atomic_numbers(source.elements))
    by_group: defaultdict[int, list[tuple[Material, Crystal]]] = defaultdict(list)
    for crystal in common_phases():
        made = _material(crystal, "common")
        if made is not None and _within(made, crystal.volume, source):
            by_group[made.space_group].append((made, crystal))
    for number in sorted(by_group):
        rng = np.random.default_rng([seed, place, number])
        parents = by_group[number]
        seen: set[str] = set()
        for _ in range(source.per_group * _ATTEMPTS):
            if len(seen) == source.per_group:
                break
            parent = parents[int(rng.integers(len(parents)))]
            child = _one_substitution(*parent, pool, source.min_atom_volume, rng)
            if child is not None and child.key not in seen:
                seen.add(child.key)
                yield child


def _one_substitution(
    parent: Material,
    structure: Crystal,
    pool: Ints,
    min_atom_volume: float,
    rng: np.random.Generator,
) -> Material | None:
    """The parent with other elements, each old one to a new one of its own.

    That keeps space group and prototype; only the distances need a look.
    """
    old = np.unique(structure.numbers).tolist()
    if len(old) > len(pool):
        return None
    new = rng.choice(pool, len(old), replace=False).tolist()
    try:
        made = substituted(structure, dict(zip(old, new, strict=True)))
    except DiskernError:
        return None
    if made.volume < min_atom_volume * len(made):
        return None
    return replace(
        parent,
        key=f"substituted:{made.name}:{parent.prototype}",
        formula=_sorted_formula(made),
        name=made.name,
        origin=made.source,
        build=partial(Crystal.conventional, made),
    )


def _atomic_numbers(symbols: tuple[str, ...]) -> list[int]:
    if not symbols:
        return list(COMMON_ELEMENTS)
    return sorted(gemmi.Element(s).atomic_number for s in check_elements(symbols))


def _random(source: Source, seed: int, place: int) -> Iterator[Material]:
    assert isinstance(source, RandomSource)
    groups = source.space_groups or tuple(range(1, 231))
    for index in range(source.count):
        number = groups[index % len(groups)]
        name = f"random-{seed}-{place}-{index}"
        yield Material(
            key=name,
            space_group=number,
            prototype=name,
            formula="",
            name=f"random crystal of {number}",
            origin="random symmetric crystal",
            build=partial(_random_crystal, number, (seed, place, index), source.max_volume),
        )


def _random_crystal(number: int, seed: tuple[int, int, int], max_volume: float) -> Crystal:
    """A random crystal, with light elements where heavier ones exceed the volume."""
    rng = np.random.default_rng([17, *seed])
    ordinary = GenerateOptions(special=(0, 2), attempts=200)
    # A general position of a cubic group alone fills thousands of Å³; light atoms fill less.
    light = replace(ordinary, elements=_SMALL)
    best: Crystal | None = None
    for options in (ordinary, light, light, ordinary):
        try:
            crystal = random_crystal(number, rng, options)
        except DiskernError as error:
            log.info("%s", error)
            continue
        if best is None or crystal.volume < best.volume:
            best = crystal
        if best.volume <= max_volume:
            break
    if best is None:
        raise DiskernError(f"no random crystal of space group {number}; leave that group out")
    return best


_SMALL = tuple(gemmi.Element(s).atomic_number for s in ("B", "C", "N", "O", "F", "Si", "P", "S"))


def _sorted_formula(crystal: Crystal) -> str:
    """Reduced formula with its elements in alphabetical order, the same for every cell."""
    order = np.argsort([gemmi.Element(int(z)).name for z in crystal.numbers], kind="stable")
    return replace(
        crystal,
        numbers=crystal.numbers[order],
        occupancy=crystal.occupancy[order],
    ).formula


_READERS: dict[type[Source], Callable[[Source, int, int], Iterator[Material]]] = {
    CommonSource: _common,
    FolderSource: _folder,
    SubstitutedSource: _substituted,
    RandomSource: _random,
}
