"""What indexing needs of a pattern: spot vectors, where spots could have been seen, the beam."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.analysis import Analysis
from diskern.bragg.metric import undistortion
from diskern.patterns.geometry import Ellipse, Flaw
from diskern.physics import wavelength

Floats = NDArray[np.float64]

DEFAULT_ENERGY = 200e3
"""eV, taken where the energy is unknown; only the curvature of the Ewald sphere feels it."""
MAX_SPOTS = 60
"""The strongest spots that are used."""
MIN_SIGMA = 0.3
"""px; no spot is located better than this once distortions and overlaps are counted."""
VISIBLE_FLAWS = int(Flaw.SATURATED | Flaw.HOT)
"""Flaws that do not hide a spot."""
UNMEASURED, MEASURED = 0.006, 0.004
"""Standard deviation of each component of the residual ellipse (half of major/minor - 1), for
patterns with no measured ellipse (0.5 to 3 % of ellipticity is usual) and after its correction."""
BLIND_SHARE = 0.6
"""Reflections nearer the beam than this share of the innermost spot are expected unseen."""
MARGIN = 1.1
"""Reflections beyond this times the outermost spot are not expected to be seen."""
GRID = 96
"""Cells along the field of view in which its visible part is counted."""


@dataclass(frozen=True, eq=False)
class SpotView:
    """Spots relative to the beam, with the part of the plane where spots could be seen.

    Attributes
    ----------
    p : (N, 2) spot vectors in px, x along columns and y along rows, ellipse taken out.
    sigma : (N,) standard uncertainty of a vector's components in px.
    intensity : (N,) above background.
    scale : stated 1/Å per px, or None.
    scale_error : its relative standard uncertainty.
    wavelength : of the electrons in Å.
    distortion : relative standard uncertainty of what is left of ellipse and lens distortion.
    seen : (GRID, GRID) bool, cells of a square of half-width ``reach`` px about the beam where a
        spot would have been found.
    pairs : (K, 2, 2) vectors in px that span a fitted lattice, found without picking spots.
    """

    p: Floats
    sigma: Floats
    intensity: Floats
    scale: float | None
    scale_error: float
    wavelength: float
    distortion: float
    seen: NDArray[np.bool_]
    reach: float
    pairs: Floats

    def __len__(self) -> int:
        return len(self.p)

    @cached_property
    def area(self) -> float:
        """Visible area in px²."""
        return float(self.seen.mean()) * (2 * self.reach) ** 2

    @cached_property
    def blur(self) -> float:
        """Typical standard uncertainty of a spot's position in px."""
        return float(np.median(self.sigma)) if len(self) else 0.0

    @cached_property
    def log_intensity(self) -> Floats:
        """(N,) ln of the intensities."""
        return np.asarray(np.log(np.maximum(self.intensity, 1e-12)))

    def sees(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Whether a spot at (x, y) px from the beam would have been found."""
        step = GRID / (2 * self.reach)
        col = ((x + self.reach) * step).astype(np.int64)
        row = ((y + self.reach) * step).astype(np.int64)
        inside = (x > -self.reach) & (y > -self.reach) & (col < GRID) & (row < GRID)
        return np.asarray(inside & self.seen[np.where(inside, row, 0), np.where(inside, col, 0)])

    def thinned(self, count: int) -> SpotView:
        """At most so many of the spots, near and far ones alike."""
        if len(self) <= count:
            return self
        by_radius = np.argsort(np.hypot(*self.p.T), kind="stable")
        keep = by_radius[np.linspace(0, len(self) - 1, count).astype(np.int64)]
        return replace(self, p=self.p[keep], sigma=self.sigma[keep], intensity=self.intensity[keep])

    def with_scale(self, scale: float | None, error: float) -> SpotView:
        """The same spots with another stated pixel size."""
        return replace(self, scale=scale, scale_error=error)

    @classmethod
    def from_spots(
        cls,
        p: Floats,
        intensity: Floats | None = None,
        sigma: Floats | float = 0.5,
        *,
        scale: float | None = None,
        scale_error: float = 0.03,
        energy: float | None = None,
        distortion: float = 0.01,
        pairs: Floats | None = None,
    ) -> SpotView:
        """A view of bare spot vectors, seen everywhere within the outermost of them."""
        p = np.asarray(p, dtype=np.float64).reshape(-1, 2)
        radius = np.hypot(*p.T) if len(p) else np.ones(1)
        reach = MARGIN * float(radius.max())
        return cls(
            p,
            np.maximum(np.broadcast_to(sigma, len(p)), MIN_SIGMA).astype(np.float64),
            np.ones(len(p)) if intensity is None else np.asarray(intensity, dtype=np.float64),
            scale,
            scale_error,
            wavelength(energy or DEFAULT_ENERGY),
            distortion,
            _annulus(reach, BLIND_SHARE * float(radius.min())),
            reach,
            np.zeros((0, 2, 2)) if pairs is None else pairs,
        )


def spot_view(
    analysis: Analysis,
    *,
    pixel_size: float | None = None,
    pixel_size_error: float | None = None,
    energy: float | None = None,
    ellipse: Ellipse | None = None,
) -> SpotView:
    """The view of an analysed pattern.

    Parameters
    ----------
    pixel_size, energy : override what the pattern states (1/Å per px, eV).
    pixel_size_error : relative standard uncertainty; the pattern's own by default.
    ellipse : distortion of the setting; the analysis' own by default.
    """
    pattern = analysis.pattern
    spots = analysis.spots
    if len(spots) > MAX_SPOTS:
        spots = spots.select(np.argsort(-spots.intensity)[:MAX_SPOTS])
    shape = ellipse if ellipse is not None else analysis.ellipse
    undo = undistortion(shape)[::-1, ::-1]
    centre = analysis.centre.as_array()
    p = (spots.position - centre)[:, ::-1] @ undo
    pairs = [
        lattice.basis[:, ::-1] @ undo
        for lattice in analysis.lattices
        if lattice.rank == 2 and np.isfinite(lattice.basis).all()
    ]
    # What an ideal lattice leaves over is how well these spots can be placed at all.
    left = min((lattice.residual for lattice in analysis.lattices), default=0.0)
    known = pixel_size if pixel_size is not None else pattern.pixel_size
    error = pattern.pixel_size_error if pixel_size_error is None else pixel_size_error
    view = SpotView.from_spots(
        p,
        np.maximum(spots.intensity, 1e-12),
        np.sqrt(spots.sigma.mean(1) ** 2 + analysis.centre.sigma**2 + 0.5 * left**2),
        scale=known,
        scale_error=error,
        energy=energy if energy is not None else pattern.energy,
        distortion=UNMEASURED if shape.ratio == 1.0 else MEASURED,
        pairs=np.array(pairs).reshape(-1, 2, 2),
    )
    return replace(view, seen=view.seen & _unmasked(analysis, undo, view.reach))


def _cells(reach: float) -> tuple[Floats, Floats]:
    axis = (np.arange(GRID) + 0.5) * (2 * reach / GRID) - reach
    x, y = np.meshgrid(axis, axis)
    return x, y


def _annulus(reach: float, inner: float) -> NDArray[np.bool_]:
    x, y = _cells(reach)
    radius = np.hypot(x, y)
    return np.asarray((radius > inner) & (radius <= reach))


def _unmasked(analysis: Analysis, undo: Floats, reach: float) -> NDArray[np.bool_]:
    """Cells of the field of view that fall on trusted pixels of the image."""
    x, y = _cells(reach)
    seen_at = np.stack([x, y], axis=-1) @ np.linalg.inv(undo)
    col = np.rint(seen_at[..., 0] + analysis.centre.col).astype(np.int64)
    row = np.rint(seen_at[..., 1] + analysis.centre.row).astype(np.int64)
    height, width = analysis.pattern.shape
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    flaws = analysis.flaws[np.where(inside, row, 0), np.where(inside, col, 0)]
    blind = flaws & np.uint16(0xFFFF ^ VISIBLE_FLAWS)
    return np.asarray(inside & (blind == 0))
