"""The reciprocal lattice that a known crystal shows along a zone axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.lattice_reduce import reduced
from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import reciprocal_vectors, zone_axis_orientation
from diskern.errors import DiskernError
from diskern.simulate.structure_factors import structure_factors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_IN_ZONE = 1e-6  # |g · zone| / |g| of a reflection of the zone
_SEEN = 1e-3  # of the strongest structure factor: weaker ones are systematically absent
_REACHES = (1.0, 2.0, 4.0)  # 1/Å out to which reflections are looked for


def zone_basis(crystal: Crystal, zone_axis: ArrayLike) -> Floats:
    """Reduced basis of the zero-order Laue zone, absent reflections left out.

    Double diffraction adds no node to it: sums of present reflections are nodes already.

    Parameters
    ----------
    zone_axis : [u, v, w] of the crystal's own cell.

    Returns
    -------
    (2, 2) rows a, b as (row, column) in 1/Å: the pattern of `zone_axis_orientation`.

    Raises
    ------
    DiskernError
        For a zone without two independent reflections within 4 1/Å.
    """
    primitive = crystal.primitive()
    rotation = zone_axis_orientation(crystal, zone_axis)
    for reach in _REACHES:
        hkl, g = reciprocal_vectors(primitive, reach)
        lab = rotation.apply(g)
        flat = np.abs(lab[:, 2]) < _IN_ZONE * np.linalg.norm(g, axis=1)
        hkl, plane = hkl[flat], lab[flat][:, 1::-1]
        if not len(hkl):
            continue
        strength = np.abs(structure_factors(primitive, hkl))
        plane = plane[strength > _SEEN * strength.max()]
        basis = _spanned(plane)
        if basis is not None:
            return reduced(basis)
    raise DiskernError(
        f"zone_axis={np.asarray(zone_axis).tolist()} of {crystal.name or crystal.formula} shows "
        "no two independent reflections; give a zone axis of small whole numbers"
    )


def _spanned(vectors: Floats) -> Floats | None:
    """(2, 2) basis of the lattice that all whole sums of (M, 2) vectors form."""
    order = np.argsort(np.linalg.norm(vectors, axis=1))
    vectors = vectors[order]
    if not len(vectors):
        return None
    first = vectors[0]
    cross = np.abs(first[0] * vectors[:, 1] - first[1] * vectors[:, 0])
    aside = np.flatnonzero(cross > 1e-6 * (first @ first))
    if not len(aside):
        return None
    basis = np.array([first, vectors[aside[0]]])
    for _ in range(64):
        basis = reduced(basis)
        coordinates = vectors @ np.linalg.inv(basis)
        left = coordinates - np.rint(coordinates)
        astray = np.flatnonzero(np.abs(left).max(axis=1) > 1e-4)
        if not len(astray):
            return basis
        # A remainder is shorter than the basis vector it replaces, so this ends.
        rest = left[astray[0]] @ basis
        one, other = np.array([rest, basis[0]]), np.array([rest, basis[1]])
        areas = [abs(np.linalg.det(one)), abs(np.linalg.det(other))]
        keep = [c for c, area in zip((one, other), areas, strict=True) if area > 1e-9]
        basis = min(keep, key=lambda c: abs(np.linalg.det(c)))
    return None
