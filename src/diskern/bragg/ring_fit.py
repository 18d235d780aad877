"""Sector profiles of rings, and the radius of a ring in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.patterns.background import clip_bumps
from diskern.patterns.geometry import Centre, Ellipse
from diskern.patterns.polar import fill_gaps, polar_coordinates

Floats = NDArray[np.float64]

SECTORS = 36
"""Azimuthal sectors in which a ring is looked at."""


@dataclass(frozen=True, eq=False)
class Polar:
    """(SECTORS, R) winsorised mean less background, its uncertainty, and azimuths of sectors."""

    value: Floats
    sigma: Floats
    azimuth: Floats


def unroll(image: Any, good: NDArray[np.bool_], centre: Centre, ellipse: Ellipse) -> Polar:
    """Sector profiles; a bright pixel counts no more than the sector's upper range."""
    radius, azimuth = polar_coordinates(image.shape, centre, ellipse)
    size = int(min(radius.max(), 1.2 * max(image.shape))) + 1
    ring = radius[good].astype(np.int64)
    sector = ((azimuth[good] / (2 * np.pi) + 0.5) * SECTORS).astype(np.int64) % SECTORS
    inside = ring < size
    group, value = (sector * size + ring)[inside], image[good][inside].astype(float)
    total = SECTORS * size
    count = np.bincount(group, minlength=total)
    safe = np.maximum(count, 1)
    mean = np.bincount(group, value, total) / safe
    spread = np.sqrt(np.bincount(group, (value - mean[group]) ** 2, total) / safe)
    bound = (mean + 1.5 * spread)[group]
    mean = np.bincount(group, np.minimum(value, bound), total) / safe
    profile = np.where(count >= 2, mean, np.nan).reshape(SECTORS, size)
    # Scatter of the sector means from the roughness between neighbouring radii.
    rough = np.abs(np.diff(np.nan_to_num(profile), 2, axis=1)) / np.sqrt(6)
    rough = ndimage.median_filter(rough, size=(1, 11), mode="nearest")
    sigma = np.pad(1.48 * rough, ((0, 0), (1, 1)), mode="edge")
    floor = 1e-3 * float(np.nanmax(profile) - np.nanmin(profile))
    middle = clipped_mean(profile)
    base = clip_bumps(fill_gaps(middle))
    # Sectors differ in background: take out the ratio of levels far from any ring, smoothly.
    ratio = ndimage.gaussian_filter1d(
        np.where(np.isfinite(profile), profile - middle, 0.0), max(6.0, size / 25), axis=1
    )
    known = ndimage.gaussian_filter1d(
        np.isfinite(profile).astype(float), max(6.0, size / 25), axis=1
    )
    value = profile - base - ratio / np.maximum(known, 0.05)
    turn = (np.arange(SECTORS) + 0.5) / SECTORS * 2 * np.pi - np.pi
    return Polar(value, np.maximum(sigma, 0.02 * floor) + 1e-12, turn)


def clipped_mean(profile: Floats) -> Floats:
    """(R,) mean over sectors without the extreme quarters; NaN where few are seen."""
    ranked = np.sort(profile, axis=0)  # NaN last
    known = np.isfinite(profile).sum(0)
    low, high = known // 4, known - known // 4
    at = np.arange(len(profile))[:, None]
    use = (at >= low) & (at < high)
    total = np.where(use, np.nan_to_num(ranked), 0).sum(0)
    return np.asarray(np.where(known >= 3, total / np.maximum(use.sum(0), 1), np.nan))


@dataclass(frozen=True)
class Bump:
    """A peak of the mean profile: position, rms width, height, and where it is its own.

    ``full`` is its full width at half height, overlapping neighbours included.
    ``below`` and ``above`` are how far (px) inwards and outwards the peak can be fitted: less
    on a side where it falls slowly, for another ring overlaps it there.
    """

    radius: float
    width: float
    height: float
    full: float
    below: float
    above: float

    @classmethod
    def from_half_widths(cls, radius: float, height: float, inner: float, outer: float) -> Bump:
        """From the half widths at half height on the two sides."""
        width = max(min(inner, outer, (inner + outer) / 2) / 1.177, 0.7)
        full, part = max(1.4 * width + 1, 3.0), max(0.8 * width, 1.5)
        return cls(
            radius,
            width,
            height,
            inner + outer,
            part if inner > 1.3 * outer else full,
            part if outer > 1.3 * inner else full,
        )


def sector_radii(polar: Polar, bump: Bump) -> tuple[Floats, Floats, Floats]:
    """Azimuth, radius and uncertainty of one ring in every sector where it shows."""
    none = np.zeros(0)
    at = np.arange(polar.value.shape[1]) + 0.5
    window = (at >= bump.radius - bump.below) & (at <= bump.radius + bump.above)
    whole = np.isfinite(polar.value[:, window]).all(1)
    if window.sum() < 5 or not whole.any():
        return none, none, none
    value: Floats = polar.value[whole][:, window]
    sigma: Floats = polar.sigma[whole][:, window]
    fitted, error, height_error = _fit_lines(
        np.asarray(at[window] - bump.radius, dtype=float), value, sigma, bump.width
    )
    height, place = fitted[:, 0], fitted[:, 1]
    shown = (
        (height > 3 * height_error)
        & (error < bump.width)
        & (place > -bump.below + 0.5)
        & (place < bump.above - 0.3)
        & np.isfinite(error)
    )
    radius = bump.radius + place[shown]
    return polar.azimuth[whole][shown], radius, np.hypot(error[shown], 0.03)


