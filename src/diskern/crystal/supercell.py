"""Boxes of atoms for wave optics: any cell in any orientation, periodic where it can be.

A box has faces along x, y, z of the lab frame, the beam along +z.  Atoms are never strained to
fit: an oriented box cuts the infinite crystal, so that every interatomic distance is the
crystal's own, and a periodic cell is offered only where lattice vectors close one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FACE = 1e-6
"""Å: atoms this close below a face belong to the box beyond it (rounding, never physics)."""
_MOST_ATOMS = 2e7


class Atoms(NamedTuple):
    """Atoms in a box: positions (N, 3) in Å, numbers, occupancy, and u_iso (N,) in Å².

    ``u_aniso`` (N, 3, 3) in Å² along the edges of the box takes the place of u_iso where given.
    """

    positions: Floats
    numbers: Ints
    occupancy: Floats
    u_iso: Floats
    u_aniso: Floats | None = None


@dataclass(frozen=True, eq=False)
class PeriodicCell:
    """An orthogonal cell of a crystal seen along a zone axis; it tiles space in x, y and z.

    Attributes
    ----------
    size : (3,) edges in Å along x, y, z.
    atoms : the atoms inside, faces half-open.
    orientation : rotation crystal → lab with the zone axis along +z and the first edge along +x.
    misfit : largest deviation of the lattice's own angles from 90°, in radians; what was
        strained away.
    layers : lattice planes along z in one period; the crystal repeats after each of them, moved
        sideways where there are several.
    """

    size: Floats
    atoms: Atoms
    orientation: Rotation
    misfit: float
    layers: int = 1


def oriented_box(
    crystal: Crystal,
    orientation: Rotation,
    box: ArrayLike,
    *,
    centre: ArrayLike = (0.0, 0.0, 0.0),
) -> Atoms:
    """Cut a rectangular box out of the infinite crystal in a given orientation.

    Parameters
    ----------
    orientation : rotation crystal → lab.
    box : (3,) edges in Å along x, y, z (z is the beam).
    centre : fractional coordinates of the crystal point that falls on the middle of the
        entrance face.

    Returns
    -------
    Atoms with positions in [0, box) Å: each face belongs to one side only, so a box that happens
    to be commensurate tiles without doubled atoms.

    Raises
    ------
    DiskernError
        For edges that are not positive, or a box of more than 2e7 atoms.
    """
    size = _checked_box(crystal, box)
    cell = orientation.apply(crystal.lattice)
    origin = np.array([size[0] / 2, size[1] / 2, 0.0]) - np.asarray(centre, dtype=float) @ cell
    to_cells = np.linalg.inv(cell)
    corners = np.array(np.meshgrid(*[(0.0, s) for s in size], indexing="ij")).reshape(3, -1).T
    reach = (corners - origin) @ to_cells
    low, high = np.floor(reach.min(0)).astype(int) - 1, np.ceil(reach.max(0)).astype(int) + 1
    cells = _touching_cells(low, high, cell, origin, size)
    motif = crystal.fractional @ cell
    positions = (cells[:, None, :] + motif[None]).reshape(-1, 3)
    inside = ((positions >= -_FACE) & (positions < size - _FACE)).all(axis=1)
    which = np.tile(np.arange(len(crystal)), len(cells))[inside]
    return Atoms(
        np.maximum(positions[inside], 0.0),
        crystal.numbers[which],
        crystal.occupancy[which],
        crystal.u_iso[which],
        None if crystal.u_aniso is None else turned_tensors(crystal.u_aniso, orientation)[which],
    )


def turned_tensors(tensors: Floats, rotation: Rotation) -> Floats:
    """(N, 3, 3) displacement tensors in the frame that ``rotation`` takes the crystal to."""
    turn = rotation.as_matrix()
    return np.asarray(turn @ tensors @ turn.T)


def periodic_zone_cell(
    crystal: Crystal,
    zone_axis: ArrayLike,
    max_misfit: float = 1e-4,
    *,
    max_edge: float = 60.0,
) -> PeriodicCell | None:
    """Smallest orthogonal cell with an edge along [uvw] whose edges are lattice vectors.

    Parameters
    ----------
    zone_axis : [u, v, w] of the crystal's own cell.
    max_misfit : largest angle in radians by which two edges may miss 90° (lattice parameters of
        relaxed structures are seldom orthogonal to the last digit).
    max_edge : longest edge in Å to look for.

    Returns
    -------
    The cell, or None where the lattice closes none within ``max_edge``; use `oriented_box` then.
    """
    direction = np.asarray(zone_axis, dtype=np.float64)
    if direction.shape != (3,) or not np.isfinite(direction).all() or not direction.any():
        raise DiskernError(f"zone_axis={zone_axis!r} is no direction; give three numbers")
    primitive = crystal.primitive()
    beam = direction @ crystal.lattice
    beam /= np.linalg.norm(beam)
    indices, vectors = _lattice_vectors(primitive.lattice, max_edge)
    lengths = np.linalg.norm(vectors, axis=1)
    slope = vectors @ beam / lengths
    along = np.flatnonzero(1 - slope < max_misfit**2 / 2 + 1e-14)
    across = np.flatnonzero(np.abs(slope) < max_misfit + 1e-9)
    if not (len(along) and len(across)):
        return None
    third = along[np.argmin(lengths[along])]
    pair = _orthogonal_pair(vectors[across], lengths[across], max_misfit)
    if pair is None:
        return None
    edges = np.array([indices[across[pair[0]]], indices[across[pair[1]]], indices[third]])
    if np.linalg.det(edges @ primitive.lattice) < 0:
        edges[1] *= -1
    return _fill(primitive, edges)


def _checked_box(crystal: Crystal, box: ArrayLike) -> Floats:
    size = np.asarray(box, dtype=np.float64)
    if size.shape != (3,) or not np.isfinite(size).all() or size.min() <= 0:
        raise DiskernError(f"box={box!r} must be three positive edges in Å")
    count = float(np.prod(size)) / crystal.volume * len(crystal)
    if count > _MOST_ATOMS:
        raise DiskernError(f"box={size.tolist()} Å holds {count:.1e} atoms; at most 2e7")
    return size


def _touching_cells(low: Ints, high: Ints, cell: Floats, origin: Floats, size: Floats) -> Floats:
    """Corners (M, 3) in Å of the unit cells that can reach into the box, x plane by x plane."""
    second, third = (np.arange(a, b + 1) for a, b in zip(low[1:], high[1:], strict=True))
    plane = np.stack(np.meshgrid(second, third, indexing="ij"), axis=-1).reshape(-1, 2)
    offsets = plane @ cell[1:] + origin
    reach = np.array(np.meshgrid(*[(0.0, 1.0)] * 3)).reshape(3, -1).T @ cell
    floor, ceiling = -reach.max(0) - _FACE, size - reach.min(0) + _FACE
    kept = []
    for first in range(low[0], high[0] + 1):
        corner = offsets + first * cell[0]
        kept.append(corner[((corner >= floor) & (corner <= ceiling)).all(axis=1)])
    return np.concatenate(kept)


def _lattice_vectors(lattice: Floats, longest: float) -> tuple[Ints, Floats]:
    """All lattice vectors no longer than ``longest`` Å: indices (N, 3) and cartesian (N, 3)."""
    bound = np.floor(longest * np.linalg.norm(np.linalg.inv(lattice), axis=0) + 1e-9).astype(int)
    axes = [np.arange(-b, b + 1) for b in bound]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = indices @ lattice
    length = np.linalg.norm(vectors, axis=1)
    keep = (length <= longest) & (length > 0)
    return indices[keep], vectors[keep]


def _orthogonal_pair(
    vectors: Floats, lengths: Floats, max_misfit: float, most: int = 400
) -> tuple[int, int] | None:
    """The pair at right angles that spans the smallest area, the shorter first."""
    # Sorting by rounded length, then by direction, makes ties fall the same way everywhere.
    keys = np.round(np.column_stack([-vectors[:, ::-1], lengths]), 6)
    order = np.lexsort(keys.T)[:most]
    v, size = vectors[order], lengths[order]
    cosine = np.abs(v @ v.T) / (size[:, None] * size)
    area = np.where(cosine < max_misfit + 1e-9, size[:, None] * size, np.inf)
    area[np.tril_indices(len(order))] = np.inf
    # A square cell is preferred to a long one of the same area.
    cost = np.round(area, 5) * (1 + 1e-6 * (size[:, None] + size))
    best = int(np.argmin(cost))
    if not np.isfinite(cost.flat[best]):
        return None
    i, j = np.unravel_index(best, cost.shape)
    return int(order[i]), int(order[j])


def _fill(primitive: Crystal, edges: Ints) -> PeriodicCell:
    """Put the atoms of a primitive cell into the orthogonal cell with the given lattice edges."""
    vectors = edges @ primitive.lattice
    size = np.linalg.norm(vectors, axis=1)
    unit = vectors / size[:, None]
    cosines = np.abs(unit @ unit.T)[np.triu_indices(3, 1)]
    bounds = np.abs(edges).sum(axis=0)
    axes = [np.arange(-b, b + 1) for b in bounds]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inverse = np.linalg.inv(edges)
    corners = cells @ inverse
    inside = ((corners > -1e-9) & (corners < 1 - 1e-9)).all(axis=1)
    cells, corners = cells[inside], corners[inside]
    fractional = (primitive.fractional[None] + cells[:, None]).reshape(-1, 3) @ inverse
    fractional -= np.floor(fractional + 1e-9)
    count = len(cells)
    z = unit[2]
    x = unit[0] - (unit[0] @ z) * z
    x /= np.linalg.norm(x)
    rotation = Rotation.from_matrix(np.array([x, np.cross(z, x), z]))
    tensors = primitive.u_aniso
    return PeriodicCell(
        size,
        Atoms(
            np.maximum(fractional, 0.0) * size,
            np.tile(primitive.numbers, count),
            np.tile(primitive.occupancy, count),
            np.tile(primitive.u_iso, count),
            None if tensors is None else np.tile(turned_tensors(tensors, rotation), (count, 1, 1)),
        ),
        rotation,
        float(np.arcsin(np.clip(cosines.max(), 0, 1))),
        len(np.unique(np.round(corners[:, 2], 6))),
    )
