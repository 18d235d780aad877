"""Orientation: the rotation crystal → lab, with the beam along +z.

The image is seen along the beam: columns grow along +x, rows along +y, z into the page, a
right-handed frame.  The zone axis [uvw] is the direct-lattice vector along +z.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError

Floats = NDArray[np.float64]


def zone_axis_orientation(
    crystal: Crystal, zone_axis: ArrayLike, along_x: ArrayLike | None = None
) -> Rotation:
    """Rotation that brings the direct vector [uvw] to +z and a reciprocal vector to +x.

    Parameters
    ----------
    zone_axis : [u, v, w] of the crystal's own cell, any non-zero real numbers.
    along_x : (h, k, l) whose projection points along +x; the shortest reciprocal-lattice
        vector of the zone by default.

    Raises
    ------
    DiskernError
        For a zero zone axis, or an ``along_x`` parallel to the beam.
    """
    uvw = np.asarray(zone_axis, dtype=np.float64)
    if uvw.shape != (3,) or not np.isfinite(uvw).all() or not uvw.any():
        raise DiskernError(
            f"zone_axis={zone_axis!r} is no direction; give three numbers, e.g. 0,1,1"
        )
    z = uvw @ crystal.lattice
    z /= np.linalg.norm(z)
    hkl = shortest_in_zone(crystal, uvw) if along_x is None else np.asarray(along_x, dtype=float)
    x = hkl @ crystal.reciprocal
    x = x - (x @ z) * z
    if np.linalg.norm(x) < 1e-9:
        raise DiskernError(f"along_x={along_x!r} is parallel to the zone axis; choose another hkl")
    x /= np.linalg.norm(x)
    return Rotation.from_matrix(np.array([x, np.cross(z, x), z]))


def shortest_in_zone(crystal: Crystal, uvw: ArrayLike, limit: int = 6) -> Floats:
    """Shortest (h, k, l) perpendicular to [uvw] (or nearest to it, for irrational axes)."""
    hkl = _indices_within(limit)
    inside = np.abs(hkl @ np.asarray(uvw, dtype=float)) < 1e-6
    candidates = hkl[inside] if inside.any() else hkl
    lengths = np.linalg.norm(candidates @ crystal.reciprocal, axis=1)
    near = candidates[lengths < lengths.min() * (1 + 1e-6)]
    # Ties are broken towards positive leading indices, so the choice is reproducible.
    return np.asarray(max(near.tolist()))


@cache
def _indices_within(limit: int) -> Floats:
    """(N, 3) all index triples of at most ``limit``, without 000."""
    triples = np.array(list(product(range(-limit, limit + 1), repeat=3)), dtype=float)
    found = triples[triples.any(axis=1)]
    found.setflags(write=False)
    return found


def tilted(orientation: Rotation, angle: float, azimuth: float = 0.0) -> Rotation:
    """Tilt the crystal by ``angle`` mrad about the in-plane axis at ``azimuth`` degrees from x."""
    phi = np.radians(azimuth)
    axis = np.array([np.cos(phi), np.sin(phi), 0.0])
    return Rotation.from_rotvec(axis * angle * 1e-3) * orientation


def reciprocal_vectors(crystal: Crystal, g_max: float) -> tuple[NDArray[np.int64], Floats]:
    """All hkl with 0 < |g| ≤ g_max (1/Å): (N, 3) indices and (N, 3) crystal-frame g in 1/Å."""
    bound = np.floor(g_max * np.linalg.norm(crystal.lattice, axis=1) + 1e-9).astype(int)
    if np.prod(2.0 * bound + 1) > 5e7:
        raise DiskernError(f"g_max={g_max} 1/Å asks for over 5e7 reflections; lower g_max")
    axes = [np.arange(-b, b + 1) for b in bound]
    # |g|² on the whole box of indices, one axis after the other.
    metric = crystal.reciprocal @ crystal.reciprocal.T
    h, k, m = (
        a.reshape(s) for a, s in zip(axes, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    )
    squared = metric[0, 0] * h * h + metric[1, 1] * k * k + 2 * metric[0, 1] * h * k
    squared = squared + (2 * metric[0, 2] * h + 2 * metric[1, 2] * k) * m + metric[2, 2] * m * m
    keep = squared <= g_max**2
    keep[tuple(bound)] = False
    hkl = np.argwhere(keep) - bound
    return hkl, hkl @ crystal.reciprocal


def excitation_error(g_lab: ArrayLike, wavelength: float) -> Floats:
    """Signed distance s_g in 1/Å from g to the Ewald sphere along the diffracted beam.

    Positive inside the sphere.  ``g_lab`` is (..., 3) in 1/Å with the beam along +z.
    """
    g = np.asarray(g_lab, dtype=np.float64)
    k = 1.0 / wavelength
    length = np.sqrt((g**2).sum(-1) + 2 * k * g[..., 2] + k * k)
    return np.asarray((k * k - length**2) / (2 * length))
