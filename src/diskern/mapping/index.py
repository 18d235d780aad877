"""Indexing of a scan: which lattices each pattern shows, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.lattice_reduce import reduced
from diskern.bragg.vectors import BraggVectors
from diskern.errors import DiskernError
from diskern.mapping.bases import CONVINCING, find_bases, fit_basis, start_at
from diskern.mapping.fit import LatticeFits, Noise, fit_lattice
from diskern.mapping.grains import larger_first, one_setting
from diskern.mapping.lattice_map import LatticeMap, Reason
from diskern.mapping.noise import estimate_noise
from diskern.mapping.origin import Origins, find_origins, sample
from diskern.mapping.points import Points, per_pattern_sum
from diskern.mapping.slots import Slots

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_ANOTHER = 8.0  # ln odds that a further lattice must reach: few patterns have one
_OWN = 4  # disks that a further lattice needs of its own
_ROUNDS = 3
_LEFT_OVER = 0.004  # share of the scan that must be unexplained for another search
_CONTENDERS = 2  # lattices fitted in full to each pattern
_HOPELESS = 20.0  # ln odds by which a lattice may trail another before any fit


@dataclass(frozen=True)
class IndexOptions:
    """How a scan is indexed.

    Attributes
    ----------
    max_lattices : most lattices per pattern (overlapping grains, twins).
    deformation : rms strain and rotation (per component, without unit) to expect within one
        lattice; several times as much is still indexed.
    """

    max_lattices: int = 2
    deformation: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.max_lattices <= 8:
            raise DiskernError(f"max_lattices={self.max_lattices}; give 1 to 8")
        if not 1e-4 <= self.deformation <= 0.1:
            raise DiskernError(f"deformation={self.deformation}; give 0.0001 to 0.1")


def index_vectors(
    vectors: BraggVectors | Points,
    *,
    bases: ArrayLike | None = None,
    options: IndexOptions | None = None,
) -> LatticeMap:
    """Find the lattices of a scan and index every pattern with them.

    Parameters
    ----------
    vectors : Bragg vectors, raw detector positions.
    bases : (K, 2, 2) or (2, 2) known lattices, rows a and b as (row, column) in px; found
        from the scan by default.

    Returns
    -------
    Per pattern up to ``max_lattices`` lattices, each with a free origin and basis from a robust
    least-squares fit weighted by the disks' covariances.  Patterns that no lattice explains are
    flagged and NaN.

    Raises
    ------
    DiskernError
        For bases that span no lattice, or impossible options.
    """
    points, options = Points.of(vectors), options or IndexOptions()
    origins = find_origins(points)
    noise = Noise(deformation=options.deformation)
    if not points.covariance.any():
        noise = replace(noise, excess=max(0.25, (0.01 * origins.spacing) ** 2))
    given = None if bases is None else reduced(np.asarray(bases, dtype=np.float64))
    found = given if given is not None else np.zeros((0, 2, 2))
    found = found.reshape(-1, 2, 2)
    work = Slots.empty(points, options.max_lattices)
    for turn in range(1 if given is not None else _ROUNDS):
        left = work.reason != Reason.INDEXED
        if given is None:
            fresh = find_bases(points, origins, noise, left)
            fresh = fresh[: len(fresh) if turn == 0 else 8]
            found = np.concatenate([found, fresh])
            if not len(fresh):
                break
        if turn == 0:
            noise = _calibrated(points, origins, found, noise)
        _assign(work, points, origins, found, noise, np.flatnonzero(left & (points.counts >= 3)))
        work.judge(points, noise)
        if (work.reason == Reason.UNEXPLAINED).mean() <= _LEFT_OVER:
            break
    work.judge(points, noise)
    return larger_first(one_setting(work.as_map(points, found, noise), options.deformation))


def _calibrated(points: Points, origins: Origins, bases: Floats, noise: Noise) -> Noise:
    """The scatter found in a sample, fitted twice: the second time with the first's scatter."""
    chosen = sample(points.counts >= 4, 512)
    if not len(chosen) or not len(bases):
        return noise
    here, at = points.take(chosen), _taken(origins, chosen)
    for _ in range(2):
        best = _best_of(here, at, bases, noise)[1]
        believed = best.evidence > CONVINCING
        member = best.member * believed[here.pattern]
        noise = estimate_noise(here, replace(best, member=member), noise)
    return noise


