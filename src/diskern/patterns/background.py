"""The smooth part of a pattern: diffuse scattering and the foot of the direct beam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.patterns.geometry import Centre, Ellipse
from diskern.patterns.masks import as_float, usable
from diskern.patterns.polar import fill_gaps, group_quantiles, polar_coordinates

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

SAMPLE = 300_000
"""Statistics are taken over at most about this many pixels."""
SPARSE = 0.25
"""Share of pixels without any electron from which on a median says too little of their mean."""
FEW, WIDTH = 3.0, 3.0
"""Electrons a pixel up to which local means take the place of counts, and the rms radius in px of
the Gaussian they are taken with."""


def radial_background(
    image: NDArray[Any], centre: Centre, flaws: NDArray[np.uint16]
) -> NDArray[np.float32]:
    """Smooth background that leaves spots and rings in the image.

    In two steps: the median over rings about the centre, its own bumps (rings) clipped; then
    what that leaves in patches of a sixteenth of the image, by a low quantile, for backgrounds
    that are not round (strong Bragg beams have haloes of their own).

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels or counts.
    centre : of the pattern.
    flaws : (Q_y, Q_x) bits of `Flaw`.

    Returns
    -------
    background : (Q_y, Q_x) float32 in the image's own units.
    """
    array, good = as_float(image, flaws), usable(flaws)
    if good.sum() < 50:
        return np.full(array.shape, np.median(array), dtype=np.float32)
    array = _steady(array, good)
    radius, _ = polar_coordinates(array.shape, centre)
    round_part = _round_background(array, good, radius)
    rest = array - round_part
    # The disk of a beam far beyond saturation is no background of what lies beside it.
    correction = _patchy(rest, good & (radius > 1.3 * centre.radius + 2))
    # Within a few pixels of the beam patches are too coarse to say anything.
    trust = np.clip(radius / (0.06 * min(array.shape)), 0, 1)
    return np.asarray(round_part + correction * trust, dtype=np.float32)


def with_rings(
    background: NDArray[np.float32],
    image: NDArray[Any],
    centre: Centre,
    flaws: NDArray[np.uint16],
    ellipse: Ellipse | None = None,
) -> NDArray[np.float32]:
    """The background and the rings and haloes on it: what is the same all round.

    The median of the remainder on each ring one pixel wide; spots do not enter it.  Where
    spots are sought, this is what they must stand above.

    Returns
    -------
    background : (Q_y, Q_x) float32, nowhere below the one given.
    """
    array, good = as_float(image, flaws), usable(flaws)
    if good.sum() < 50:
        return background
    array = _steady(array, good)
    radius, _ = polar_coordinates(array.shape, centre, ellipse)
    at = _thin(good, radius)
    ring = np.minimum(radius[at], 10_000).astype(np.int64)
    size = int(min(float(radius.max()), 10_000)) + 2
    middle, count = group_quantiles((array - background)[at], ring, size, (0.5,))
    share = len(at[0]) / good.sum()
    enough = count > np.maximum(0.2 * share * 2 * np.pi * (np.arange(size) + 0.5), 8)
    line = np.where(enough, np.maximum(middle[0], 0), 0.0)
    line = ndimage.gaussian_filter1d(line, 0.7)
    drawn = np.interp(radius, np.arange(size) + 0.5, line)
    return np.asarray(background + drawn, dtype=np.float32)


def _steady(array: NDArray[np.float32], good: Bools) -> NDArray[np.float32]:
    """The image, with local means where electrons are so few that most pixels have none.

    The median of such counts is zero however many they are, and noise of what is there would
    pass for spots.
    """
    values = array[good]
    least = float(values.min())
    some = values[values > least]
    if len(some) > (1 - SPARSE) * len(values) or len(some) == 0:
        return array
    one = float(np.median(some)) - least
    weight = ndimage.gaussian_filter(good.astype(np.float32), WIDTH)
    # Spots are cut so that little of them reaches their neighbourhood.
    cut = np.where(good, np.minimum(array - least, 3 * FEW * one), 0)
    mean = ndimage.gaussian_filter(cut, WIDTH) / np.maximum(weight, 1e-3)
    return np.where(good & (mean < FEW * one), mean + least, array).astype(np.float32)


def _thin(good: Bools, radius: NDArray[np.float32]) -> tuple[NDArray[np.int64], ...]:
    """Indices of good pixels, all of them near the centre and a fair sample far out."""
    step = int(np.ceil(np.sqrt(good.sum() / SAMPLE)))
    if step <= 1:
        return np.nonzero(good)
    keep = np.zeros(good.shape, dtype=bool)
    keep[::step, ::step] = True
    keep |= radius < 40
    return np.nonzero(good & keep)


def _round_background(image: NDArray[np.float32], good: Bools, radius: Any) -> Any:
    """Median profile with its bumps clipped, evaluated at every pixel."""
    at = _thin(good, radius)
    rings = np.minimum(radius[at], 10_000).astype(np.int64)
    size = int(min(float(radius.max()), 10_000)) + 2
    middle, count = group_quantiles(image[at], rings, size, (0.48,))
    profile = middle[0]
    profile[count < 4] = np.nan
    profile = fill_gaps(profile)
    clipped = clip_bumps(profile)
    return np.interp(radius, np.arange(size) + 0.5, clipped).astype(np.float32)


def clip_bumps(profile: Floats) -> Floats:
    """Lower envelope of a radial profile: bumps narrower than a third of their radius go.

    Each value is bounded by the mean of its two neighbours at a growing distance, on a scale
    that flattens a steep fall (SNIP; Ryan et al., Nucl. Instrum. Methods B 34, 396 (1988)).

    Parameters
    ----------
    profile : (R,) one value per px of radius, from the centre outwards.
    """
    low = float(profile.min())
    span = max(float(np.ptp(profile)), 1e-12)
    offset = 1e-3 * span
    value = np.log(profile - low + offset)
    value = ndimage.gaussian_filter1d(value, 1.0, mode="nearest")
    where = np.arange(len(value))
    widest = max(6, len(value) // 8)
    for width in range(widest, 0, -max(1, widest // 24)):
        # At radius r no more than r/4 on either side: nearer in the beam's foot is too curved.
        reach = np.minimum(width, where // 4)
        right = value[np.minimum(where + reach, len(value) - 1)]
        value = np.where(reach > 0, np.minimum(value, (value[where - reach] + right) / 2), value)
    smooth = ndimage.gaussian_filter1d(value, 2.0, mode="nearest")
    value = np.where(where > 12, smooth, value)
    return np.asarray(np.exp(value) + low - offset)


def _patchy(rest: NDArray[np.float32], good: Bools) -> NDArray[np.float32]:
    """Low quantile of the remainder in overlapping patches, smoothly interpolated."""
    rows, cols = rest.shape
    patch = max(8, min(rows, cols) // 16)
    step = max(1, patch // 24)
    value, valid = rest[::step, ::step], good[::step, ::step]
    y, x = np.indices(value.shape) * step // patch
    count = (int(y.max()) + 1, int(x.max()) + 1)
    group = (y * count[1] + x)[valid]
    quantile, size = group_quantiles(value[valid], group, count[0] * count[1], (0.46,))
    grid = np.where(size > 0.2 * (patch / step) ** 2, quantile[0], np.nan).reshape(count)
    known = np.isfinite(grid)
    if not known.any():
        return np.zeros(rest.shape, dtype=np.float32)
    weight = ndimage.gaussian_filter(known.astype(float), 0.7)
    smooth = ndimage.gaussian_filter(np.where(known, grid, 0), 0.7) / np.maximum(weight, 1e-3)
    smooth[weight < 0.05] = 0
    at_y = (np.arange(rows) + 0.5) / patch - 0.5
    at_x = (np.arange(cols) + 0.5) / patch - 0.5
    return _bilinear(smooth, at_y, at_x)


def _bilinear(grid: Floats, at_y: Floats, at_x: Floats) -> NDArray[np.float32]:
    """Interpolate a grid at the outer product of row and column positions."""

    def matrix(at: Floats, size: int) -> Floats:
        bounded = np.clip(at, 0, size - 1)
        below = np.minimum(bounded.astype(int), max(size - 2, 0))
        part = bounded - below
        result = np.zeros((len(at), size))
        result[np.arange(len(at)), below] = 1 - part
        result[np.arange(len(at)), np.minimum(below + 1, size - 1)] += part
        return result

    return np.asarray(
        matrix(at_y, grid.shape[0]) @ grid @ matrix(at_x, grid.shape[1]).T, dtype=np.float32
    )


def radial_profile(
    image: NDArray[Any],
    centre: Centre,
    flaws: NDArray[np.uint16],
    ellipse: Ellipse | None = None,
    spots: bool = True,
) -> tuple[Floats, Floats]:
    """Mean over rings one pixel wide, spots bounded, and its standard uncertainty.

    Values above the third quartile by more than three interquartile ranges count as that
    bound: a spotty ring keeps its height, one bright spot does not make a ring.  Without
    ``spots`` it is the median: only what is there all round.

    Returns
    -------
    profile, sigma : (R,) at radii 0.5, 1.5, … px; NaN where under 15 % of the ring is seen.
    """
    array, good = as_float(image, flaws), usable(flaws)
    radius, _ = polar_coordinates(array.shape, centre, ellipse)
    values, rings = array[good], radius[good].astype(np.int64)
    size = int(rings.max()) + 1 if len(rings) else 1
    quartile, count = group_quantiles(values, rings, size, (0.25, 0.5, 0.75))
    bound = quartile[2] + 3 * (quartile[2] - quartile[0])
    held = np.minimum(values, bound[rings])
    safe = np.maximum(count, 1)
    mean = np.bincount(rings, held, size) / safe
    square = np.bincount(rings, (held - mean[rings]) ** 2, size) / safe
    seen = count > 0.15 * 2 * np.pi * (np.arange(size) + 0.5)
    profile = np.where(seen, mean if spots else quartile[1], np.nan)
    sigma = np.where(seen, np.sqrt(square / safe), np.nan)
    return profile, sigma
