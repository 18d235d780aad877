"""Zone axes of a Laue class, and what a diffraction symbol forbids in each zone.

A zone-axis pattern shows the plane of reciprocal nodes h with h·[uvw] = 0.  An operation that
keeps every node of that plane thins the whole net (centring, glide normal to the beam); one
that keeps only a row through the origin darkens nodes of that row.  So all systematic absences
of a zone are a sublattice and a handful of thinned rows, and rows are exact for every index.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.spacegroups import DENOMINATOR, laue_operations, operations

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Sublattice = tuple[tuple[int, int], tuple[int, int]]
"""Hermite basis ((i, j), (0, k)) of a sublattice, 0 ≤ j < k."""

Row = tuple[int, int, int, int]
"""Row direction (two net coordinates, primitive), its period, and the period that is protected.

Node j of the row is allowed where the period divides j; where the protected period does not
divide j, the node stays dark under dynamical diffraction too (Gjønnes & Moodie, Acta Cryst. 19,
65 (1965), doi:10.1107/S0365110X65002773): its operation maps the zone onto itself."""


@dataclass(frozen=True, eq=False)
class Zones:
    """Zone axes of a Laue class, one of each family.

    Attributes
    ----------
    uvw : (Z, 3) representatives.
    multiplicity : (Z,) directions in the family.
    basis : (Z, 2, 3) primitive hkl basis of the plane h·uvw = 0, with basis[0]×basis[1] = uvw.
    """

    uvw: Ints
    multiplicity: Ints
    basis: Ints

    def __len__(self) -> int:
        return len(self.uvw)


@dataclass(frozen=True)
class Projection:
    """The absences of one diffraction symbol in one zone.

    Attributes
    ----------
    sublattice : rows of a Hermite basis, in the zone's basis, of the net that allowed nodes
        generate.
    rows : thinned rows in coordinates of that net.
    """

    sublattice: Sublattice
    rows: tuple[Row, ...]


@cache
def zones(laue_class: str, largest: int) -> Zones:
    """All zone families with indices up to ``largest`` in absolute value."""
    if laue_class == "-1":
        # Any zone of a triclinic lattice is [001] of some choice of cell.
        uvw = np.array([[0, 0, 1]])
        return Zones(uvw, np.array([2]), np.array([plane_basis(uvw[0])]))
    axis = range(-largest, largest + 1)
    every = np.array(list(product(axis, repeat=3)))
    every = every[np.gcd.reduce(every, axis=1) == 1]
    # Positions turn as columns: u' = R u for every R of the group.
    images = np.einsum("gij,zj->zgi", laue_operations(laue_class), every)
    rank = _preference(images, laue_class.startswith("m-3"))
    best = images[np.arange(len(every)), rank.argmax(1)]
    inside = np.abs(images).max(-1) <= largest
    uvw, counts = np.unique(best[inside.all(1)], axis=0, return_counts=True)
    order = np.lexsort((*uvw.T[::-1], (uvw**2).sum(1)))
    uvw, counts = uvw[order], counts[order]
    return Zones(uvw, counts, np.array([plane_basis(u) for u in uvw]))


def _preference(uvw: Ints, ascending: bool) -> Floats:
    """Which member of a family is written: few minus signs, small sum, then order."""
    negatives = (uvw < 0).sum(-1)
    size = np.abs(uvw).sum(-1)
    order = uvw @ np.array([400, 20, 1])
    return np.asarray(-1e8 * negatives - 1e5 * size + (-order if ascending else order))


def plane_basis(uvw: Ints) -> Ints:
    """(2, 3) primitive basis of the integer plane h·uvw = 0, right-handed about uvw."""
    u, v, w = (int(i) for i in uvw)
    g, x, y = _gcd(v, w)
    if g == 0:
        rows = [[0, 1, 0], [0, 0, 1]] if u > 0 else [[0, 0, 1], [0, 1, 0]]
    else:
        # With v x + w y = g the cross product of the two is (u, v, w).
        rows = [[g, -u * x, -u * y], [0, w // g, -v // g]]
    return np.array(rows)


def _gcd(a: int, b: int) -> tuple[int, int, int]:
    """g, x, y with g = a x + b y ≥ 0."""
    x0, y0, x1, y1 = 1, 0, 0, 1
    while b:
        q = a // b
        a, b = b, a - q * b
        x0, x1 = x1, x0 - q * x1
        y0, y1 = y1, y0 - q * y1
    return (a, x0, y0) if a >= 0 else (-a, -x0, -y0)


@cache
def stabiliser(laue_class: str, uvw: tuple[int, int, int]) -> Ints:
    """(G, 2, 2) how the Laue class turns net coordinates of a zone among themselves.

    A node with coordinates c (a row, in `plane_basis`) has equivalents c @ g.
    """
    ops = laue_operations(laue_class)
    axis = np.array(uvw)
    image = ops @ axis
    keep = (image == axis).all(1) | (image == -axis).all(1)
    basis = plane_basis(axis)
    turns = _in_plane(basis @ ops[keep], basis).reshape(-1, 4)
    # Of a few dozen rows a set is quicker to make than np.unique over an axis.
    return np.array(sorted(_set(turns))).reshape(-1, 2, 2)


def _in_plane(vectors: Ints, basis: Ints) -> Ints:
    """Coordinates of (…, 2, 3) plane vectors in the (2, 3) basis."""
    inverse = basis.T @ np.linalg.inv(basis @ basis.T)
    return np.asarray(np.rint(vectors @ inverse).astype(np.int64))


@cache
def projections(number: int, laue_class: str, largest: int) -> tuple[Projection, ...]:
    """The `Projection` of a space group's absences in every zone of `zones`."""
    every, shifts = operations(number)
    rotations, kind = np.unique(every.reshape(-1, 9), axis=0, return_inverse=True)
    rotations, kind = rotations.reshape(-1, 3, 3), kind.reshape(-1)
    place = zones(laue_class, largest)
    moved = place.basis[:, None] @ rotations - place.basis[:, None]
    whole = np.asarray(~moved.any((2, 3)))[:, kind]
    direct = (rotations @ place.uvw[:, None, :, None])[..., 0]
    own = (direct == place.uvw[:, None]).all(-1) | (direct == -place.uvw[:, None]).all(-1)
    direction, single = _kept_direction(moved)
    phase = (place.basis @ shifts.T).swapaxes(1, 2) % DENOMINATOR
    # Only operations that shift the phase along their row matter.
    row_phase = (direction[:, kind] * phase).sum(-1) % DENOMINATOR
    use = single[:, kind] & (row_phase != 0)
    table = np.concatenate([direction[:, kind], row_phase[..., None], own[:, kind, None]], -1)
    result = []
    for z in range(len(place)):
        sub = _sublattice(_set(phase[z, whole[z]]))
        result.append(Projection(sub, _rows(sub, _set(table[z, use[z]]))))
    return tuple(result)


