"""What a program drew onto the image: scale bar, text, title bar, black frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.patterns.geometry import Flaw
from diskern.patterns.levels import Image
from diskern.patterns.scalebar import ScaleBar, find_scale_bar

Flags = NDArray[np.uint16]


def find_overlays(image: Image) -> Flags:
    """Bits `Flaw.OVERLAY` for drawn things and `Flaw.MISSING` for an empty frame.

    Parameters
    ----------
    image : (Q_y, Q_x) finite grey levels, electrons bright.
    """
    flags = np.zeros(image.shape, dtype=np.uint16)
    span = float(image.max() - image.min())
    if span <= 0:
        return flags
    _mark_bands(image, flags, span)
    inner = _inner(flags)
    view, marks = image[inner], flags[inner]
    if min(view.shape) < 16:
        return flags
    bar = find_scale_bar(view)
    drawn = _text(view, bar)
    if bar is not None:
        rows = slice(max(bar.row - 3, 0), bar.row + bar.thickness + 3)
        drawn[rows, max(bar.col - 3, 0) : bar.col + int(bar.length_px) + 3] = True
    marks[drawn] |= np.uint16(Flaw.OVERLAY)
    return flags


def _inner(flags: Flags) -> tuple[slice, slice]:
    """The rectangle inside the bands along the image's borders."""
    free = flags == 0
    rows, cols = np.nonzero(free.any(1))[0], np.nonzero(free.any(0))[0]
    if rows.size == 0 or cols.size == 0:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def _mark_bands(image: Image, flags: Flags, span: float) -> None:
    """Flag bands along the four borders: first rows, then columns, then what was behind them."""
    for _ in range(2):
        for axis in (0, 1):
            for backwards in (False, True):
                rows, cols = _inner(flags)
                view, marks = image[rows, cols], flags[rows, cols]
                lines, mark = (view, marks) if axis == 0 else (view.T, marks.T)
                if backwards:
                    lines, mark = lines[::-1], mark[::-1]
                depth, kind = _band(lines, span)
                mark[:depth] |= np.uint16(kind)


def _band(lines: Image, span: float) -> tuple[int, Flaw]:
    """Depth of the band at the top of ``lines`` and what it is."""
    reach = int(0.2 * len(lines))
    if min(lines.shape) < 32:
        return 0, Flaw.NONE
    # Empty frame: lines that hold one and the same value from end to end.
    first = np.median(lines[0])
    even = np.abs(lines[: 2 * reach] - first).max(axis=1) <= 0
    frame = int(np.argmin(even)) if not even.all() else 0
    if frame and first <= np.percentile(lines, 50):
        return frame, Flaw.MISSING
    if frame:
        return frame, Flaw.OVERLAY
    # Title bar: a step of the same sign from end to end that no scattering can make.
    step = np.diff(lines[: max(2, min(reach, 80))], axis=0)
    drop = np.mean(step < -0.05 * span, axis=1)
    jump = np.nonzero(drop > 0.9)[0]
    if jump.size and np.median(lines[: jump[-1] + 1]) > np.median(lines[jump[-1] + 1 :]):
        return int(jump[-1]) + 1, Flaw.OVERLAY
    return 0, Flaw.NONE


def _text(image: Image, bar: ScaleBar | None) -> NDArray[np.bool_]:
    """Letters: strokes at an extreme of the grey scale with one-pixel edges, in a line."""
    span = float(image.max() - image.min())
    drawn = _lettering(image >= image.max() - 0.03 * span, image, 0.5 * span)
    if bar is not None:
        reach = int(bar.length_px * 1.2)
        depth = max(int(0.1 * image.shape[0]), 3 * bar.thickness)
        rows = slice(max(bar.row - depth, 0), bar.row + bar.thickness + depth)
        cols = slice(max(bar.col - reach, 0), bar.col + int(bar.length_px) + reach)
        patch = image[rows, cols]
        excess = patch - np.median(patch)
        if not bar.bright:
            excess = -excess
        # Letters are of the bar's own grey, which on a negative is little lighter than the image.
        inside = excess[bar.row - rows.start :, bar.col - cols.start :]
        ink = inside[: bar.thickness, : int(bar.length_px)]
        own, even = float(np.median(ink)), max(3 * float(ink.std()), 0.01 * span)
        noise = 1.5 * float(np.median(np.abs(excess)))
        lit = excess > max(min(0.15 * span, 0.5 * own), min(4 * noise, own - even))
        drawn[rows, cols] |= _lettering(lit, patch, min(0.12 * span, 0.4 * own), beside_bar=True)
    return drawn


def _lettering(
    lit: NDArray[np.bool_], image: Image, step: float, beside_bar: bool = False
) -> NDArray[np.bool_]:
    """Boxes round the components of ``lit`` that look like characters of one line."""
    drawn = np.zeros(lit.shape, dtype=bool)
    labels, count = ndimage.label(lit, np.ones((3, 3)))
    if count == 0 or count > 20000:
        return drawn
    rim = lit & ~ndimage.binary_erosion(lit)
    fall = image - ndimage.minimum_filter(image, 3)
    rise = ndimage.maximum_filter(image, 3) - image
    index = np.arange(1, count + 1)
    sharp = ndimage.mean(np.maximum(fall, rise)[rim] > step, labels[rim], index)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    letters = []
    for box, share, pixels in zip(ndimage.find_objects(labels), sharp, area, strict=True):
        height, width = (s.stop - s.start for s in box)
        small = 4 <= height <= 0.1 * lit.shape[0] + 24 and width <= 0.12 * lit.shape[1] + 24
        compact = 0.7 < height / width < 1.4 and pixels > 0.6 * height * width
        if small and (beside_bar or not compact) and share > 0.8 and pixels >= 5:
            letters.append(box)
    for box in letters:
        middle = (box[0].start + box[0].stop) / 2
        tall = box[0].stop - box[0].start
        line = [
            other for other in letters
            if other[0].start < middle < other[0].stop
            and abs(other[1].start - box[1].start) < 4 * tall + 8
        ]  # fmt: skip
        if len(line) >= 2:
            drawn[
                max(box[0].start - 3, 0) : box[0].stop + 3,
                max(min(o[1].start for o in line) - 3, 0) : max(o[1].stop for o in line) + 3,
            ] = True
    return drawn
