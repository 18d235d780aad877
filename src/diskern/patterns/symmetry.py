"""Where an image's centre of symmetry is: two estimators that need no direct beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from diskern.patterns.levels import Image, estimate_noise

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A centre (row, column) in px, its (2, 2) covariance in px² and a score (higher is surer)."""

    position: Floats
    covariance: Floats
    score: float


def gradient_centre(image: Image, good: NDArray[np.bool_], sigma: float = 2.0) -> Symmetry | None:
    """The point that the brightness gradients of a diffuse background or of rings aim at.

    Each pixel's gradient defines a line; the centre is their robust least-squares meeting
    point (after Parthasarathy, Nat. Methods 9, 724 (2012), doi 10.1038/nmeth.2071, on the
    logarithm of the level so that far rings count as the near ones do).  Works with the
    centre hidden, far off the middle or outside the image.

    Parameters
    ----------
    image : (Q_y, Q_x) levels, best reduced to some 130 px: narrow things are to vanish.
    good : (Q_y, Q_x) pixels that may be used.
    sigma : smoothing in px.
    """
    # Specks that are masked are bridged; only what is masked in one piece has edges to shun.
    sound, good = good, ndimage.binary_closing(np.pad(good, 2, mode="edge"))[2:-2, 2:-2] | good
    near = ndimage.uniform_filter(sound.astype(np.float32), 5)
    filled = ndimage.uniform_filter(np.where(sound, image, 0).astype(np.float32), 5)
    image = np.where(sound, image, filled / np.maximum(near, 1e-3)).astype(np.float32)
    noise = estimate_noise(image, sound)
    # A median first: spots have steep sides that aim at the spots.
    middle = ndimage.median_filter(np.where(good, image, np.median(image[good])), 7)
    weight = ndimage.gaussian_filter(good.astype(np.float32), sigma)
    level = ndimage.gaussian_filter(np.where(good, middle, 0).astype(np.float32), sigma)
    level /= np.maximum(weight, 1e-3)
    inner = ndimage.binary_erosion(good, iterations=int(np.ceil(2 * sigma)) + 2, border_value=0)
    slopes: list[NDArray[np.float32]] = list(np.gradient(level))
    down, across = slopes
    steep: NDArray[np.float32] = np.asarray(np.hypot(down, across))
    # Variance of one component of a Gaussian-smoothed gradient; the rounding of grey levels
    # does not average out where the noise is below it.
    variance = noise.variance(level) / (8 * np.pi * sigma**4)
    if noise.quantum and noise.floor < 0.3:
        variance = variance + (0.1 * noise.quantum / sigma) ** 2
    significance: NDArray[np.float32] = np.asarray(steep**2 / variance, dtype=np.float32)
    rows, cols = np.nonzero(inner & (significance > 16))
    if len(rows) < 30:
        return None
    points = np.stack([rows, cols], 1).astype(float)
    uphill: Floats = np.stack([down[rows, cols], across[rows, cols]], 1).astype(float)
    uphill /= steep[rows, cols][:, None]
    # Pixel noise blurs the direction of a gradient in proportion to noise over steepness; past
    # a tenth of a radian the pattern's own texture blurs it more.
    base = np.minimum(significance[rows, cols].astype(float), 100)
    return _meeting_point(points, uphill, base, _vote(points, uphill, base, image.shape))


