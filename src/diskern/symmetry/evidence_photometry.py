"""Intensity at places where no spot may be: aperture sums with their uncertainty."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def disk_offsets(radius: float) -> NDArray[np.int64]:
    """(K, 2) pixel offsets within ``radius`` px of the middle."""
    reach = int(np.ceil(radius))
    side = np.arange(-reach, reach + 1)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    return np.asarray(grid[(grid**2).sum(1) <= radius**2])


def aperture_sums(
    image: Floats, bad: Bools, position: Floats, radius: float
) -> tuple[Floats, Floats]:
    """Sum over a disk about each position.

    Parameters
    ----------
    image : (Q_y, Q_x) background-free counts.
    bad : (Q_y, Q_x) pixels that must not be used.
    position : (N, 2) row and column in px.

    Returns
    -------
    (N,) sum, scaled up for missing pixels, and (N,) the usable share of the disk.
    """
    offsets = disk_offsets(radius)
    place = np.rint(position).astype(np.int64)[:, None] + offsets
    inside = np.asarray(((place >= 0) & (place < np.array(image.shape))).all(-1))
    row, col = np.where(inside[..., None], place, 0).reshape(-1, 2).T
    use = inside & ~bad[row, col].reshape(inside.shape)
    value = np.where(use, image[row, col].reshape(inside.shape), 0.0)
    share = use.mean(1)
    return value.sum(1) / np.maximum(share, 1e-9), share


def local_noise(position: Floats, null_position: Floats, null_sum: Floats) -> tuple[Floats, Floats]:
    """Level and scatter of aperture sums between the spots, near each position.

    Parameters
    ----------
    position : (N, 2) where it is wanted.
    null_position, null_sum : (M, 2), (M,) sums at places that hold no spot.

    Returns
    -------
    (N,) median and (N,) robust standard deviation of the nearest dozen sums.
    """
    if len(null_sum) < 3:
        widest = float(np.abs(null_sum).max(initial=1.0))
        return np.zeros(len(position)), np.full(len(position), max(widest, 1e-12))
    count = min(12, len(null_sum))
    distance = np.linalg.norm(position[:, None] - null_position, axis=-1)
    near = np.argpartition(distance, count - 1, axis=1)[:, :count]
    values = null_sum[near]
    middle = np.median(values, axis=1)
    spread = 1.4826 * np.median(np.abs(values - middle[:, None]), axis=1)
    floor = 1.4826 * np.median(np.abs(null_sum - np.median(null_sum)))
    return middle, np.maximum(spread, max(0.2 * floor, 1e-12))
