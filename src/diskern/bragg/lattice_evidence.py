"""How strongly spots speak for one lattice: exact nodes, sublattice classes, clutter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice_nets import (
    Nets,
    clutter_evidence,
    match,
    occupancy_evidence,
    parameter_evidence,
)
from diskern.bragg.lattice_reduce import sublattices
from diskern.bragg.lattice_sight import Sight

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_CLASSES = (2, 3, 4)  # indices of the sublattices whose nodes may show more often than the rest
_MOST_NODES = 20000


@dataclass(frozen=True, eq=False)
class Verdict:
    """One trial judged: its ln evidence over clutter, and which spots it claims.

    Attributes
    ----------
    net : the trial, a batch of one, its origin at the direct beam.
    members : (M,) indices of spots.
    indices : (M, 2) their nodes.
    nodes : nodes of the region that could have shown.
    """

    net: Nets
    evidence: float
    members: Ints
    indices: Ints
    nodes: int


def at_beam(nets: Nets, sight: Sight) -> Nets:
    """The same trials with their origin moved to the node nearest the direct beam."""
    index = np.rint(np.einsum("bi,bij->bj", sight.centre - nets.origin, np.linalg.inv(nets.basis)))
    move = np.broadcast_to(np.eye(3), (len(nets), 3, 3)).copy()
    move[:, 0, 1:] = index
    return Nets(
        nets.origin + np.einsum("bi,bij->bj", index, nets.basis),
        nets.basis,
        move @ nets.covariance @ move.transpose(0, 2, 1),
        nets.excess,
        nets.purity,
        nets.rank,
    )


def visible_nodes(net: Nets, sight: Sight) -> Ints:
    """(K, 2) indices of the nodes that could show: in the region, not the direct beam, not
    where another lattice has its spot already."""
    origin, basis = net.origin[0], net.basis[0]
    cell, mask = sight.region.cell, sight.region.mask
    row, col = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(row):
        return np.zeros((0, 2), dtype=np.int64)
    low = np.array([row[0], col[0]]) * cell
    high = np.array([row[-1] + 1, col[-1] + 1]) * cell
    corner = np.array([low, [low[0], high[1]], [high[0], low[1]], high])
    fraction = (corner - origin) @ np.linalg.inv(basis)
    first, last = np.floor(fraction.min(0)).astype(int), np.ceil(fraction.max(0)).astype(int)
    if net.rank[0] == 1:
        first[1] = last[1] = 0
    if (last - first + 1).prod() > _MOST_NODES:
        return np.zeros((0, 2), dtype=np.int64)
    m, n = np.mgrid[first[0] : last[0] + 1, first[1] : last[1] + 1]
    index = np.stack([m.ravel(), n.ravel()], axis=1).astype(np.int64)
    index = index[(index != 0).any(axis=1)]
    place = origin + index @ basis
    seen = sight.region.contains(place)
    if len(sight.taken) and seen.any():
        blur = float(net.excess[0]) + float(np.median(sight.isotropic, axis=0))
        near = max(9 * blur, (0.5 * sight.width) ** 2)
        gap = ((place[:, None] - sight.taken[None]) ** 2).sum(axis=2).min(axis=1)
        seen &= gap > near
    return np.asarray(index[seen])


def in_sublattice(index: Ints, forms: Ints) -> Bools:
    """(F, K) which of (K, 2) nodes belong to the sublattices ``forms @ basis``, (F, 2, 2)
    row Hermite normal forms."""
    p, q, r = (forms[:, i, j, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    first, rest = np.divmod(index[:, 0], p)
    out: Bools = (rest == 0) & ((index[:, 1] - first * q) % r == 0)
    return out


def claimed(net: Nets, sight: Sight) -> tuple[Ints, Ints]:
    """(M,) spots that more likely than not sit on nodes, one a node, and (M, 2) those nodes."""
    found = match(net, sight)
    member = np.flatnonzero(found.member[0, 1:] > 0.5)
    index = found.design[0, 1:, 1:][member].astype(np.int64)
    order = np.argsort(found.squared[0, 1:][member], kind="stable")
    order = order[(index[order] != 0).any(axis=1)]
    _, keep = np.unique(index[order], axis=0, return_index=True)
    best = np.sort(order[keep])
    return member[best], index[best]


@cache
def _class_forms(rank: int) -> Ints:
    forms = np.concatenate([sublattices(index) for index in _CLASSES])
    return forms if rank == 2 else forms[forms[:, 1, 1] == 1]


def _occupancy(nodes: Ints, lit: Ints, rank: int) -> float:
    """Best ln occupancy: one odds for all nodes, or two, inside and outside a sublattice."""
    forms = _class_forms(rank)
    strong, shown = in_sublattice(nodes, forms).sum(axis=1), in_sublattice(lit, forms).sum(axis=1)
    count = np.array([len(lit), len(nodes)])
    number = np.concatenate([[count[0]], shown, count[0] - shown])
    places = np.concatenate([[count[1]], strong, count[1] - strong])
    single, *rest = occupancy_evidence(number, np.maximum(places, number))
    inside, outside = np.split(np.array(rest), 2)
    return float(max(single, (inside + outside).max() - np.log(2.0 * len(forms))))


def judge(net: Nets, sight: Sight) -> Verdict:
    """Exact ln evidence of a batch of one."""
    net = at_beam(net, sight)
    member, index = claimed(net, sight)
    nodes = visible_nodes(net, sight)
    count, area = len(sight), sight.region.area
    if not len(member) or not len(nodes):
        return Verdict(net, -np.inf, member, index, len(nodes))
    found = match(net, sight)
    blur = found.variance[0, 1:][member]
    squared = found.squared[0, 1:][member]
    total = float((-np.log(2 * np.pi * blur) - squared / (2 * blur)).sum())
    total += _occupancy(nodes, index, int(net.rank[0]))
    total += float(clutter_evidence(count - len(member), count, area))
    total -= float(clutter_evidence(count, count, area))
    total += float(parameter_evidence(net, sight, found, np.array([len(member)]))[0])
    return Verdict(net, total, member, index, len(nodes))
