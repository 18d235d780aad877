"""Everything on an image that is not electrons scattered by the specimen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.patterns.geometry import Flaw
from diskern.patterns.levels import Image, estimate_noise, upright
from diskern.patterns.overlay import find_overlays
from diskern.patterns.pixels import find_bad_lines, find_bad_pixels
from diskern.patterns.saturation import find_saturation
from diskern.patterns.shadow import find_shadows

USELESS = np.uint16(
    Flaw.MISSING | Flaw.DEAD | Flaw.HOT | Flaw.BLOOMING | Flaw.BEAM_STOP | Flaw.OVERLAY | Flaw.CROSS
)
"""Flaws that leave nothing to measure; a saturated pixel still says that many electrons came."""


def find_flaws(image: NDArray[Any]) -> NDArray[np.uint16]:
    """Why each pixel must not be trusted.

    Drawn overlays and frames, bad rows, columns and pixels, shadows (beam stop, detector edge),
    saturation and blooming, in this order, each looked for where nothing was found before.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels or counts of any real type, either polarity; NaN is missing.

    Returns
    -------
    flaws : (Q_y, Q_x) uint16 bits of `Flaw`.
    """
    array, _ = upright(image)
    finite = np.isfinite(array)
    flaws = np.where(finite, 0, int(Flaw.MISSING)).astype(np.uint16)
    if not finite.any() or float(np.ptp(array[finite])) == 0:
        return flaws
    if not finite.all():
        array = np.where(finite, array, np.median(array[finite])).astype(np.float32)
    if min(array.shape) < 16:
        return flaws
    flaws |= find_overlays(array)
    noise = estimate_noise(array, flaws == 0)
    flaws |= find_bad_lines(array, flaws == 0, noise)
    flaws |= find_bad_pixels(array, flaws == 0, noise)
    flaws |= find_shadows(array, flaws == 0)
    flaws |= find_saturation(array, (flaws & USELESS) == 0, noise)
    return flaws


def usable(flaws: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Pixels whose value can be used, saturated ones included."""
    return np.asarray((flaws & USELESS) == 0)


def as_float(image: NDArray[Any], flaws: NDArray[np.uint16]) -> Image:
    """Float32 copy with useless pixels that are not finite set to the median."""
    array = np.array(image, dtype=np.float32)
    bad = ~np.isfinite(array)
    if bad.any():
        array[bad] = np.median(array[~bad]) if not bad.all() else 0
    return array