def _assign(
    work: Slots, points: Points, origins: Origins, bases: Floats, noise: Noise, which: Ints
) -> None:
    """The lattices of these patterns, one slot after the other."""
    if not len(which) or not len(bases):
        return
    here, at = points.take(which), _taken(origins, which)
    label, fits = _best_of(here, at, bases, noise)
    accepted = fits.evidence > CONVINCING
    work.put(0, which, points, label, fits, accepted)
    claimed = fits.member * accepted[here.pattern]
    labels = [np.where(accepted, label, -1)]
    for slot in range(1, len(work.label) if len(bases) > 1 else 0):
        beam = (fits.indices == 0).all(axis=1) & (claimed > 0.5)
        left = per_pattern_sum((1 - claimed)[None], here.offsets)[0]
        more = np.flatnonzero(accepted & (left >= _OWN))
        if not len(more):
            break
        part = here.disks_of(more)
        free = np.where(beam[part], 1.0, 1 - claimed[part])
        taken = [other[more] for other in labels]
        label, fits_more = _best_of(here.take(more), _taken(at, more), bases, noise, free, taken)
        own = per_pattern_sum((fits_more.member * ~beam[part])[None], here.take(more).offsets)[0]
        good = (fits_more.evidence > _ANOTHER) & (own >= _OWN)
        work.put(slot, which[more], points, label, fits_more, good)
        claimed[part] = np.maximum(
            claimed[part], fits_more.member * np.repeat(good, here.counts[more])
        )
        accepted = np.zeros_like(accepted)
        accepted[more] = good
        everywhere = np.full(len(which), -1)
        everywhere[more] = np.where(good, label, -1)
        labels.append(everywhere)


def _best_of(
    points: Points,
    origins: Origins,
    bases: Floats,
    noise: Noise,
    free: Floats | None = None,
    taken: list[Ints] | None = None,
) -> tuple[Ints, LatticeFits]:
    """(P,) the basis of most evidence and its fit; those already ``taken`` do not run."""
    rank = _promise(points, origins, bases, noise, free)
    every = np.arange(points.patterns)
    for held in taken or []:
        rank[np.maximum(held, 0), every] -= np.where(held >= 0, 1e9, 0.0)
    order = np.argsort(-rank, axis=0)[:_CONTENDERS]
    best_label = order[0]
    best = _fit(points, origins, bases[best_label], noise, free)
    best.evidence[rank[best_label, every] < -1e8] = -np.inf
    for contender in order[1:]:
        close = np.flatnonzero(rank[contender, every] > rank[best_label, every] - _HOPELESS)
        if not len(close):
            continue
        disks = points.disks_of(close)
        part = None if free is None else free[disks]
        other = _fit(
            points.take(close), _taken(origins, close), bases[contender[close]], noise, part
        )
        better = other.evidence > best.evidence[close]
        best_label = best_label.copy()
        best_label[close[better]] = contender[close[better]]
        _overwrite(best, other, close, disks, better, points.counts[close])
    return best_label, best


def _fit(
    points: Points, origins: Origins, bases: Floats, noise: Noise, free: Floats | None
) -> LatticeFits:
    if free is None:
        return fit_basis(points, origins, bases, noise)
    start, sigma = start_at(points, origins, bases)
    return fit_lattice(points, start, sigma, noise, free)


def _promise(
    points: Points, origins: Origins, bases: Floats, noise: Noise, free: Floats | None
) -> Floats:
    """(K, P) ln odds of each basis over clutter before any fit, deformation allowed for."""
    if len(bases) == 1:
        return np.zeros((1, points.patterns))
    out = np.empty((len(bases), points.patterns))
    own = points.covariance[:, :2].mean(axis=1) + noise.excess
    for k, basis in enumerate(bases):
        start, sigma = start_at(points, origins, np.broadcast_to(basis, (points.patterns, 2, 2)))
        relative = points.position - start[points.pattern, 0]
        residual = relative - np.rint(relative @ np.linalg.inv(basis)) @ basis
        reach = (relative**2).sum(axis=1) * noise.deformation**2
        spread = own + sigma[points.pattern] ** 2 + reach
        density = abs(np.linalg.det(basis)) / (2 * np.pi * spread)
        squared = (residual**2).sum(axis=1) / spread
        # A spread as wide as the cell tells nothing: the likelihood ratio is then 1.
        odds = np.where(density > 1, density * np.exp(-squared / 2), 1.0)
        log = np.log((1 - noise.clutter) * odds + noise.clutter)
        out[k] = per_pattern_sum((log if free is None else log * free)[None], points.offsets)[0]
    return out


def _overwrite(
    best: LatticeFits, other: LatticeFits, close: Ints, disks: Ints, better: Bools, counts: Ints
) -> None:
    """Put the better fits of some patterns in place of the ones held."""
    rows, theirs = close[better], np.flatnonzero(better)
    for name in ("parameters", "covariance", "evidence", "chi2", "count"):
        getattr(best, name)[rows] = getattr(other, name)[theirs]
    moved = np.repeat(better, counts)
    for name in ("indices", "member", "residual"):
        getattr(best, name)[disks[moved]] = getattr(other, name)[moved]


def _taken(origins: Origins, which: Ints) -> Origins:
    return Origins(
        origins.position[which],
        origins.sigma[which],
        origins.seen[which],
        origins.direct,
        origins.spacing,
    )
