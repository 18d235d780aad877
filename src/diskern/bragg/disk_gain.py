"""What a detector makes of electrons, from the noise of its patterns.

Disks fill much of these: the noise of single images in `diskern.patterns.levels` is that of most
blocks, which edges of disks cross; here it is that of the quietest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]

TILE = 6
"""px of the side of a tile whose mean and noise are compared."""
PAIR = 2
"""px of the side of sums whose noise tells how far a scintillator spreads an electron's light."""
LOWS = (0.2, 0.4)
"""Quantiles over tiles of like level: the first leaves those out that disks' edges cross, ..."""
LOW_SHARE, LOW_SHARE_PAIRS = 0.73, 0.69
"""... is these shares of the mean for white noise, of pixels and of the sums, ..."""
ALIKE = 1.2
"""... and the second as many times as large, or larger where tiles are not alike."""
COUNTED, FEW = (0.5, 2.0), 1.0
"""Estimates that mean "counts are electrons" where the counts are whole numbers, and the level of
bright tiles below which no estimate is needed for it."""
DARK, ONE, RARE = 0.1, 2.0, 30
"""Share of the tiles in which nothing at all must have been counted, and the counts of single
pixels among empty ones up to which those are electrons, told from so many."""
MOST = 0.99
"""Share of the pixels that must hold whole numbers."""
NEGATIVE = 5.0
"""Standard errors by which the darkest tiles must lie below zero to tell of a dark level."""
LEAST_NOISE = 1e-3
"""Of the largest variance: what tiles without any electron count as."""
QUIET, MOSTLY = 10.0, 0.7
"""Standard deviations of a dark pixel by which its level must exceed zero, and the share of that
level without noise, from which on a bias is suspected."""
LEVELS, FEWEST = 16, 40
"""Groups of tiles of like level that a line is drawn through, and tiles in one at least."""
CLEAR, TILE_ERROR, SYSTEMATIC = 3.0, 0.5, 0.1
"""Standard errors by which a group's variance must exceed that of dark pixels to tell of electrons,
the error of what one tile says of it, and a share of the dark pixels' own that is never known."""
LESS = 0.1
"""What a group's gain counts against it, by the logarithm, in the units of relative errors."""
MOST_SPREAD, UNLIKE = 4.0, 0.3
"""Growth of the variance from pixels to their sums that no camera exceeds, and the unlikeness of
tiles from which on it is theirs, not the camera's."""
TURNS = 4
"""Times that gain and read-out noise are estimated, each with the other."""


