"""Least-squares refinement of many peaks at once, neighbours included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.patterns.levels import Noise

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Image = NDArray[np.float32]

POSITION_FLOOR = 0.02
"""Least standard uncertainty of a position in px: pixel response and spot shape are not known."""
SETTLED = 1e-3
"""Gain in χ² below which a fit rests: a thirtieth of a standard deviation."""
HOPELESS = 1e3
"""Damping at which no step is worth another try."""


@dataclass(frozen=True, eq=False)
class Peaks:
    """Round Gaussian peaks.

    Attributes
    ----------
    position : (N, 2) row and column in px.
    width : (N,) rms radius (of one coordinate) in px.
    height : (N,) above the background.
    sigma : (N, 2) uncertainty of the position, sigma_flux : (N,) that of 2π width² height;
        None before a fit.
    """

    position: Floats
    width: Floats
    height: Floats
    sigma: Floats | None = None
    sigma_flux: Floats | None = None


def fit_peaks(
    rest: Image, good: Bools, background: Image, noise: Noise, start: Peaks, rounds: int = 3
) -> Peaks:
    """Refine peaks on an image whose background is taken out.

    Every peak has its own window, a constant of its own for what the background missed, and in
    later rounds the other peaks' models subtracted.  All windows of a like size are solved
    together (Levenberg-Marquardt on position, width, height, constant).  Uncertainties are
    those of the fit, enlarged where it does not describe the spot (χ² > 1).

    Parameters
    ----------
    rest : (Q_y, Q_x) image less background.
    good : (Q_y, Q_x) usable pixels.
    background : (Q_y, Q_x) what was taken out.
    noise : of the image; a pixel's variance is that at background plus model, for weights from
        the counts themselves would pull the intensity down.
    start : first guess.
    """
    count = len(start.width)
    sigma = np.full((count, 2), np.inf)
    sigma_flux = np.full(count, np.inf)
    state = np.column_stack([start.position, start.width, start.height, np.zeros(count)])
    size = np.ceil(2.6 * start.width + 1).astype(int)
    for number in range(rounds):
        total = _render(rest.shape, state) if number else np.maximum(rest, 0)
        variance = noise.variance(background + total)
        before = state.copy()
        for reach in np.unique(size):
            group = np.nonzero(size == reach)[0]
            for part in np.array_split(group, max(1, len(group) * (2 * reach + 1) ** 2 // 400_000)):
                window = _cut(rest, good, variance, total, before[part], int(reach), number > 0)
                fitted, error, flux_error = _solve(window, before[part], start.position[part])
                state[part], sigma[part], sigma_flux[part] = fitted, error, flux_error
    sigma = np.hypot(sigma, POSITION_FLOOR)
    return Peaks(state[:, :2], state[:, 2], state[:, 3], sigma, sigma_flux)


@dataclass(frozen=True, eq=False)
class _Windows:
    """(n, P) values, inverse variances (0 where masked) and coordinates of n windows."""

    value: Floats
    weight: Floats
    row: Floats
    col: Floats

    def select(self, keep: NDArray[np.int64]) -> _Windows:
        """Some of them; all as they are."""
        if len(keep) == len(self.value):
            return self
        return _Windows(self.value[keep], self.weight[keep], self.row[keep], self.col[keep])


def _cut(
    rest: Image, good: Bools, variance: Image, total: Image, state: Floats, reach: int, others: bool
) -> _Windows:
    offset = np.arange(-reach, reach + 1)
    middle = np.round(state[:, :2]).astype(int)
    row = middle[:, 0, None, None] + offset[None, :, None] + 0 * offset[None, None, :]
    col = middle[:, 1, None, None] + offset[None, None, :] + 0 * offset[None, :, None]
    row, col = row.reshape(len(state), -1), col.reshape(len(state), -1)
    inside = (row >= 0) & (row < rest.shape[0]) & (col >= 0) & (col < rest.shape[1])
    y, x = np.clip(row, 0, rest.shape[0] - 1), np.clip(col, 0, rest.shape[1] - 1)
    value = rest[y, x].astype(float)
    if others:
        value -= total[y, x] - _gauss(state, row, col)
    # A window is a disk: its corners mostly hold neighbours.
    near = (row - state[:, :1]) ** 2 + (col - state[:, 1:2]) ** 2 <= (reach + 0.5) ** 2
    weight = np.where(inside & good[y, x] & near, 1 / np.maximum(variance[y, x], 1e-12), 0.0)
    return _Windows(value, weight, row.astype(float), col.astype(float))


def _gauss(state: Floats, row: NDArray[Any], col: NDArray[Any]) -> Floats:
    """(n, P) peak models without their constants."""
    square = (row - state[:, :1]) ** 2 + (col - state[:, 1:2]) ** 2
    return np.asarray(state[:, 3:4] * np.exp(-square / (2 * state[:, 2:3] ** 2)))


def _render(shape: tuple[int, ...], state: Floats) -> Image:
    """Sum of all peaks, each drawn out to four widths."""
    image = np.zeros(shape, dtype=np.float32)
    reach = np.ceil(4 * state[:, 2]).astype(int)
    for size in np.unique(reach):
        part = state[reach == size]
        offset = np.arange(-size, size + 1)
        middle = np.round(part[:, :2]).astype(int)
        row = (middle[:, 0, None, None] + offset[None, :, None] + 0 * offset).reshape(len(part), -1)
        col = (middle[:, 1, None, None] + offset[None, None, :] + 0 * offset[:, None]).reshape(
            len(part), -1
        )
        inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        value = _gauss(part, row, col)
        np.add.at(image, (row[inside], col[inside]), value[inside].astype(np.float32))
    return image


def _solve(
    window: _Windows, state: Floats, start: Floats, steps: int = 12
) -> tuple[Floats, Floats, Floats]:
    """Levenberg-Marquardt on all windows together; returns state, position and flux errors."""
    state = state.copy()
    first_width = state[:, 2].copy()
    leash = np.maximum(first_width, 1.0)[:, None]
    low, high = start - 1.5 * leash, start + 1.5 * leash
    narrow, wide = np.maximum(0.45, 0.4 * first_width), 2.2 * first_width
    damping = np.full(len(state), 1e-2)
    cost, gradient, normal = _equations(window, state)
    moving = np.arange(len(state))
    for _ in range(steps):
        diagonal = np.einsum("nii->ni", normal[moving])
        damped = normal[moving] + (damping[:, None] * diagonal + 1e-12)[:, :, None] * np.eye(5)
        trial = state[moving] + np.linalg.solve(damped, gradient[moving][:, :, None])[:, :, 0]
        trial[:, :2] = np.clip(trial[:, :2], low[moving], high[moving])
        trial[:, 2] = np.clip(trial[:, 2], narrow[moving], wide[moving])
        new_cost, new_gradient, new_normal = _equations(window.select(moving), trial)
        gain = cost[moving] - new_cost
        better = gain > 0
        kept = moving[better]
        state[kept], cost[kept] = trial[better], new_cost[better]
        gradient[kept], normal[kept] = new_gradient[better], new_normal[better]
        damping = np.clip(np.where(better, damping / 5, damping * 6), 1e-6, 1e6)
        going = (gain > SETTLED) | (~better & (damping < HOPELESS))
        moving, damping = moving[going], damping[going]
        if not len(moving):
            break
    used = (window.weight > 0).sum(1)
    chi = np.sqrt(np.maximum(cost / np.maximum(used - 5, 1), 1.0))
    scale = np.maximum(np.einsum("nii->ni", normal), 1e-30) ** 0.5
    scaled = normal / scale[:, :, None] / scale[:, None, :] + 1e-9 * np.eye(5)
    covariance = np.linalg.inv(scaled) / scale[:, :, None] / scale[:, None, :]
    error = np.sqrt(np.maximum(np.einsum("nii->ni", covariance), 0)) * chi[:, None]
    # Flux is 2π width² height.
    slope = np.zeros((len(state), 5))
    slope[:, 2] = 4 * np.pi * state[:, 2] * state[:, 3]
    slope[:, 3] = 2 * np.pi * state[:, 2] ** 2
    flux = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", slope, covariance, slope), 0)) * chi
    sound = used > 12
    return state, np.where(sound[:, None], error[:, :2], np.inf), np.where(sound, flux, np.inf)


def _equations(window: _Windows, state: Floats) -> tuple[Floats, Floats, Floats]:
    """χ², its descent direction and Gauss-Newton matrix for each window."""
    down, across = window.row - state[:, :1], window.col - state[:, 1:2]
    width, height = state[:, 2:3], state[:, 3:4]
    square = down**2 + across**2
    shape = np.exp(-square / (2 * width**2))
    model = height * shape
    residual = window.value - model - state[:, 4:5]
    jacobian = np.empty((len(state), 5, shape.shape[1]))
    np.multiply(model, down / width**2, out=jacobian[:, 0])
    np.multiply(model, across / width**2, out=jacobian[:, 1])
    np.multiply(model, square / width**3, out=jacobian[:, 2])
    jacobian[:, 3], jacobian[:, 4] = shape, 1.0
    weighted = jacobian * window.weight[:, None, :]
    cost = np.einsum("np,np,np->n", window.weight, residual, residual)
    gradient = (weighted @ residual[:, :, None])[:, :, 0]
    normal = weighted @ np.swapaxes(jacobian, 1, 2)
    return cost, gradient, normal
