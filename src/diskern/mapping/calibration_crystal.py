"""Pixel size and ellipse from lattices whose shape is known, or is known to be one.

The detector maps a reciprocal vector q (1/Å, row and column) to an offset in pixels; the symmetric
matrix S takes it back, q = offset @ S, up to a rotation.  S holds the pixel size and the ellipse
together.  One lattice of a known crystal fixes all three numbers, but cannot tell an ellipse
from a strain; several grains of it, in different orientations, share S and not the strain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from diskern.mapping.strain_reference import best_setting, in_setting

Floats = NDArray[np.float64]

_RATIO_SIGMA = 0.05  # a fit that leaves the ellipse less certain than that has found nothing


@dataclass(frozen=True, eq=False)
class Scale:
    """Three numbers of the detector: ln of the pixel size and the two of the ellipse.

    Attributes
    ----------
    parameters : (3,) ln of the pixel size (1/Å per px; geometric mean of the axes), and the
        straight and diagonal parts of the ellipse, S = size · exp([[−s, d], [d, s]]) on
        (row, column) offsets.
    covariance : (3, 3) of them; NaN rows where a number was not found.
    """

    parameters: Floats
    covariance: Floats

    @property
    def matrix(self) -> Floats:
        """(2, 2) S; offsets in px @ S are in 1/Å."""
        return scale_matrix(self.parameters)


def scale_matrix(parameters: Floats) -> Floats:
    """(2, 2) S of three parameters, see `Scale`."""
    size, straight, diagonal = parameters
    amount = float(np.hypot(straight, diagonal))
    ratio = np.sinh(amount) / amount if amount > 1e-12 else 1.0
    generator = np.array([[-straight, diagonal], [diagonal, straight]])
    return np.asarray(np.exp(size) * (np.cosh(amount) * np.eye(2) + ratio * generator))


def scale_parameters(matrix: Floats) -> Floats:
    """(3,) parameters of a symmetric positive (2, 2) matrix."""
    values, vectors = np.linalg.eigh(matrix)
    log = (vectors * np.log(values)) @ vectors.T
    size = np.trace(log) / 2
    return np.array([size, (log[1, 1] - log[0, 0]) / 2, log[0, 1]])


def scale_of_known(basis: Floats, covariance: Floats, known: Floats) -> Scale:
    """The scale that makes measured lattices the known one, each free to be turned.

    Parameters
    ----------
    basis : (K, 2, 2) in px, one a grain; covariance : (K, 4, 4) in px².
    known : (2, 2) in 1/Å.

    Each grain gives its own three numbers; they are averaged by their uncertainties, and where
    they scatter more (strain), their scatter is the uncertainty.
    """
    found, spread = [], []
    for one, sigma in zip(basis, covariance, strict=True):
        found.append(_scale_of_one(one, known))
        steps = 1e-4 * np.linalg.norm(one) * np.eye(4).reshape(4, 2, 2)
        jacobian = np.array(
            [
                (_scale_of_one(one + d, known) - _scale_of_one(one - d, known))
                / (2 * np.linalg.norm(d))
                for d in steps
            ]
        ).T
        spread.append(jacobian @ sigma @ jacobian.T)
    values = np.array(found)
    weights = np.linalg.inv(np.array(spread))
    total = np.linalg.inv(weights.sum(axis=0))
    mean = total @ np.einsum("kij,kj->i", weights, values)
    if len(values) > 1:
        miss = values - mean
        chi2 = float(np.einsum("ki,kij,kj->", miss, weights, miss)) / (3 * (len(values) - 1))
        if chi2 > 1:
            # The grains differ by more than noise, so they count alike.
            mean = values.mean(axis=0)
            miss = values - mean
            total = miss.T @ miss / (len(values) - 1) / len(values) + total
    return Scale(mean, total)


def _scale_of_one(basis: Floats, known: Floats) -> Floats:
    """(3,) parameters from one lattice: offsets @ S = known, turned."""
    # First the size from the areas, so that the right setting is the least deformed one.
    size = np.sqrt(abs(np.linalg.det(known) / np.linalg.det(basis)))
    target = in_setting(known / size, basis, turn=True) * size
    ratio = np.linalg.inv(basis) @ target
    u, stretch, _ = np.linalg.svd(ratio)
    return scale_parameters((u * stretch) @ u.T)


def ellipse_of_grains(basis: Floats, covariance: Floats) -> Scale | None:
    """The ellipse from grains of one unknown lattice in different orientations.

    Undistorted, all grains have the same lengths and angle; the ellipse that makes them so is
    found by least squares.  The pixel size stays unknown.

    Parameters
    ----------
    basis : (K, 2, 2) in px, K ≥ 2; covariance : (K, 4, 4).

    Returns
    -------
    None where the orientations do not tell an ellipse from a lattice.
    """
    if len(basis) < 2:
        return None
    first = basis[0]
    changes = np.array([best_setting(b, first, turn=True)[0] for b in basis])
    aligned = changes @ basis
    jacobian = np.array([np.kron(c, np.eye(2)) for c in changes])
    spread = jacobian @ covariance @ np.swapaxes(jacobian, 1, 2)
    sigma = np.sqrt(np.einsum("kii->k", spread) / 4) / np.linalg.norm(aligned, axis=2).mean(axis=1)
    root = np.linalg.cholesky(first @ first.T)

    def shapes(ellipse: Floats) -> Floats:
        undistorted = aligned @ scale_matrix(np.array([0.0, *ellipse]))
        gram = undistorted @ np.swapaxes(undistorted, 1, 2)
        return np.asarray(np.linalg.inv(root) @ gram @ np.linalg.inv(root).T)

    def misfit(ellipse: Floats) -> Floats:
        gram = shapes(ellipse)[:, [0, 1, 0], [0, 1, 1]]
        weight = 1 / sigma**2
        mean = (gram * weight[:, None]).sum(axis=0) / weight.sum()
        return np.asarray(((gram - mean) / (2 * sigma[:, None])).ravel())

    fit = least_squares(misfit, np.zeros(2))
    slope: Floats = np.asarray(fit.jac, dtype=np.float64)
    normal = slope.T @ slope
    if np.linalg.cond(normal) > 1e10:
        return None
    freedom = max(3 * (len(basis) - 1) - 2, 1)
    inner = np.linalg.inv(normal) * max(2 * fit.cost / freedom, 1.0)
    if np.sqrt(np.diag(inner)).max() > _RATIO_SIGMA:
        return None
    out = np.full((3, 3), np.nan)
    out[1:, 1:] = inner
    return Scale(np.array([0.0, *fit.x]), out)
