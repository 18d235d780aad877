"""A scale bar of a round length that fits the image."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ScaleBar:
    """Length in px and its label."""

    pixels: float
    label: str


def scale_bar(width: int, pixel_size: float | None, share: float = 0.22) -> ScaleBar:
    """The longest 1, 2 or 5 × 10ⁿ bar within ``share`` of an image ``width`` px wide.

    In 1/nm where ``pixel_size`` (1/Å a px) is known, else in px.
    """
    per_pixel = 1.0 if pixel_size is None else pixel_size * 10  # 1/nm a px
    limit = share * width * per_pixel
    decade = 10.0 ** math.floor(math.log10(limit))
    value = max(step * decade for step in (1, 2, 5) if step * decade <= limit * (1 + 1e-9))
    unit = "px" if pixel_size is None else "1/nm"
    return ScaleBar(value / per_pixel, f"{value:g} {unit}")