def _set(rows: Ints) -> frozenset[tuple[int, ...]]:
    return frozenset(map(tuple, rows.tolist()))


def _kept_direction(moved: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Primitive net direction that (h R − h) maps to zero, where there is exactly one."""
    column = np.abs(moved).sum(-2).argmax(-1)
    pair = np.take_along_axis(moved, column[..., None, None], -1)[..., 0]
    direction = np.stack([pair[..., 1], -pair[..., 0]], -1)
    divisor = np.maximum(np.gcd(direction[..., 0], direction[..., 1]), 1)
    direction = direction // divisor[..., None]
    image = direction[..., :1] * moved[..., 0, :] + direction[..., 1:] * moved[..., 1, :]
    kept = np.asarray(~image.any(-1) & moved.any((2, 3)))
    return direction, kept


@cache
def _sublattice(phases: frozenset[tuple[int, ...]]) -> Sublattice:
    """Hermite basis of the nodes c with c·phase ≡ 0 for all phases (units 1/24)."""
    phase = np.array(sorted(phases))
    grid = np.arange(DENOMINATOR + 1)
    second = ((grid[:, None] * phase[:, 1]) % DENOMINATOR == 0).all(1)
    step = int(grid[1:][second[1:]][0])
    for i in range(1, DENOMINATOR + 1):
        ok = ((i * phase[:, 0] + grid[:step, None] * phase[:, 1]) % DENOMINATOR == 0).all(1)
        if ok.any():
            return (i, int(np.flatnonzero(ok)[0])), (0, step)
    raise AssertionError("24 times any node is allowed")


@cache
def _rows(sub: Sublattice, kept: frozenset[tuple[int, ...]]) -> tuple[Row, ...]:
    """Rows of the sublattice from (direction, phase per step, keeps the zone) of operations."""
    (a, b), (_, d) = sub
    found: dict[tuple[int, int], list[int]] = {}
    for c0, c1, phase, protects in kept:
        # Coordinates in the sublattice are m/scale, n/scale: it holds every scale-th node.
        m, n = c0 * d, c1 * a - c0 * b
        scale, content = a * d, gcd(c0 * d, c1 * a - c0 * b)
        m, n, multiple = m // content, n // content, scale // gcd(scale, content)
        period = DENOMINATOR // gcd(multiple * phase, DENOMINATOR)
        both = found.setdefault((m, n) if (m, n) > (0, 0) else (-m, -n), [1, 1])
        both[0] = lcm(both[0], period)
        if protects:
            both[1] = lcm(both[1], period)
    return tuple(sorted((m, n, p, g) for (m, n), (p, g) in found.items() if p > 1))
