"""Every way a two-dimensional net can be a zone-axis pattern of a crystal of some Laue class.

A *net hypothesis* is a zone [uvw], the sublattice of its reciprocal plane that is seen, and the
identification of the observed basis with that sublattice: six integers, the hkl of the two
observed basis vectors.  They do not depend on any pattern and are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.spacegroups import DiffractionSymbol, diffraction_symbols
from diskern.symmetry.hypotheses_zones import Row, Zones, projections, stabiliser, zones
from diskern.symmetry.likelihood_metric import Cell, cell_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LARGEST = {"-1": 1, "2/m": 3, "m-3": 5, "m-3m": 5}
"""Largest zone index looked at; 4 where not named.  High-index zones are seldom patterns."""

ZONE_POWER = 3.0
"""A zone's prior falls with the cube of the length of [uvw] in a cell of equal axes."""

BLOCKS = (
    *(("-1", "P"), ("2/m", "P"), ("mmm", "P"), ("4/m", "P"), ("4/mmm", "P")),
    *(("-3", "P"), ("-3", "R"), ("-3m1", "P"), ("-3m1", "R"), ("-31m", "P")),
    *(("6/m", "P"), ("6/mmm", "P"), ("m-3", "P"), ("m-3m", "P")),
)
"""Laue classes, the R lattices apart (their cells are shaped otherwise)."""


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
    prediction : (P, 2) net and row set of each distinct prediction.
    rowsets : thinned rows in the observed basis.
    member : (P, S) whether the symbol makes the prediction.
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

    def __len__(self) -> int:
        return len(self.zone)

    @property
    def system(self) -> str:
        """Crystal system."""
        return self.symbols[0].system


@cache
def block(laue_class: str, lattice: str = "P") -> Block:
    """The hypotheses of a Laue class; ``lattice`` is ``"R"`` for its rhombohedral lattices."""
    symbols = tuple(
        s
        for s in diffraction_symbols()
        if s.laue_class == laue_class and s.extinction.startswith("R") == (lattice == "R")
    )
    largest = LARGEST.get(laue_class, 4)
    place = zones(laue_class, largest)
    cell = cell_of(laue_class, lattice)
    shown = [projections(s.representative, laue_class, largest) for s in symbols]
    subs = [sorted({p[z].sublattice for p in shown}) for z in range(len(place))]
    owner = np.array([z for z, kinds in enumerate(subs) for _ in kinds])
    lattices = np.array([s for kinds in subs for s in kinds])
    turns = _turns(laue_class, place, owner, lattices)
    bases = np.einsum("pab,pbi->pai", lattices, place.basis[owner])
    pair, transform, weight = identifications(bases, cell, turns)
    groups, group = _groups(transform, turns, pair)
    prior = _zone_log_prior(laue_class, place)[owner[pair]] + np.log(weight)
    builder = _Predictions(len(symbols))
    members: dict[tuple[int, tuple[tuple[int, int], ...]], dict[tuple[Row, ...], list[int]]] = {}
    for s, projection in enumerate(shown):
        for z, shadow in enumerate(projection):
            at = members.setdefault((z, shadow.sublattice), {})
            at.setdefault(shadow.rows, []).append(s)
    starts = np.searchsorted(pair, np.arange(len(owner) + 1))
    for p, (z, sub) in enumerate((z, s) for z, kinds in enumerate(subs) for s in kinds):
        nets = slice(int(starts[p]), int(starts[p + 1]))
        builder.add(nets, transform[nets], members[z, sub])
    prediction, rowsets, member = builder.done()
    return Block(
        laue_class=laue_class,
        lattice=lattice,
        cell=cell,
        zones=place,
        symbols=symbols,
        zone=owner[pair],
        basis=np.einsum("nab,nbi->nai", transform, bases[pair]),
        log_prior=prior,
        group=group,
        groups=groups,
        prediction=prediction,
        rowsets=rowsets,
        member=member,
    )


def blocks() -> Iterator[Block]:
    """All fourteen blocks, from triclinic to cubic."""
    for laue_class, lattice in BLOCKS:
        yield block(laue_class, lattice)


