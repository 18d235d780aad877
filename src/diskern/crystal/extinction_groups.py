"""Space groups that share their absences: 122 diffraction symbols, 101 extinction groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from diskern.crystal.conditions import extinction_name
from diskern.crystal.spacegroups import LAUE_CLASSES, entries, space_group


@dataclass(frozen=True)
class DiffractionSymbol:
    """Space groups that share Laue class and systematic absences (in some axis setting).

    Attributes
    ----------
    index : position in `diffraction_symbols`.
    extinction : extinction symbol in the manner of International Tables A, e.g. ``"F d - -"``.
    representative : the group whose reference setting the symbol and all hkl refer to.
    """

    index: int
    system: str
    laue_class: str
    extinction: str
    space_groups: tuple[int, ...]
    representative: int

    @property
    def name(self) -> str:
        """Laue class and extinction symbol together, unique among all 122."""
        return f"{self.laue_class} {self.extinction}"


@dataclass(frozen=True)
class ExtinctionGroup:
    """Diffraction symbols of one crystal system that share their absences."""

    index: int
    system: str
    extinction: str
    symbols: tuple[int, ...]
    space_groups: tuple[int, ...]


@cache
def diffraction_symbols() -> tuple[DiffractionSymbol, ...]:
    """The 122 diffraction symbols, by Laue class and then by lowest space-group number."""
    clusters = _clusters(lambda n: space_group(n).laue_class)
    clusters.sort(key=lambda c: (LAUE_CLASSES.index(space_group(c[0]).laue_class), c[0]))
    symbols = []
    for index, members in enumerate(clusters):
        # The richest point group stands for the symbol; of enantiomorphs the first.
        point_group = space_group(members[-1]).point_group
        head = next(g for g in map(space_group, members) if g.point_group == point_group)
        symbols.append(
            DiffractionSymbol(
                index=index,
                system=head.system,
                laue_class=head.laue_class,
                extinction=extinction_name(head.number),
                space_groups=tuple(members),
                representative=head.number,
            )
        )
    return tuple(symbols)


@cache
def extinction_groups() -> tuple[ExtinctionGroup, ...]:
    """The 101 extinction groups (crystal system and absences), by lowest space-group number."""
    of_group = {n: s for s in diffraction_symbols() for n in s.space_groups}
    groups = []
    for index, members in enumerate(sorted(_clusters(lambda n: space_group(n).system))):
        symbols = sorted({of_group[n].index for n in members})
        # The higher Laue class names the group: P 42 - - rather than P 21 - - in cubic.
        head = diffraction_symbols()[symbols[-1]]
        groups.append(
            ExtinctionGroup(index, head.system, head.extinction, tuple(symbols), tuple(members))
        )
    return tuple(groups)


@cache
def symbol_of(number: int) -> DiffractionSymbol:
    """The diffraction symbol a space group belongs to."""
    space_group(number)
    return next(s for s in diffraction_symbols() if number in s.space_groups)


def _clusters(key: Callable[[int], Hashable]) -> list[list[int]]:
    """Groups 1 to 230 joined where ``key`` and the absences of any two settings agree."""
    seen: dict[tuple[Hashable, bytes], int] = {}
    parent = list(range(231))

    def root(n: int) -> int:
        while parent[n] != n:
            n = parent[n]
        return n

    for number, prints in _fingerprints().items():
        for fingerprint in prints:
            other = seen.setdefault((key(number), fingerprint), number)
            parent[root(number)] = root(other)
    members: dict[int, list[int]] = defaultdict(list)
    for number in range(1, 231):
        members[root(number)].append(number)
    return list(members.values())


@cache
def _fingerprints() -> dict[int, frozenset[bytes]]:
    """For each group the absences of all its settings on a block of reflections."""
    # |hkl| ≤ 6 holds every residue of 2, 3, 4 and 6 on rows, planes and in general position.
    axis = range(-6, 7)
    hkl = np.array(list(product(axis, axis, range(7))), dtype=np.int32)
    return {
        number: frozenset(
            np.packbits(entry.operations().systematic_absences(hkl)).tobytes()
            for entry in entries(number)
        )
        for number in range(1, 231)
    }
