"""What a learned model may be asked of symmetry, as one tree, and what it can know at best.

Crystal system, extinction group, diffraction symbol, point group and space group refine each
other in this order, so probabilities of space groups sum up the tree; the Laue class stands
beside the extinction group.  Patterns tell symbols apart only as far as their nets and dark
nodes differ: `ZoneTable` says which candidates a set of patterns leaves, and how often the best
possible answer is right, so that every score can be printed beside its ceiling.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.crystal.extinction_groups import diffraction_symbols, extinction_groups, symbol_of
from diskern.crystal.spacegroups import LAUE_CLASSES, SYSTEMS, space_group
from diskern.errors import DiskernError
from diskern.symmetry.lookalike import Setting, Shape, Zone, look

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Level = Literal[
    "system", "laue_class", "extinction_group", "diffraction_symbol", "point_group", "space_group"
]
LEVELS: tuple[Level, ...] = get_args(Level)
Theory = Literal["kinematic", "dynamical"]
"""Dark nodes by absences alone, or only where multiple scattering cannot light them."""


# --- the tree -----------------------------------------------------------------------------
@dataclass(frozen=True, eq=False, repr=False)
class LabelTree:
    """Class numbers of every space group at every level.

    Attributes
    ----------
    names : of the classes of each level.
    of_group : (230,) class of space group 1 to 230 at each level.
    """

    names: Mapping[Level, tuple[str, ...]]
    of_group: Mapping[Level, Ints]

    def index(self, level: Level, number: ArrayLike) -> Ints:
        """Class of space-group numbers (...) at a level."""
        groups = np.asarray(number)
        if not np.issubdtype(groups.dtype, np.integer) or groups.min() < 1 or groups.max() > 230:
            raise DiskernError(f"space group {number!r} does not exist; give numbers from 1 to 230")
        return np.asarray(self._level(level)[groups - 1])

    def members(self, level: Level, index: int) -> tuple[int, ...]:
        """The space groups of a class."""
        found = np.flatnonzero(self._level(level) == index) + 1
        if not len(found):
            raise DiskernError(f"{level} has no class {index}; it has {len(self.names[level])}")
        return tuple(found.tolist())

    def marginal(self, level: Level, probability: ArrayLike) -> Floats:
        """(..., C) probabilities of a level's classes from (..., 230) of the space groups."""
        p = np.asarray(probability, dtype=np.float64)
        if p.shape[-1:] != (230,):
            raise DiskernError(f"probability has shape {p.shape}; give (..., 230)")
        self._level(level)
        return np.asarray(p @ self._members[level])

    def parents(self, level: Level, of: Level) -> Ints:
        """(C,) class at the coarser level ``of`` of each class of a level.

        Raises
        ------
        DiskernError
            Where the levels do not refine each other, as Laue class and extinction group.
        """
        fine, coarse = self._level(level), self._level(of)
        out = np.empty(len(self.names[level]), dtype=np.int64)
        for index in range(len(out)):
            above = np.unique(coarse[fine == index])
            if len(above) != 1:
                raise DiskernError(f"{level} does not refine {of}")
            out[index] = above[0]
        return out

    @cached_property
    def _members(self) -> dict[Level, Floats]:
        """(230, C) of each level: 1 where a space group belongs to a class."""
        return {k: np.eye(len(self.names[k]))[own] for k, own in self.of_group.items()}

    def _level(self, level: Level) -> Ints:
        if level not in self.of_group:
            raise DiskernError(f"level {level!r} is unknown; use {', '.join(LEVELS)}")
        return self.of_group[level]

    def __repr__(self) -> str:
        return "LabelTree(" + ", ".join(f"{len(self.names[k])} {k}" for k in LEVELS) + ")"


