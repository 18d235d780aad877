"""Radius and rim of a round probe: those with which the disks of a scan are measured best.

What diffraction draws inside disks is fitted together with them, and makes up for a wrong rim in
part: the likelihood of the fit tells the radius within some percent, no better.  What a wrong probe
does is to pull disks to their fringes, each its own way, and so off the rows of their lattice.  The
probe is the one that leaves them on straight, even rows; no lattice needs to be known for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disks import Candidates, Disks

Floats = NDArray[np.float64]

FITTED, IN_ROWS = 60, 240
"""Disks of the first patterns that are fitted for their likelihood, and for their rows."""
STRONG = 8.0
"""Least signal-to-noise ratio of a disk whose likelihood counts."""
LEANING = 0.06
"""How far the likelihood of a disk may pull ln of the radius from where it began."""
ROWS, STEPS = 60, 2.5
"""Threes of disks in a row that tell a probe, and how far apart those may be, in steps to the next
disk."""
ASIDE = 0.3
"""Of the way to the next disk that the last of three may lie off the row."""
EDGES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Widths of rims in px that are tried."""
WIDEST = 0.4
"""The largest, of the radius."""
BLUNT, SHARE = 0.7, 0.12
"""The largest that likelihood alone may choose, in px or of the radius: a wide rim fits fringes."""
PLAINLY = 0.9
"""What must be left of the way off the rows, or of χ², for another probe to be better."""


def fitted_probe(
    electrons: NDArray[np.float32], good: NDArray[np.bool_], disks: Disks, radius: float
) -> Probe:
    """The round probe of disks that were found with one of about its size.

    Parameters
    ----------
    electrons : (B, H, W).
    good : (H, W) pixels to use.
    disks : of the patterns.
    radius : px, within some 15 %.
    """
    shape = (good.shape[0], good.shape[1])
    area = np.pi * radius**2
    wander = _off_rows_with(electrons, good, disks)

    def likelihood(edge: float, size: float) -> float:
        if edge > max(BLUNT, SHARE * size):
            return np.inf
        away = float(np.log(size / radius)) / LEANING
        return _misfit(electrons, good, disks, Probe.synthetic(shape, size, edge), area) + away**2

    def unevenness(edge: float, size: float) -> float:
        if wander is None:
            return likelihood(edge, size)
        return wander(Probe.synthetic(shape, size, edge)) if edge < WIDEST * size else np.inf

    edge, size = _best(likelihood, [BLUNT], radius * np.arange(0.8, 1.21, 0.05))
    edge, size = _best(unevenness, EDGES, size * np.array([0.94, 1.0, 1.06]))
    edge, size = _best(unevenness, [edge], size * np.array([0.96, 0.98, 1.0, 1.02, 1.04]))
    return Probe.synthetic(shape, size, edge)


def is_better(
    electrons: NDArray[np.float32],
    good: NDArray[np.bool_],
    disks: Disks,
    other: Probe,
    probe: Probe,
) -> bool:
    """Whether disks are plainly measured better with another probe than with this one."""
    wander = _off_rows_with(electrons, good, disks)
    if wander is not None:
        return bool(wander(other) < PLAINLY * wander(probe))
    area = np.pi * probe.radius**2
    plain, own = (_misfit(electrons, good, disks, p, area) for p in (probe, other))
    return bool(own < plain + np.log(PLAINLY) * area)


def _off_rows_with(
    electrons: NDArray[np.float32], good: NDArray[np.bool_], disks: Disks
) -> Callable[[Probe], float] | None:
    """How far off their rows a probe leaves disks, in px; None where too few are in rows."""
    shown = _first(disks, IN_ROWS)
    rows = in_rows(shown.pattern, np.stack([shown.row, shown.col], 1))
    if len(rows) < ROWS:
        return None

    def wander(probe: Probe) -> float:
        fit = refine_disks(electrons, probe, _places(shown), mask=good)
        return off_rows(np.stack([fit.row, fit.col], 1), rows)

    return wander


def _misfit(
    electrons: NDArray[np.float32],
    good: NDArray[np.bool_],
    disks: Disks,
    probe: Probe,
    area: float,
) -> float:
    """How badly the first disks are fitted with a probe, fringes and all.

    Minus twice the logarithm of the likelihood of a disk, whose area in px is given.
    """
    shown = _first(disks, FITTED)
    strong = shown.intensity > STRONG * shown.sigma_intensity
    fit = refine_disks(electrons, probe, _places(shown), mask=good)
    # Fringes that the fit draws could make up for a wrong rim: each term has its price.
    terms = (fit.order + 1) * (fit.order + 2) / 2
    each = np.log(np.clip(fit.chi2, 1e-3, 1e6)) * area + terms * np.log(area)
    return float(np.mean(each[strong] if strong.any() else each))


def in_rows(pattern: NDArray[np.int64], places: Floats) -> NDArray[np.int64]:
    """(T, 3) numbers of disks that follow each other at about equal steps.

    Parameters
    ----------
    pattern : (N,) number of the pattern of each disk.
    places : (N, 2) px.
    """
    found = [np.zeros((0, 3), dtype=np.int64)]
    for number in np.unique(pattern):
        mine = np.flatnonzero(pattern == number)
        if len(mine) < 3:
            continue
        place = places[mine]
        tree = cKDTree(place)
        step = float(np.median(np.asarray(tree.query(place, 2)[0])[:, 1]))
        middle, first = (index.ravel() for index in np.indices((len(mine), len(mine))))
        away, last = tree.query(2 * place[middle] - place[first])
        near = np.hypot(*(place[middle] - place[first]).T) < STEPS * step
        kept = near & (away < ASIDE * step) & (first < last) & (first != middle)
        found.append(mine[np.stack([first, middle, last], 1)[kept]])
    return np.concatenate(found)


def off_rows(places: Floats, rows: NDArray[np.int64]) -> float:
    """Median px by which (N, 2) places miss the rows that (T, 3) of them make, for one place."""
    first, middle, last = (places[rows[:, k]] for k in range(3))
    return float(np.median(np.hypot(*(first + last - 2 * middle).T)) / np.sqrt(6))


def _first(disks: Disks, count: int) -> Disks:
    """Those of the first patterns: whole ones, so that no neighbour is missing in the fit."""
    return disks.select(disks.pattern <= np.sort(disks.pattern)[:count][-1])


def _places(disks: Disks) -> Candidates:
    return Candidates.at(disks.pattern, disks.row, disks.col)


def _best(
    badness: Callable[[float, float], float], edges: Iterable[float], sizes: Floats
) -> tuple[float, float]:
    """Of rims and radii."""
    tried = [(edge, float(size)) for edge in edges for size in sizes]
    return min(tried, key=lambda at: badness(*at))
