"""Where the direct beam falls in each pattern, before any lattice is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disks import directness
from diskern.mapping.points import Points

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SAMPLE = 400  # patterns looked at where a share of the scan says as much as all of it
_DIRECT_SHARE = 0.5  # of the patterns must show what passes for the beam near one place
_NEAR = 0.3  # of the spacing of disks: nearer than that, two disks are the same reflection
_ASTRAY = 0.15  # of the spacing: how well the origin is known where its disk is not seen


@dataclass(frozen=True, eq=False)
class Origins:
    """Start values for the origin of each pattern.

    Attributes
    ----------
    position : (P, 2) row and column in px, always finite.
    sigma : (P,) in px, of one coordinate.
    seen : (P,) whether the direct beam itself was measured there.
    direct : whether the scan shows a direct beam at all (False behind a beam stop).
    spacing : median distance in px of a disk from its nearest neighbour.
    """

    position: Floats
    sigma: Floats
    seen: Bools
    direct: bool
    spacing: float


def find_origins(points: Points) -> Origins:
    """The direct beam of each pattern, or what takes its place behind a beam stop.

    The disks that are most likely it, bright and near the middle, are fitted with one plane over
    the scan (residual descan) by least absolute deviations, so diffracted disks that pass for it
    in less than half of the patterns do not count.  Where no place is common to them, the
    origin is the point about which the patterns are most symmetric (Friedel pairs).
    """
    spacing = disk_spacing(points)
    middle = (np.array(points.pattern_shape, dtype=np.float64) - 1) / 2
    full = points.counts > 0
    if not full.any():
        everywhere = np.tile(middle, (points.patterns, 1))
        unseen = np.zeros(points.patterns, dtype=bool)
        return Origins(everywhere, np.full(points.patterns, spacing), unseen, False, spacing)
    likeliest = points.position[_likeliest(points)]
    place = scan_coordinates(points.scan_shape)
    plane = _robust_plane(place[full], likeliest)
    miss = np.linalg.norm(likeliest - plane_at(plane, place[full]), axis=1)
    if (miss < _NEAR * spacing).mean() >= _DIRECT_SHARE:
        return _direct(points, plane_at(plane, place), spacing)
    centre = friedel_centre(points, spacing)
    position = np.tile(centre, (points.patterns, 1))
    sigma = np.full(points.patterns, _NEAR * spacing)
    return Origins(position, sigma, np.zeros(points.patterns, dtype=bool), False, spacing)


def _direct(points: Points, expected: Floats, spacing: float) -> Origins:
    """The brightest disk near where the plane over the scan expects it."""
    miss = np.linalg.norm(points.position - expected[points.pattern], axis=1)
    near = np.flatnonzero(miss < _NEAR * spacing)
    order = near[np.lexsort((-points.intensity[near], points.pattern[near]))]
    which, first = np.unique(points.pattern[order], return_index=True)
    chosen = order[first]
    position, sigma = expected.copy(), np.full(points.patterns, _ASTRAY * spacing)
    position[which] = points.position[chosen]
    sigma[which] = np.sqrt(points.covariance[chosen, :2].max(axis=1))
    seen = np.zeros(points.patterns, dtype=bool)
    seen[which] = True
    return Origins(position, sigma, seen, True, spacing)


def friedel_centre(points: Points, spacing: float) -> Floats:
    """(2,) row and column about which the patterns together are most nearly symmetric.

    Midpoints of all pairs of disks vote, pairs of like intensity more; the highest point of
    their density is the centre of inversion.
    """
    votes, weights = [], []
    for p in sample(points.counts >= 2, 80):
        here = slice(points.offsets[p], points.offsets[p + 1])
        position, log_i = points.position[here], np.log(np.maximum(points.intensity[here], 1e-9))
        i, j = np.triu_indices(len(position), 1)
        votes.append((position[i] + position[j]) / 2)
        weights.append(np.exp(-((log_i[i] - log_i[j]) ** 2) / 2))
    if not votes:
        return (np.array(points.pattern_shape) - 1) / 2
    place, weight = np.concatenate(votes), np.concatenate(weights)
    step = max(spacing / 12, 0.5)
    low = place.min(axis=0)
    cell = np.floor((place - low) / step).astype(np.int64)
    shape = tuple(cell.max(axis=0) + 1)
    density = np.bincount(np.ravel_multi_index(tuple(cell.T), shape), weight, int(np.prod(shape)))
    from scipy.ndimage import gaussian_filter

    smooth: Floats = gaussian_filter(density.reshape(shape), 1.0, mode="constant")
    best = low + (np.argwhere(smooth == smooth.max())[0] + 0.5) * step
    close = np.linalg.norm(place - best, axis=1) < 3 * step
    return np.asarray(np.average(place[close], axis=0, weights=weight[close]))


def disk_spacing(points: Points) -> float:
    """Median distance in px between neighbouring disks of a pattern."""
    from scipy.spatial import cKDTree

    nearest = []
    for p in sample(points.counts >= 2, 100):
        position = points.position[points.offsets[p] : points.offsets[p + 1]]
        nearest.append(np.asarray(cKDTree(position).query(position, k=2)[0])[:, 1])
    return float(np.median(np.concatenate(nearest))) if nearest else min(points.pattern_shape) / 8


def sample(eligible: Bools, most: int) -> Ints:
    """Up to ``most`` of the eligible flat positions, evenly spread (no chance in it)."""
    found = np.flatnonzero(eligible)
    if len(found) <= most:
        return found
    # A golden-ratio walk visits rows and columns of the scan evenly, whatever its width.
    steps = np.floor(np.modf(np.arange(1, most + 1) * 0.6180339887498949)[0] * len(found))
    return np.asarray(found[np.unique(steps.astype(np.int64))])


def scan_coordinates(scan_shape: tuple[int, int]) -> Floats:
    """(P, 2) scan position y and x from −1 to 1."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in scan_shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def plane_at(plane: Floats, place: Floats) -> Floats:
    """(P, 2) rows and columns of a (3, 2) plane at (P, 2) scan coordinates."""
    return np.asarray(plane[0] + place @ plane[1:])


def _likeliest(points: Points) -> Ints:
    """Index of the disk of each pattern that is most likely the direct beam, where it has any."""
    full = points.counts > 0
    score = directness(points.position, points.intensity, points.pattern_shape)
    top = np.maximum.reduceat(score, points.offsets[:-1][full])
    found = np.flatnonzero(score == top.repeat(points.counts[full]))
    pattern = points.pattern[found]
    first = np.ones(len(found), dtype=bool)
    first[1:] = pattern[1:] != pattern[:-1]
    return np.asarray(found[first])


def _robust_plane(place: Floats, position: Floats) -> Floats:
    """(3, 2) constant and slopes by least absolute deviations (reweighted least squares)."""
    keep = np.linspace(0, len(place) - 1, min(len(place), 40 * _SAMPLE)).astype(np.int64)
    place, position = place[keep], position[keep]
    design = np.concatenate([np.ones((len(place), 1)), place], axis=1)
    plane = np.zeros((3, 2))
    plane[0] = np.median(position, axis=0)
    # A small ridge on the slopes settles scans of a single row or column.
    ridge = np.diag([0.0, 1e-6, 1e-6]) * len(place)
    for _ in range(30):
        miss = np.linalg.norm(position - design @ plane, axis=1)
        weight = 1 / np.maximum(miss, 1e-2)
        normal = (design * weight[:, None]).T @ design
        plane = np.linalg.solve(normal + ridge, (design * weight[:, None]).T @ position)
    return plane
