"""The scale bar that a camera program burnt into an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError

CONTRAST = 0.22
"""Least step at the edges of a bar, as a fraction of the image's full range."""


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
    found = [
        bar for bright, grey in ((True, scaled), (False, 1 - scaled)) for bar in _bars(grey, bright)
    ]
    if not found:
        return None
    # The two lines of an outlined box are one bar; the longest candidate is the whole of it.
    return max(found, key=lambda bar: (bar.length_px, bar.thickness))


def _bars(grey: NDArray[np.float32], bright: bool) -> list[ScaleBar]:
    height, width = grey.shape
    rise = np.diff(grey, axis=0)
    shortest, longest = max(12, int(0.035 * width)), int(0.7 * width)
    tops = _runs(rise > CONTRAST, shortest, longest)
    bottoms = _runs(rise < -CONTRAST, shortest, longest)
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
        bar = ScaleBar(
            row=row + 1,
            col=first,
            length_px=float(last - first + 1),
            sigma_px=0.5 if thickness > 2 else 1.0,
            thickness=thickness,
            bright=bright,
        )
        if _is_bar(grey, bar):
            bars.append(bar)
    return bars


def _runs(mask: NDArray[np.bool_], shortest: int, longest: int) -> list[tuple[int, int, int]]:
    """(row, first, last) of horizontal runs of True that end inside the image."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    step = np.diff(padded, axis=1)
    rows, first = np.nonzero(step == 1)
    _, end = np.nonzero(step == -1)
    length = end - first
    keep = (length >= shortest) & (length <= longest) & (first > 0) & (end < mask.shape[1])
    return [
        (int(r), int(a), int(b) - 1)
        for r, a, b in zip(rows[keep], first[keep], end[keep], strict=True)
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
