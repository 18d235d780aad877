"""The lattices of a scan, found without anybody naming a basis vector.

Single patterns, evenly spread, are searched for lattices until what has been found explains the
sample; equal lattices in other settings are merged, and those the sample can do without are
dropped.  Where single patterns show too few disks, the differences between disks of all
patterns together are searched in their place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice_fit import fit_lattices
from diskern.bragg.lattice_reduce import reduced
from diskern.bragg.spots import Spots
from diskern.mapping.fit import LatticeFits, Noise, fit_lattice
from diskern.mapping.origin import Origins, sample
from diskern.mapping.points import Points, per_pattern_sum
from diskern.patterns.geometry import Centre

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CONVINCING = 5.0
"""ln odds (150 : 1) over chance below which no lattice is believed in a pattern."""

_SAMPLE = 256
_SEARCHES = 48  # single patterns searched at most
_AT_ONCE = 6
_FEWEST = 5  # disks a pattern needs to be searched on its own
_UNEXPLAINED = 0.35  # share of a pattern's disks (at least 4) that calls for another lattice
_SAME = 2.5  # deformations nearer than this many times the expected one: the same lattice
_SUPPORT = 20.0  # ln odds beyond `CONVINCING`, over all its patterns, of a lattice of the scan
_TWIN = 0.4  # two lattices of one pattern that differ by less are one found twice
_NEEDED = 5.0  # ln evidence that the sample must lose for a lattice to be kept
_PHASES = 12  # cells along a lattice vector in which phases are counted
_SPREAD = 0.08  # of a lattice vector: scatter of phases under strain
_PEAK = 6.0  # standard deviations by which a difference must stand out when they are pooled


def find_bases(points: Points, origins: Origins, noise: Noise, among: Bools) -> Floats:
    """The lattices that a sample of the patterns needs.

    Parameters
    ----------
    origins : as from `find_origins`, of the same patterns.
    noise : expected scatter; its ``deformation`` decides which lattices are one.
    among : (P,) patterns to look at.

    Returns
    -------
    (K, 2, 2) reduced bases in px, the one most patterns need first; K may be 0.
    """
    chosen = sample(among & (points.counts >= 3), _SAMPLE)
    if not len(chosen):
        return np.zeros((0, 2, 2))
    here = points.take(chosen)
    at = Origins(
        origins.position[chosen],
        origins.sigma[chosen],
        origins.seen[chosen],
        origins.direct,
        origins.spacing,
    )
    bases = _searched(here, at, noise)
    if not len(bases):
        bases = _pooled(here, at)
    return _needed(bases, here, at, noise)


def start_at(points: Points, origins: Origins, basis: Floats) -> tuple[Floats, Floats]:
    """(P, 3, 2) start of a fit and (P,) sigma of its origin.

    Where the direct beam was not seen, the origin follows from the phase of the disks against
    the lattice, up to a lattice vector.

    Parameters
    ----------
    basis : (P, 2, 2) of each pattern.
    """
    start = np.concatenate([origins.position[:, None], basis], axis=1)
    shortest = np.linalg.norm(basis, axis=2).min(axis=1)
    sigma = np.maximum(origins.sigma, 0.01 * shortest)
    blind = ~origins.seen & (points.counts > 0)
    if blind.any():
        moved, certainty = _phase(points, start)
        start[blind, 0] = moved[blind]
        sigma = np.where(blind, certainty * shortest, sigma)
    return start, sigma


def _phase(points: Points, start: Floats) -> tuple[Floats, Floats]:
    """(P, 2) origins by the commonest phase of the disks, (P,) sigma in lattice vectors.

    A mode, not a mean: disks of another lattice have any phase and must not pull.
    """
    mn = np.einsum(
        "ni,nij->nj",
        points.position - start[points.pattern, 0],
        np.linalg.inv(start[:, 1:])[points.pattern],
    )
    weight = np.exp(-((mn**2).sum(axis=1)) / 18)  # far nodes are out of step under strain
    cell = np.floor(np.mod(mn, 1) * _PHASES).astype(np.int64) % _PHASES
    flat = (points.pattern * _PHASES + cell[:, 0]) * _PHASES + cell[:, 1]
    votes = np.bincount(flat, weight, points.patterns * _PHASES**2)
    votes = votes.reshape(-1, _PHASES, _PHASES)
    for axis in (1, 2):
        votes = 2 * votes + np.roll(votes, 1, axis) + np.roll(votes, -1, axis)
    best = votes.reshape(len(votes), -1).argmax(axis=1)
    shift = (np.stack(np.divmod(best, _PHASES), axis=1) + 0.5) / _PHASES
    for _ in range(2):
        away = mn - shift[points.pattern]
        away -= np.rint(away)
        close = weight * np.exp(-((away**2).sum(axis=1)) / (2 * _SPREAD**2))
        sums = per_pattern_sum(np.stack([close, *(close * away.T)]), points.offsets)
        shift += (sums[1:] / np.maximum(sums[0], 1e-9)).T
    shift -= np.rint(shift)
    certainty = np.clip(0.1 / np.sqrt(np.maximum(sums[0], 1e-9)), 0.02, 0.1)
    return start[:, 0] + np.einsum("pi,pij->pj", shift, start[:, 1:]), certainty


def fit_basis(points: Points, origins: Origins, basis: Floats, noise: Noise) -> LatticeFits:
    """Fit one (2, 2) basis, or one of (P, 2, 2), to every pattern."""
    bases = np.broadcast_to(basis, (points.patterns, 2, 2))
    start, sigma = start_at(points, origins, bases)
    return fit_lattice(points, start, sigma, noise)


def same_lattice(basis: Floats, reference: Floats) -> tuple[Ints, Floats]:
    """How (…, 2, 2) bases are the lattice of a reference in another setting, deformed.

    Returns
    -------
    (…, 2, 2) integer transforms T with basis ≈ T @ reference, and (…) rms component of the
    deformation left, infinite where T is not unimodular.
    """
    ratio = basis @ np.linalg.inv(reference)
    whole = np.rint(ratio)
    unimodular = np.abs(np.abs(np.linalg.det(whole)) - 1) < 0.5
    safe = np.where(unimodular[..., None, None], whole, np.eye(2))
    left = np.linalg.inv(reference) @ np.linalg.inv(safe) @ basis - np.eye(2)
    size = np.sqrt((left**2).mean(axis=(-2, -1)))
    return whole.astype(np.int64), np.where(unimodular, size, np.inf)


def _searched(points: Points, origins: Origins, noise: Noise) -> Floats:
    """Bases found in single patterns until together they explain the sample."""
    bases: list[Floats] = []
    closed = points.counts < _FEWEST
    claimed = np.zeros(len(points))
    tried = 0
    while tried < _SEARCHES:
        left = per_pattern_sum((1 - claimed)[None], points.offsets)[0]
        enough = left >= np.maximum(4, _UNEXPLAINED * points.counts)
        batch = _simplest(points, enough & ~closed)
        if not len(batch):
            break
        closed[batch] = True
        tried += len(batch)
        found = [_in_pattern(points, origins, int(p), claimed) for p in batch]
        for basis in [fresh for one in found for fresh in _fresh(bases, one, noise)]:
            fits = fit_basis(points, origins, basis, noise)
            held = fits.member * (fits.evidence > CONVINCING)[points.pattern]
            claimed = np.maximum(claimed, held)
    return np.array(bases).reshape(-1, 2, 2)


def _fresh(bases: list[Floats], found: list[Floats], noise: Noise) -> list[Floats]:
    """New lattices of one pattern, added to those known."""
    fresh = _merge(bases, found, noise.deformation)
    bases.extend(fresh)
    return fresh


def _simplest(points: Points, open_to: Bools) -> Ints:
    """A few patterns to search next: those with fewer disks show one lattice more often."""
    if not open_to.any():
        return np.zeros(0, dtype=np.int64)
    usual = np.median(points.counts[open_to])
    return sample(open_to & (points.counts <= usual), _AT_ONCE)


def _in_pattern(points: Points, origins: Origins, p: int, claimed: Floats) -> list[Floats]:
    """Reduced bases of the lattices of the disks that nothing explains yet, strongest first."""
    here = slice(points.offsets[p], points.offsets[p + 1])
    position = points.position[here]
    centre = origins.position[p]
    order = np.argsort(-points.intensity[here])
    order = order[claimed[here][order] < 0.5]
    if origins.seen[p]:
        away = np.linalg.norm(position - centre, axis=1) > 0.1 * origins.spacing
        order = order[away[order]]
    sigma = np.sqrt(np.maximum(points.covariance[here][:, :2], 1e-3))
    spots = Spots(
        position[order],
        sigma[order],
        points.intensity[here][order],
        np.sqrt(np.maximum(points.intensity[here][order], 1.0)),
        np.full(len(order), 0.1 * origins.spacing),
    )
    if len(spots) < 4:
        return []
    beam = Centre(float(centre[0]), float(centre[1]), float(max(origins.sigma[p], 0.1)), "scan")
    lattices = fit_lattices(spots, beam, points.pattern_shape, max_lattices=2)
    return [lattice.basis for lattice in lattices if lattice.rank == 2]


def _merge(known: list[Floats], found: list[Floats], deformation: float) -> list[Floats]:
    """What one pattern shows and is not known.

    Each known lattice stands for one of the pattern's lattices only: two of them that differ
    little (a small twist) are two.
    """
    fresh: list[Floats] = []
    taken: set[int] = set()
    for basis in found:
        others = [*known, *fresh]
        size = same_lattice(basis, np.array(others))[1] if others else np.zeros(0)
        near = [k for k in np.argsort(size).tolist() if size[k] < _SAME * deformation]
        if any(k in taken and size[k] < _TWIN * deformation for k in near):
            continue
        free = [k for k in near if k not in taken]
        if free:
            taken.add(free[0])
            continue
        taken.add(len(others))
        fresh.append(reduced(basis))
    return fresh


def _pooled(points: Points, origins: Origins) -> Floats:
    """Bases from the differences between disks of all patterns together."""
    from scipy import ndimage

    differences = []
    for p in range(points.patterns):
        position = points.position[points.offsets[p] : points.offsets[p + 1]]
        i, j = np.nonzero(~np.eye(len(position), dtype=bool))
        differences.append(position[i] - position[j])
    step = max(origins.spacing / 16, 0.5)
    vectors = np.concatenate(differences) / step
    half = int(np.ceil(np.abs(vectors).max())) + 2 if len(vectors) else 2
    cell = np.rint(vectors).astype(np.int64) + half
    side = 2 * half + 1
    histogram = np.bincount(cell[:, 0] * side + cell[:, 1], minlength=side**2).astype(np.float64)
    density = ndimage.gaussian_filter(histogram.reshape(side, side), 1.0)
    usual = ndimage.uniform_filter(density, 24)
    noise = np.sqrt(np.maximum(usual, 1 / side) / (4 * np.pi))
    top = (density == ndimage.maximum_filter(density, 7)) & (density > usual + _PEAK * noise)
    peaks = np.argwhere(top)
    if len(peaks) < 4:
        return np.zeros((0, 2, 2))
    height = density[top]
    order = np.argsort(-height)[:60]
    spots = Spots(
        peaks[order].astype(np.float64),
        np.full((len(order), 2), 0.5),
        height[order],
        np.sqrt(height[order]),
        np.full(len(order), 2.0),
    )
    lattices = fit_lattices(spots, Centre(half, half, 0.2, "differences"), (side, side))
    found = [lattice.basis * step for lattice in lattices if lattice.rank == 2]
    return np.array(found).reshape(-1, 2, 2)


def _needed(bases: Floats, points: Points, origins: Origins, noise: Noise) -> Floats:
    """The bases without which the sample would be explained worse, most used first.

    Of a lattice and its own coarser or finer net, the one that explains more is kept.  A lattice
    that is nowhere the best is kept where it explains what the others leave.
    """
    if not len(bases):
        return bases
    fits = [fit_basis(points, origins, basis, noise) for basis in bases]
    evidence = np.maximum(np.array([f.evidence for f in fits]), 0.0)
    able = _without_nested(bases, evidence, noise.deformation)
    if not able:
        return np.zeros((0, 2, 2))
    keep = _winners(able, evidence)
    best = evidence[keep].max(axis=0)
    used = [int(((evidence[k] >= best) & (best > 0)).sum()) for k in keep]
    centred = [_middle(bases[k], fits[k], best, evidence[k]) for k in keep]
    order = np.argsort(-np.array(used), kind="stable")
    below = _beneath([k for k in able if k not in keep], keep, bases, fits, points, origins, noise)
    chosen = [centred[i] for i in order if used[i] > 0] + [bases[k] for k in below]
    return np.array(chosen).reshape(-1, 2, 2)


def _without_nested(bases: Floats, evidence: Floats, deformation: float) -> list[int]:
    """Bases with support beyond chance, one of each coarser and finer pair left out."""
    support = np.maximum(evidence - CONVINCING, 0).sum(axis=1)
    keep: list[int] = np.flatnonzero(support > _SUPPORT).tolist()
    for i in range(len(bases)):
        for j in range(len(bases)):
            if i in keep and j in keep and _nested(bases[i], bases[j], deformation):
                either = evidence[[i, j]].max(axis=0) > CONVINCING
                worse = i if evidence[i, either].sum() < evidence[j, either].sum() else j
                keep.remove(worse)
    return keep


def _winners(able: list[int], evidence: Floats) -> list[int]:
    """Those that cannot be missed where they are the best."""
    keep = list(able)
    while len(keep) > 1:
        best = np.sort(evidence[keep], axis=0)
        gain = [float((best[-1] - best[-2])[evidence[k] == best[-1]].sum()) for k in keep]
        least = int(np.argmin(gain))
        if gain[least] >= _NEEDED:
            break
        keep.pop(least)
    return keep


def _beneath(
    others: list[int],
    keep: list[int],
    bases: Floats,
    fits: list[LatticeFits],
    points: Points,
    origins: Origins,
    noise: Noise,
) -> list[int]:
    """Of the others, those that the disks left by the kept ones support: overlapping grains."""
    claimed = np.zeros(len(points))
    for k in keep:
        held = fits[k].member * (fits[k].evidence > CONVINCING)[points.pattern]
        held[(fits[k].indices == 0).all(axis=1)] = 0  # the direct beam is everybody's
        claimed = np.maximum(claimed, held)
    found = []
    for k in others:
        every = np.broadcast_to(bases[k], (points.patterns, 2, 2))
        start, sigma = start_at(points, origins, every)
        left = fit_lattice(points, start, sigma, noise, 1 - claimed)
        if np.maximum(left.evidence - CONVINCING, 0).sum() > _SUPPORT:
            found.append(k)
            held = left.member * (left.evidence > CONVINCING)[points.pattern]
            held[(left.indices == 0).all(axis=1)] = 0
            claimed = np.maximum(claimed, held)
    return found


def _nested(coarse: Floats, fine: Floats, deformation: float) -> bool:
    """Whether one lattice is a sublattice of index 2 or more of the other."""
    ratio = coarse @ np.linalg.inv(fine)
    whole = np.rint(ratio)
    if abs(np.linalg.det(whole)) < 1.5:
        return False
    left = np.linalg.inv(fine) @ np.linalg.inv(whole) @ coarse - np.eye(2)
    return bool(np.sqrt((left**2).mean()) < _SAME * deformation)


def _middle(basis: Floats, fits: LatticeFits, best: Floats, mine: Floats) -> Floats:
    """The median of the bases fitted where this lattice is the best."""
    own = (mine >= best) & (mine > CONVINCING)
    if own.sum() < 3:
        return basis
    return np.asarray(np.median(fits.parameters[own, 1:], axis=0))
