"""Facts of a net that a network need not work out: its shape in fine steps, its nodes as a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diskern.nets.spot_set_plain import SQUARES

Floats = NDArray[np.float64]

GRID_REACH = 5
"""Largest index of a node of the grid."""
ALIKE = 0.012
"""Difference of ln|q| over which two lengths count as equal: distortion of common cameras."""
WAVES = (1, 2, 4, 8, 16)
_ANGLES = 2 * np.pi * np.array(WAVES)[:, None]
_RATIOS = 0.5 * np.log(SQUARES)
SHAPE_FIELDS = 3 + 2 * 3 * len(WAVES) + len(SQUARES)
GRID_FIELDS = (2 * GRID_REACH + 1) ** 2 - 1
DARK = -0.3
"""What a node within the pattern is worth that shows nothing; outside of it nodes are 0."""


def shape_facts(frame: Floats) -> Floats:
    """(B, `SHAPE_FIELDS`) of (B, 2, 2) reduced bases.

    First 1, and ln of the lengths of the second vector and of the shorter diagonal over that of
    the first; then waves of those and of the angle; then how near squares of ratios come to
    `SQUARES`.
    """
    sides = np.concatenate([frame, shorter(frame)[:, None]], 1)
    length = 0.5 * np.log((sides * sides).sum(2))
    relative = length - length[:, :1]
    shape = relative[:, [1, 2, 0]]
    shape[:, 2] = (frame[:, 0] * frame[:, 1]).sum(1) / np.exp(length[:, 0] + length[:, 1])
    angle = shape[:, None] * _ANGLES
    waves = np.concatenate([np.cos(angle), np.sin(angle)], 1).reshape(len(frame), -1)
    pairs = np.abs(relative[:, [1, 2, 2]] - relative[:, [0, 0, 1]])
    near = np.exp(-0.5 * ((pairs[..., None] - _RATIOS) / ALIKE) ** 2).sum(1)
    relative[:, 0] = 1
    return np.concatenate([relative, waves, near], 1)


def shorter(frame: Floats) -> Floats:
    """(B, 2) the shorter of the diagonals a + b and a − b of (B, 2, 2) bases."""
    a, b = frame[:, 0], frame[:, 1]
    return np.where(((a * b).sum(1) > 0)[:, None], a - b, a + b)


def grid_facts(level: Floats, there: NDArray[np.bool_]) -> Floats:
    """(B, `GRID_FIELDS`) brightness of the nodes about the beam.

    Parameters
    ----------
    level : (B, 2R+1, 2R+1) from 0 (dark) to 1, node (0, 0) in the middle.
    there : the same shape, which nodes are within the pattern.
    """
    margin = level.shape[1] // 2 - GRID_REACH
    inner = slice(margin, level.shape[1] - margin)
    told = np.where(level > 0, 0.3 + level, DARK) * there
    flat = told[:, inner, inner].reshape(len(level), -1)
    half = GRID_FIELDS // 2
    return np.concatenate([flat[:, :half], flat[:, half + 1 :]], 1)
