"""Lengths and angle of a lattice with their uncertainties, the image distortion taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.lattice_reduce import reduction, transform_covariance
from diskern.errors import DiskernError
from diskern.patterns.geometry import Ellipse

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LatticeMetric:
    """The shape of a lattice, free of scale and with it.

    Attributes
    ----------
    ratio : |b| / |a| ≥ 1; NaN for a row.
    angle : between a and b in degrees, 60 to 120; NaN for a row.
    shape_covariance : (2, 2) of (ratio, angle); the pixel size plays no part in it.
    length_a, length_b : in ``unit``.
    covariance : (3, 3) of (length_a, length_b, angle), pixel size and distortion included.
    transform : (2, 2) integers; the metric's basis is ``transform @ lattice.basis`` (distortion
        can make another basis the reduced one).
    basis : (2, 2) that basis, undistorted, in ``unit``, rows a and b as (row, column).
    unit : "1/Å", or "px" where the pixel size is not known.
    """

    ratio: float
    angle: float
    shape_covariance: Floats
    length_a: float
    length_b: float
    covariance: Floats
    transform: NDArray[np.int64]
    basis: Floats
    unit: str

    @property
    def sigma_ratio(self) -> float:
        """Standard uncertainty of the ratio."""
        return float(np.sqrt(self.shape_covariance[0, 0]))

    @property
    def sigma_angle(self) -> float:
        """Standard uncertainty of the angle in degrees."""
        return float(np.sqrt(self.shape_covariance[1, 1]))

    @property
    def sigma_a(self) -> float:
        """Standard uncertainty of |a|."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def sigma_b(self) -> float:
        """Standard uncertainty of |b|."""
        return float(np.sqrt(self.covariance[1, 1]))

    def deviation(self, ratio: float, angle: float) -> float:
        """Squared Mahalanobis distance of this shape from an ideal one (χ² with 2 degrees of
        freedom), ``angle`` in degrees."""
        miss = np.array([self.ratio - ratio, self.angle - angle])
        return float(miss @ np.linalg.solve(self.shape_covariance, miss))


def undistortion(ellipse: Ellipse) -> Floats:
    """(2, 2) matrix D: (row, column) vectors @ D are free of the elliptical distortion.

    Areas are kept: the major axis shrinks by √ratio, the minor grows by it.

    Raises
    ------
    DiskernError
        For a ratio that is not finite and positive.
    """
    if not (np.isfinite(ellipse.ratio) and ellipse.ratio > 0 and np.isfinite(ellipse.angle)):
        raise DiskernError(
            f"ellipse ratio={ellipse.ratio}, angle={ellipse.angle}: give a finite one"
        )
    return _matrix(*_components(ellipse))


def _components(ellipse: Ellipse) -> tuple[float, float]:
    """Strain-like components (along the axes, along the diagonals), ½ ln ratio × (cos, sin) 2φ."""
    size, twice = 0.5 * np.log(ellipse.ratio), 2 * np.radians(ellipse.angle)
    return float(size * np.cos(twice)), float(size * np.sin(twice))


def _matrix(straight: float, diagonal: float) -> Floats:
    """Inverse of the distortion: exp(−(straight σ_z + diagonal σ_x)) in (row, column)."""
    size = float(np.hypot(straight, diagonal))
    generator = np.array([[-straight, diagonal], [diagonal, straight]])
    ratio = np.sinh(size) / size if size > 1e-12 else 1.0
    return np.asarray(np.cosh(size) * np.eye(2) - ratio * generator)


