"""Polynomials on the unit disk, and the tables that make their weighted products one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def count(order: int) -> int:
    """Number of polynomials in two variables of degree up to ``order``."""
    return (order + 1) * (order + 2) // 2


@dataclass(frozen=True, eq=False)
class DiskBasis:
    """Polynomials P_i, graded by degree, orthonormal over the unit disk, P_0 = 1.

    The space of polynomials of a degree does not change when its origin moves, so they are
    anchored to the pixels, and only the rim of a disk moves between them.  Products of two of
    them are sums of those of twice the degree: with weights w and a table T,
    Σ w P_i P_j = Σ_k T_ijk (Σ w P_k), so that all normal matrices of a block of disks are one
    product of (disks, pixels) with (pixels, polynomials).

    Attributes
    ----------
    order : largest degree.
    degree : (count(2 · order),) of each polynomial.
    to_polynomials : (count, count) from monomials to the polynomials.
    powers : (count, 2) exponents of the monomials.
    product : (count(2 · order), m, m) T, with m = count(order).
    """

    order: int
    degree: NDArray[np.int64]
    to_polynomials: Floats
    powers: NDArray[np.int64]
    product: Floats

    def evaluate(self, x: Floats, y: Floats, size: int | None = None) -> Floats:
        """(N, count(2 · order)) values at (N,) points in units of the radius.

        ``size`` asks for the first of them only: of a degree and below.
        """
        # Graded: no polynomial needs monomials that come after it.
        return _monomials(x, y, self.powers[:size]) @ self.to_polynomials[:size, :size]


def recentred(coefficients: Floats, shift: Floats) -> Floats:
    """Coefficients about another middle.

    Parameters
    ----------
    coefficients : (N, count(order)) of polynomials about the old one.
    shift : (N, 2) the new middle from the old one, in units of the radius.
    """
    size = coefficients.shape[1]
    order = next(n for n in range(size) if count(n) == size)
    basis = disk_basis(max(order, 1))
    places, back = _sampled(max(order, 1), size)
    x, y = (places + shift[:, None]).reshape(-1, 2).T
    values = basis.evaluate(x, y, size).reshape(len(shift), len(places), size)
    return np.asarray(np.einsum("npk,nk->np", values, coefficients) @ back)


@cache
def _sampled(order: int, size: int) -> tuple[Floats, Floats]:
    """(P, 2) places in the disk, and (P, size) what makes coefficients of the values there."""
    radius = np.sqrt((np.arange(order + 1) + 0.5) / (order + 1))
    phi = 2 * np.pi * np.arange(2 * order + 1) / (2 * order + 1)
    x, y = np.outer(radius, np.cos(phi)).ravel(), np.outer(radius, np.sin(phi)).ravel()
    back = np.linalg.pinv(disk_basis(order).evaluate(x, y, size)).T
    return np.stack([x, y], 1), np.asarray(back, dtype=np.float64)


@cache
def disk_basis(order: int) -> DiskBasis:
    """The polynomials up to a degree, and products up to twice it."""
    powers = np.array([(a, n - a) for n in range(2 * order + 1) for a in range(n + 1)])
    # A rule of Gauss points in r² and equal angles integrates products of three exactly.
    nodes, weights = np.polynomial.legendre.leggauss(2 * order + 2)
    r = np.sqrt((nodes + 1) / 2)[:, None]
    turns = 4 * order + 3
    phi = 2 * np.pi * np.arange(turns) / turns
    x, y = (r * np.cos(phi)).ravel(), (r * np.sin(phi)).ravel()
    weight = np.repeat(weights / 2 / turns, turns)
    monomials = _monomials(x, y, powers)
    _, upper = np.linalg.qr(monomials * np.sqrt(weight)[:, None])
    upper *= np.sign(np.diag(upper))[:, None]
    inverse = np.linalg.inv(upper)
    values = monomials @ inverse
    low = values[:, : count(order)]
    product = np.einsum("n,nk,ni,nj->kij", weight, values, low, low, optimize=True)
    return DiskBasis(order, powers.sum(1), inverse, powers, product)


def _monomials(x: Floats, y: Floats, powers: NDArray[np.int64]) -> Floats:
    """(N, K) x^a y^b."""
    top = int(powers.max(initial=0))
    by_x, by_y = (np.vander(v, top + 1, increasing=True) for v in (x, y))
    return np.asarray(by_x[:, powers[:, 0]] * by_y[:, powers[:, 1]])
