"""Every way a two-dimensional net can be a zone-axis pattern of a crystal of some Laue class.

A *net hypothesis* is a zone [uvw], the sublattice of its reciprocal plane that is seen, and the
identification of the observed basis with that sublattice: six integers, the hkl of the two
observed basis vectors.  They do not depend on any pattern, so a file of them comes with the
package (`hypotheses_table`); this module computes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import gcd, log

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.extinction_groups import DiffractionSymbol, diffraction_symbols
from diskern.symmetry.hypotheses_nets import identifications, inverse_unimodular, symmetries
from diskern.symmetry.hypotheses_zones import (
    Projection,
    Row,
    Sublattice,
    Zones,
    projections,
    stabiliser,
    zones,
)
from diskern.symmetry.likelihood_shapes import Cell, cell_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LARGEST = {"-1": 1, "2/m": 3, "m-3": 5, "m-3m": 5}
"""Largest zone index looked at; 4 where not named.  High-index zones are seldom patterns."""

ZONE_POWER = 3.0
"""A zone's prior falls with the cube of the length of [uvw] in a cell of equal axes."""

PSEUDO_TRANSLATION = 0.01
"""Probability that every second node of a zone is too weak to be seen, for no symmetry's sake."""
PSEUDO_LARGEST = 2
"""Largest zone index for which that is considered."""

BLOCKS = (
    *(("-1", "P"), ("2/m", "P"), ("mmm", "P"), ("4/m", "P"), ("4/mmm", "P")),
    *(("-3", "P"), ("-3", "R"), ("-3m1", "P"), ("-3m1", "R"), ("-31m", "P")),
    *(("6/m", "P"), ("6/mmm", "P"), ("m-3", "P"), ("m-3m", "P")),
)
"""Laue classes, the R lattices apart (their cells are shaped otherwise)."""

Kind = tuple[tuple[Row, ...], bool]
"""Thinned rows in net coordinates, and whether half the true net is unseen."""


@dataclass(frozen=True, eq=False)
class Block:
    """All net hypotheses of one Laue class (or of its R lattices).

    Attributes
    ----------
    symbols : diffraction symbols, S of them.
    zone : (N,) index into ``zones`` of each net.
    basis : (N, 2, 3) hkl of the observed basis vectors.
    log_prior : (N,) of the zone family, and of the in-plane orientations that look the same.
    group : (N,) index into ``groups``: how the Laue class turns the observed net.
    groups : (G, 2, 2) matrices each; node (m, n) is equivalent to (m, n) @ matrix.
    prediction : (P, 3) net, row set and kind of each distinct prediction, nets ascending.
    rowsets : thinned rows in the observed basis.
    member : (kinds, S) whether the symbol makes predictions of that kind.
    kind_log_prior : (kinds,) 0, or the log prior of a pseudo-translation.
    """

    laue_class: str
    lattice: str
    cell: Cell
    zones: Zones
    symbols: tuple[DiffractionSymbol, ...]
    zone: Ints
    basis: Ints
    log_prior: Floats
    group: Ints
    groups: tuple[Ints, ...]
    prediction: Ints
    rowsets: tuple[tuple[Row, ...], ...]
    member: Bools
    kind_log_prior: Floats

    def __len__(self) -> int:
        return len(self.zone)

    @property
    def system(self) -> str:
        """Crystal system."""
        return self.symbols[0].system


def block_symbols(laue_class: str, lattice: str) -> tuple[DiffractionSymbol, ...]:
    """The diffraction symbols of a block, in the order of `Block.symbols`."""
    return tuple(
        s
        for s in diffraction_symbols()
        if s.laue_class == laue_class and s.extinction.startswith("R") == (lattice == "R")
    )


def block_zones(laue_class: str) -> Zones:
    """The zones that are looked at for a Laue class."""
    return zones(laue_class, LARGEST.get(laue_class, 4))


def computed_block(laue_class: str, lattice: str) -> Block:
    """The hypotheses of a Laue class; ``lattice`` is ``"R"`` for its rhombohedral lattices."""
    symbols = block_symbols(laue_class, lattice)
    largest = LARGEST.get(laue_class, 4)
    place = block_zones(laue_class)
    cell = cell_of(laue_class, lattice)
    shown = [projections(s.representative, laue_class, largest) for s in symbols]
    # A triclinic net of half the nodes is just another triclinic net.
    coarse = 0 if laue_class == "-1" else PSEUDO_LARGEST
    looks = [_looks([p[z] for p in shown], place.uvw[z], coarse) for z in range(len(place))]
    owner = np.array([z for z, look in enumerate(looks) for _ in look])
    lattices = np.array([s for look in looks for s in look])
    turns = _turns(laue_class, place, owner, lattices)
    bases = lattices @ place.basis[owner]
    pair, transform, weight = identifications(bases, cell, turns)
    groups, group = symmetries(transform, turns, pair)
    kinds = [kind for look in looks for kind in look.values()]
    prediction, rowsets, member, pseudo = _predictions(kinds, transform, pair, len(symbols))
    return Block(
        laue_class=laue_class,
        lattice=lattice,
        cell=cell,
        zones=place,
        symbols=symbols,
        zone=owner[pair],
        basis=transform @ bases[pair],
        log_prior=_zone_log_prior(laue_class, place)[owner[pair]] + np.log(weight),
        group=group,
        groups=groups,
        prediction=prediction,
        rowsets=rowsets,
        member=member,
        kind_log_prior=np.where(pseudo, log(PSEUDO_TRANSLATION / 3), 0.0),
    )


