"""Grey levels: which way up an image is, and how noisy it is at each level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def quantum(image: NDArray[Any]) -> float:
    """Step between the grey levels of an image of whole numbers, else 0.

    Video frames and JPEGs are so smooth that the rounding of the grey level, not shot noise,
    sets what can be told apart; counts have a step of one as well.
    """
    sample = image[:: max(1, image.shape[0] // 200), :: max(1, image.shape[1] // 200)]
    sample = sample[np.isfinite(sample)]
    return 1.0 if sample.size and bool(np.all(sample == np.round(sample))) else 0.0


def upright(image: NDArray[Any]) -> tuple[Image, bool]:
    """The image with electrons bright, and whether it had to be inverted.

    Electrons fall on a small part of a diffraction pattern: its histogram has a long tail
    towards "many".  Printed negatives have it towards dark.  Burnt-in white labels and hot
    pixels are a tail too, but of fewer than 1 in 200 pixels, so the tails are read at the
    half-percent points.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels or counts; NaN where missing.

    Returns
    -------
    image : (Q_y, Q_x) float32; where inverted, ``max - image``.
    inverted : bool.
    """
    array = np.array(image, dtype=np.float32)
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return array, False
    low, bottom, middle, top, high = np.percentile(finite, [0.5, 10, 50, 90, 99.5])
    inverted = bool(
        (middle - low) > 2.0 * (high - middle) and (middle - bottom) > 1.2 * (top - middle)
    )
    return (finite.max() - array if inverted else array), inverted


def block_mean(image: Image, good: NDArray[np.bool_], factor: int) -> tuple[Image, Image]:
    """Means of factor × factor blocks over good pixels, and the good fraction of each block.

    Rows and columns left over at the far edges are dropped.  Blocks without a good pixel are 0.
    """
    if factor == 1:
        return np.where(good, image, 0).astype(np.float32), good.astype(np.float32)
    rows, cols = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    split = (rows // factor, factor, cols // factor, factor)
    use = good[:rows, :cols]
    count = use.reshape(split).sum((1, 3), dtype=np.float32)
    total = np.where(use, image[:rows, :cols], 0).reshape(split).sum((1, 3), dtype=np.float64)
    mean = total / np.maximum(count, 1)
    return mean.astype(np.float32), count / np.float32(factor * factor)


@dataclass(frozen=True)
class Noise:
    """Variance of one pixel at a level: ``floor + gain * max(level - zero, 0)``.

    Attributes
    ----------
    gain : grey levels per detected electron (times the detector's excess noise); 1 for counts.
    floor : variance at the dark level (read-out, rounding).
    zero : the dark level.
    quantum : step between grey levels, 0 where they are continuous.
    """

    gain: float
    floor: float
    zero: float
    quantum: float = 0.0

    def variance(self, level: NDArray[Any]) -> NDArray[Any]:
        """Variance of a pixel whose expectation is ``level``; same shape."""
        value = self.floor + self.gain * np.maximum(level - self.zero, 0)
        return np.asarray(value, dtype=np.float32)


def estimate_noise(image: Image, good: NDArray[np.bool_]) -> Noise:
    """Fit `Noise` to an image that also holds spots, rings and edges.

    The variance of each small block is taken from the differences of nearby pixels,
    which a smooth background hardly enters; over blocks of like level its median shuns the
    few blocks with spots.

    Parameters
    ----------
    image : (Q_y, Q_x) float32.
    good : (Q_y, Q_x) pixels that may be used.
    """
    step = quantum(image)
    size = 16 if min(image.shape) >= 200 else 8
    clean = np.where(good, image, 0)
    # Two pixels apart: enlarged pictures hold every pixel twice, detectors share charge.
    across = clean[2:, 2:] - clean[2:, :-2] - clean[:-2, 2:] + clean[:-2, :-2]
    usable = good[2:, 2:] & good[2:, :-2] & good[:-2, 2:] & good[:-2, :-2]
    level, share = block_mean(clean[2:, 2:].astype(np.float32), usable, size)
    variance, _ = block_mean((across**2 / 4).astype(np.float32), usable, size)
    full = share > 0.6
    floor_of_rounding = step**2 / 12
    if full.sum() < 4:
        return Noise(0.0, max(float(np.nanvar(clean)), floor_of_rounding, 1e-12), 0.0, step)
    level, variance = level[full].astype(float), variance[full].astype(float)
    order = np.argsort(level)
    groups = np.array_split(order, max(1, min(24, len(order) // 6)))
    x = np.array([np.median(level[g]) for g in groups])
    y = np.array([np.median(variance[g]) for g in groups])
    # A block's own variance has a skewed spread where counts are few; its median is then low.
    y = np.maximum(y, floor_of_rounding)
    zero = float(np.percentile(level, 0.5))
    floor, gain = _line(x - zero, y)
    return Noise(gain, max(floor, floor_of_rounding, 1e-9 * max(float(y.max()), 1e-12)), zero, step)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Non-negative intercept and slope of y(x), each y known to the same relative error."""
    if not y.max() > 0:
        return 0.0, 0.0
    weight = 1 / np.maximum(y, 1e-9 * max(y.max(), 1e-300))
    for _ in range(5):
        design = np.stack([np.ones_like(x), x], 1) * weight[:, None]
        (a, b), *_ = np.linalg.lstsq(design, y * weight, rcond=None)
        if b < 0:
            return float(np.median(y)), 0.0
        if a < 0:
            a, b = 0.0, float(np.sum(x * y * weight**2) / max(np.sum((x * weight) ** 2), 1e-300))
        model = np.maximum(a + b * x, 1e-9 * max(y.max(), 1e-300))
        # Structure only ever adds variance: points far above the line count for less.
        weight = 1 / model / (1 + np.maximum(y / model - 1, 0) ** 2)
    return float(a), float(b)
