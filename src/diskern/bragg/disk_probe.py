"""The probe: what one undiffracted disk looks like on the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Kind = Literal["disk", "annular", "square", "bullseye"]


@dataclass(frozen=True, eq=False)
class Probe:
    """Image of the direct beam in vacuum.

    Attributes
    ----------
    image : (H, W) centred on pixel (H // 2, W // 2), sum 1.
    radius : of the outer rim in px; of a shape that is not round, that of a disk of equal area.
    edge : width w in px of the rim ½ − ½ tanh((r − radius)/w).
    round : whether a uniform disk with that rim describes the image.
    """

    image: Floats
    radius: float
    edge: float
    round: bool

    def __repr__(self) -> str:
        shape = "round" if self.round else "measured"
        return f"Probe({shape}, radius {self.radius:.2f} px, edge {self.edge:.2f} px)"

    @classmethod
    def synthetic(
        cls,
        shape: tuple[int, int],
        radius: float,
        edge: float = 0.6,
        kind: Kind = "disk",
        *,
        hole: float = 0.5,
        rings: int = 3,
    ) -> Self:
        """A probe of a known aperture.

        Parameters
        ----------
        shape : (H, W) in px of the patterns.
        radius : outer radius in px; half the side of a square.
        edge : width in px of the rims.
        kind : of the aperture.  A bullseye (Zeltmann et al., Ultramicroscopy 209 (2020) 112890,
            doi:10.1016/j.ultramic.2019.112890) has alternate open and closed zones.
        hole : share of the radius that an annular aperture's stop covers.
        rings : open zones of a bullseye.

        Raises
        ------
        DiskernError : for a radius or an edge that does not fit on the pattern.
        """
        if not (np.isfinite(radius) and 0.5 <= radius <= min(shape) / 2):
            raise DiskernError(
                f"probe radius {radius} px is not within 0.5 px and half the pattern {shape}"
            )
        if not (np.isfinite(edge) and 0 < edge <= radius):
            raise DiskernError(f"probe edge {edge} px is not within 0 px and the radius {radius}")
        if kind not in ("disk", "annular", "square", "bullseye"):
            raise DiskernError(f"probe kind {kind!r}: one of disk, annular, square, bullseye")
        rows, cols = (np.arange(n) - float(n // 2) for n in shape)
        if kind == "square":
            image = rim(np.abs(rows), radius, edge)[:, None] * rim(np.abs(cols), radius, edge)
            return cls(image / image.sum(), 2 * radius / np.sqrt(np.pi), edge, False)
        r = np.hypot(rows[:, None], cols)
        image = rim(r, radius, edge)
        if kind == "annular":
            image = image * (1 - rim(r, hole * radius, edge))
        elif kind == "bullseye":
            borders = radius * np.arange(1, 2 * rings) / (2 * rings - 1)
            signs = (-1.0) ** np.arange(2 * rings - 1)
            image = sum(
                (s * rim(r, b, edge) for s, b in zip(signs, borders, strict=True)),
                np.zeros(shape),
            )
        return cls(image / image.sum(), radius, edge, kind == "disk")


def rim(r: Floats, radius: float, edge: float) -> Floats:
    """½ − ½ tanh((r − radius)/edge): 1 inside, 0 outside."""
    return np.asarray(0.5 - 0.5 * np.tanh((r - radius) / edge))
