"""Bragg spots of one image: position, intensity, and how sure each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.spot_fit import Peaks, fit_peaks
from diskern.bragg.spot_search import Scene, propose, radial_bins, separate, shadow_of_beam
from diskern.patterns.geometry import Centre
from diskern.patterns.levels import estimate_noise
from diskern.patterns.masks import as_float, usable

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Spots:
    """Measured spots, strongest first; the direct beam is not among them.

    Attributes
    ----------
    position : (N, 2) row and column in px.
    sigma : (N, 2) standard uncertainty of the position in px.
    intensity : (N,) counts above the local background.
    sigma_intensity : (N,) its standard uncertainty.
    radius : (N,) rms radius of the spot in px.
    """

    position: Floats
    sigma: Floats
    intensity: Floats
    sigma_intensity: Floats
    radius: Floats

    def __len__(self) -> int:
        return len(self.intensity)

    @property
    def snr(self) -> Floats:
        """(N,) intensity over its uncertainty."""
        return self.intensity / np.maximum(self.sigma_intensity, 1e-12)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Spots:
        """The spots of a boolean mask or index array, in that order."""
        return Spots(
            self.position[keep],
            self.sigma[keep],
            self.intensity[keep],
            self.sigma_intensity[keep],
            self.radius[keep],
        )

    @classmethod
    def empty(cls) -> Spots:
        """No spots."""
        none = np.zeros(0)
        return cls(np.zeros((0, 2)), np.zeros((0, 2)), none, none, none)


def find_spots(
    image: NDArray[Any],
    flaws: NDArray[np.uint16],
    centre: Centre,
    background: NDArray[np.float32],
    limit: int = 600,
) -> Spots:
    """Find and measure the Bragg spots of a pattern.

    Matched filters of several widths, the local mean taken out, give at each pixel the
    significance of a spot: the deviance of the Poisson counts in the filter's window (electrons
    per grey level from the image's own noise), divided by the scatter that the filtered
    image shows at the same distance from the beam and that noise alone would not.  The
    threshold is the normal deviate that noise passes `spot_search.FALSE_SPOTS` times per image
    and is raised in this way, not lowered, by speckle.  What passes must be a peak in all
    directions (no ridge, no edge) and is refined by a Poisson-weighted fit together with its
    neighbours.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels or counts, electrons bright.
    flaws : (Q_y, Q_x) bits of `Flaw`.
    centre : of the pattern; spots within the direct beam are left out.
    background : (Q_y, Q_x) from `radial_background`, better `with_rings`.
    limit : most spots that are returned.
    """
    array, good = as_float(image, flaws), usable(flaws)
    if good.sum() < 200 or float(np.ptp(array[good])) == 0:
        return Spots.empty()
    scene = Scene(
        rest=np.where(good, array - background, 0).astype(np.float32),
        background=background.astype(np.float32),
        good=good,
        noise=estimate_noise(array, good),
        bins=radial_bins(array.shape, centre),
    )
    peaks = propose(scene, centre, 2 * limit)
    if len(peaks.position) == 0:
        return Spots.empty()
    fitted = fit_peaks(scene.rest, good, scene.background, scene.noise, peaks)
    return _accept(fitted, centre, array.shape, limit)


def _accept(peaks: Peaks, centre: Centre, shape: tuple[int, ...], limit: int) -> Spots:
    """Fitted peaks that are still spots, strongest first."""
    flux = 2 * np.pi * peaks.width**2 * peaks.height
    if peaks.sigma is None or peaks.sigma_flux is None:
        return Spots.empty()
    distance = np.hypot(peaks.position[:, 0] - centre.row, peaks.position[:, 1] - centre.col)
    inside = ((peaks.position > -0.5) & (peaks.position < np.array(shape) - 0.5)).all(1)
    keep = (
        inside
        & np.isfinite(peaks.sigma).all(1)
        & (peaks.height > 0)
        & (flux > 3.5 * peaks.sigma_flux)
        & (peaks.sigma.max(1) < np.maximum(peaks.width, 1.0))
        & (distance > shadow_of_beam(centre, np.minimum(peaks.width, 4)))
    )
    snr = flux / np.maximum(peaks.sigma_flux, 1e-30)
    keep &= _of_one_size(peaks.width, snr, keep)
    # One spot may have been proposed at two widths, and both fits found it.
    surest = np.nonzero(keep)[0][np.argsort(-snr[keep])]
    surest = surest[separate(peaks.position[surest], peaks.width[surest])]
    order = surest[np.argsort(-flux[surest])][:limit]
    return Spots(
        peaks.position[order],
        peaks.sigma[order],
        flux[order],
        peaks.sigma_flux[order],
        peaks.width[order],
    )


def _of_one_size(width: Floats, snr: Floats, keep: Bools) -> Bools:
    """Peaks about as wide as the pattern's spots: optics makes them all alike.

    A peak far above its noise may be wider: a saturated spot, or one with tails.
    """
    sure = keep & (snr > 7)
    if sure.sum() < 6:
        return np.ones(len(width), dtype=bool)
    usual = float(np.median(width[sure]))
    return np.asarray((width > 0.45 * usual) & ((width < 2.2 * usual) | (snr > 40)))
