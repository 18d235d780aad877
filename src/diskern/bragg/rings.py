"""Rings of a polycrystal: radii, widths, and the ellipse they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.patterns.geometry import Centre, Ellipse

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rings:
    """Rings of one pattern, innermost first.

    Attributes
    ----------
    radius : (N,) mean radius in px after the ellipse is taken out (geometric mean of the axes).
    sigma : (N,) standard uncertainty of the radius in px.
    intensity : (N,) height above the background of the radial profile.
    width : (N,) rms width in px.
    profile : (R,) background-subtracted radial profile, one value a pixel.
    """

    radius: Floats
    sigma: Floats
    intensity: Floats
    width: Floats
    profile: Floats
    centre: Centre
    ellipse: Ellipse
