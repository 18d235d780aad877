"""How the direct beam wanders over the detector during a scan: a smooth model with its residual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.mapping.origin import scan_coordinates

Floats = NDArray[np.float64]

_STEPS = 25
_MAD = 0.67448975
_TUNING = 4.685


@dataclass(frozen=True, eq=False)
class DescanModel:
    """A polynomial over the scan for the row and the column of the direct beam.

    Attributes
    ----------
    coefficients : (T, 2) of 1, y, x, y², yx, x² …, with y and x from −1 to 1 over the scan.
    order : total order of the polynomial.
    residual : (2,) robust rms distance in px, row and column, of the measured origins.
    chi2 : median squared residual over its expectation: 1 where the model holds to the noise.
    """

    coefficients: Floats
    order: int
    residual: Floats
    chi2: float

    def at(self, scan_shape: tuple[int, int]) -> Floats:
        """(Y, X, 2) modelled origins in px."""
        out = _design(scan_coordinates(scan_shape), self.order) @ self.coefficients
        return np.asarray(out.reshape(*scan_shape, 2))


def fit_descan(origin: Floats, sigma: Floats, order: int = 2) -> DescanModel:
    """Fit the origins of a scan by a polynomial, outliers given no weight (Tukey's biweight).

    Parameters
    ----------
    origin, sigma : (Y, X, 2) in px; NaN where unknown.
    order : 0 to 3.

    Raises
    ------
    DiskernError
        For another order, or too few known origins.
    """
    if not 0 <= order <= 3:
        raise DiskernError(f"descan order {order} is not in 0 to 3")
    design = _design(scan_coordinates((origin.shape[0], origin.shape[1])), order)
    flat, spread = origin.reshape(-1, 2), sigma.reshape(-1, 2)
    known = np.isfinite(flat).all(axis=1) & np.isfinite(spread).all(axis=1)
    terms = design.shape[1]
    if known.sum() < terms + 2:
        raise DiskernError(f"{known.sum()} known origins do not fix a descan of order {order}")
    design, flat, spread = design[known], flat[known], np.maximum(spread[known], 1e-6)
    ridge = np.eye(terms) * 1e-9 * len(design)
    coefficients = np.zeros((terms, 2))
    for axis in (0, 1):
        value = flat[:, axis]
        coefficients[0, axis] = np.median(value)
        for _ in range(_STEPS):
            miss = value - design @ coefficients[:, axis]
            scale = max(float(np.median(np.abs(miss))) / _MAD, 1e-9)
            # Huber's weights first would be safer still; absolute deviations serve as such.
            pull = np.abs(miss) / scale / _TUNING
            weight = np.where(pull < 1, (1 - pull**2) ** 2, 0.0)
            weighted = design * weight[:, None]
            coefficients[:, axis] = np.linalg.solve(weighted.T @ design + ridge, weighted.T @ value)
    miss = flat - design @ coefficients
    residual = np.median(np.abs(miss), axis=0) / _MAD
    chi2 = float(np.median((miss / spread) ** 2) / _MAD**2)
    return DescanModel(coefficients, order, residual, chi2)


def _design(place: Floats, order: int) -> Floats:
    """(P, T) monomials of total order up to ``order``."""
    y, x = place.T
    columns = [y ** (n - k) * x**k for n in range(order + 1) for k in range(n + 1)]
    return np.stack(columns, axis=1)