def metric(
    lattice: Lattice2D,
    pixel_size: float | None = None,
    ellipse: Ellipse | None = None,
    *,
    pixel_size_error: float = 0.0,
) -> LatticeMetric:
    """Lengths, ratio and angle of a lattice with propagated uncertainty.

    Parameters
    ----------
    pixel_size : 1/Å per px; None leaves lengths in px.
    ellipse : distortion to take out; its ``sigma`` counts for both of its components, as a
        circle that is uncertain by sigma is distorted in an unknown direction.
    pixel_size_error : relative standard uncertainty of the pixel size.

    Raises
    ------
    DiskernError
        For an impossible pixel size or ellipse.
    """
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise DiskernError(
            f"pixel_size={pixel_size} 1/Å is not positive; give the detector's scale"
        )
    ellipse = ellipse or Ellipse()
    undistortion(ellipse)  # refuses impossible values
    scale, unit = (1.0, "px") if pixel_size is None else (pixel_size, "1/Å")
    if lattice.rank == 1:
        return _row_metric(lattice, scale, unit, ellipse, pixel_size_error)
    corrected = lattice.basis @ _matrix(*_components(ellipse))
    transform = reduction(corrected)
    given = transform @ lattice.basis
    covariance = np.zeros((7, 7))
    covariance[:4, :4] = transform_covariance(lattice.covariance, transform)[2:, 2:]
    covariance[4, 4] = covariance[5, 5] = (0.5 * ellipse.sigma) ** 2
    covariance[6, 6] = pixel_size_error**2
    values = np.concatenate([given.ravel(), _components(ellipse), [0.0]])

    def lengths(v: Floats) -> Floats:
        a, b = v[:4].reshape(2, 2) @ _matrix(v[4], v[5]) * np.exp(v[6]) * scale
        angle = np.degrees(np.arctan2(a[1] * b[0] - a[0] * b[1], a @ b))
        return np.array([np.linalg.norm(a), np.linalg.norm(b), angle])

    (length_a, length_b, angle), total = _propagate(lengths, values, covariance)
    shape = np.array([[-length_b / length_a**2, 1 / length_a, 0], [0, 0, 1.0]])
    covariance[6, 6] = 0.0
    _, unscaled = _propagate(lengths, values, covariance)
    return LatticeMetric(
        float(length_b / length_a),
        float(angle),
        shape @ unscaled @ shape.T,
        float(length_a),
        float(length_b),
        total,
        transform,
        transform @ corrected * scale,
        unit,
    )


def _row_metric(
    lattice: Lattice2D, scale: float, unit: str, ellipse: Ellipse, scale_error: float
) -> LatticeMetric:
    row = lattice.basis[0]
    covariance = np.zeros((5, 5))
    covariance[:2, :2] = lattice.covariance[2:4, 2:4]
    covariance[2, 2] = covariance[3, 3] = (0.5 * ellipse.sigma) ** 2
    covariance[4, 4] = scale_error**2
    values = np.concatenate([row, _components(ellipse), [0.0]])

    def length(v: Floats) -> Floats:
        return np.atleast_1d(np.linalg.norm(v[:2] @ _matrix(v[2], v[3])) * np.exp(v[4]) * scale)

    (size,), variance = _propagate(length, values, covariance)
    nan = float("nan")
    full = np.full((3, 3), nan)
    full[0, 0] = variance[0, 0]
    basis = np.full((2, 2), nan)
    basis[0] = row @ _matrix(*_components(ellipse)) * scale
    return LatticeMetric(
        nan,
        nan,
        np.full((2, 2), nan),
        float(size),
        nan,
        full,
        np.eye(2, dtype=np.int64),
        basis,
        unit,
    )


def _propagate(
    function: Callable[[Floats], Floats], values: Floats, covariance: ArrayLike
) -> tuple[Floats, Floats]:
    """Value and first-order covariance of a smooth function, by central differences."""
    step = 1e-5 * np.maximum(np.abs(values), 1e-3)
    columns = [
        (function(values + shift) - function(values - shift)) / (2 * size)
        for size, shift in zip(step, np.diag(step), strict=True)
    ]
    jacobian = np.stack(columns, axis=1)
    return function(values), jacobian @ np.asarray(covariance) @ jacobian.T
