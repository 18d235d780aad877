"""Small value types shared by everything that measures an image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np


class Flaw(IntFlag):
    """Why a pixel must not be trusted; a mask is a (Q_y, Q_x) uint16 array of these bits."""

    NONE = 0
    MISSING = 1  # NaN or outside the detector
    DEAD = 2
    HOT = 4
    SATURATED = 8
    BLOOMING = 16
    BEAM_STOP = 32
    OVERLAY = 64  # scale bar, text, title bar
    CROSS = 128  # wide pixels between the chips of a tiled detector


@dataclass(frozen=True)
class Centre:
    """Where the direct beam falls: (row, column) in px, its standard uncertainty, and how found.

    ``radius`` is that of the direct beam at half height where it is seen, else 0.  ``rivals``
    are other spots that might be the direct beam, likeliest first: where a Bragg spot is as
    bright, one image cannot always tell, and the lattice is the same from either.
    """

    row: float
    col: float
    sigma: float
    method: str
    radius: float = 0.0
    rivals: tuple[tuple[float, float], ...] = ()

    def as_array(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """(2,) row and column in px."""
        return np.array([self.row, self.col])


@dataclass(frozen=True)
class Ellipse:
    """Elliptical distortion: r(φ) = r0 (1 + ε/2 cos 2(φ − φ0)), small ε.

    ``ratio`` is major/minor axis (1.032 = 3.2 % ellipticity), ``angle`` the direction of the
    major axis in degrees from +column towards +row; ``sigma`` that of the ratio.
    """

    ratio: float = 1.0
    angle: float = 0.0
    sigma: float = 0.0
