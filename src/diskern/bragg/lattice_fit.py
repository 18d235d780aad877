"""Fit of one or more two-dimensional lattices to the spots of a pattern.

The lattice is proposed by differences between spots, grown by expectation–maximisation of
"nodes + clutter", and weighed against finer and coarser nets, rows, and chance by its evidence:
every node that could show and does not counts against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.lattice_evidence import Verdict, at_beam, claimed, judge
from diskern.bragg.lattice_nets import Nets, grow, match
from diskern.bragg.lattice_overlap import shared_row, twice_diffracted
from diskern.bragg.lattice_reduce import reduction, transform_covariance
from diskern.bragg.lattice_search import coarser, search
from diskern.bragg.lattice_sight import Sight, look
from diskern.bragg.spots import Spots
from diskern.errors import DiskernError
from diskern.patterns.geometry import Centre, Ellipse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_CONVINCING = 3.0  # ln odds over chance (20 : 1) below which no lattice is reported
_ANOTHER = 8.0  # ln odds that a further lattice must reach: few patterns have one
_KIN = 8.0  # most that a row shared with the first lattice may add to that
_LOOSER = 2.5  # most that a further lattice may scatter, over the first
_SPARSE = 0.15  # a further lattice that shows less of its nodes is a mesh that catches anything
_WELL_LIT = 0.7  # a lattice that shows more of its nodes is no finer net over two coarser ones
_POLISH = 6
_CONFLICT = 4.0  # squared standardised distance by which a spot must favour another lattice


def fit_lattices(
    spots: Spots,
    centre: Centre,
    shape: tuple[int, int],
    *,
    flaws: NDArray[np.uint16] | None = None,
    ellipse: Ellipse | None = None,
    max_lattices: int = 4,
) -> tuple[Lattice2D, ...]:
    """The lattices, or the row, that the spots of one image give evidence for.

    Parameters
    ----------
    spots : 3 to some hundred spots, any part of them spurious.
    centre : direct beam; known only to its sigma, and a node of every lattice.
    shape : (Q_y, Q_x) of the image.
    flaws : (Q_y, Q_x) bits of `diskern.patterns.geometry.Flaw`; nodes behind a beam stop or an
        overlay are not missed.
    ellipse : distortion of the image.  A lattice stays one under it, so it does not enter the
        fit; it is taken for symmetry with `diskern.bragg.metric.metric`, where it matters.
    max_lattices : most lattices to report (twins, overlapping grains).

    Returns
    -------
    Most convincing explanation first; () where the spots give evidence for none.

    Raises
    ------
    DiskernError
        For an impossible shape, mask or number of lattices.
    """
    _check(shape, flaws, max_lattices)
    sight, index = look(spots, centre, shape, flaws)
    if len(sight) < 2:
        return ()
    chain = _explain(sight, max_lattices)
    fits = [_polish(verdict.net, sight, np.ones(len(sight), dtype=bool)) for verdict in chain]
    if len(fits) > 1:
        fits = [_polish(fit, sight, _own(i, fits, sight)) for i, fit in enumerate(fits)]
    lattices = [
        _lattice(fit, verdict.evidence, sight, index, len(spots))
        for fit, verdict in zip(fits, chain, strict=True)
    ]
    return tuple(lattice for lattice in lattices if len(lattice.members))


def _check(shape: tuple[int, int], flaws: NDArray[np.uint16] | None, most: int) -> None:
    if len(shape) != 2 or min(shape) < 1:
        raise DiskernError(f"shape={shape} is no image; give (rows, columns)")
    if flaws is not None and flaws.shape != tuple(shape):
        raise DiskernError(f"flaws have shape {flaws.shape}, the image {shape}; make them equal")
    if most < 1:
        raise DiskernError(f"max_lattices={most}; give at least 1")


def _explain(sight: Sight, most: int) -> list[Verdict]:
    """The chain of lattices, each for the spots that the ones before leave, of most evidence."""
    found = search(sight, _CONVINCING)
    if not found or found[0].evidence < _CONVINCING:
        # The direct beam may not be where it was taken to be.
        found = search(replace(sight, centre_variance=sight.spacing**2), _CONVINCING)
    if not found or found[0].evidence < _CONVINCING:
        return []
    best = _chain(found[0], sight, most)
    first = best[0][0]
    if most > 1 and (len(best[0]) > 1 or len(first.members) < _WELL_LIT * first.nodes):
        best = _better(best, [*found[1:2], *coarser(first, sight, 2)], sight, most)
    # What a first lattice left may show the net of both better than all spots together did.
    every = np.ones(len(sight), dtype=bool)
    wholes = [judge(_polish(further.net, sight, every), sight) for further in best[0][1:]]
    return _better(best, wholes, sight, most)[0]


def _better(
    best: tuple[list[Verdict], float], firsts: Sequence[Verdict], sight: Sight, most: int
) -> tuple[list[Verdict], float]:
    """The chain of most evidence, of the best so far and those that begin with other lattices."""
    chains = [_chain(first, sight, most) for first in firsts if first.evidence > _CONVINCING]
    return max([best, *chains], key=lambda chain: chain[1])


def _chain(first: Verdict, sight: Sight, most: int) -> tuple[list[Verdict], float]:
    """One lattice, then others for what it leaves, as long as they convince, and their ln
    evidence together, with that of the spots diffracted by one after the other."""
    chain, twice = [first], 0.0
    sight = _remaining(sight, first)
    while len(chain) < most:
        further = search(sight, _ANOTHER - _KIN) if len(sight) > 2 else []
        further = [v for v in further if len(v.members) >= _SPARSE * v.nodes]
        further = [replace(v, evidence=v.evidence + shared_row(first, v)) for v in further]
        best = max(further, key=lambda v: v.evidence, default=None)
        if best is None or best.evidence < _ANOTHER:
            break
        chain.append(best)
        sight = _remaining(sight, best)
        if len(chain) == 2:
            twice, explained = twice_diffracted(chain, sight)
            sight = sight.select(~explained)
    return chain, sum(v.evidence for v in chain) + twice


def _remaining(sight: Sight, verdict: Verdict) -> Sight:
    """The spots that a lattice leaves, seen with the sharper centre that it gives.

    Position errors and distortion belong to the image: what fits the rest much more loosely
    than the first lattice is one by chance.
    """
    keep = np.ones(len(sight), dtype=bool)
    keep[verdict.members] = False
    net = verdict.net
    return replace(
        sight.select(keep),
        centre=net.origin[0],
        centre_variance=float(net.covariance[0, 0, 0] + net.excess[0]),
        astray=0.0,
        loosest=_LOOSER**2 * float(np.median(sight.isotropic) + net.excess[0]),
    )


def _own(which: int, nets: list[Nets], sight: Sight) -> Bools:
    """(N,) spots that no other lattice claims much better."""
    far = [match(net, sight) for net in nets]
    distance = np.array([(m.squared / m.variance)[0, 1:] for m in far])
    others = np.delete(distance, which, axis=0).min(axis=0)
    mine: Bools = distance[which] < others + _CONFLICT
    return mine


def _polish(net: Nets, sight: Sight, use: Bools) -> Nets:
    """The fit to convergence on the usable spots, without the memory of how it was found."""
    seen = sight if use.all() else sight.select(use)
    return at_beam(grow(at_beam(net, seen), seen, _POLISH, held=1e-4, freedom=np.inf), sight)


def _lattice(net: Nets, evidence: float, sight: Sight, index: Ints, count: int) -> Lattice2D:
    """The value type of one fit, reduced, with its covariance from the anisotropic variances."""
    member, node = claimed(net, sight)
    rank = int(net.rank[0])
    origin, basis, covariance = _least_squares(net, sight)
    if rank == 2:
        change = reduction(basis)
        basis, covariance = change @ basis, transform_covariance(covariance, change)
        node = np.rint(node @ np.linalg.inv(change)).astype(np.int64)
    else:
        sign = -1 if (basis[0, 1], basis[0, 0]) < (0, 0) else 1
        basis, node = np.array([sign * basis[0], [np.nan, np.nan]]), node * sign
        covariance = transform_covariance(covariance, np.diag([sign, 1]))
        covariance[4:], covariance[:, 4:] = np.nan, np.nan
    place = origin + (node @ basis if rank == 2 else node[:, :1] * basis[0])
    miss = ((sight.position[member] - place) ** 2).sum(axis=1)
    total = max(float(sight.intensity.sum()), 1e-300)
    return Lattice2D(
        origin,
        basis,
        covariance,
        index[member],
        node,
        float(np.sqrt(np.median(miss) / np.log(2))) if len(miss) else float("nan"),
        float(evidence),
        rank,
        len(member) / count,
        float(sight.intensity[member].sum()) / total,
    )


def _least_squares(net: Nets, sight: Sight) -> tuple[Floats, Floats, Floats]:
    """Origin (2,), basis (2, 2) and their (6, 6) covariance, rows and columns each with its own
    variances, the memberships as weights."""
    found = match(net, sight)
    design, member, offset = found.design[0], found.member[0], found.offset[0]
    rank = int(net.rank[0])
    variance = np.concatenate([np.full((1, 2), sight.centre_variance), sight.variance])
    held = member[1:]
    freedom = max(2 * held.sum() - 2 * rank - 2, 1.0)
    scatter = (held * found.squared[0, 1:]).sum() / freedom
    excess = max(scatter - (held * sight.isotropic).sum() / max(held.sum(), 1e-9), 0.0)
    weight = member[:, None] / (variance + excess)
    origin, basis = net.origin[0].copy(), net.basis[0].copy()
    covariance = np.zeros((3, 2, 3, 2))
    free = design[:, : rank + 1]
    for axis in (0, 1):
        weighted = free * weight[:, axis, None]
        inverse = np.linalg.pinv(weighted.T @ free)
        shift = inverse @ weighted.T @ offset[:, axis]
        origin[axis] += shift[0]
        basis[:rank, axis] += shift[1:]
        covariance[: rank + 1, axis, : rank + 1, axis] = inverse
    return origin, basis, covariance.reshape(6, 6)
