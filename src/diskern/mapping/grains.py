"""Grains: connected scan positions of one lattice, all in one setting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diskern.mapping.bases import same_lattice
from diskern.mapping.lattice_map import LatticeMap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEP = 0.5  # of the expected deformation: neighbours that differ by more are two grains
_SIGMAS = 3.0


def one_setting(lattices: LatticeMap, deformation: float) -> LatticeMap:
    """Number the grains and bring the bases within each into one setting.

    Neighbours (sharing an edge) belong to one grain where their lattices, in whatever setting,
    differ by less than half the expected deformation and three standard uncertainties: about
    0.8° of rotation by default.
    """
    grain = _grains(lattices, deformation)
    held = np.argwhere(grain >= 0)
    if not len(held):
        return replace(lattices, grain=grain)
    where = tuple(held.T)
    basis, label, number = lattices.basis[where], lattices.label[where], grain[where]
    reference = _references(basis, label, number, len(lattices.bases))
    transform, size = same_lattice(basis, reference[number])
    transform[~np.isfinite(size)] = np.eye(2, dtype=np.int64)
    change = np.rint(np.linalg.inv(transform)).astype(np.int64)
    new_basis, covariance = lattices.basis.copy(), lattices.covariance.copy()
    new_basis[where] = change @ basis
    full = np.tile(np.eye(3), (len(change), 1, 1))
    full[:, 1:, 1:] = change
    jacobian = np.einsum("mij,kl->mikjl", full, np.eye(2)).reshape(-1, 6, 6)
    covariance[where] = jacobian @ covariance[where] @ np.swapaxes(jacobian, 1, 2)
    return replace(
        lattices,
        grain=grain,
        basis=new_basis,
        covariance=covariance,
        indices=_indices(lattices, where, transform),
    )


def larger_first(lattices: LatticeMap) -> LatticeMap:
    """The same lattices with, at each position, the one of the larger grain in the first slot.

    Where grains overlap, which one is explained better changes from position to position; their
    size does not, so maps of the first slot show one grain through.
    """
    rank = np.where(lattices.grain >= 0, lattices.grain, np.iinfo(np.int64).max)
    order = np.argsort(rank, axis=0, kind="stable")
    if (order == np.arange(len(order))[:, None, None]).all():
        return lattices

    def sorted_slots(values: Any) -> Any:
        shaped = order.reshape(order.shape + (1,) * (values.ndim - order.ndim))
        return np.take_along_axis(values, shaped, axis=0)

    place = np.argsort(order, axis=0, kind="stable").reshape(len(order), -1)
    slot = lattices.slot.copy()
    held = slot >= 0
    slot[held] = place[slot[held], lattices.points.pattern[held]]
    names = ("label", "grain", "origin", "basis", "covariance", "evidence", "chi2", "count")
    changed = {name: sorted_slots(getattr(lattices, name)) for name in names}
    return replace(lattices, slot=slot, **changed)


def _grains(lattices: LatticeMap, deformation: float) -> Ints:
    """(L, Y, X) connected components, largest first."""
    label, basis = lattices.label, lattices.basis
    number = np.full(label.shape, -1)
    number[label >= 0] = np.arange((label >= 0).sum())
    variance = _variance(lattices)
    edges = []
    count = len(label)
    for one, other in [(i, j) for i in range(count) for j in range(count)]:
        for here, there in _NEIGHBOURS:
            pair = (label[one][here] >= 0) & (label[other][there] >= 0)
            size = same_lattice(basis[one][here][pair], basis[other][there][pair])[1]
            noise = variance[one][here][pair] + variance[other][there][pair]
            alike = size**2 < (_STEP * deformation) ** 2 + _SIGMAS**2 * noise
            edges.append([number[one][here][pair][alike], number[other][there][pair][alike]])
    first, second = np.concatenate(edges, axis=1)
    total = int((label >= 0).sum())
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(total, total))
    component = connected_components(graph, directed=False)[1] if total else np.zeros(0, int)
    rank = np.empty(component.max(initial=-1) + 1, dtype=np.int64)
    rank[np.argsort(-np.bincount(component), kind="stable")] = np.arange(len(rank))
    out = np.full(label.shape, -1)
    out[label >= 0] = rank[component]
    return out


_NEIGHBOURS = (
    ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
)


def _variance(lattices: LatticeMap) -> Floats:
    """(L, Y, X) mean variance of a component of the deformation."""
    diagonal = np.diagonal(lattices.covariance, axis1=-2, axis2=-1)[..., 2:]
    length = (lattices.basis**2).sum(axis=-1)
    return np.asarray((diagonal.reshape(*diagonal.shape[:-1], 2, 2).mean(-1) / length).mean(-1))


def _references(basis: Floats, label: Ints, number: Ints, labels: int) -> Floats:
    """(G, 2, 2) of each grain the median basis of the reference lattice it uses most."""
    key = number * labels + label
    used = np.bincount(key, minlength=(number.max() + 1) * labels).reshape(-1, labels)
    main = used.argmax(axis=1)
    order = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[order], np.arange(number.max() + 2))
    out = np.empty((number.max() + 1, 2, 2))
    for g in range(len(out)):
        mine = order[edges[g] : edges[g + 1]]
        out[g] = np.median(basis[mine[label[mine] == main[g]]], axis=0)
    return out


def _indices(lattices: LatticeMap, where: tuple[Ints, ...], transform: Ints) -> Ints:
    """(N, 2) indices of the disks in their grain's setting."""
    shape = lattices.label.shape
    every = np.tile(np.eye(2, dtype=np.int64), (int(np.prod(shape)), 1, 1))
    every[np.ravel_multi_index(where, shape)] = transform
    points, slot = lattices.points, lattices.slot
    held = slot >= 0
    flat = slot[held] * points.patterns + points.pattern[held]
    out = lattices.indices.copy()
    out[held] = np.einsum("ni,nij->nj", lattices.indices[held], every[flat])
    return out
