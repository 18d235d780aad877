"""Counts per electron of a detector, from the noise of its patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 6
"""px of the side of a tile whose mean and noise are compared."""
LOW, LOW_SHARE = 0.2, 0.78
"""Quantile over tiles, and what of the mean it is for noise alone."""
COUNTED = (0.5, 2.0)
"""Estimates that mean "counts are electrons" where the counts are whole numbers."""


def estimate_gain(patterns: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Counts that one electron adds, from variance over mean; 1 where it cannot be told.

    The variance of a tile is that of second differences along rows, which a slope does not
    disturb; a low quantile over tiles leaves those out that disks' edges cross.

    Parameters
    ----------
    patterns : (B, H, W) counts.
    mask : (H, W) True where a pixel may be used.
    """
    sample = patterns[:: max(1, len(patterns) // 8)][:8]
    values = np.unique(sample[:, mask][:, :: max(1, int(mask.sum()) // 20000)])
    whole = bool(np.all(values == np.round(values)))
    step = float(np.diff(values).min()) if len(values) > 1 else 1.0
    curve = sample[:, :, :-2] - 2 * sample[:, :, 1:-1] + sample[:, :, 2:]
    good = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
    rows, cols = (n // TILE * TILE for n in good.shape)
    if rows < TILE or cols < TILE:
        return 1.0

    def tiles(image: NDArray[Any]) -> NDArray[np.float64]:
        cut = image[:, :rows, :cols].astype(np.float64)
        return np.asarray(
            cut.reshape(len(cut), rows // TILE, TILE, cols // TILE, TILE).mean((2, 4))
        )

    noise, level = tiles(curve * curve / 6), tiles(sample[:, :, 1:-1])
    full = np.broadcast_to(tiles(good[None].astype(np.float32)) == 1, level.shape)
    bright = full & (level > 0)
    if not bright.any():
        return 1.0
    bright &= level >= np.median(level[bright])
    gain = float(np.quantile(noise[bright] / level[bright], LOW)) / LOW_SHARE
    if whole and step == 1 and (COUNTED[0] < gain < COUNTED[1] or np.median(level[bright]) < 1):
        return 1.0
    return gain if gain > 0 and np.isfinite(gain) else 1.0
