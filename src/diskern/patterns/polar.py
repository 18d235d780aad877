"""Radius and azimuth about a centre, and robust statistics in rings and sectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.patterns.geometry import Centre, Ellipse

Floats = NDArray[np.float64]


def polar_coordinates(
    shape: tuple[int, int], centre: Centre, ellipse: Ellipse | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Radius in px (ellipse taken out) and azimuth in rad, each (Q_y, Q_x) float32.

    The azimuth runs from +column towards +row, in (-π, π].
    """
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(centre.row)
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(centre.col)
    radius = np.hypot(y, x)
    azimuth = np.arctan2(y, x)
    if ellipse is not None and ellipse.ratio != 1:
        tilt = np.float32(2 * np.radians(ellipse.angle))
        radius = radius / (1 + np.float32((ellipse.ratio - 1) / 2) * np.cos(2 * azimuth - tilt))
    return radius, azimuth


def group_quantiles(
    values: NDArray[Any], groups: NDArray[np.int64], count: int, quantiles: tuple[float, ...]
) -> tuple[Floats, NDArray[np.int64]]:
    """Quantiles of ``values`` (N,) within each of ``count`` groups, fewer than 65536.

    Returns
    -------
    quantile : (len(quantiles), count), NaN for empty groups.
    size : (count,) members of each group.
    """
    # By value, then stably by group: whole numbers of 16 bits are sorted by radix.
    order = np.argsort(values)
    order = order[np.argsort(groups[order].astype(np.uint16), kind="stable")]
    ranked = values[order].astype(np.float64)
    size = np.bincount(groups, minlength=count)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    result = np.full((len(quantiles), count), np.nan)
    filled = size > 0
    for k, q in enumerate(quantiles):
        at = start[filled] + q * (size[filled] - 1)
        below = np.floor(at).astype(np.int64)
        above = np.minimum(below + 1, start[filled] + size[filled] - 1)
        part = at - below
        result[k, filled] = ranked[below] * (1 - part) + ranked[above] * part
    return result, size


def fill_gaps(values: Floats) -> Floats:
    """Replace NaN in (N,) by linear interpolation, the ends by their nearest value."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros_like(values)
    where = np.arange(len(values))
    return np.interp(where, where[known], values[known])
