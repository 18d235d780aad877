"""Bragg spots of one image: position, intensity, and how sure each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from diskern.bragg.spot_fit import Peaks, fit_peaks
from diskern.patterns.geometry import Centre
from diskern.patterns.levels import Noise, block_mean, estimate_noise
from diskern.patterns.masks import as_float, usable
from diskern.patterns.polar import group_quantiles, polar_coordinates

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Image = NDArray[np.float32]

FALSE_SPOTS = 0.3
"""Expected number of false spots per image where nothing but noise departs from the background."""
SMALLEST = 0.8
RATIO = 1.6
"""Rms radii in px of the Gaussians that are tried: SMALLEST times powers of RATIO up to some 3 %
of the image.  The surround that is subtracted is the next wider; a disk of radius R answers
most at about 0.6 R."""


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


@dataclass(frozen=True, eq=False)
class _Scene:
    """What every step of the search needs."""

    rest: Image
    background: Image
    good: Bools
    noise: Noise
    bins: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Level:
    """Matched-filter answers for one width, on a grid of ``factor`` × ``factor`` pixels."""

    scale: float
    factor: int
    answer: Image
    variance: Image
    good: Bools
    bins: NDArray[np.int64]


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
    threshold is the normal deviate that noise passes `FALSE_SPOTS` times per image and is
    raised in this way, not lowered, by speckle.  What passes must be a peak in all directions (no
    ridge, no edge) and is refined by a Poisson-weighted fit together with its neighbours.

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
    scene = _Scene(
        rest=np.where(good, array - background, 0).astype(np.float32),
        background=background.astype(np.float32),
        good=good,
        noise=estimate_noise(array, good),
        bins=_radial_bins(array.shape, centre),
    )
    peaks = _propose(scene, centre, 2 * limit)
    if len(peaks.position) == 0:
        return Spots.empty()
    fitted = fit_peaks(scene.rest, good, scene.background, scene.noise, peaks)
    return _accept(fitted, centre, array.shape, limit)


def _radial_bins(shape: tuple[int, ...], centre: Centre) -> NDArray[np.int64]:
    """(Q_y, Q_x) number of the ring a pixel lies in; rings widen outwards."""
    radius, _ = polar_coordinates((shape[0], shape[1]), centre)
    return (4 * np.log2(1 + radius / 8)).astype(np.int64)


def _levels(scene: _Scene) -> list[_Level]:
    """Matched-filter answers at all widths, each on as coarse a grid as its width allows."""
    levels = []
    rest, good, factor = scene.rest, scene.good, 1
    background, bins = scene.background, scene.bins
    scales = SMALLEST * RATIO ** np.arange(9)
    widest = 0.03 * min(scene.rest.shape) + 2
    smooth: tuple[Image, Image] | None = None
    for scale in scales[scales <= widest]:
        while scale / factor > 2.5:
            rest, share = block_mean(rest, good, 2)
            background, _ = block_mean(background, np.ones_like(background, dtype=bool), 2)
            good, factor, smooth = share > 0.3, 2 * factor, None
            bins = bins[::2, ::2][: rest.shape[0], : rest.shape[1]]
        narrow = smooth or _smooth(rest, good, scale / factor)
        smooth = _smooth(rest, good, RATIO * scale / factor)
        square = _sum_of_squares(scale / factor) / factor**2
        variance = square * scene.noise.variance(background) / np.maximum(narrow[1], 0.3)
        if scene.noise.quantum and scene.noise.floor < 0.3:
            # Rounding of a smooth image is no noise that averages out: contours stay.
            variance = variance + (0.15 * scene.noise.quantum) ** 2
        full = (narrow[1] > 0.7) & (smooth[1] > 0.6)
        answer = np.where(full, narrow[0] - smooth[0], 0).astype(np.float32)
        level = _Level(float(scale), factor, answer, variance.astype(np.float32), good & full, bins)
        levels.append(level)
    return levels


def _smooth(rest: Image, good: Bools, width: float) -> tuple[Image, Image]:
    """Gaussian mean over good pixels and the share of the Gaussian that is good."""
    weight = ndimage.gaussian_filter(good.astype(np.float32), width, truncate=3)
    value = ndimage.gaussian_filter(np.where(good, rest, 0), width, truncate=3)
    return np.asarray(value / np.maximum(weight, 0.05), dtype=np.float32), weight


def _sum_of_squares(scale: float) -> float:
    """Sum of the squared weights of the filter, a Gaussian less a wider one."""
    wide = RATIO * scale
    return (1 / scale**2 + 1 / wide**2 - 4 / (scale**2 + wide**2)) / (4 * np.pi)


def _significance(level: _Level, noise: Noise) -> Image:
    """Normal deviate of each answer, exact for few counts where the noise is that of counts."""
    plain = level.answer / np.sqrt(level.variance)
    if noise.gain <= 0:
        return np.asarray(plain, dtype=np.float32)
    at = np.nonzero(plain > 2)
    # The filter is worth a box of so many pixels; counts in it if all its variance is Poisson.
    box = 1 / _sum_of_squares(level.scale)
    expected = np.maximum(level.variance[at] * box**2 / noise.gain**2, 1e-3)
    count = np.maximum(expected + level.answer[at] * box / noise.gain, 1e-3)
    deviance = count * np.log(count / expected) - (count - expected)
    exact = np.sqrt(2 * np.maximum(deviance, 0))
    plain[at] = np.where(expected > 1e4, plain[at], np.minimum(exact, plain[at]))
    return np.asarray(plain, dtype=np.float32)


def _scatter(level: _Level, significance: Image, strong: Bools, count: int) -> Floats:
    """(B,) scatter of the significance in each ring, at least the 1 of noise alone.

    From the bulk of the distribution, away from strong spots and their negative surround;
    unless they are everywhere, when they are no spots but texture.
    """
    reach = 2 * int(np.ceil(2.2 * level.scale / level.factor)) + 1
    near = ndimage.uniform_filter(strong.astype(np.float32), reach) > 1e-6
    step = max(1, int(np.sqrt(significance.size / 100_000)))
    take = np.zeros(significance.shape, dtype=bool)
    take[::step, ::step] = True
    take &= level.good
    quantiles = (0.0228, 0.1587, 0.5, 0.9772, 0.99)
    whole, whole_size = group_quantiles(significance[take], level.bins[take], count, quantiles)
    quiet = take & ~near
    calm, calm_size = group_quantiles(significance[quiet], level.bins[quiet], count, quantiles)
    lower = np.fmax(whole[2] - whole[1], (whole[2] - whole[0]) / 2)
    calm_lower = np.fmax(calm[2] - calm[1], (calm[2] - calm[0]) / 2)
    # Film grain and speckle are skewed; one place in forty is still no spot.
    calm_upper = np.fmax((calm[3] - calm[2]) / 2, (calm[4] - calm[2]) / 2.326)
    enough = (calm_size > 40) & (calm_size > 0.2 * whole_size)
    chosen = np.where(enough, np.fmax(calm_lower, calm_upper), lower)
    known = np.isfinite(chosen) & (whole_size > 40)
    if not known.any():
        return np.ones(count)
    filled = np.interp(np.arange(count), np.nonzero(known)[0], chosen[known])
    return np.asarray(np.maximum(filled, 1.0))


def _propose(scene: _Scene, centre: Centre, limit: int) -> Peaks:
    """Positions, widths and heights of peaks that noise does not explain."""
    levels = _levels(scene)
    found = []
    rings: Floats = np.full(int(scene.bins.max()) + 1, np.inf)
    for level in levels:
        significance = _significance(level, scene.noise)
        strong = significance > 10
        # Texture of any grain gains significance at most with the area of the filter;
        # what grows faster is the spots' own doing.
        rings = np.minimum(_scatter(level, significance, strong, len(rings)), RATIO**2 * rings)
        scatter = rings[level.bins]
        # Independent places fall as the square of the width; the narrow need the higher bar.
        places = scene.good.sum() / (2 * np.pi * level.scale**2)
        bar = float(special.ndtri(1 - FALSE_SPOTS / len(levels) / max(places, 10)))
        peak = (significance > bar * scatter) & level.good
        peak &= level.answer == ndimage.maximum_filter(level.answer, 3)
        rows, cols = np.nonzero(peak)
        keep = _peaked(level, rows, cols)
        rows, cols = rows[keep], cols[keep]
        # A Gaussian filtered with its own width keeps half its height, less the surround's share.
        height = level.answer[rows, cols] / (1 / 2 - 1 / (1 + RATIO**2))
        place = (np.stack([rows, cols], 1) + 0.5) * level.factor - 0.5
        found.append(
            np.column_stack(
                [place, np.full(len(rows), level.scale), height, significance[rows, cols]]
            )
        )
    table = np.concatenate(found)
    table = table[np.argsort(-table[:, 4])][: 6 * limit]
    distance = np.hypot(table[:, 0] - centre.row, table[:, 1] - centre.col)
    table = table[distance > _shadow_of_beam(centre, table[:, 2])]
    table = table[_separate(table[:, :2], table[:, 2])][:limit]
    return Peaks(table[:, :2], table[:, 2], table[:, 3])


def _shadow_of_beam(centre: Centre, width: Floats) -> Floats:
    """Distance from the centre within which a peak is the direct beam or its foot."""
    reach = max(1.5 * centre.radius, 2.0) + min(3 * centre.sigma, 20)
    return np.asarray(reach + 1.5 * width)


def _peaked(level: _Level, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Bools:
    """Whether the answer falls off on all sides; ridges and edges do so on two only."""
    height, width = level.answer.shape
    here = level.answer[rows, cols]
    reach = 1.5 * level.scale / level.factor
    falls = []
    for turn in np.arange(8) * np.pi / 4:
        y = np.round(rows + reach * np.sin(turn)).astype(int)
        x = np.round(cols + reach * np.cos(turn)).astype(int)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        value = level.answer[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        falls.append(np.where(inside, value, 0))
    # Of each two opposite directions the one that falls more, and of those the worst.
    around = np.stack(falls)
    ridge = np.minimum(around[:4], around[4:]).max(0)
    return np.asarray((here > 0) & (ridge < 0.62 * here))


def _separate(position: Floats, width: Floats) -> Bools:
    """Drop weaker peaks within 1.5 widths of a stronger one (given strongest first)."""
    keep = np.ones(len(width), dtype=bool)
    for i in range(len(width)):
        if keep[i]:
            near = np.linalg.norm(position[i + 1 :] - position[i], axis=1)
            keep[i + 1 :] &= near > 1.5 * max(float(width[i]), 1.0)
    return keep


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
        & (distance > _shadow_of_beam(centre, np.minimum(peaks.width, 4)))
    )
    snr = flux / np.maximum(peaks.sigma_flux, 1e-30)
    keep &= _of_one_size(peaks.width, snr, keep)
    # One spot may have been proposed at two widths, and both fits found it.
    surest = np.nonzero(keep)[0][np.argsort(-snr[keep])]
    surest = surest[_separate(peaks.position[surest], peaks.width[surest])]
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