def _zone_log_prior(laue_class: str, place: Zones) -> Floats:
    hexagonal = laue_class.startswith(("-3", "6"))
    metric = np.array([[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1]]) if hexagonal else np.eye(3)
    square = np.einsum("zi,ij,zj->z", place.uvw, metric, place.uvw)
    weight = place.multiplicity * square ** (-ZONE_POWER / 2)
    return np.asarray(np.log(weight / weight.sum()))


def _turns(laue_class: str, place: Zones, owner: Ints, lattices: Ints) -> list[Ints]:
    """The stabiliser of each zone, acting on coordinates of each of its sublattices."""
    turns = []
    for z, lattice in zip(owner, lattices, strict=True):
        u, v, w = place.uvw[z].tolist()
        whole = stabiliser(laue_class, (u, v, w))
        turned = lattice @ whole @ np.linalg.inv(lattice)
        turns.append(np.rint(turned).astype(np.int64))
    return turns


# --- which bases of a net can be the reduced one ------------------------------------------
_UNIMODULAR = [
    ((a, b), (c, d))
    for a, b, c, d in product((-1, 0, 1), repeat=4)
    # (a, b) and (-a, -b) are the same by Friedel's law; one of each pair is enough.
    if a * d - b * c in (-1, 1) and (a, b) > (0, 0)
]
_SLACK_LENGTH = 1.06
_SLACK_COSINE = 0.53


def identifications(bases: Ints, cell: Cell, turns: list[Ints]) -> tuple[Ints, Ints, Floats]:
    """All reduced bases that nets can have for some cell of the prior.

    Parameters
    ----------
    bases : (B, 2, 3) hkl of a basis of each net.
    turns : for each net its (G, 2, 2) symmetry; identifications it relates count once.

    Returns
    -------
    (N,) index of the net, sorted; (N, 2, 2) the observed basis in terms of the net's;
    (N,) how many equivalent identifications it stands for.
    """
    wide = bases.astype(np.float64)
    gram = wide[:, None] @ cell.samples() @ wide[:, None].swapaxes(-1, -2)
    codes = [np.zeros(0, dtype=np.int64)]
    change, g0, g1, g01 = _reduce(gram)
    number = np.arange(len(bases))[:, None]
    for (a, b), (c, d) in _UNIMODULAR:
        length0 = a * a * g0 + 2 * a * b * g01 + b * b * g1
        length1 = c * c * g0 + 2 * c * d * g01 + d * d * g1
        dot = a * c * g0 + (a * d + b * c) * g01 + b * d * g1
        keep = (length0 <= length1 * _SLACK_LENGTH**2) & (
            dot**2 <= _SLACK_COSINE**2 * length0 * length1
        )
        option = np.array([[a, b], [c, d]]) @ change[keep]
        pair = np.broadcast_to(number, keep.shape)[keep]
        codes.append(np.unique(pair * _RADIX**4 + _code(option.reshape(-1, 4))))
    code = np.unique(np.concatenate(codes))
    pair, transform = code // _RADIX**4, _decode(code % _RADIX**4)
    starts = np.searchsorted(pair, np.arange(len(bases) + 1))
    weight = np.array([len(turn) for turn in turns], dtype=np.float64)
    for i, turn in enumerate(turns):
        nets = slice(starts[i], starts[i + 1])
        images = _code((transform[nets, None] @ turn).reshape(-1, len(turn), 4))
        code[nets] = i * _RADIX**4 + images.min(1)
    code = np.unique(code)
    pair = code // _RADIX**4
    return pair, _decode(code % _RADIX**4), weight[pair]


_RADIX = 129


