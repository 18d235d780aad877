"""Which crystals are one and the same, whatever cell, origin or setting they are given in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal
from diskern.crystal.generate import NEIGHBOURS
from diskern.errors import DiskernError

Floats = NDArray[np.float64]

SHELL = 12
"""Nearest neighbours whose distances are compared."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What stays the same when a crystal is written in another cell.

    Attributes
    ----------
    key : composition and space group.
    atoms : (N, 2 + SHELL) of the primitive cell: atomic number, occupancy, and distances in Å
        to the nearest neighbours, rows sorted.
    volume : of the primitive cell in Å³.
    """

    key: tuple[object, ...]
    atoms: Floats
    volume: float

    def same(self, other: Fingerprint, tolerance: float) -> bool:
        """Whether distances and volume agree within a relative tolerance."""
        if self.key != other.key or self.atoms.shape != other.atoms.shape:
            return False
        if abs(self.volume / other.volume - 1) > 3 * tolerance:
            return False
        return bool(np.allclose(self.atoms, other.atoms, rtol=tolerance, atol=1e-3))


def fingerprint(crystal: Crystal) -> Fingerprint:
    """The fingerprint of a crystal.

    Raises
    ------
    DiskernError
        Where its atoms overlap.
    """
    small = crystal.primitive(0.01)
    number = crystal.symmetry(0.01).number
    amounts: defaultdict[int, float] = defaultdict(float)
    for z, occupancy in zip(small.numbers.tolist(), small.occupancy.tolist(), strict=True):
        amounts[z] += occupancy
    content = tuple((gemmi.Element(z).name, round(a, 2)) for z, a in sorted(amounts.items()))
    rows = np.concatenate(
        [small.numbers[:, None], small.occupancy[:, None], _neighbours(small)], axis=1
    )
    order = np.lexsort(np.round(rows, 2).T[::-1])
    return Fingerprint((content, number), rows[order], small.volume)


def _neighbours(crystal: Crystal) -> Floats:
    """(N, SHELL) sorted distances in Å to the nearest atoms, farther cells included."""
    shifts = np.concatenate([NEIGHBOURS + step for step in 2 * NEIGHBOURS])
    shifts = np.unique(shifts, axis=0) if len(crystal) < SHELL else NEIGHBOURS
    out = np.empty((len(crystal), SHELL))
    for i, atom in enumerate(crystal.fractional):
        apart = (crystal.fractional - atom)[:, None] + shifts
        distance = np.sort(np.linalg.norm(apart @ crystal.lattice, axis=-1).ravel())
        distance = distance[distance > 0.01][:SHELL]
        out[i] = np.pad(distance, (0, SHELL - len(distance)), constant_values=np.inf)
    return out


def unique_crystals(
    crystals: Sequence[Crystal], tolerance: float = 0.02
) -> tuple[list[int], dict[int, int]]:
    """Indices of crystals that differ, and for each further copy the one it repeats.

    Parameters
    ----------
    tolerance : relative difference of distances up to which two crystals are one (thermal
        expansion and the errors of theory stay within 2 %).
    """
    kept: list[int] = []
    copies: dict[int, int] = {}
    known: defaultdict[tuple[object, ...], list[tuple[int, Fingerprint]]] = defaultdict(list)
    for i, crystal in enumerate(crystals):
        try:
            mine = fingerprint(crystal)
        except DiskernError:
            kept.append(i)
            continue
        twin = next((j for j, f in known[mine.key] if mine.same(f, tolerance)), None)
        if twin is None:
            known[mine.key].append((i, mine))
            kept.append(i)
        else:
            copies[i] = twin
    return kept, copies
