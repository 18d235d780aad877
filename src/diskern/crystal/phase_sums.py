"""Sums of scattered waves over the atoms of a cell, for a whole box of reflections at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHUNK = 2**22
"""Reflection × atom products held at a time (64 MB of complex128)."""


def phase_sums(fractional: Floats, weights: Floats, axes: Sequence[Ints]) -> NDArray[np.complex128]:
    """(H, K, L) sums Σ w exp(-2πi h·r) over the atoms.

    exp(-2πi h·r) is a product over the three axes, so the sum over the atoms is a matrix product:
    tens of times quicker than one exponential per reflection and atom.

    Parameters
    ----------
    fractional : (N, 3) positions in the cell.
    weights : (N,) amplitude of each atom.
    axes : (H,), (K,) and (L,) indices along each reciprocal axis.
    """
    total = np.zeros([len(a) for a in axes], dtype=np.complex128)
    step = max(1, CHUNK // (len(axes[1]) * len(axes[2])))
    for start in range(0, len(fractional), step):
        some = slice(start, start + step)
        waves = [
            np.exp(-2j * math.pi * a[:, None] * fractional[some, d]) for d, a in enumerate(axes)
        ]
        plane = (waves[1][:, None] * waves[2]).reshape(-1, waves[2].shape[1])
        total += ((waves[0] * weights[some]) @ plane.T).reshape(total.shape)
    return total
