"""Structure prototypes: which crystals differ in their elements only."""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from dataclasses import dataclass
from math import gcd

import numpy as np

from diskern.crystal.crystal import Crystal
from diskern.crystal.symmetry import symmetry_dataset
from diskern.errors import DiskernError

_LETTERS = string.ascii_lowercase + string.ascii_uppercase


@dataclass(frozen=True)
class Prototype:
    """The kind of a structure, free of its elements.

    Attributes
    ----------
    label : space group, then for each species its share of the reduced formula and its Wyckoff
        letters, e.g. ``"225_1a_1b"`` of rock salt.  Letters depend on spglib's choice of the
        origin among equivalent ones, so one type may carry two labels; never the reverse.
    pearson : Pearson symbol, e.g. ``"cF8"``.
    number : space group.
    """

    label: str
    pearson: str
    number: int


def prototype(crystal: Crystal, symprec: float = 0.01) -> Prototype:
    """The prototype of a fully occupied crystal.

    Raises
    ------
    DiskernError
        For partially occupied sites, whose species make no prototype.
    """
    if np.any(crystal.occupancy < 1 - 1e-6):
        raise DiskernError(f"{crystal.name}: partially occupied sites have no prototype label")
    found, _ = symmetry_dataset(crystal, symprec)
    letters: defaultdict[int, list[str]] = defaultdict(list)
    seen = set()
    for atom, orbit in enumerate(np.asarray(found.crystallographic_orbits).tolist()):
        if orbit not in seen:
            seen.add(orbit)
            letters[int(crystal.numbers[atom])].append(str(found.wyckoffs[atom]))
    amounts = Counter(crystal.numbers.tolist())
    divisor = gcd(*amounts.values())
    species = sorted(
        (amounts[z] // divisor, "".join(sorted(ls, key=_LETTERS.index)))
        for z, ls in letters.items()
    )
    number = int(found.number)
    label = "_".join([str(number), *(f"{amount}{ls}" for amount, ls in species)])
    return Prototype(
        label, _pearson(number, str(found.international), len(found.std_types)), number
    )


def _pearson(number: int, symbol: str, atoms: int) -> str:
    """Pearson symbol from group number, short symbol and atoms in the conventional cell."""
    bounds = ((2, "a"), (15, "m"), (74, "o"), (142, "t"), (194, "h"), (230, "c"))
    family = next(letter for last, letter in bounds if number <= last)
    centring = "S" if symbol[0] in "ABC" else symbol[0]
    return f"{family}{centring}{atoms}"
