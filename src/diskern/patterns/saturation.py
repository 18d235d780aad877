"""Plateaus where the detector is full, and the streaks that spill from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.patterns.geometry import Flaw
from diskern.patterns.levels import Image, Noise

Bools = NDArray[np.bool_]

LEAST_PLATEAU = 6
"""Fewest connected pixels at the top value that are a plateau and not the top of a peak."""


def find_saturation(image: Image, good: Bools, noise: Noise) -> NDArray[np.uint16]:
    """Bits `Flaw.SATURATED` of plateaus at the top value, `Flaw.BLOOMING` of their streaks.

    Parameters
    ----------
    image : (Q_y, Q_x) finite grey levels, electrons bright.
    good : (Q_y, Q_x) pixels to look at.
    noise : of the image.
    """
    flags = np.zeros(image.shape, dtype=np.uint16)
    if not good.any():
        return flags
    top = float(image[good].max())
    usual = float(np.median(image[good]))
    if top <= usual:
        return flags
    depth = 0.4 * noise.quantum if noise.quantum else 0.004 * (top - usual)
    full = good & (image >= top - depth)
    if noise.quantum == 0:
        # Averaged frames round the plateau's rim: 2 % further down if the top itself is flat.
        rim = good & (image >= top - 5 * depth)
        full = np.asarray(ndimage.binary_propagation(full, mask=rim))
    labels, count = ndimage.label(full)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    area[0] = 0
    plateau = (area >= LEAST_PLATEAU)[labels]
    flags[plateau] |= np.uint16(Flaw.SATURATED)
    # Only a flood spills: the largest few plateaus.
    largest = [int(i) for i in np.argsort(-area)[:6] if area[i] >= 4 * LEAST_PLATEAU]
    boxes = ndimage.find_objects(labels)
    smooth = ndimage.uniform_filter(image, 3) if largest else image
    for index in largest:
        box = boxes[index - 1]
        _mark_streak(image, smooth, noise, (box[0], box[1]), flags)
        _mark_streak(image.T, smooth.T, noise, (box[1], box[0]), flags.T)
    return flags


def _mark_streak(
    image: Image,
    smooth: Image,
    noise: Noise,
    box: tuple[slice, slice],
    flags: NDArray[np.uint16],
) -> None:
    """Flag the columns above and below a plateau where they outshine their surroundings."""
    first, last = box[1].start, box[1].stop
    width, height = last - first, box[0].stop - box[0].start
    if width < 3 or width > 0.2 * image.shape[1]:
        return
    inset = width // 4
    gap, side = width // 2 + 2, max(3, width // 2)
    left = slice(max(first - gap - side, 0), max(first - gap, 0))
    right = slice(last + gap, last + gap + side)
    if left.stop - left.start < 2 or image[:, right].shape[1] < 2:
        return
    streak = image[:, first + inset : last - inset].mean(1)
    # The brighter flank: a streak stands above both, the flank of a halo above one only; and
    # above what the halo shows at the same distance in other directions.
    flank = np.maximum(image[:, left].mean(1), image[:, right].mean(1))
    around = np.maximum(flank, _aside(smooth, box))
    rough = np.sqrt(noise.variance(around) / (width - 2 * inset))
    lit = streak - around > np.maximum(4 * rough, 0.1 * np.abs(around) + 2 * noise.quantum)
    lit = ndimage.binary_closing(np.pad(lit, 9), np.ones(9, dtype=bool))[9:-9]
    for rows in (slice(box[0].start - 1, None, -1), slice(box[0].stop, None)):
        if rows.step == -1 and box[0].start == 0:
            continue
        run = lit[rows]
        # Right beside the plateau its round halo is as bright as the streak.
        start = int(np.argmax(run[: max(width, height)])) if run.any() else 0
        rest = run[start:]
        length = start + (int(np.argmin(rest)) if not rest.all() else len(rest))
        # A round halo is as high as wide; only a streak is much longer than its plateau.
        if length > 2 * max(width, height) + 8:
            part = flags[rows, max(first - 1, 0) : last + 1]
            part[:length] |= np.uint16(Flaw.BLOOMING)


def _aside(smooth: Image, box: tuple[slice, slice]) -> NDArray[np.float64]:
    """(Q_y,) upper level, at each row's distance from a plateau, on its diagonals and its row."""
    row, col = ((s.start + s.stop - 1) / 2 for s in box)
    distance = np.abs(np.arange(smooth.shape[0]) - row)
    found = []
    for down, across in ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 2**0.5), (0, -(2**0.5))):
        at = np.stack([row + down * distance / 2**0.5, col + across * distance / 2**0.5])
        value = ndimage.map_coordinates(smooth, at, order=0, cval=np.nan)
        found.append(value)
    known = np.stack(found).astype(float)
    # The second brightest of six directions; outside the image nothing shines.
    ranked = np.sort(np.where(np.isnan(known), float(smooth.min()), known), axis=0)
    return np.asarray(ranked[-2])