@cache
def label_tree() -> LabelTree:
    """The tree of all 230 space groups: 7, 12, 101, 122, 211 and 230 classes.

    -3m1 and -31m are kept apart.  Point groups are taken without their axes' orientation.
    """
    extinction = {n: g for g in extinction_groups() for n in g.space_groups}
    keys: dict[Level, Callable[[int], tuple[Any, str]]] = {
        "system": lambda n: (SYSTEMS.index(space_group(n).system), space_group(n).system),
        "laue_class": lambda n: (
            LAUE_CLASSES.index(space_group(n).laue_class),
            space_group(n).laue_class,
        ),
        "extinction_group": lambda n: (
            extinction[n].index,
            f"{extinction[n].system} {extinction[n].extinction}",
        ),
        "diffraction_symbol": lambda n: (symbol_of(n).index, symbol_of(n).name),
        "point_group": lambda n: (
            (symbol_of(n).index, space_group(n).point_group),
            f"{symbol_of(n).name}, {space_group(n).point_group}",
        ),
        "space_group": lambda n: (n, space_group(n).symbol),
    }
    names, of_group = {}, {}
    for level, key in keys.items():
        found = [key(n) for n in range(1, 231)]
        order = sorted({k for k, _ in found})
        place = {k: i for i, k in enumerate(order)}
        words = dict(found)
        names[level] = tuple(words[k] for k in order)
        of_group[level] = np.array([place[k] for k, _ in found], dtype=np.int64)
    return LabelTree(names, of_group)


# --- what patterns tell ---------------------------------------------------------------------
Look = tuple[Shape, frozenset[tuple[int, int]]]


@dataclass(frozen=True, eq=False, repr=False)
class ZoneTable:
    """The look of every candidate along every zone, and what can be concluded from looks.

    Attributes
    ----------
    candidates : space-group numbers, one for each class that is to be told apart.
    zones : that are equally likely to be met.
    classes : (E, U) number of the look of each candidate along each zone; equal numbers are
        patterns that shape and dark nodes cannot tell apart.
    theory : of the dark nodes.
    """

    candidates: tuple[int, ...]
    zones: tuple[Zone, ...]
    classes: Ints
    theory: Theory

    @cached_property
    def likelihood(self) -> Floats:
        """(C, E) share of a candidate's zones that give each look."""
        count = int(self.classes.max()) + 1
        table = np.zeros((count, len(self.candidates)))
        for e, row in enumerate(self.classes):
            table[:, e] = np.bincount(row, minlength=count) / len(self.zones)
        return table

    def posterior(self, candidate: int, zones: Iterable[Zone], *, indexed: bool = False) -> Floats:
        """(E,) probability of each candidate after ideal patterns of one along some zones.

        Parameters
        ----------
        indexed : the zone of each pattern is known too (calibrated, indexed patterns).
        """
        e = self._candidate(candidate)
        places = [self._zone(z) for z in zones]
        weight = np.ones(len(self.candidates))
        for u in places:
            seen = self.classes[e, u]
            weight *= (self.classes[:, u] == seen) if indexed else self.likelihood[seen]
        return np.asarray(weight / weight.sum())

    def ambiguity_set(
        self, candidate: int, zones: Iterable[Zone], *, indexed: bool = False
    ) -> tuple[int, ...]:
        """Candidates that ideal patterns of one of them along these zones cannot exclude."""
        possible = self.posterior(candidate, zones, indexed=indexed) > 0
        return tuple(c for c, p in zip(self.candidates, possible.tolist(), strict=True) if p)

    def ceiling(
        self, patterns: int, *, indexed: bool = False, samples: int = 20000, seed: int = 0
    ) -> float:
        """How often the best possible answer names the candidate, from different random zones.

        All candidates and zones are equally likely; ties are drawn.  Exact for one pattern, for
        more a Monte-Carlo mean with an error of 0.5/√samples at most.

        Parameters
        ----------
        patterns : number of ideal patterns of one crystal.
        indexed : as for `posterior`.

        Raises
        ------
        DiskernError
            For no pattern, or more than there are zones.
        """
        if not 1 <= patterns <= len(self.zones):
            raise DiskernError(f"patterns={patterns} must be 1 to {len(self.zones)} zones")
        truth, zones = self._draws(patterns, samples, seed)
        seen = self.classes[truth[:, None], zones]
        if indexed:
            table = (self.classes[:, zones] == seen).all(2).T.astype(np.float64)
        else:
            table = np.exp(np.log(np.maximum(self.likelihood[seen], 1e-300)).sum(1))
        best = table.max(1, keepdims=True)
        tied = table >= best * (1 - 1e-9)
        right = tied[np.arange(len(truth)), truth] / tied.sum(1)
        return float(right.mean())

    def _draws(self, patterns: int, samples: int, seed: int) -> tuple[Ints, Ints]:
        """(M,) candidates and (M, k) different zones: all of them for one pattern."""
        e, u = len(self.candidates), len(self.zones)
        if patterns == 1:
            return np.repeat(np.arange(e), u), np.tile(np.arange(u), e)[:, None]
        rng = np.random.default_rng(seed)
        zones = np.argsort(rng.random((samples, u)), axis=1)[:, :patterns]
        return rng.integers(e, size=samples), zones

    def resolved(self, zone: Zone) -> int:
        """How many of the candidates' looks along one zone differ."""
        return len(np.unique(self.classes[:, self._zone(zone)]))

    def _candidate(self, number: int) -> int:
        if number not in self.candidates:
            raise DiskernError(f"space group {number} is no candidate of this table")
        return self.candidates.index(number)

    def _zone(self, zone: Iterable[int]) -> int:
        key = tuple(int(i) for i in zone)
        if key not in self.zones:
            raise DiskernError(f"zone {list(key)} is not in this table")
        return self.zones.index(key)

    def __repr__(self) -> str:
        looks = len(np.unique(self.classes))
        return (
            f"ZoneTable({len(self.candidates)} candidates along {len(self.zones)} zones, "
            f"{looks} looks, {self.theory})"
        )


