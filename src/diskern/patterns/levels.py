"""Grey levels: which way up an image is, and how noisy it is at each level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.patterns.compression import compression_variance

Image = NDArray[np.float32]

BLOCKS = 128
"""Blocks along an image's smaller side, of which its polarity is told."""
NEAR, FAR = 0.2, 0.35
"""Distances from the middle, over the smaller side, within and beyond which levels are compared."""
DARKER, HARDLY_DARKER = 0.27, 0.1
"""Part of the range of most levels by which the middle of a negative is darker: of any, and of one
whose tail towards dark is much the longer."""
LOPSIDED = 4.5
"""Times the tail towards bright that such a tail is long."""
EMPTY = 0.02
"""Part of the range of levels over which a frame is blank."""
FEW, MOST_SPREAD = 4.0, 12.0
"""Electrons a pixel below which their light's spread is told, and the most that it can be."""
LEAST_FRAME, MOST_FRAME = 0.005, 0.4
"""Part of the image that a frame covers; what is larger is a background."""


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

    Electrons fall on a small part of a diffraction pattern, and most of them near its middle: the
    histogram has its long tail towards "many", and the background falls outwards.  Printed
    negatives have both the other way round, and only what has both is turned.  Means of small
    blocks are looked at, for the noise of pixels has two tails, and not what lies beyond the edge
    of the film or the detector.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels or counts; NaN where missing.

    Returns
    -------
    image : (Q_y, Q_x) float32; where inverted, ``max - image``.
    inverted : bool.
    """
    array = np.array(image, dtype=np.float32)
    finite = np.isfinite(array)
    if not finite.any():
        return array, False
    level, share = block_mean(array, finite, max(1, min(array.shape) // BLOCKS))
    inside = (share > 0.5) & ~_beyond_the_edge(level)
    if inside.sum() < 0.1 * inside.size:
        inside = share > 0
    inverted = _is_negative(level, inside)
    return (array[finite].max() - array if inverted else array), inverted


def _is_negative(level: Image, inside: NDArray[np.bool_]) -> bool:
    """Whether spots and the middle of an image are darker than the rest."""
    # Lines of bad pixels and what noise is left in the blocks are as dark as a negative's spots.
    level = ndimage.median_filter(level, 3)
    low, bottom, middle, top, high = np.percentile(level[inside], [0.5, 10, 50, 90, 99.5])
    if not middle - low > high - middle:
        return False
    rows, cols = (np.arange(n) - (n - 1) / 2 for n in level.shape)
    away = np.hypot(rows[:, None], cols) / min(level.shape)
    near, far = level[inside & (away < NEAR)], level[inside & (away > FAR)]
    if not (near.size and far.size):
        return False
    least = HARDLY_DARKER if middle - low > LOPSIDED * (high - middle) else DARKER
    return bool(np.median(far) - np.median(near) > least * (top - bottom))


def _beyond_the_edge(level: Image) -> NDArray[np.bool_]:
    """Where large dark or bright parts without anything on them reach the image's border."""
    span = EMPTY * float(np.ptp(level))
    out = np.zeros(level.shape, dtype=bool)
    for blank in (level <= level.min() + span, level >= level.max() - span):
        labels, count = ndimage.label(blank)
        area = np.bincount(labels.ravel(), minlength=count + 1)
        at_border = np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]]
        frame = np.zeros(count + 1, dtype=bool)
        frame[at_border] = True
        frame[0] = False
        frame &= (area > LEAST_FRAME * level.size) & (area < MOST_FRAME * level.size)
        out |= frame[labels]
    # The blocks on the very edge are half of each.
    return np.asarray(ndimage.binary_dilation(out, iterations=2) if out.any() else out)


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
    spread : times ``gain`` that an electron counts where several pixels share its light; told
        where electrons are few, and single ones would pass for spots.
    """

    gain: float
    floor: float
    zero: float
    quantum: float = 0.0
    spread: float = 1.0

    def variance(self, level: NDArray[Any]) -> NDArray[Any]:
        """Variance of a pixel whose expectation is ``level``; same shape."""
        value = self.floor + self.gain * np.maximum(level - self.zero, 0)
        return np.asarray(value, dtype=np.float32)


def estimate_noise(image: Image, good: NDArray[np.bool_]) -> Noise:
    """Fit `Noise` to an image that also holds spots, rings and edges.

    The variance of each small block is taken from the differences of nearby pixels,
    which a smooth background hardly enters; over blocks of like level its median shuns the
    few blocks with spots.  Compressed images have no noise in most blocks, and a coefficient too
    many in others: `compression_variance` is the least there.

    Parameters
    ----------
    image : (Q_y, Q_x) float32.
    good : (Q_y, Q_x) pixels that may be used.
    """
    step = quantum(image)
    size = 16 if min(image.shape) >= 200 else 8
    clean = np.where(good, image, 0)
    # Two pixels apart: enlarged pictures hold every pixel twice, detectors share charge.
    square, usable = _differences(clean, good, 2)
    level, share = block_mean(clean[2:, 2:].astype(np.float32), usable, size)
    variance, _ = block_mean(square, usable, size)
    # Blocks that hold one value from end to end lie beyond the detector, or received nothing.
    full = (share > 0.6) & (variance > 0)
    floor_of_rounding = max(step**2 / 12, compression_variance(clean) if step else 0.0)
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
    # A slope that adds nothing at any level is rounding's; its inverse square would overflow.
    gain = gain if gain * float(np.ptp(x)) > 1e-6 * float(y.max()) else 0.0
    floor = max(floor, floor_of_rounding, 1e-9 * max(float(y.max()), 1e-12))
    counted = 0 < gain < 2 * step
    few = not counted and float(np.median(level)) - zero < FEW * gain
    return Noise(gain, floor, zero, step, _spread(clean, good) if few else 1.0)


def _spread(image: Image, good: NDArray[np.bool_]) -> float:
    """Noise of means over 4 × 4 pixels, over what that of single pixels would make of them.

    In the darker half of the image, where least structure adds to it.
    """
    coarse, whole = block_mean(image, good, 4)
    level, _ = block_mean(image, good, 16)
    pixels, _ = block_mean(*_differences(image, good, 2), 16)
    means, share = block_mean(*_differences(coarse, whole > 0.9, 1), 4)
    rows, cols = (min(n) for n in zip(pixels.shape, means.shape, strict=True))
    level, pixels, means, share = (x[:rows, :cols] for x in (level, pixels, means, share))
    known = (pixels > 0) & (share > 0.5)
    # Blank blocks tell nothing; where most are, the others hold spots.
    if known.sum() < max(8, 0.5 * (share > 0.5).sum()):
        return 1.0
    known &= level <= np.median(level[known])
    return float(np.clip(16 * np.median(means[known] / pixels[known]), 1.0, MOST_SPREAD))


def _differences(
    image: Image, good: NDArray[np.bool_], apart: int
) -> tuple[Image, NDArray[np.bool_]]:
    """Variance of pixels, from second differences of such as lie apart, and which are known."""
    n = apart
    across = image[n:, n:] - image[n:, :-n] - image[:-n, n:] + image[:-n, :-n]
    known = good[n:, n:] & good[n:, :-n] & good[:-n, n:] & good[:-n, :-n]
    return (across**2 / 4).astype(np.float32), known


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