def _code(matrices: Ints) -> Ints:
    """One integer for each (…, 4) matrix of small entries."""
    powers = np.array([_RADIX**3, _RADIX**2, _RADIX, 1])
    return np.asarray((matrices + _RADIX // 2) @ powers)


def _decode(code: Ints) -> Ints:
    digits = [code // _RADIX**i % _RADIX - _RADIX // 2 for i in (3, 2, 1, 0)]
    return np.stack(digits, -1).reshape(-1, 2, 2)


def _reduce(gram: Floats) -> tuple[Ints, Floats, Floats, Floats]:
    """Lagrange–Gauss reduction of (…, 2, 2) Gram matrices.

    Returns the unimodular change of basis and the reduced a·a, b·b, a·b.
    """
    change = np.broadcast_to(np.eye(2, dtype=np.int64), gram.shape).copy()
    g0, g1, g01 = gram[..., 0, 0].copy(), gram[..., 1, 1].copy(), gram[..., 0, 1].copy()
    for _ in range(30):
        swap = g0 > g1 * (1 + 1e-9)
        change[swap] = change[swap][:, ::-1]
        g0, g1 = np.where(swap, g1, g0), np.where(swap, g0, g1)
        step = np.rint(g01 / g0 * (1 - 1e-9)).astype(np.int64)
        if not (swap.any() or step.any()):
            break
        change[..., 1, :] -= step[..., None] * change[..., 0, :]
        g1 = g1 + step**2 * g0 - 2 * step * g01
        g01 = g01 - step * g0
    return change, g0, g1, g01


def inverse_unimodular(matrices: Ints) -> Ints:
    """Inverse of (…, 2, 2) integer matrices of determinant ±1."""
    a, b, c, d = (matrices[..., i, j] for i in (0, 1) for j in (0, 1))
    adjugate = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
    return np.asarray(adjugate * (a * d - b * c)[..., None, None])


def _groups(transform: Ints, turns: list[Ints], pair: Ints) -> tuple[tuple[Ints, ...], Ints]:
    """The symmetry of each net in its observed basis, each distinct group once."""
    known: dict[bytes, int] = {}
    groups: list[Ints] = []
    label = np.zeros(len(transform), dtype=np.int64)
    back = inverse_unimodular(transform)
    for n, p in enumerate(pair):
        turned = (transform[n] @ turns[p] @ back[n]).reshape(-1, 4)
        turned = turned[np.argsort(_code(turned))]
        key = turned.tobytes()
        if key not in known:
            known[key] = len(groups)
            groups.append(turned.reshape(-1, 2, 2))
        label[n] = known[key]
    return tuple(groups), label


class _Predictions:
    """Collects distinct (net, row set) pairs and which symbols make them."""

    def __init__(self, symbols: int) -> None:
        self._symbols = symbols
        self._rowsets: dict[tuple[Row, ...], int] = {}
        self._net: list[Ints] = []
        self._rows: list[Ints] = []
        self._member: list[Bools] = []

    def add(self, nets: slice, transform: Ints, kinds: dict[tuple[Row, ...], list[int]]) -> None:
        """One sublattice of one zone: its nets, and its row sets with their symbols."""
        back = inverse_unimodular(transform)
        number = np.arange(nets.start, nets.stop)
        for rows, symbols in kinds.items():
            member = np.zeros(self._symbols, dtype=bool)
            member[symbols] = True
            self._net.append(number)
            self._member.append(np.broadcast_to(member, (len(number), self._symbols)))
            self._rows.append(self._moved(rows, back))

    def _moved(self, rows: tuple[Row, ...], back: Ints) -> Ints:
        if not rows:
            return np.full(len(back), self._rowsets.setdefault((), len(self._rowsets)))
        table = np.array(rows)
        moved = table[:, :2] @ back
        flip = (moved[..., 0] < 0) | ((moved[..., 0] == 0) & (moved[..., 1] < 0))
        moved = np.where(flip[..., None], -moved, moved)
        full = np.concatenate([moved, np.broadcast_to(table[:, 2:], moved.shape)], -1)
        sets = (tuple(sorted(map(tuple, one))) for one in full.tolist())
        return np.array([self._rowsets.setdefault(s, len(self._rowsets)) for s in sets])

    def done(self) -> tuple[Ints, tuple[tuple[Row, ...], ...], Bools]:
        """The (P, 2) table, the row sets by number, and the (P, S) membership."""
        prediction = np.c_[np.concatenate(self._net), np.concatenate(self._rows)]
        order = np.argsort(prediction[:, 0], kind="stable")
        return prediction[order], tuple(self._rowsets), np.concatenate(self._member)[order]
