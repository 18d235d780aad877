"""Proposals of spots: matched filters of several widths against the image's own noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from scipy.spatial import cKDTree

from diskern.bragg.spot_fit import Peaks
from diskern.patterns.geometry import Centre
from diskern.patterns.levels import Noise, block_mean
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
class Scene:
    """What every step of the search needs."""

    rest: Image
    background: Image
    good: Bools
    noise: Noise
    bins: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Level:
    """Matched-filter answers for one width, on a grid of ``factor`` × ``factor`` pixels.

    ``mean`` is the Gaussian mean, ``answer`` that less the mean over the surround.
    """

    scale: float
    factor: int
    mean: Image
    answer: Image
    variance: Image
    good: Bools
    bins: NDArray[np.int64]


def radial_bins(shape: tuple[int, ...], centre: Centre) -> NDArray[np.int64]:
    """(Q_y, Q_x) number of the ring a pixel lies in; rings widen outwards."""
    radius, _ = polar_coordinates((shape[0], shape[1]), centre)
    return (4 * np.log2(1 + radius / 8)).astype(np.int64)


def _levels(scene: Scene) -> list[_Level]:
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
        level = _Level(
            float(scale),
            factor,
            narrow[0],
            answer,
            variance.astype(np.float32),
            good & full,
            bins,
        )
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
    at = np.nonzero(np.abs(plain) > 2)
    # The filter is worth a box of so many pixels; counts in it if all its variance is Poisson.
    box = 1 / _sum_of_squares(level.scale)
    one = noise.gain * noise.spread
    expected = np.maximum(level.variance[at] * box**2 / (noise.gain * one), 1e-3)
    # Beside a spot on no background the filter asks for less than nothing: that is none missing.
    count = np.maximum(expected + level.answer[at] * box / one, 0)
    deviance = special.xlogy(count, count / expected) - (count - expected)
    exact = np.sqrt(2 * np.maximum(deviance, 0))
    least = np.minimum(exact, np.abs(plain[at]))
    plain[at] = np.where(expected > 1e4, plain[at], np.copysign(least, plain[at]))
    return np.asarray(plain, dtype=np.float32)


def _scatter(level: _Level, significance: Image, count: int) -> Floats:
    """(B,) scatter of the significance in each ring, at least the 1 of noise alone.

    From the bulk of the distribution, away from strong spots and their negative surround;
    unless they are everywhere, when they are no spots but texture.
    """
    reach = 2 * int(np.ceil(2.8 * level.scale / level.factor)) + 1
    near = ndimage.uniform_filter((significance > 7).astype(np.float32), reach) > 1e-6
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


def propose(scene: Scene, centre: Centre, limit: int) -> Peaks:
    """Positions, widths and heights of peaks that noise does not explain, surest first."""
    levels = _levels(scene)
    rings: Floats = np.full(int(scene.bins.max()) + 1, np.inf)
    tables = []
    for number, level in enumerate(levels):
        significance = _significance(level, scene.noise)
        # Texture of any grain gains significance at most with the area of the filter; what
        # grows faster is the spots' own doing.
        rings = np.minimum(_scatter(level, significance, len(rings)), RATIO**2 * rings)
        # Independent places fall as the square of the width; the narrow need the higher bar.
        places = max(scene.good.sum() / (2 * np.pi * level.scale**2), 10)
        bar = float(special.ndtri(1 - FALSE_SPOTS / len(levels) / places))
        summit = (significance > bar * rings[level.bins]) & level.good
        summit &= level.answer == ndimage.maximum_filter(level.answer, 3)
        tables.append(_Summits.of(level, number, summit, significance))
    summits = _Summits.joined(tables, 8 * limit)
    away = np.hypot(summits.place[:, 0] - centre.row, summits.place[:, 1] - centre.col)
    summits = summits.select(away > shadow_of_beam(centre, summits.width))
    summits = summits.select(_resolved(summits, levels))
    summits = summits.select(separate(summits.place, summits.width))
    summits = summits.select(np.arange(min(limit, len(summits.width))))
    # A Gaussian filtered with its own width keeps half its height, less the surround's share.
    return Peaks(summits.place, summits.width, summits.answer / (1 / 2 - 1 / (1 + RATIO**2)))


@dataclass(frozen=True, eq=False)
class _Summits:
    """Local maxima of the filters' answers above the bar, all widths together.

    ``at`` is (N, 2) in the level's own grid, ``place`` in px; ``round`` says whether the answer
    falls on all sides within the filter's width.
    """

    place: Floats
    width: Floats
    answer: Floats
    significance: Floats
    round: Bools
    level: NDArray[np.int64]
    at: NDArray[np.int64]

    @classmethod
    def of(cls, level: _Level, number: int, summit: Bools, significance: Image) -> _Summits:
        rows, cols = np.nonzero(summit)
        at = np.stack([rows, cols], 1)
        return cls(
            ((at + 0.5) * level.factor - 0.5).astype(float),
            np.full(len(at), level.scale, dtype=float),
            level.answer[rows, cols].astype(float),
            significance[rows, cols].astype(float),
            _peaked(level, rows, cols),
            np.full(len(at), number),
            at,
        )

    @classmethod
    def joined(cls, tables: list[_Summits], limit: int) -> _Summits:
        """All of them, most significant first, at most ``limit``."""
        whole = cls(
            np.concatenate([t.place for t in tables]),
            np.concatenate([t.width for t in tables]),
            np.concatenate([t.answer for t in tables]),
            np.concatenate([t.significance for t in tables]),
            np.concatenate([t.round for t in tables]),
            np.concatenate([t.level for t in tables]),
            np.concatenate([t.at for t in tables]),
        )
        return whole.select(np.argsort(-whole.significance)[:limit])

    def select(self, keep: Bools | NDArray[np.int64]) -> _Summits:
        return _Summits(
            self.place[keep],
            self.width[keep],
            self.answer[keep],
            self.significance[keep],
            self.round[keep],
            self.level[keep],
            self.at[keep],
        )


def _resolved(summits: _Summits, levels: list[_Level]) -> Bools:
    """Round summits, but for a close pair its two members.

    A wide filter answers most to a close pair as a whole, a narrower one to each member; they
    are two where the narrower answer sinks between them by more than noise would.
    """
    keep = summits.round.copy()
    members = np.zeros(len(keep), dtype=bool)
    wide = np.nonzero(summits.round)[0]
    inside = cKDTree(summits.place).query_ball_point(
        summits.place[wide], 1.6 * summits.width[wide], return_sorted=True
    )
    for i, near in zip(wide, inside, strict=True):
        width, about = summits.width[i], np.array(near)
        finer = (summits.width[about] < 0.9 * width) & (summits.width[about] > 0.14 * width)
        strong = summits.significance[about] > 0.2 * summits.significance[i]
        parts = about[finer & strong]
        if len(parts) < 2:
            continue
        for number in np.unique(summits.level[parts]):
            same = parts[summits.level[parts] == number]
            pair = [j for j in same[1:] if _sinks(summits, levels[number], int(same[0]), int(j))]
            if pair:
                keep[i] = False
                members[[same[0], *pair]] = True
    return keep | members


def _sinks(summits: _Summits, level: _Level, first: int, second: int) -> bool:
    """Whether the image itself, smoothed, is lower between two summits than on both.

    The filter's answer would not do: along the rim of an even disk it has many summits.
    """
    if np.linalg.norm(summits.place[first] - summits.place[second]) < 1.8 * level.scale:
        return False
    ends = np.stack([summits.at[first], summits.at[second]])
    row, col = np.round(ends.mean(axis=0)).astype(int)
    lower = float(level.mean[ends[:, 0], ends[:, 1]].min())
    dip = lower - float(level.mean[row, col])
    return bool(dip > 4 * np.sqrt(level.variance[row, col]) and dip > 0.05 * lower)


def shadow_of_beam(centre: Centre, width: Floats) -> Floats:
    """Distance from the centre within which a peak is the direct beam or its foot.

    The flank of a beam far beyond saturation is no wider than that of other spots.
    """
    flank = np.minimum(0.5 * centre.radius, 2 * width)
    reach = np.maximum(centre.radius + flank, 2.0) + min(3 * centre.sigma, 20)
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


def separate(position: Floats, width: Floats) -> Bools:
    """Drop weaker peaks within 1.5 widths of a stronger one (given strongest first)."""
    keep = np.ones(len(width), dtype=bool)
    for i in range(len(width)):
        if keep[i]:
            near = np.linalg.norm(position[i + 1 :] - position[i], axis=1)
            keep[i + 1 :] &= near > 1.5 * max(float(width[i]), 1.0)
    return keep
