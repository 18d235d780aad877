"""Reduced bases of two-dimensional lattices, their sublattices, and how a covariance follows."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TIE = 1e-9  # lengths and products closer than this (relative) are equal: no endless swapping


def handedness(basis: ArrayLike) -> Floats:
    """(…) signed cell area a_x b_y − a_y b_x of (…, 2, 2) bases in (row, column) px.

    Columns are +x, rows +y and the beam +z, so a positive area means that (a, b, beam) is a
    right-handed set: on the screen, with rows running down, b lies clockwise of a.
    """
    b = np.asarray(basis, dtype=np.float64)
    area: Floats = b[..., 0, 1] * b[..., 1, 0] - b[..., 0, 0] * b[..., 1, 1]
    return area


def reduction(basis: ArrayLike) -> Ints:
    """Unimodular transforms to the reduced right-handed basis.

    Lagrange–Gauss reduction: ``reduction(basis) @ basis`` has |a| ≤ |b|, an angle of 60° to
    120°, positive `handedness`, and a pointing to the right half of the image (a lattice is its
    own inverse, so one of ±a must be chosen).

    Parameters
    ----------
    basis : (…, 2, 2) rows are basis vectors, linearly independent.

    Returns
    -------
    (…, 2, 2) integers of determinant ±1.

    Raises
    ------
    DiskernError
        For bases that are not finite or whose vectors are parallel.
    """
    given = np.asarray(basis, dtype=np.float64)
    flat = given.reshape(-1, 2, 2)
    length = np.sqrt(np.einsum("nij,nij->ni", flat, flat))
    # No infinite vector passes, nor one that is not a number.
    if not (np.abs(handedness(flat)) > 1e-12 * length[:, 0] * length[:, 1]).all():
        raise DiskernError(f"basis {given.tolist()} spans no lattice; give two independent vectors")
    # Two rows of four numbers for each basis: a vector, and how it is made of the given ones.
    rows = np.zeros((2, 4, len(flat)))
    rows[:, :2] = flat.transpose(1, 2, 0)
    rows[0, 2] = rows[1, 3] = 1
    a, b = rows
    for _ in range(200):
        aa, bb, ab = (u[0] * v[0] + u[1] * v[1] for u, v in ((a, a), (b, b), (a, b)))
        shorter = bb < aa * (1 - _TIE)
        swapped = bool(shorter.any())
        if swapped:
            rows[..., shorter] = rows[::-1, :, shorter]
        projection = ab / np.where(shorter, bb, aa)
        steps = np.where(np.abs(projection) > 0.5 + _TIE, np.rint(projection), 0.0)
        if not (swapped or steps.any()):
            break
        b -= steps * a
    a *= np.where((a[1] < 0) | ((a[1] == 0) & (a[0] < 0)), -1, 1)
    b *= np.where(a[1] * b[0] < a[0] * b[1], -1, 1)
    whole = np.rint(rows[:, 2:].transpose(2, 0, 1)).astype(np.int64)
    return np.asarray(whole.reshape(given.shape))


def reduced(basis: ArrayLike) -> Floats:
    """(…, 2, 2) reduced right-handed bases, see `reduction`."""
    given = np.asarray(basis, dtype=np.float64)
    return np.asarray(reduction(given) @ given, dtype=np.float64)


@cache
def sublattices(index: int) -> Ints:
    """(S, 2, 2) row Hermite normal forms H of one index; ``H @ basis`` are all its sublattices.

    ``inv(H.T) @ basis`` are all the superlattices (finer nets) of the same index.
    """
    forms = [
        [[p, q], [0, index // p]]
        for p in range(1, index + 1)
        if index % p == 0
        for q in range(index // p)
    ]
    out = np.array(forms, dtype=np.int64)
    out.setflags(write=False)
    return out


def transform_covariance(covariance: ArrayLike, transform: ArrayLike) -> Floats:
    """(6, 6) covariance of (origin, basis) after ``basis → transform @ basis``.

    Parameters
    ----------
    covariance : (6, 6) of (origin_row, origin_col, a_row, a_col, b_row, b_col).
    transform : (2, 2) applied to the basis from the left, or (3, 3) applied to the rows
        (origin, a, b), which can also move the origin to another node.
    """
    t = np.asarray(transform, dtype=np.float64)
    if t.shape == (2, 2):
        full = np.eye(3)
        full[1:, 1:] = t
        t = full
    jacobian = np.kron(t, np.eye(2))
    return np.asarray(jacobian @ np.asarray(covariance, dtype=np.float64) @ jacobian.T)
