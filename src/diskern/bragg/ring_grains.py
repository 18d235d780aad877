"""Rings of few grains: spots in many directions at one distance from the centre.

Where grains are few and large, a ring is a row of spots, and close rings run together in the
radial profile.  The distances of the single spots are sharp: more of them at one radius, in
different directions, than their usual density explains make a ring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import poisson

from diskern.patterns.geometry import Centre, Ellipse
from diskern.patterns.polar import polar_coordinates

Floats = NDArray[np.float64]

LEAST_GRAINS = 5
"""Directions in which a ring of grains must show."""
LEAST_SIGNIFICANCE = 2e-3
"""Probability of so many spots by chance at one radius, below which they are a ring."""
BAND = 0.012
"""Half width, over the radius, within which spots are at one distance (shape, distortion)."""
SURROUNDINGS = 0.35
"""Half width, over the radius, of the annulus that tells the usual density of spots."""
LEAST_EXCESS = 5.0
"""Height of a spot over the median at its radius, in standard deviations of the level there."""
DIRECTIONS = 72
"""Spots within one of so many parts of a turn count as one: they may be one grain's."""
INNERMOST = 12.0
"""px; nearer to the centre the direct beam's tails are uneven."""


class GrainRing(NamedTuple):
    """A ring of single spots: radius, its uncertainty, rms width (px), grains."""

    radius: float
    sigma: float
    width: float
    grains: int


def single_spots(
    image: NDArray[Any], good: NDArray[np.bool_], centre: Centre, ellipse: Ellipse
) -> tuple[Floats, Floats]:
    """Radius (px) and azimuth (rad) of the maxima far above others at their radius.

    The median over a circle is the background, and the median deviation its noise.
    """
    share = ndimage.gaussian_filter(good.astype(float), 0.8)
    smooth = ndimage.gaussian_filter(np.where(good, image, 0.0).astype(float), 0.8)
    smooth /= np.maximum(share, 0.05)
    radius, azimuth = polar_coordinates(image.shape, centre, ellipse)
    ring, whole = radius.astype(np.int64), share > 0.95
    off = smooth - np.interp(radius, *_medians(ring[whole], smooth[whole]))
    spread = np.interp(radius, *_medians(ring[whole], np.abs(off[whole])))
    top = whole & (off == ndimage.maximum_filter(off, size=5))
    top &= (off > LEAST_EXCESS * 1.4826 * spread) & (radius > INNERMOST)
    return radius[top], azimuth[top]


def _medians(ring: NDArray[np.int64], value: Floats) -> tuple[Floats, Floats]:
    """Radii (px) of the circles that are seen, and the median over each."""
    order = np.lexsort((value, ring))
    names, start, count = np.unique(ring[order], return_index=True, return_counts=True)
    middle = np.asarray(value[order][start + count // 2], dtype=np.float64)
    return np.asarray(names + 0.5, dtype=np.float64), middle


def grain_rings(
    image: NDArray[Any],
    good: NDArray[np.bool_],
    centre: Centre,
    ellipse: Ellipse,
    taken: Floats,
) -> list[GrainRing]:
    """Rings of grains away from the rings ``taken`` (radii in px), most evident first."""
    radius, azimuth = single_spots(image, good, centre, ellipse)
    direction = (azimuth / (2 * np.pi) * DIRECTIONS).astype(np.int64)
    found: list[GrainRing] = []
    free = np.ones(len(radius), dtype=np.bool_)
    while free.sum() >= LEAST_GRAINS:
        trial = radius[free]
        near = free & (np.abs(radius - trial[:, None]) < _band(trial)[:, None])
        count = np.array([len(np.unique(direction[row])) for row in near])
        chance: Floats = np.asarray(poisson.sf(count - 1, _expected(trial, radius[free])))
        chance[(count < LEAST_GRAINS) | (chance > LEAST_SIGNIFICANCE)] = 1.0
        best = int(np.argmin(chance))
        if chance[best] >= 1.0:
            break
        members = near[best]
        middle = float(np.median(radius[members]))
        free &= np.abs(radius - middle) > 1.6 * _band(middle)
        if np.abs(taken - middle).min(initial=np.inf) > 1.6 * _band(middle):
            scatter = max(float(radius[members].std()), 0.7)
            error = scatter / np.sqrt(count[best])
            found.append(GrainRing(middle, error, scatter, int(count[best])))
    return found


def _band(radius: Floats | float) -> Floats:
    return np.asarray(np.maximum(BAND * np.asarray(radius), 1.2))


def _expected(trial: Floats, radius: Floats) -> Floats:
    """Spots expected by chance within the band, from their density beside it."""
    away = np.abs(radius - trial[:, None])
    band, reach = _band(trial), SURROUNDINGS * trial
    beside = ((away < reach[:, None]) & (away > band[:, None])).sum(1)
    return np.asarray((beside + 1) * band / (reach - band))