def _vote(points: Floats, uphill: Floats, base: Floats, shape: tuple[int, ...]) -> Floats:
    """Coarse centre: the node of a grid over the image that most gradients aim at."""
    step = max(1, len(points) // 800)
    points, uphill, base = points[::step], uphill[::step], base[::step]
    nodes = np.stack(
        np.meshgrid(*(np.linspace(-0.1 * n, 1.1 * n, 33) for n in shape), indexing="ij"), -1
    ).reshape(-1, 2)
    towards = nodes[:, None, :] - points[None, :, :]
    distance = np.maximum(np.linalg.norm(towards, axis=2), 1e-6)
    along = np.einsum("nkd,kd->nk", towards, uphill) / distance
    # Aim within some ten degrees; downhill (the inner side of a ring) counts for less.
    aimed = np.exp(-(1 - np.abs(along)) / 0.02) * np.where(along > 0, 1.0, 0.4)
    return np.asarray(nodes[np.argmax((aimed * base).sum(1))])


def _meeting_point(
    points: Floats, uphill: Floats, base: Floats, position: Floats
) -> Symmetry | None:
    """Robust point nearest to the lines through ``points`` along ``uphill``."""
    normal = uphill[:, ::-1] * [1, -1]
    offset = np.sum(points * normal, 1)
    weight, scale = base / base.sum(), 0.15
    for step in range(30):
        # A line errs by an angle: the further its pixel, the further it may pass.
        distance = np.maximum(np.linalg.norm(points - position, axis=1), 3)
        angle = (normal @ position - offset) / distance
        if step > 3:
            scale = max(1.4826 * float(np.median(np.abs(angle[np.abs(angle) < 0.5]))), 1e-3)
        weight = base / distance / (1 + (angle / scale) ** 2) ** 2
        weight /= weight.sum()
        matrix = (normal * weight[:, None]).T @ normal
        if np.linalg.cond(matrix) > 1e6:
            return None
        updated = np.linalg.solve(matrix, (normal * weight[:, None]).T @ offset)
        moved = float(np.linalg.norm(updated - position))
        position = updated
        if step > 4 and moved < 1e-3:
            break
    residual = normal @ position - offset
    matrix = (normal * weight[:, None]).T @ normal
    # Neighbouring pixels share their smoothing: one in about 40 is independent.
    spread = float(np.sum(weight * residual**2)) * float(np.sum(weight**2)) * 40
    covariance = np.linalg.inv(matrix) * max(spread, 1e-6)
    return Symmetry(position, covariance, float(1 / scale))


def friedel_map(
    image: Image, good: NDArray[np.bool_], least_overlap: float = 0.15
) -> tuple[Floats, Floats]:
    """Masked correlation of an image with itself turned by 180°, for every centre.

    Normalised over the pixels that overlap (Padfield, IEEE Trans. Image Process. 21, 2706
    (2012), doi 10.1109/TIP.2011.2181402): neither masks nor the image's border pull.

    Returns
    -------
    correlation : (2 Q_y - 1, 2 Q_x - 1) in [-1, 1]; element (i, j) is for centre (i/2, j/2).
    overlap : same shape, overlapping good pixels over all good pixels.
    """
    rows, cols = image.shape
    size = (fft.next_fast_len(2 * rows - 1, True), fft.next_fast_len(2 * cols - 1, True))
    mask = good.astype(np.float32)
    mean = float(image[good].mean()) if good.any() else 0.0
    value = np.where(good, image - mean, 0).astype(np.float32)
    f_mask, f_value = fft.rfft2(mask, size), fft.rfft2(value, size)
    f_square = fft.rfft2(value**2, size)

    def inverse(spectrum: NDArray[np.complex64]) -> Floats:
        full = fft.irfft2(spectrum, size)
        return np.asarray(full[: 2 * rows - 1, : 2 * cols - 1], dtype=np.float64)

    count = np.maximum(inverse(f_mask * f_mask), 0)
    total = inverse(f_value * f_mask)
    square = inverse(f_square * f_mask)
    product = inverse(f_value * f_value)
    safe = np.maximum(count, 1)
    # Turned by 180° the image overlaps itself: both partners have the same mean and variance.
    variance = np.maximum(square - total**2 / safe, 1e-9 * max(float(square.max()), 1e-12))
    correlation = (product - total**2 / safe) / variance
    overlap = count / max(float(mask.sum()), 1)
    return np.where(overlap > least_overlap, correlation, -1), overlap