def _zone_log_prior(laue_class: str, place: Zones) -> Floats:
    hexagonal = laue_class.startswith(("-3", "6"))
    metric = np.array([[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1]]) if hexagonal else np.eye(3)
    square = np.einsum("zi,ij,zj->z", place.uvw, metric, place.uvw)
    weight = place.multiplicity * square ** (-ZONE_POWER / 2)
    return np.asarray(np.log(weight / weight.sum()))


def _looks(
    shown: list[Projection], uvw: Ints, coarse: int
) -> dict[Sublattice, dict[Kind, list[int]]]:
    """The nets that symbols may show in one zone, and what each symbol thins in them."""
    looks: dict[Sublattice, dict[Kind, list[int]]] = {}
    for s, p in enumerate(shown):
        looks.setdefault(p.sublattice, {}).setdefault((p.rows, False), []).append(s)
    if np.abs(uvw).max() <= coarse:
        for s, p in enumerate(shown):
            for half, rows in _halved(p):
                looks.setdefault(half, {}).setdefault((rows, True), []).append(s)
    return looks


@cache
def _halved(p: Projection) -> tuple[tuple[Sublattice, tuple[Row, ...]], ...]:
    """The three ways to see only every second node of a projection."""
    (a, b), (_, d) = p.sublattice
    result = []
    for i, j, k in ((2, 0, 1), (1, 0, 2), (1, 1, 2)):  # Hermite rows (i, j), (0, k)
        coarse: Sublattice = ((i * a, (i * b + j * d) % (k * d)), (0, k * d))
        # The second coordinate was reduced by whole steps of the second basis vector.
        shift = (i * b + j * d) // (k * d)
        rows = []
        for m, n, period, guarded in p.rows:
            x, y = m * k, n * i - m * j  # coordinates in (i, j), (0, k), times i·k = 2
            step = 2 // gcd(2, gcd(x, y))
            x, y = x * step // 2, y * step // 2
            y += x * shift
            if period // gcd(period, step) > 1:
                key = (x, y) if (x, y) > (0, 0) else (-x, -y)
                rows.append((*key, period // gcd(period, step), guarded // gcd(guarded, step)))
        result.append((coarse, tuple(sorted(rows))))
    return tuple(result)


def _turns(laue_class: str, place: Zones, owner: Ints, lattices: Ints) -> list[Ints]:
    """The stabiliser of each zone, acting on coordinates of each of its sublattices.

    A turn that does not map a sublattice onto itself is no symmetry of it.
    """
    turns = []
    inverses = np.linalg.inv(lattices)
    for z, lattice, inverse in zip(owner, lattices, inverses, strict=True):
        u, v, w = place.uvw[z].tolist()
        turned = lattice @ stabiliser(laue_class, (u, v, w)) @ inverse
        whole = np.rint(turned)
        exact = np.abs(turned - whole).max((1, 2)) < 1e-6
        turns.append(whole[exact].astype(np.int64))
    return turns


def _predictions(
    kinds: list[dict[Kind, list[int]]], transform: Ints, pair: Ints, symbols: int
) -> tuple[Ints, tuple[tuple[Row, ...], ...], Bools, Bools]:
    """All (net, row set, kind), the row sets, and the symbols and pseudo flag of each kind."""
    rowsets: dict[tuple[Row, ...], int] = {(): 0}
    back = inverse_unimodular(transform)
    starts = np.searchsorted(pair, np.arange(len(kinds) + 1)).tolist()
    blocks_: list[Ints] = []
    member: list[Bools] = []
    pseudo: list[bool] = []
    for p, table in enumerate(kinds):
        start, stop = starts[p], starts[p + 1]
        moved: dict[tuple[Row, ...], Ints] = {}
        for (rows, half), who in table.items():
            if rows not in moved:
                moved[rows] = _moved(rows, back[start:stop], rowsets)
            one = np.empty((stop - start, 3), dtype=np.int64)
            one[:, 0] = np.arange(start, stop)
            one[:, 1] = moved[rows]
            one[:, 2] = len(member)
            blocks_.append(one)
            flags = np.zeros(symbols, dtype=bool)
            flags[who] = True
            member.append(flags)
            pseudo.append(half)
    prediction = np.concatenate(blocks_)
    prediction = prediction[np.argsort(prediction[:, 0], kind="stable")]
    return prediction, tuple(rowsets), np.array(member), np.array(pseudo)


def _moved(rows: tuple[Row, ...], back: Ints, rowsets: dict[tuple[Row, ...], int]) -> Ints:
    """(N,) numbers of the row sets that the rows become in each observed basis."""
    if not rows:
        return np.zeros(len(back), dtype=np.int64)
    table = np.array(rows)
    moved = table[:, :2] @ back
    flip = (moved[..., 0] < 0) | ((moved[..., 0] == 0) & (moved[..., 1] < 0))
    moved = np.where(flip[..., None], -moved, moved)
    tails = [(p, g) for _, _, p, g in rows]
    numbers = []
    for one in moved.tolist():
        key = tuple(sorted((m, n, p, g) for (m, n), (p, g) in zip(one, tails, strict=True)))
        numbers.append(rowsets.setdefault(key, len(rowsets)))
    return np.array(numbers)
