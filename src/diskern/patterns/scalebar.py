"""The scale bar that a camera program burnt into an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.errors import DiskernError

CONTRAST = 0.22
"""Least step at the edges of a bar, as a fraction of the image's full range."""
GAP = 3
"""px that noise may interrupt an edge for."""
EXTREMES = ((0.012, 0.02), (0.03, 0.05), (0.06, 0.08), (0.12, 0.25))
"""How far from the lightest grey a bar may be that is drawn in it, and how much it must then differ
from what is around it: compressed images need more of both."""
FILLED, OUTSIDE = 0.93, 0.5
"""Least share of such pixels in the bar, and greatest beside each of its four sides."""


@dataclass(frozen=True)
class ScaleBar:
    """A horizontal bar, or line with end ticks, and how long it is.

    Attributes
    ----------
    row, col : its upper left corner in px.
    length_px : outer length in px, ``sigma_px`` its standard uncertainty.
    thickness : height in px.
    bright : whether it is lighter than the image around it.
    """

    row: int
    col: int
    length_px: float
    sigma_px: float
    thickness: int
    bright: bool = True

    def pixel_size(self, label_per_angstrom: float) -> float:
        """1/Å per pixel for the printed label, given in 1/Å (2 1/nm is 0.2).

        Raises
        ------
        DiskernError
            For a label that is not a positive number.
        """
        if not (np.isfinite(label_per_angstrom) and label_per_angstrom > 0):
            raise DiskernError(
                f"scale-bar label {label_per_angstrom!r} 1/Å is not positive; 2 1/nm is 0.2"
            )
        return label_per_angstrom / self.length_px

    @property
    def relative_error(self) -> float:
        """Relative standard uncertainty of the length; printed bars are themselves 3 to 5 % off."""
        return self.sigma_px / self.length_px


def find_scale_bar(image: NDArray[Any]) -> ScaleBar | None:
    """Find the burnt-in scale bar of an image.

    A bar is a horizontal rectangle of even grey that stands out by a good part of the image's
    full range within one or two pixels on all four sides, and ends inside the image; neither
    spots, beam stops, title bars nor bad rows do.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels.
    """
    finite = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = float(finite.min()), float(finite.max())
    if high <= low:
        return None
    scaled = (finite - low) / (high - low)
    polarities = ((True, scaled), (False, 1 - scaled))
    found = [bar for bright, grey in polarities for bar in _stepped(grey, bright)]
    if not found:
        found = [bar for bright, grey in polarities for bar in _drawn(grey, bright)]
    if not found:
        return None
    # The two lines of an outlined box are one bar; the longest candidate is the whole of it.
    return max(found, key=lambda bar: (bar.length_px, bar.thickness))


def _stepped(grey: NDArray[np.float32], bright: bool) -> list[ScaleBar]:
    """Bars that are lighter than the image by a clear step."""
    height, width = grey.shape
    shortest, longest = max(12, int(0.035 * width)), int(0.7 * width)
    rise = np.diff(grey, axis=0)
    tops, bottoms = (_runs(step > CONTRAST, shortest, longest) for step in (rise, -rise))
    bars = []
    for row, first, last in tops:
        below = [
            r for r, a, b in bottoms
            if 0 < r - row <= max(3, int(0.05 * height)) and abs(a - first) + abs(b - last) <= 4
        ]  # fmt: skip
        if not below:
            continue
        thickness = below[0] - row
        first, last = _outer_ends(grey[row + 1 : row + 1 + thickness].mean(0), first, last)
        bar = _bar(row + 1, first, last, thickness, bright)
        if _is_bar(grey, bar):
            bars.append(bar)
    return bars


def _drawn(grey: NDArray[np.float32], bright: bool) -> list[ScaleBar]:
    """Bars that differ little from what is around them, but are all of the lightest grey."""
    width = grey.shape[1]
    shortest, longest = max(12, int(0.08 * width)), int(0.7 * width)
    # What compression adds, and hot pixels, may be lighter than the bar: a few.
    few = 3 * shortest
    lightest = float(np.partition(grey, -few, axis=None)[-few])
    bars = []
    for tolerance, contrast in EXTREMES:
        white = grey >= lightest - tolerance
        if white.mean() > OUTSIDE:
            continue
        labels, _ = ndimage.label(_solid(white, shortest))
        for number, (rows, cols) in enumerate(ndimage.find_objects(labels), 1):
            if not shortest <= cols.stop - cols.start <= longest:
                continue
            lit = np.flatnonzero((labels[rows, cols] == number).mean(0) > 0.6)
            if len(lit) == 0:
                continue
            first, last = cols.start + int(lit[0]), cols.start + int(lit[-1])
            bar = _bar(rows.start, first, last, rows.stop - rows.start, bright)
            if _is_drawn(grey, white, bar, contrast):
                bars.append(bar)
    return bars


