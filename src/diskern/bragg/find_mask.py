"""Pixels of a scan's detector that cannot be used, from a sample of its patterns.

A scan shows each pixel many times, which tells more than one image does: a hot pixel is bright in
nearly every pattern, a dead one dark where all its neighbours see electrons, and an area behind a
beam stop never sees any.  A beam stop with glare on it is not found: it differs too little from the
gaps between disks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.patterns.levels import estimate_noise
from diskern.patterns.pixels import PEAKEDNESS, find_bad_pixels

Bools = NDArray[np.bool_]
Image = NDArray[np.float32]

_SIGNIFICANT = 6.0
"""Standard deviations of the mean over the sample; one pixel of 10⁹ by chance."""
_LINE_SIGNIFICANT = 3.0
_WHOLE = 0.8
"""Share of its pixels by which a row differs before it is a bad one."""
_REACH = 5
"""Rows away from the next sound ones: the gap between detector chips is up to four wide."""
_FEW = 8
"""Patterns below which a sample says no more than one image."""
_LIT = 0.9
"""Share of pixels that must see electrons before dark areas count as shadows: without a
background between the disks, what lies there is dark for want of electrons."""
_AREA = 4
"""Silent pixels in one piece from which they are an area, not single pixels."""
_PIECES = 4
"""A beam stop is one piece, the cross between chips one or two."""
_NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)


def find_mask(sample: Image) -> Bools:
    """(Q_y, Q_x) True where a pixel may be used.

    Parameters
    ----------
    sample : (B, Q_y, Q_x) finite patterns from all over the scan; the more, the surer.
    """
    mean = sample.mean(axis=0)
    everything = np.ones(mean.shape, dtype=bool)
    if float(np.ptp(mean)) == 0 or min(mean.shape) < 16:
        return everything
    if len(sample) < _FEW:
        return np.asarray(find_bad_pixels(mean, everything, estimate_noise(mean, everything)) == 0)
    noise = sample.std(axis=0) / np.sqrt(len(sample))
    silent = sample.max(axis=0) == sample.min(axis=0)
    lines = _lines(mean, noise)[:, None] | _lines(mean.T, noise.T)
    good = ~(lines | _hot(sample, noise) | _dead(mean, noise))
    lit = 1 - float(silent[good].mean())
    if lit > _LIT:
        good &= ~_areas(silent)
    return good


def _lines(mean: Image, noise: Image) -> Bools:
    """(Q_y,) rows that are brighter over nearly their whole length than those on both sides.

    Disks cannot do that, however they are arranged: there is room between them.  (Dark rows they
    can leave, so those count only where nothing at all was ever seen; see `_areas`.)
    """
    beside = np.maximum(*(np.roll(mean, shift, axis=0) for shift in (_REACH, -_REACH)))
    bad = (mean - _LINE_SIGNIFICANT * noise > beside).mean(axis=1) > _WHOLE
    bad[:_REACH] = bad[-_REACH:] = False
    return np.asarray(bad)


def _hot(sample: Image, noise: Image) -> Bools:
    """Bright in most patterns, far above the third brightest neighbour."""
    usual = np.median(sample, axis=0)
    third = ndimage.rank_filter(usual, rank=-3, footprint=_NEIGHBOURS, mode="mirror")
    floor = ndimage.median_filter(usual, 5, mode="mirror")
    above = usual - third
    lonely = (third - floor) < PEAKEDNESS * (usual - floor)
    return np.asarray((above > 0) & lonely & (above > _SIGNIFICANT * noise))


def _dead(mean: Image, noise: Image) -> Bools:
    """Far below the third darkest neighbour, near the dark level."""
    third = ndimage.rank_filter(mean, rank=2, footprint=_NEIGHBOURS, mode="mirror")
    around = ndimage.median_filter(noise, 3, mode="mirror")
    dark = float(np.percentile(mean, 1))
    low = mean - dark < PEAKEDNESS * (third - dark)
    return np.asarray(low & (third - mean > _SIGNIFICANT * np.maximum(around, noise)))


def _areas(silent: Bools) -> Bools:
    """The few large pieces of silent pixels; many alike are gaps between disks, or chance."""
    labels, count = ndimage.label(silent)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    large = size >= max(_AREA, 0.1 * size.max())
    if large.sum() > _PIECES:
        return np.zeros_like(silent)
    return np.asarray(large[labels])
