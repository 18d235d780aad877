"""What a detector makes of electrons, from the noise of its patterns.

Disks fill much of these: the noise of single images in `diskern.patterns.levels` is that of most
blocks, which edges of disks cross; here it is that of the quietest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TILE = 6
"""px of the side of a tile whose mean and noise are compared."""
LOW, LOW_SHARE = 0.2, 0.78
"""Quantile over tiles, and what of the mean it is for noise alone."""
COUNTED = (0.5, 2.0)
"""Estimates that mean "counts are electrons" where the counts are whole numbers."""
NEGATIVE = 5.0
"""Standard errors by which the darkest tiles must lie below zero to tell of a dark level."""
LEAST_NOISE = 1e-3
"""Of the largest variance: what tiles without any electron count as."""
QUIET, MOSTLY = 10.0, 0.7
"""Standard deviations of a dark pixel by which its level must exceed zero, and the share of that
level without noise, from which on a bias is suspected."""
LEVELS, FEWEST = 16, 40
"""Groups of tiles of like level that a line is drawn through, and tiles in one at least."""


@dataclass(frozen=True)
class Response:
    """Counts are ``dark`` + ``gain`` × electrons.

    Attributes
    ----------
    gain : counts that one electron adds.
    dark : counts of a pixel that no electron meets.
    """

    gain: float = 1.0
    dark: float = 0.0

    def electrons(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same patterns in electrons."""
        if self.dark:
            counts = counts - np.float32(self.dark)
        return counts / np.float32(self.gain) if self.gain != 1 else counts


def estimate_response(
    patterns: NDArray[np.float32], mask: NDArray[np.bool_], dark: float | None = None
) -> Response:
    """Gain and dark level of a detector; 1 and 0 where they cannot be told.

    The variance of a tile is that of second differences along rows, which a slope does not
    disturb; a low quantile over tiles leaves those out that disks' edges cross.  That counts
    begin above zero no noise can tell where disks have fringes, for these roughen bright tiles
    too.  That they begin below zero is plain: after a dark image too many was subtracted.

    Parameters
    ----------
    patterns : (B, H, W) counts.
    mask : (H, W) True where a pixel may be used.
    dark : the dark level, where it is known.
    """
    sample = patterns[:: max(1, len(patterns) // 8)][:8]
    noise, level = _tiles(sample, mask)
    whole = _whole(sample, mask)
    if dark is None:
        dark = _below_zero(noise, level)
        # Whole counts stay whole.
        dark = float(round(dark)) if whole else dark
    level = level - dark
    bright = level > 0
    if not bright.any():
        return Response(1.0, dark)
    bright &= level >= np.median(level[bright])
    gain = float(np.quantile(noise[bright] / level[bright], LOW)) / LOW_SHARE
    few = float(np.median(level[bright])) < 1
    if whole and (COUNTED[0] < gain < COUNTED[1] or few):
        return Response(1.0, dark)
    return Response(gain if gain > 0 and np.isfinite(gain) else 1.0, dark)


def _whole(sample: NDArray[np.float32], mask: NDArray[np.bool_]) -> bool:
    """Whether counts are whole numbers that come one by one."""
    values = np.unique(sample[:, mask][:, :: max(1, int(mask.sum()) // 20000)])
    step = float(np.diff(values).min()) if len(values) > 1 else 1.0
    return bool(np.all(values == np.round(values))) and step == 1


def _tiles(sample: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(N,) variance and mean of the tiles that may be used as a whole."""
    curve = sample[:, :, :-2] - 2 * sample[:, :, 1:-1] + sample[:, :, 2:]
    good = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
    rows, cols = (n // TILE * TILE for n in good.shape)

    def tiles(image: NDArray[Any]) -> Floats:
        cut = image[:, :rows, :cols].astype(np.float64)
        return np.asarray(
            cut.reshape(len(cut), rows // TILE, TILE, cols // TILE, TILE).mean((2, 4))
        )

    if rows < TILE or cols < TILE:
        return np.zeros(0), np.zeros(0)
    noise, level = tiles(curve * curve / 6), tiles(sample[:, :, 1:-1])
    full = np.broadcast_to(tiles(good[None].astype(np.float32)) == 1, level.shape)
    return noise[full], level[full]


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
    noise, level = _tiles(patterns[:: max(1, len(patterns) // 8)][:8], mask)
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
    y = np.array([np.quantile(noise[g], LOW) for g in groups]) / LOW_SHARE
    if not y.max() > 0:
        return None
    y = np.maximum(y, LEAST_NOISE * y.max())
    design = np.stack([np.ones_like(x), x], 1) / y[:, None]
    (start, slope), *_ = np.linalg.lstsq(design, np.ones_like(x), rcond=None)
    return float(-start / slope) if slope > 0 else None