@dataclass(frozen=True)
class Response:
    """Counts are ``dark`` + ``gain`` × electrons, give or take ``read_noise``.

    Attributes
    ----------
    gain : counts that one electron adds.
    dark : counts of a pixel that no electron meets.
    read_noise : their standard deviation.
    """

    gain: float = 1.0
    dark: float = 0.0
    read_noise: float = 0.0

    def electrons(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same patterns in electrons; below zero where noise has taken them there."""
        if self.dark:
            counts = counts - np.float32(self.dark)
        return counts / np.float32(self.gain) if self.gain != 1 else counts

    @property
    def dim_light(self) -> float:
        """Electrons to a pixel whose own noise is that of reading out.

        Added to every pixel they leave a picture whose variance is its mean throughout, which is
        all that a fit of counted electrons asks for.
        """
        return (self.read_noise / self.gain) ** 2


def estimate_response(
    patterns: NDArray[np.float32], mask: NDArray[np.bool_], dark: float | None = None
) -> Response:
    """Gain, dark level and read-out noise of a detector; 1, 0 and 0 where they cannot be told.

    The variance of a tile is that of second differences along rows, which a slope does not
    disturb; a low quantile over tiles of like level leaves those out that disks' edges cross.
    It starts at what reading out adds and grows with the level by the gain.  Where a scintillator
    spreads the light of an electron over pixels, these differ less than their electrons do; how
    much less the variance of sums of pixels tells.  That counts begin above zero no noise can
    tell where disks have fringes, for these roughen bright tiles too.  That they begin below zero
    is plain: after a dark image too many was subtracted.  Where dark tiles are empty, single counts
    that stand alone are electrons, however rough the disks are.

    Parameters
    ----------
    patterns : (B, H, W) counts.
    mask : (H, W) True where a pixel may be used.
    dark : the dark level, where it is known.
    """
    sample = patterns[:: max(1, len(patterns) // 8)][:8]
    tiles = _Tiles.of(sample, mask)
    whole = _whole(sample, mask)
    if dark is None:
        dark = _below_zero(tiles.noise, tiles.level)
        # Whole counts stay whole; structure only ever lifts the estimate.
        dark = float(np.floor(dark)) if whole else dark
    level = tiles.level - dark
    bright = level[level > 0]
    if not len(bright):
        return Response(1.0, dark)
    if whole and float(np.median(bright[bright >= np.median(bright)])) < FEW:
        return Response(1.0, dark)
    if whole and not np.quantile(level, DARK) and _lonely(sample - np.float32(dark), mask) <= ONE:
        return Response(1.0, dark)
    gain, read = _line(tiles, dark, whole)
    return Response(gain, dark, read) if gain > 0 and np.isfinite(gain) else Response(1.0, dark)


def _lonely(counts: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Median of the pixels with counts whose eight neighbours have none; inf where they are rare.

    Those are single electrons: what less than one leaves in a pixel it leaves beside it, too.
    """
    around = np.ones((1, 3, 3), dtype=bool)
    around[0, 1, 1] = False
    beside = ndimage.maximum_filter(counts, footprint=around, mode="nearest")
    found = counts[(counts > 0) & (beside <= 0) & mask]
    return float(np.median(found)) if len(found) >= RARE else float("inf")


def _whole(sample: NDArray[np.float32], mask: NDArray[np.bool_]) -> bool:
    """Whether counts are whole numbers that come one by one."""
    values = sample[:, mask][:, :: max(1, int(mask.sum()) // 20000)]
    counted = values == np.round(values)
    steps = np.diff(np.unique(values[counted]))
    # A few hot pixels may say otherwise.
    return bool(counted.mean() > MOST) and (not len(steps) or float(steps.min()) == 1)


@dataclass(frozen=True, eq=False)
class _Tiles:
    """Tiles that may be used as a whole.

    Attributes
    ----------
    noise, pairs : (N,) variance of pixels, and of sums over `PAIR` × `PAIR` of them per pixel.
    level : (N,) mean.
    """

    noise: Floats
    pairs: Floats
    level: Floats

    @classmethod
    def of(cls, sample: NDArray[np.float32], mask: NDArray[np.bool_]) -> Self:
        """Of (B, H, W) patterns with an (H, W) mask."""
        height, width = (n - PAIR + 1 for n in mask.shape)
        rows, cols = height // TILE * TILE, (width - 2 * PAIR) // TILE * TILE
        if rows < TILE or cols < TILE:
            return cls(np.zeros(0), np.zeros(0), np.zeros(0))

        def tiles(image: NDArray[Any]) -> Floats:
            cut = image[:, :rows, :cols].astype(np.float64)
            blocks = cut.reshape(len(cut), rows // TILE, TILE, cols // TILE, TILE)
            return np.asarray(blocks.mean((2, 4)))

        sums, usable = _sums(sample), _sums(mask[None].astype(np.float32))
        middle = sample[:, : rows + 1, PAIR - 1 : PAIR + cols + 1]
        # What either of the two variances needs must be there.
        whole = usable[:, :, : -2 * PAIR] + usable[:, :, PAIR:-PAIR] + usable[:, :, 2 * PAIR :]
        level = tiles(middle[:, :, 1:-1])
        full = np.broadcast_to(tiles(whole) == 3 * PAIR**2, level.shape)
        noise, pairs = tiles(_curve(middle, 1)), tiles(_curve(sums, PAIR)) / PAIR**2
        return cls(noise[full], pairs[full], level[full])


def _sums(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over `PAIR` × `PAIR` px, at every pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (PAIR, PAIR), (1, 2))
    return np.asarray(windows.sum((3, 4)))


def _curve(images: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Squared second differences along rows, their mean that of a white noise's variance."""
    curve = images[:, :, : -2 * step] - 2 * images[:, :, step:-step] + images[:, :, 2 * step :]
    return np.asarray(curve * curve / 6)


def _line(tiles: _Tiles, dark: float, whole: bool) -> tuple[float, float]:
    """Gain and read-out noise that the variance of tiles and its growth with their level tell.

    Any group of tiles that electrons make noisier than dark ones tells the gain.  The one is
    taken whose tiles are most alike and whose excess is surest; where two are as good, the one
    that says less, for structure only ever adds.
    """
    groups = _halves(tiles.level)
    size = np.array([len(g) for g in groups])
    x = np.array([np.median(tiles.level[g]) for g in groups]) - dark
    low, next_low = (np.array([np.quantile(tiles.noise[g], q) for g in groups]) for q in LOWS)
    pairs = np.array([np.quantile(tiles.pairs[g], LOWS[0]) for g in groups]) / LOW_SHARE_PAIRS
    noise, rough = low / LOW_SHARE, np.maximum(next_low / np.maximum(low, 1e-30) / ALIKE - 1, 0)
    read = float(noise[0])
    slope = gain = 1.0
    for _ in range(TURNS):
        signal = noise - read
        error = TILE_ERROR * np.hypot(noise / np.sqrt(size), read / np.sqrt(size[0]))
        clear = (signal > CLEAR * error) & (x > 0)
        if not clear.any():
            # All alike: flat light, or nothing but noise.
            if x[-1] <= np.sqrt(noise[-1]):
                return 1.0, float(np.sqrt(noise[0]))
            slope = gain = float(noise[-1] / x[-1])
            read = 0.0
            break
        signal = np.maximum(signal, 1e-30)
        slopes = np.where(clear, signal / np.maximum(x, 1e-30), np.inf)
        growth = np.minimum((pairs - read) / signal, MOST_SPREAD)
        growth = np.where(rough > UNLIKE, np.minimum(growth, growth[clear].min()), growth)
        gains = slopes / _kept(growth)
        cost = (error + SYSTEMATIC * noise[0]) / signal + rough
        cost += LESS * np.log(gains / gains.min())
        best = int(np.where(clear, cost, np.inf).argmin())
        slope, gain = float(slopes[best]), float(gains[best])
        read = max(float(noise[0] - slope * max(x[0], 0.0)), 0.0)
    counted = COUNTED[0] < slope < COUNTED[1] or COUNTED[0] < gain < COUNTED[1]
    if whole and counted and read <= slope * max(float(x[0]), 0.0):
        return 1.0, 0.0
    return gain, float(np.sqrt(read))


def _halves(level: Floats) -> list[NDArray[np.int64]]:
    """The darker half of the tiles, then the darker half of those left, and so on."""
    order, groups = np.argsort(level), []
    while len(order) >= 2 * FEWEST:
        groups.append(order[: len(order) // 2])
        order = order[len(order) // 2 :]
    return [*groups, order]


def _kept(growth: Floats) -> Floats:
    """What is left of the variance of pixels where that of sums is ``growth`` times as large."""
    kept, ratio = _spread()
    return np.asarray(np.interp(growth, ratio, kept))


@cache
def _spread() -> tuple[Floats, Floats]:
    """Variance that pixels keep of white noise, and how much more of it sums of pixels keep.

    For light spread with a transfer function of 1/(1 + (f/f_half)²), from none to that of which
    a hundredth is left at the Nyquist frequency.
    """
    f = np.fft.fftfreq(64)
    squared = f[:, None] ** 2 + f**2
    strength = np.concatenate([[0.0], np.geomspace(0.1, 400.0, 50)])[:, None, None]
    passed = 1 / (1 + strength * squared) ** 2
    pixels = np.broadcast_to((2 - 2 * np.cos(2 * np.pi * f)) ** 2, squared.shape)
    sums = (np.cos(np.pi * f)[:, None] * np.cos(np.pi * f) * (2 - 2 * np.cos(4 * np.pi * f))) ** 2
    kept, held = ((passed * w).sum((1, 2)) / w.sum() for w in (pixels, sums))
    return kept, held / kept


def _below_zero(noise: Floats, level: Floats) -> float:
    """The dark level of counts that begin clearly below zero; else 0.

    Variance grows with the level in a straight line, and the dark level is where it reaches zero.
    Read-out noise moves that point down by as many electrons as make the same noise, which is
    what a fit with the weights of electrons needs.
    """
    if not len(level):
        return 0.0
    lowest = float(np.percentile(level, 1))
    faint = noise[level <= np.percentile(level, 10)]
    if lowest >= -NEGATIVE * float(np.sqrt(np.median(faint))) / TILE:
        return 0.0
    found = _no_noise(noise, level)
    return lowest if found is None else min(found, lowest)


def suspected_bias(patterns: NDArray[np.float32], mask: NDArray[np.bool_]) -> float | None:
    """Counts that look like the bias of a camera; None where nothing does.

    No proof: disks with fringes, too, make the noise grow faster than the counts.

    Parameters
    ----------
    patterns : (B, H, W) counts.
    mask : (H, W) True where a pixel may be used.
    """
    tiles = _Tiles.of(patterns[:: max(1, len(patterns) // 8)][:8], mask)
    noise, level = tiles.noise, tiles.level
    if not len(level):
        return None
    lowest = float(np.percentile(level, 1))
    faint = float(np.median(noise[level <= np.percentile(level, 10)]))
    found = _no_noise(noise, level)
    if found is None or lowest < QUIET * np.sqrt(faint) or found < MOSTLY * lowest:
        return None
    return min(found, lowest)


def _no_noise(noise: Floats, level: Floats) -> float | None:
    """The level at which the straight line of variance over level reaches zero."""
    count = min(LEVELS, len(level) // FEWEST)
    if count < 3 or float(np.ptp(level)) == 0:
        return None
    groups = np.array_split(np.argsort(level), count)
    x = np.array([np.median(level[g]) for g in groups])
    y = np.array([np.quantile(noise[g], LOWS[0]) for g in groups]) / LOW_SHARE
    if not y.max() > 0:
        return None
    y = np.maximum(y, LEAST_NOISE * y.max())
    design = np.stack([np.ones_like(x), x], 1) / y[:, None]
    (start, slope), *_ = np.linalg.lstsq(design, np.ones_like(x), rcond=None)
    return float(-start / slope) if slope > 0 else None
