"""Patterns at the scale at which the disk finder sees most: disks of 3 to 8 px.

Larger disks are binned, which keeps their counting statistics.  Those below 4 px are enlarged: on
the network's grid of two pixels small disks that lie on each other share their cells.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch.nn.functional import avg_pool2d, interpolate, pad

from diskern.nets.disk_unet import DEEPEST

KNOWN_RADIUS = 4.0
"""px: disks of twice this are binned to it, smaller ones enlarged."""
ENLARGED = 1.5
"""By this much; by 2 as many are found at nearly twice the cost."""


def scale_of(radius: float) -> float:
    """Pixels of a pattern to one of the network's, for disks of a radius in px: ⅔, 1, 2, 3, …"""
    return 1 / ENLARGED if radius < KNOWN_RADIUS else float(math.floor(radius / KNOWN_RADIUS))


def rescaled(patterns: torch.Tensor, scale: float) -> torch.Tensor:
    """(B, h, w) counts of (B, H, W) patterns on other pixels, with zeros behind for the network."""
    if scale < 1:
        grown = interpolate(
            patterns[:, None],
            scale_factor=1 / scale,
            mode="bilinear",
            align_corners=False,
            recompute_scale_factor=False,
        )
        return _padded(grown[:, 0] * scale**2, DEEPEST)
    binning = round(scale)
    padded = _padded(patterns, binning * DEEPEST)
    return padded if binning == 1 else avg_pool2d(padded[:, None], binning)[:, 0] * binning**2


def rescaled_probe(
    probe: NDArray[np.float32], scale: float, shape: tuple[int, int]
) -> torch.Tensor:
    """(h, w) the probe on other pixels, sum 1, again centred on (h // 2, w // 2).

    Parameters
    ----------
    probe : (H, W) centred on (H // 2, W // 2).
    """
    # Where a pixel's parts lie: binning sums over all of them.
    parts = max(1, round(scale))
    within = (np.arange(parts) + 0.5) / parts - 0.5
    rows, cols = (
        ((np.arange(n)[:, None] - n // 2 + within) * scale + m // 2).ravel()
        for n, m in zip(shape, probe.shape, strict=True)
    )
    fine = map_coordinates(probe, np.meshgrid(rows, cols, indexing="ij"), order=1)
    image = fine.reshape(shape[0], parts, shape[1], parts).sum((1, 3))
    return torch.from_numpy(image / image.sum()).float()


def _padded(patterns: torch.Tensor, multiple: int) -> torch.Tensor:
    more = [-n % multiple for n in patterns.shape[1:]]
    return pad(patterns, (0, more[1], 0, more[0]))
