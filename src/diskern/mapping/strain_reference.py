"""The unstrained lattice that each grain is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice_reduce import reduced, reduction
from diskern.mapping.bases import same_lattice
from diskern.mapping.lattice_map import LatticeMap, Reason

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SMALLEST = 9
"""Scan positions below which a grain is not its own reference: it would hide its strain."""

_KINDRED = 0.05  # rms deformation up to which one grain may serve another as reference
_SETTINGS = np.array(
    [
        [[a, b], [c, d]]
        for a in range(-2, 3)
        for b in range(-2, 3)
        for c in range(-2, 3)
        for d in range(-2, 3)
        if a * d - b * c in (1, -1)
    ]
)


@dataclass(frozen=True, eq=False)
class References:
    """Reference lattice of each grain.

    Attributes
    ----------
    basis : (G, 2, 2) rows a, b as (row, column) in px (or undistorted px); NaN where none.
    covariance : (G, 4, 4) of (a_row, a_col, b_row, b_col): common to all positions of a grain.
    reason : (G,) `Reason.INDEXED` where there is one, else why not.
    words : what was taken, for a report.
    """

    basis: Floats
    covariance: Floats
    reason: Ints
    words: str


def median_reference(lattices: LatticeMap, basis: Floats, region: Bools | None) -> References:
    """The median lattice of each grain, over a region or all of it.

    Parameters
    ----------
    basis : (L, Y, X, 2, 2), as `LatticeMap.basis`, perhaps undistorted.
    region : (Y, X) positions that count, or None.

    A grain without a position in the region, and without one a grain smaller than `SMALLEST`,
    takes the reference of the largest grain whose lattice differs by less than 5 %.
    """
    grain = lattices.grain
    count = lattices.grains
    use = grain >= 0
    if region is not None:
        use = use & region
    order = np.argsort(np.where(use, grain, count), axis=None, kind="stable")[: use.sum()]
    edges = np.searchsorted(grain.reshape(-1)[order], np.arange(count + 1))
    flat, spread = basis.reshape(-1, 2, 2), lattices.covariance.reshape(-1, 6, 6)[:, 2:, 2:]
    out = np.full((count, 2, 2), np.nan)
    covariance = np.zeros((count, 4, 4))
    least = 1 if region is not None else SMALLEST
    for g in range(count):
        mine = order[edges[g] : edges[g + 1]]
        if len(mine) >= least:
            out[g] = np.median(flat[mine], axis=0)
            # The variance of a median is π/2 times that of a mean.
            covariance[g] = np.pi / 2 * spread[mine].mean(axis=0) / len(mine)
    lacking = Reason.SMALL if region is None else Reason.NO_REFERENCE
    reason = np.where(np.isfinite(out[:, 0, 0]), int(Reason.INDEXED), int(lacking))
    _borrow(out, covariance, reason, lattices, flat)
    where = "each grain" if region is None else "the reference region"
    return References(out, covariance, reason, f"median lattice of {where}")


def _borrow(
    reference: Floats, covariance: Floats, reason: Ints, lattices: LatticeMap, flat: Floats
) -> None:
    """Give grains without a reference that of the largest kindred grain, in their setting."""
    owners = np.flatnonzero(reason == Reason.INDEXED)
    if not len(owners):
        return
    place = lattices.grain.reshape(-1)
    held = np.flatnonzero(place >= 0)
    first = np.full(len(reason), -1)
    first[place[held][::-1]] = held[::-1]
    for g in np.flatnonzero(reason != Reason.INDEXED):
        own = flat[first[g]]
        transform, size = same_lattice(own, reference[owners])
        kin = np.flatnonzero(size < _KINDRED)
        if len(kin):
            t = transform[kin[0]].astype(np.float64)
            jacobian = np.kron(t, np.eye(2))
            reference[g] = t @ reference[owners[kin[0]]]
            covariance[g] = jacobian @ covariance[owners[kin[0]]] @ jacobian.T
            reason[g] = int(Reason.INDEXED)


def known_reference(
    lattices: LatticeMap, basis: Floats, known: Floats, words: str, *, turn: bool
) -> References:
    """A lattice known from elsewhere, brought into each grain's setting.

    Parameters
    ----------
    basis : (L, Y, X, 2, 2) in the unit of ``known``.
    known : (2, 2) rows a, b as (row, column).
    turn : whether its orientation in the plane is free: then it is turned to the median of
        each grain, whose median rotation is 0.
    """
    count = lattices.grains
    grain = np.where(lattices.grain >= 0, lattices.grain, count).reshape(-1)
    flat = basis.reshape(-1, 2, 2)
    order = np.argsort(grain, kind="stable")
    edges = np.searchsorted(grain[order], np.arange(count + 1))
    out = np.full((count, 2, 2), np.nan)
    for g in range(count):
        middle = np.median(flat[order[edges[g] : edges[g + 1]]], axis=0)
        out[g] = in_setting(known, middle, turn=turn)
    reason = np.full(count, int(Reason.INDEXED))
    return References(out, np.zeros((count, 4, 4)), reason, words)


def in_setting(known: Floats, basis: Floats, *, turn: bool) -> Floats:
    """(2, 2) the known lattice in the setting (and, if it may turn, the orientation) of a basis."""
    whole, rotation = best_setting(known, basis, turn=turn)
    return np.asarray(whole @ known @ rotation)


def best_setting(known: Floats, basis: Floats, *, turn: bool) -> tuple[Floats, Floats]:
    """Whole (2, 2) T and rotation (2, 2) R with T @ known @ R nearest to a basis.

    Of all settings the one that needs the least deformation is taken; mirrored ones are not
    tried.  R is the unit matrix unless the lattice may turn.
    """
    inner, outer = reduction(known), np.rint(basis @ np.linalg.inv(reduced(basis)))
    settings = (_SETTINGS @ inner @ known).astype(np.float64)
    own = np.linalg.inv(outer) @ basis
    ratio = np.linalg.inv(settings) @ own
    rotation = np.broadcast_to(np.eye(2), ratio.shape)
    if turn:
        u, stretch, vh = np.linalg.svd(ratio)
        size = np.abs(np.log(stretch)).max(axis=1) + 10 * (np.linalg.det(ratio) < 0)
        rotation = u @ vh
    else:
        size = ((ratio - np.eye(2)) ** 2).sum(axis=(1, 2))
    best = int(size.argmin())
    return np.asarray(outer @ _SETTINGS[best] @ inner, dtype=np.float64), rotation[best]