def _fit_lines(
    at: Floats, value: Floats, sigma: Floats, width: float
) -> tuple[Floats, Floats, Floats]:
    """Gaussians of the ring's width on constants, fitted to (n, P) lines all at once.

    Returns the (n, 3) height, place and constant, and the uncertainties of place and height,
    enlarged where χ² exceeds one.
    """
    weight = 1 / np.maximum(sigma, 1e-3 * np.ptp(value, axis=1, keepdims=True) + 1e-30) ** 2
    state = np.empty((len(value), 3))
    state[:, 2] = value.min(1)
    state[:, 0] = np.maximum(np.ptp(value, axis=1), 1e-30)
    state[:, 1] = np.clip(at[np.argmax(value, axis=1)], 0.7 * at[0], 0.7 * at[-1])
    damping = np.full(len(value), 1e-2)
    cost, gradient, normal = _line_equations(at, value, weight, state, width)
    for _ in range(20):
        diagonal = np.einsum("nii->ni", normal)
        damped = normal + (damping[:, None] * diagonal + 1e-12)[:, :, None] * np.eye(3)
        trial = state + np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
        trial[:, 0] = np.maximum(trial[:, 0], 0)
        trial[:, 1] = np.clip(trial[:, 1], at[0], at[-1])
        new = _line_equations(at, value, weight, trial, width)
        better = new[0] < cost
        state[better], cost[better] = trial[better], new[0][better]
        gradient[better], normal[better] = new[1][better], new[2][better]
        damping = np.clip(np.where(better, damping / 5, damping * 6), 1e-6, 1e6)
    scale = np.maximum(np.einsum("nii->ni", normal), 1e-30) ** 0.5
    scaled = normal / scale[:, :, None] / scale[:, None, :] + 1e-6 * np.eye(3)
    variance = np.einsum("nii->ni", np.linalg.inv(scaled)) / scale**2
    excess = np.maximum(cost / max(len(at) - 3, 1), 1.0)
    error = np.sqrt(np.maximum(variance, 0) * excess[:, None])
    return state, error[:, 1], error[:, 0]


def _line_equations(
    at: Floats, value: Floats, weight: Floats, state: Floats, width: float
) -> tuple[Floats, Floats, Floats]:
    """χ², its descent direction and Gauss-Newton matrix for each line."""
    height, place, base = (state[:, k : k + 1] for k in range(3))
    off = at - place
    shape = np.exp(-(off**2) / (2 * width**2))
    rest = value - height * shape - base
    jacobian = np.stack([shape, height * shape * off / width**2, np.ones_like(shape)], axis=2)
    weighted = jacobian * weight[:, :, None]
    cost = np.sum(weight * rest**2, axis=1)
    return cost, np.einsum("npk,np->nk", weighted, rest), weighted.transpose(0, 2, 1) @ jacobian


def robust_fit(
    design: Floats, value: Floats, error: Floats, ring: NDArray[np.int64]
) -> tuple[Floats, Floats, float]:
    """Iteratively reweighted least squares (Tukey).

    Each ring's errors are enlarged to the scatter it shows about the common fit: spots on a
    ring, overlap and higher distortions move its sectors by more than noise does.

    Returns
    -------
    solution : (M,), covariance : (M, M), and the robust reduced χ under the first errors.
    """
    error = np.maximum(error, 0.3 * float(np.median(error)))
    solution: Floats = np.zeros(design.shape[1])
    robust: Floats = np.ones_like(value)
    count = int(ring.max()) + 1
    enlarged: Floats = error.copy()
    overall = 1.0
    for _ in range(30):
        weight = robust / enlarged**2
        normal = (design * weight[:, None]).T @ design + 1e-9 * np.eye(design.shape[1])
        updated: Floats = np.asarray(
            np.linalg.solve(normal, (design * weight[:, None]).T @ value), dtype=float
        )
        rest = value - design @ updated
        overall = 1.4826 * float(np.median(np.abs(rest / error)))
        for number in range(count):
            mine = ring == number
            chi = 1.4826 * float(np.median(np.abs(rest[mine] / error[mine])))
            enlarged[mine] = error[mine] * max(chi, 1.0)
        robust = np.clip(1 - (rest / (4.685 * enlarged)) ** 2, 0.0, None) ** 2
        settled = float(np.abs(updated - solution).max()) < 1e-4
        solution = updated
        if settled:
            break
    weight = robust / enlarged**2
    normal = (design * weight[:, None]).T @ design + 1e-9 * np.eye(design.shape[1])
    return solution, np.asarray(np.linalg.inv(normal), dtype=float), overall
