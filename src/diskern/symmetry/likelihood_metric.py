"""How well a cell explains the shapes of zone nets, with the free cell parameters integrated out.

A crystal system leaves some cell parameters free; they have a smooth prior (log-normal lengths,
normal angles), and the probability density of the measured shapes is integrated over them by
Laplace's method.  A system that predicts a square net gains over one that merely allows it by
exactly the ratio of the two densities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.symmetry.likelihood_shapes import Cell, quadratic_forms, shapes, shapes_of_forms

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TAIL = 3.0
"""Degrees of freedom of the t distribution of the shape errors of a net: most lenses distort
little, some a lot, and one pattern's distortion says nothing of another's."""
ROBUST_STEPS = 2
"""Steps of a fit, after those that bring it near, in which nets that are far off count less."""


@dataclass(frozen=True, eq=False)
class MetricFit:
    """Best cells and evidence of N hypotheses for K nets each.

    Attributes
    ----------
    log_evidence : (N,) ln density of the measured shapes, cell parameters integrated out.
    phi : (N, F) most probable free parameters.
    misfit : (N,) χ² of the shapes at ``phi``, all nets together.
    """

    log_evidence: Floats
    phi: Floats
    misfit: Floats

    def select(self, keep: Ints) -> MetricFit:
        """The fits at an index array."""
        return MetricFit(self.log_evidence[keep], self.phi[keep], self.misfit[keep])


def fit_cells(
    basis: Ints,
    cell: Cell,
    shape: Floats,
    covariance: Floats,
    scale_spread: float,
    start: Floats | None = None,
    steps: int = 7,
    there: Bools | None = None,
    robust: int = ROBUST_STEPS,
) -> MetricFit:
    """Most probable cell and evidence of each hypothesis.

    Parameters
    ----------
    basis : (N, K, 2, 3) hkl of the observed basis vectors.
    shape : (K, 3) measured ln|a|, ln|b| (1/Å), γ.
    covariance : (K, 3, 3) of the shapes.
    scale_spread : standard deviation of the logarithm of a scale that all nets share.
    start : (N, F) where to begin; the prior mean by default.
    there : (N, K) nets that the hypothesis speaks of; all by default.
    robust : last steps in which nets that are far off count for less.
    """
    terms = cell.terms
    forms = quadratic_forms(basis, terms)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    mean, spread = cell.mean[:, None], cell.spread[:, None]
    lengths = (cell.free[:, :3] != 0).any(1).astype(float)
    # A shared unknown scale is one more uncertainty of all cell lengths together.
    prior = np.diag(cell.spread**2) + scale_spread**2 * np.outer(lengths, lengths)
    precision = np.linalg.inv(prior)
    count = np.ones(basis.shape[:2]).T if there is None else there.T.astype(np.float64)

    def whitened(phi: Floats) -> Floats:
        """(K, 3, 1 + F, N) what the shapes are off by and its derivatives, in units of σ."""
        found = shapes_of_forms(forms, terms, phi)
        found[:, :, 0] -= shape[..., None]
        return np.asarray((whiten @ found.reshape(*shape.shape, -1)).reshape(found.shape))

    phi = np.tile(mean, (1, len(basis))) if start is None else start.T.copy()
    for step in range(steps):
        off = whitened(phi)
        weight = count
        if step >= steps - robust:
            weight = count * (TAIL + 3) / (TAIL + np.maximum((off[:, :, 0] ** 2).sum(1), 3.0))
        gram = _gram(off, weight)
        hessian = gram[1:, 1:] + precision[..., None]
        change, log_curvature = solved(hessian, precision @ (mean - phi) - gram[1:, 0])
        largest = np.abs(change / spread).max(0)
        phi = phi + change * np.minimum(1.0, 1.5 / np.maximum(largest, 1e-12))
    # The last derivatives serve for the curvature; the last step was tiny where a net fits.
    misfit = count * (whitened(phi)[:, :, 0] ** 2).sum(1)
    away = phi - mean
    # In the tail the shape errors follow a t distribution rather than a normal one.
    data = -0.5 * (TAIL + 3) * np.log1p(misfit / TAIL).sum(0)
    log_evidence = (
        data
        - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] @ count
        - 0.5 * ((precision @ away) * away).sum(0)
        + 0.5 * np.linalg.slogdet(precision)[1]
        - 0.5 * log_curvature
    )
    return MetricFit(log_evidence, phi.T, misfit.sum(0))


def _gram(off: Floats, weight: Floats) -> Floats:
    """(1 + F, 1 + F, N) weighted sums of products over all nets."""
    rows = (off * np.sqrt(weight)[:, None, None]).reshape(-1, *off.shape[2:])
    size, count = rows.shape[1:]
    found = np.empty((size, size, count))
    for i in range(size):
        for j in range(i + 1):
            found[i, j] = found[j, i] = np.einsum("rn,rn->n", rows[:, i], rows[:, j])
    return found


def solved(matrix: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Solutions of N small equations, and the logarithms of their determinants.

    Written out, for LAPACK takes longer to be called for each matrix than to solve it.

    Parameters
    ----------
    matrix : (F, F, N) symmetric and positive definite.
    right : (F, N).

    Returns
    -------
    (F, N) and (N,).
    """
    lower, x = np.zeros_like(matrix), right.copy()
    for i in range(len(x)):
        for j in range(i):
            lower[i, j] = (matrix[i, j] - (lower[i, :j] * lower[j, :j]).sum(0)) / lower[j, j]
        lower[i, i] = np.sqrt(matrix[i, i] - (lower[i, :i] ** 2).sum(0))
        x[i] = (x[i] - (lower[i, :i] * x[:i]).sum(0)) / lower[i, i]
    for i in reversed(range(len(x))):
        x[i] = (x[i] - (lower[i + 1 :, i] * x[i + 1 :]).sum(0)) / lower[i, i]
    diagonal = np.einsum("iin->in", lower)
    return x, np.asarray(2 * np.log(diagonal).sum(0))


def freedom(basis: Ints, cell: Cell, phi: Floats, there: Bools | None = None) -> Ints:
    """(N,) how many free parameters the shapes of (N, K) nets depend on, scale apart."""
    _, jacobian = shapes(basis, cell, phi)
    if there is not None:
        jacobian = jacobian * there[..., None, None]
    n, k, _, f = jacobian.shape
    flat = jacobian.reshape(n, 3 * k, f)
    # Lengths only matter against one another.
    scale = np.tile([1.0, 1.0, 0.0], k) / np.sqrt(2 * k)
    flat = flat - scale[:, None] * (scale @ flat)[:, None]
    return np.asarray((np.linalg.svd(flat, compute_uv=False) > 1e-6).sum(1))