def _bar(row: int, first: int, last: int, thickness: int, bright: bool) -> ScaleBar:
    return ScaleBar(
        row=row,
        col=first,
        length_px=float(last - first + 1),
        sigma_px=0.5 if thickness > 2 else 1.0,
        thickness=thickness,
        bright=bright,
    )


def _solid(white: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    """Where a pixel is one of a long run of white, and so is that above or below it."""
    out = np.zeros(white.shape, dtype=bool)
    for row, first, last in _runs(white, shortest, white.shape[1]):
        out[row, first : last + 1] = True
    two = out[1:] & out[:-1]
    return np.asarray(np.pad(two, ((0, 1), (0, 0))) | np.pad(two, ((1, 0), (0, 0))))


def _runs(mask: NDArray[np.bool_], shortest: int, longest: int) -> list[tuple[int, int, int]]:
    """(row, first, last) of horizontal runs of True that end inside the image, gaps bridged."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    step = np.diff(padded, axis=1).ravel()
    begins, ends = np.flatnonzero(step == 1), np.flatnonzero(step == -1)
    if len(begins) == 0:
        return []
    apart = np.flatnonzero(begins[1:] - ends[:-1] > GAP)
    begins, ends = begins[np.append(0, apart + 1)], ends[np.append(apart, len(ends) - 1)]
    width = mask.shape[1] + 1
    rows, first, last = begins // width, begins % width, ends % width - 1
    # Rows lie one behind the other, so that a run may have been bridged to the next row's.
    keep = (ends // width == rows) & (first > 0) & (last < mask.shape[1] - 1)
    length = last - first + 1
    keep &= (length >= shortest) & (length <= longest)
    return [
        (int(r), int(a), int(b))
        for r, a, b in zip(rows[keep], first[keep], last[keep], strict=True)
    ]


def _outer_ends(line: NDArray[np.float32], first: int, last: int) -> tuple[int, int]:
    """Push the ends of a bar outwards over end ticks and corners as bright as the bar."""
    lit = line > line[first : last + 1].mean() - CONTRAST / 2
    while first > 1 and lit[first - 1]:
        first -= 1
    while last < len(line) - 2 and lit[last + 1]:
        last += 1
    return first, last


def _is_bar(grey: NDArray[np.float32], bar: ScaleBar) -> bool:
    """Even inside, sharp at both ends, several times as long as thick."""
    rows = slice(bar.row, bar.row + bar.thickness)
    first, last = bar.col, bar.col + int(bar.length_px) - 1
    inside = grey[rows, first + 2 : last - 1]
    outside = np.concatenate(
        [grey[rows, max(first - 3, 0) : first], grey[rows, last + 1 : last + 4]], axis=1
    )
    return bool(
        bar.length_px >= 4 * bar.thickness
        and inside.std() < 0.06
        and inside.mean() - np.median(outside) > CONTRAST
    )


def _is_drawn(
    grey: NDArray[np.float32], white: NDArray[np.bool_], bar: ScaleBar, contrast: float
) -> bool:
    """A filled rectangle of white, not white on any of its four sides, longer than thick."""
    top, under = bar.row, bar.row + bar.thickness
    left, right = bar.col, bar.col + int(bar.length_px)
    if (
        bar.length_px < 4 * bar.thickness
        or min(top, left) < 3
        or white[top:under, left:right].mean() < FILLED
    ):
        return False
    sides = (
        (slice(top - 3, top - 1), slice(left, right)),
        (slice(under + 1, under + 3), slice(left, right)),
        (slice(top, under), slice(left - 5, left - 1)),
        (slice(top, under), slice(right + 1, right + 5)),
    )
    inside = float(np.median(grey[top:under, left:right]))
    return all(
        grey[side].size > 0
        and white[side].mean() < OUTSIDE
        and inside - float(np.median(grey[side])) > contrast
        for side in sides
    )
