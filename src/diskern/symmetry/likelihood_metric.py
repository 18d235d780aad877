"""How well a cell explains the shapes of zone nets, with the free cell parameters integrated out.

The shape of a net is y = (ln|a|, ln|b|, γ).  A crystal system leaves some cell parameters free;
they have a smooth prior (log-normal lengths, normal angles), and the probability density of the
measured shapes is integrated over them by Laplace's method.  A system that predicts a square net
gains over one that merely allows it by exactly the ratio of the two densities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TYPICAL_AXIS = 6.5
"""Median of a conventional cell edge in Å in the prior."""
LENGTH_SPREAD = 0.45
"""Standard deviation of the logarithm of a cell edge."""
ANGLE_SPREAD = np.radians(15.0)
"""Standard deviation of a free cell angle about 90°."""
TAIL = 3.0
"""Degrees of freedom of the t distribution of the shape errors of a net: most lenses distort
little, some a lot, and one pattern's distortion says nothing of another's."""
ROBUST_STEPS = 2
"""Steps of a fit, after those that bring it near, in which nets that are far off count less."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The reciprocal cell of a crystal system as a function of its free parameters.

    The six parameters x = (ln a*, ln b*, ln c*, α*, β*, γ*) are ``base + free @ φ``.

    Attributes
    ----------
    base : (6,) values at φ = 0.
    free : (F, 6) one row for each free parameter.
    mean, spread : (F,) of the normal prior of φ.
    """

    base: Floats
    free: Floats
    mean: Floats
    spread: Floats

    def parameters(self, phi: Floats) -> Floats:
        """(…, 6) x from (…, F) φ."""
        return np.asarray(self.base + phi @ self.free)

    def samples(self) -> Floats:
        """(S, 3, 3) reciprocal metrics that span the prior, the overall length left out."""
        grid = [-2.4, -1.4, -0.6, 0.0, 0.6, 1.4, 2.4]
        axes = [[0.0], *([grid] * (len(self.mean) - 1))]
        phi = np.array(list(product(*axes))) * self.spread + self.mean
        return reciprocal_metric(self.parameters(phi))


@cache
def cell_of(laue_class: str, lattice: str = "P") -> Cell:
    """The `Cell` of a Laue class; ``lattice`` is ``"R"`` for hexagonal axes of R lattices."""
    right = np.pi / 2
    along = np.eye(6)
    hexagonal = laue_class.startswith(("-3", "6"))
    free = {
        "-1": [along[0], along[1], along[5]],
        "2/m": [along[0], along[1], along[2], along[4]],
        "mmm": [along[0], along[1], along[2]],
        "m-3": [along[0] + along[1] + along[2]],
        "m-3m": [along[0] + along[1] + along[2]],
    }.get(laue_class, [along[0] + along[1], along[2]])
    base = np.array([0, 0, 0, right, right, np.pi / 3 if hexagonal else right])
    size = -np.log(TYPICAL_AXIS)
    angular = np.array([row[3:].any() for row in free])
    mean = np.where(angular, 0.0, size)
    if lattice == "R":
        mean[1] -= np.log(2.4)  # the hexagonal cell of an R lattice is three layers high
    spread = np.where(angular, ANGLE_SPREAD, LENGTH_SPREAD)
    return Cell(base, np.array(free), mean, spread)


def reciprocal_metric(x: Floats) -> Floats:
    """(…, 3, 3) reciprocal metric tensors from (…, 6) ln a*, ln b*, ln c*, α*, β*, γ*."""
    length, cosine = np.exp(x[..., :3]), np.cos(x[..., 3:])
    unit = np.ones((*x.shape[:-1], 3, 3))
    for i, j, k in ((1, 2, 0), (2, 0, 1), (0, 1, 2)):
        unit[..., i, j] = unit[..., j, i] = cosine[..., k]
    return np.asarray(unit * length[..., :, None] * length[..., None, :])


def shapes(basis: Floats, cell: Cell, phi: Floats) -> tuple[Floats, Floats]:
    """Shapes of nets and their derivatives.

    Parameters
    ----------
    basis : (N, K, 2, 3) hkl of the two basis vectors of K nets, as floats.
    phi : (N, F) free parameters of the cell.

    Returns
    -------
    (N, K, 3) ln|a|, ln|b|, γ (rad), lengths in 1/Å, and (N, K, 3, F) ∂/∂φ.
    """
    x = cell.parameters(phi)
    v0, v1 = basis[:, :, 0], basis[:, :, 1]
    metric = reciprocal_metric(x)
    w0, w1 = v0 @ metric, v1 @ metric
    slope = np.zeros((3, *v0.shape[:2], 6))  # of a·a/2, b·b/2 and a·b
    slope[0, ..., :3] = v0 * w0
    slope[1, ..., :3] = v1 * w1
    slope[2, ..., :3] = v0 * w1 + v1 * w0
    for i, j, k in ((1, 2, 0), (2, 0, 1), (0, 1, 2)):
        if not cell.free[:, 3 + k].any():
            continue
        rate = (-np.sin(x[:, 3 + k]) * np.exp(x[:, i] + x[:, j]))[:, None]
        slope[0, ..., 3 + k] = v0[..., i] * v0[..., j] * rate
        slope[1, ..., 3 + k] = v1[..., i] * v1[..., j] * rate
        slope[2, ..., 3 + k] = (v0[..., i] * v1[..., j] + v0[..., j] * v1[..., i]) * rate
    free = slope @ cell.free.T
    first, second = (v0 * w0).sum(-1), (v1 * w1).sum(-1)
    root = np.sqrt(first * second)
    cosine = np.clip((v0 * w1).sum(-1) / root, -0.999999, 0.999999)
    y = np.stack([np.log(first) / 2, np.log(second) / 2, np.arccos(cosine)], -1)
    rate0, rate1 = free[0] / first[..., None], free[1] / second[..., None]
    turn = free[2] / root[..., None] - cosine[..., None] * (rate0 + rate1)
    return y, np.stack([rate0, rate1, -turn / np.sqrt(1 - cosine**2)[..., None]], -2)


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
    n, k = basis.shape[:2]
    nets = basis.astype(np.float64)
    count = np.ones((n, k)) if there is None else there.astype(np.float64)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    prior = np.diag(cell.spread**2)
    lengths = (cell.free[:, :3] != 0).any(1).astype(float)
    # A shared unknown scale is one more uncertainty of all cell lengths together.
    precision = np.linalg.inv(prior + scale_spread**2 * np.outer(lengths, lengths))
    phi = np.tile(cell.mean, (n, 1)) if start is None else start.copy()
    for step in range(steps):
        y, slope = shapes(nets, cell, phi)
        residual = ((shape - y)[..., None, :] * whiten).sum(-1)
        weight = count
        if step >= steps - robust:
            weight = count * (TAIL + 3) / (TAIL + np.maximum((residual**2).sum(-1), 3.0))
        jacobian = (whiten @ slope).reshape(n, 3 * k, -1)
        across = jacobian.swapaxes(1, 2) * np.repeat(weight, 3, axis=1)[:, None]
        hessian = across @ jacobian + precision
        gradient = (across @ residual.reshape(n, 3 * k, 1))[..., 0] + (cell.mean - phi) @ precision
        change = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        largest = np.abs(change / cell.spread).max(1, keepdims=True)
        phi = phi + change * np.minimum(1.0, 1.5 / np.maximum(largest, 1e-12))
    # The last derivatives serve for the curvature; the last step was tiny where a net fits.
    y, _ = shapes(nets, cell, phi)
    misfit = count * (((shape - y)[..., None, :] * whiten).sum(-1) ** 2).sum(-1)
    away = phi - cell.mean
    # In the tail the shape errors follow a t distribution rather than a normal one.
    data = -0.5 * (TAIL + 3) * np.log1p(misfit / TAIL).sum(1)
    log_evidence = (
        data
        - 0.5 * count @ np.linalg.slogdet(2 * np.pi * covariance)[1]
        - 0.5 * ((away @ precision) * away).sum(1)
        + 0.5 * np.linalg.slogdet(precision)[1]
        - 0.5 * np.linalg.slogdet(hessian)[1]
    )
    return MetricFit(log_evidence, phi, misfit.sum(1))


def freedom(basis: Ints, cell: Cell, phi: Floats, there: Bools | None = None) -> Ints:
    """(N,) how many free parameters the shapes of (N, K) nets depend on, scale apart."""
    _, jacobian = shapes(basis.astype(np.float64), cell, phi)
    if there is not None:
        jacobian = jacobian * there[..., None, None]
    n, k, _, f = jacobian.shape
    flat = jacobian.reshape(n, 3 * k, f)
    # Lengths only matter against one another.
    scale = np.tile([1.0, 1.0, 0.0], k) / np.sqrt(2 * k)
    flat = flat - scale[:, None] * (scale @ flat)[:, None]
    return np.asarray((np.linalg.svd(flat, compute_uv=False) > 1e-6).sum(1))
