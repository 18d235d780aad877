"""Where a foil of whole atoms begins and ends, and how thick it is there.

A stack of slices holds whole atomic planes, so its thickness grows in steps, and how it ends
matters: Si [111] cut through its close pairs of planes (three bonds an atom) differs by 0.3 % of
the beam from the same crystal cut between the pairs (one bond).  Here foils end in wide gaps,
their thickness is the matter they hold, and a thickness between two such surfaces is what
terraces of both heights give: the mean of the two intensities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.supercell import Atoms, PeriodicCell
from diskern.simulate.potential import Slicing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SAME = 1e-3
"""Å by which one gap must exceed another to be the wider, and two surfaces differ."""
_CLOSE, _FAR = 1.0, 6.0
"""Å between lattice planes within which foils are made of whole ones."""
_WIDE = 0.5
"""Share of the widest gap that makes another a place for a surface too."""


class Exits(NamedTuple):
    """Slices after which waves are wanted, and (T, E) shares of each in every thickness."""

    slices: list[int]
    shares: Floats


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Places where a stack of slices may end.

    Attributes
    ----------
    slices : (S,) number of slices above each, ascending, the first 0.
    thickness : (S,) of the foil that ends there, in Å, strictly ascending, the first 0.
    period : slices and Å after which all of it repeats, or None.
    """

    slices: Ints
    thickness: Floats
    period: tuple[int, float] | None = None

    @classmethod
    def of_cell(cls, cell: PeriodicCell, slicing: Slicing) -> Surfaces:
        """Surfaces of a periodic cell: after whole lattice planes, or in wide gaps.

        Foils of whole lattice planes all end alike.  Where the slices do not part the planes
        (see `sliced`) they end between slices in gaps at least half as wide as the widest.
        """
        if slicing.count % cell.layers == 0 and _parted(cell):
            planes = np.arange(cell.layers + 1)
            return cls(
                planes * (slicing.count // cell.layers),
                np.asarray(planes * (slicing.depth / cell.layers), dtype=np.float64),
                (slicing.count, slicing.depth),
            )
        z = cell.atoms.positions[:, 2]
        which = slicing.index(z)
        ends = np.arange(1, slicing.count + 1)
        low, high = np.full(slicing.count, np.inf), np.full(slicing.count, -np.inf)
        np.minimum.at(low, which, z)
        np.maximum.at(high, which, z)
        above = np.maximum.accumulate(high)
        below = np.minimum.accumulate(np.append(low[1:], z.min() + slicing.depth)[::-1])[::-1]
        gap = np.where(np.isfinite(above), below - above, 0.0)
        matter = np.bincount(which, _weight(cell.atoms), slicing.count).cumsum()
        thickness = slicing.depth * matter / matter[-1]
        fresh = np.diff(thickness, prepend=0.0) > _SAME
        # The last surface is the first of the next cell and always one.
        keep = (gap >= _WIDE * gap.max()) & fresh
        keep[np.flatnonzero(fresh)[-1]] = True
        slices, deep = np.append(0, ends[keep]), np.append(0.0, thickness[keep])
        return cls(slices, deep, (slicing.count, slicing.depth))

    @classmethod
    def of_box(cls, atoms: Atoms, edge: float, density: float, slicing: Slicing) -> Surfaces:
        """Surfaces of a box of edge × edge Å: after every slice that holds atoms.

        Matter is counted in a smooth window, because a box cut from a crystal holds a fraction
        of a lattice row more or less along its faces; ``density`` is that of `_weight` per Å³.
        """
        x, y, z = atoms.positions.T
        window = np.sin(np.pi * x / edge) ** 4 * np.sin(np.pi * y / edge) ** 4
        which = slicing.index(z)
        matter = np.bincount(which, _weight(atoms) * window, slicing.count).cumsum()
        # The mean of sin⁴ is 3/8.
        thickness = matter / (density * edge**2 * (3 / 8) ** 2)
        fresh = np.flatnonzero(np.diff(thickness, prepend=0.0) > _SAME)
        return cls(np.append(0, fresh + 1), np.append(0.0, thickness[fresh]))

    def exits(self, depths: Floats) -> Exits:
        """Which waves make (T,) thicknesses in Å, linearly between the surfaces around each.

        A foil that does not repeat ends at its last surface at the latest.
        """
        slices, thickness = self._reaching(float(depths.max()))
        after = np.clip(np.searchsorted(thickness, depths - _SAME), 1, len(slices) - 1)
        before = after - 1
        share = (depths - thickness[before]) / (thickness[after] - thickness[before])
        share = np.clip(share, 0.0, 1.0)
        # Rounding must not ask for a second wave.
        share = np.where(share > 1 - _SAME, 1.0, np.where(share < _SAME, 0.0, share))
        mixing = np.zeros((len(depths), len(slices)))
        rows = np.arange(len(depths))
        mixing[rows, before] = 1 - share
        mixing[rows, after] += share
        used = np.flatnonzero(mixing.any(axis=0))
        return Exits(slices[used].tolist(), mixing[:, used])

    def _reaching(self, depth: float) -> tuple[Ints, Floats]:
        if self.period is None:
            return self.slices, self.thickness
        count, height = self.period
        turns = np.arange(int(depth / height) + 1)[:, None]
        slices = (self.slices[1:] + count * turns).ravel()
        thickness = (self.thickness[1:] + height * turns).ravel()
        return np.append(0, slices), np.append(0.0, thickness)


def sliced(cell: PeriodicCell, at_most: float) -> Slicing:
    """Slices of a periodic cell, none thicker than ``at_most`` Å, that part its lattice planes.

    Planes closer than 1 Å or further apart than 6 Å are not parted: there a foil may end
    anywhere, since little lies between two of the former and too much between the latter.
    """
    multiple = cell.layers if _parted(cell) else 1
    return Slicing.of_planes(cell.atoms.positions[:, 2], float(cell.size[2]), at_most, multiple)


def _parted(cell: PeriodicCell) -> bool:
    return bool(_CLOSE <= cell.size[2] / cell.layers <= _FAR)


def entered_through_gap(cell: PeriodicCell) -> PeriodicCell:
    """The cell moved along the beam so that it begins below its widest gap between atoms."""
    z = np.sort(cell.atoms.positions[:, 2] % cell.size[2])
    gaps = z - np.roll(z, 1)
    gaps[0] += cell.size[2]
    widest = np.flatnonzero(gaps >= gaps.max() - _SAME)[0]
    positions = cell.atoms.positions.copy()
    moved = positions[:, 2] - z[widest]
    # Rounding must leave the first plane first.
    positions[:, 2] = np.where(np.abs(moved) < 1e-6, 0.0, moved % cell.size[2])
    return replace(cell, atoms=cell.atoms._replace(positions=positions))


def matter_density(numbers: Ints, occupancy: Floats, volume: float) -> float:
    """Electrons per Å³, the measure of matter in this module."""
    return float((numbers * occupancy).sum() / volume)


def _weight(atoms: Atoms) -> Floats:
    return np.asarray(atoms.numbers * atoms.occupancy, dtype=np.float64)
