"""Peaks of a one-dimensional profile: where they are, how prominent, how wide.

`scipy.signal` answers the same, but importing it costs more than a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Peaks:
    """Local maxima of a profile, P of them, from left to right.

    Attributes
    ----------
    at : (P,) sample of each; the middle one of a flat top.
    prominence : (P,) height over the higher of the two saddles that part it from higher ground.
    left, right : (P,) positions, between samples, where the profile falls to half the prominence.
    """

    at: Ints
    prominence: Floats
    left: Floats
    right: Floats

    def __len__(self) -> int:
        return len(self.at)

    @property
    def width(self) -> Floats:
        """(P,) full width at half prominence in samples."""
        return self.right - self.left


def find_peaks_1d(profile: ArrayLike, prominence: float = 0.0) -> Peaks:
    """Local maxima that stand out by at least ``prominence``.

    Parameters
    ----------
    profile : (N,) finite values.  The first and last sample are never peaks.

    Raises
    ------
    DiskernError
        For a profile that is not one row of finite numbers.
    """
    line = np.asarray(profile, dtype=np.float64)
    if line.ndim != 1 or not np.isfinite(line).all():
        raise DiskernError(f"profile of shape {line.shape} is not one row of finite numbers")
    at, height, left, right = [], [], [], []
    for peak in _maxima(line).tolist():
        low, high = _domain(line, peak)
        saddle = max(line[low : peak + 1].min(), line[peak : high + 1].min())
        if line[peak] - saddle < prominence:
            continue
        level = 0.5 * (line[peak] + saddle)
        at.append(peak)
        height.append(line[peak] - saddle)
        left.append(peak - _fall(line[low : peak + 1][::-1], level))
        right.append(peak + _fall(line[peak : high + 1], level))
    return Peaks(np.array(at, dtype=np.int64), np.array(height), np.array(left), np.array(right))


def _maxima(line: Floats) -> Ints:
    """Samples, or middles of level runs, that are higher than what lies on both sides."""
    start = np.flatnonzero(np.concatenate([[True], np.diff(line) != 0]))
    if len(start) < 3:
        return np.zeros(0, dtype=np.int64)
    end = np.concatenate([start[1:], [len(line)]]) - 1
    value = line[start]
    top = np.flatnonzero((value[1:-1] > value[:-2]) & (value[1:-1] > value[2:])) + 1
    return np.asarray((start[top] + end[top]) // 2)


def _domain(line: Floats, peak: int) -> tuple[int, int]:
    """First and last sample around a peak with nothing higher in between."""
    higher = np.flatnonzero(line > line[peak])
    place = int(np.searchsorted(higher, peak))
    low = int(higher[place - 1]) + 1 if place else 0
    high = int(higher[place]) - 1 if place < len(higher) else len(line) - 1
    return low, high


def _fall(outward: Floats, level: float) -> float:
    """Distance at which a profile that starts above ``level`` comes down to it."""
    under = np.flatnonzero(outward <= level)
    if not len(under):
        return float(len(outward) - 1)
    i = int(under[0])
    if i == 0 or outward[i] == level:
        return float(i)
    return float(i - (level - outward[i]) / (outward[i - 1] - outward[i]))