def zone_table(
    candidates: Sequence[int],
    zones: Sequence[Zone],
    *,
    theory: Theory = "kinematic",
    lattice: ArrayLike = ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
) -> ZoneTable:
    """Looks of space groups along zones, for one shape of the cell.

    Parameters
    ----------
    candidates : space-group numbers; for symbols give each one's ``representative``.
    lattice : (3, 3) cell rows in Å that all candidates share; only its shape matters.

    Raises
    ------
    DiskernError
        For nothing to compare, an unknown theory, group or zone.
    """
    if not candidates or not zones:
        raise DiskernError("give at least one space group and one zone")
    if theory not in get_args(Theory):
        raise DiskernError(f"theory={theory!r} is unknown; use kinematic or dynamical")
    cell = tuple(tuple(row) for row in np.asarray(lattice, dtype=float).tolist())
    wanted = tuple((int(u), int(v), int(w)) for u, v, w in zones)
    numbers: defaultdict[Hashable, int] = defaultdict(lambda: len(numbers))
    classes = [
        [
            numbers[look(Setting(int(n), lattice=cell), z, dynamical=theory == "dynamical")]
            for z in wanted
        ]
        for n in candidates
    ]
    return ZoneTable(tuple(map(int, candidates)), wanted, np.array(classes), theory)


@cache
def cubic_zones(largest: int = 4) -> tuple[Zone, ...]:
    """Coprime 0 ≤ u ≤ v ≤ w ≤ ``largest``: 22 zones up to 4, shortest first."""
    axis = range(largest + 1)
    found = [
        (u, v, w)
        for u in axis
        for v in range(u, largest + 1)
        for w in range(v, largest + 1)
        if math.gcd(u, v, w) == 1
    ]
    return tuple(sorted(found, key=lambda z: (z[0] ** 2 + z[1] ** 2 + z[2] ** 2, z)))


@cache
def cubic_table(theory: Theory = "kinematic", largest: int = 4) -> ZoneTable:
    """The 17 cubic extinction symbols along all zones up to an index.

    The classical benchmark of blind symmetry determination from uncalibrated patterns.
    """
    symbols = diffraction_symbols()
    numbers = [
        symbols[g.symbols[-1]].representative for g in extinction_groups() if g.system == "cubic"
    ]
    return zone_table(numbers, cubic_zones(largest), theory=theory)
