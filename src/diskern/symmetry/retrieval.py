"""Candidates for a set of patterns, from a database too large to index against one by one.

Of every crystal the nets of its short zones are kept: length of the shorter vector, ratio, angle.
A set of patterns asks for crystals that have all of its nets at one and the same scale, known or
not; no structure factor is needed.  The few that remain go to the phase search.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import gcd

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice_reduce import reduced, sublattices
from diskern.crystal.crystal import Crystal
from diskern.crystal.symmetry import primitive_cell
from diskern.errors import DiskernError
from diskern.symmetry.hypotheses_zones import plane_basis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST = 3
"""Largest index of a zone, in a reduced primitive cell."""
SHORT = 2.0
"""Zones are sought with this power of 1/length."""
SHAPE_ERROR = 0.012
"""Standard error of ln(b/a) and of the cosine of a measured net: distortion of the camera."""
COARSE = 0.08
"""Chance that a zone shows a sublattice of index 2 of its net: a glide plane, or faint spots."""
STEP = 0.01
"""Steps of ln(scale) in which agreement is sought."""
RANGE = 4.0
"""ln of the largest and smallest ratio of scales that is looked at where none is known."""
OUTLIER = 1e-4
"""Weight of a net that the crystal does not have: a wrong fit, another grain, a long zone."""


@dataclass(frozen=True, eq=False)
class NetIndex:
    """Nets of the short zones of many crystals.

    Attributes
    ----------
    crystals : as given.
    owner : (N,) row of the crystal of each net.
    net : (N, 3) ln|a| with a in 1/Å, ln(b/a), |cos| of the angle, of the reduced net.
    weight : (N,) how often a crystal is met in that zone; sums to one for each crystal.
    """

    crystals: tuple[Crystal, ...]
    owner: Ints
    net: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.crystals)

    @classmethod
    def of(cls, crystals: Iterable[Crystal]) -> NetIndex:
        """Index crystals; a few milliseconds each."""
        every = tuple(crystals)
        parts = [crystal_nets(crystal) for crystal in every]
        count = [len(net) for net, _ in parts]
        return cls(
            every,
            np.repeat(np.arange(len(every)), count),
            np.concatenate([net for net, _ in parts]) if every else np.zeros((0, 3)),
            np.concatenate([weight for _, weight in parts]) if every else np.zeros(0),
        )

    def scores(self, nets: Floats, scale_error: float | None) -> Floats:
        """(C,) ln of how well each crystal explains a set of nets.

        Parameters
        ----------
        nets : (P, 2, 2) bases (row, column), all in one unit.
        scale_error : relative standard error of that unit being 1/Å; None where it is any.

        Raises
        ------
        DiskernError
            For bases that span no net.
        """
        bins = int(2 * RANGE / STEP) + 1
        shift = (np.arange(bins) - bins // 2) * STEP
        total = np.zeros((len(self), bins))
        measured = net_shape(nets)
        if scale_error is None:
            # Where nothing is known the middle of the range may lie anywhere.
            middle = np.median(self.net[:, 0]) if len(self.net) else 0.0
            measured[:, 0] += middle - np.median(measured[:, 0])
        for scale, ratio, cosine in measured:
            apart = (self.net[:, 1] - ratio) ** 2 + (self.net[:, 2] - cosine) ** 2
            near = np.flatnonzero(apart < (4 * SHAPE_ERROR) ** 2)
            chance = self.weight[near] * np.exp(-0.5 * apart[near] / SHAPE_ERROR**2)
            place = np.rint((scale - self.net[near, 0]) / STEP).astype(np.int64) + bins // 2
            inside = (place >= 0) & (place < bins)
            found = np.zeros((len(self), bins))
            np.add.at(found, (self.owner[near[inside]], place[inside]), chance[inside])
            total += np.log(_smoothed(found) + OUTLIER / bins)
        if scale_error is not None:
            total -= 0.5 * (shift / max(scale_error, STEP)) ** 2
        top = total.max(1)
        return np.asarray(top + np.log(np.exp(total - top[:, None]).sum(1)))

    def shortlist(
        self,
        nets: Floats,
        scale_error: float | None,
        count: int,
        *,
        elements: Iterable[str] | None = None,
    ) -> list[Crystal]:
        """The best ``count`` crystals, best first, of the allowed elements alone."""
        allowed = None if elements is None else set(elements)
        score = self.scores(nets, scale_error)
        order = np.argsort(-score, kind="stable").tolist()
        fit = [self.crystals[i] for i in order]
        return [c for c in fit if allowed is None or set(c.elements) <= allowed][:count]


def shortlist(
    analyses: Sequence[Analysis], crystals: Sequence[Crystal], count: int
) -> list[Crystal]:
    """The ``count`` candidates whose nets fit those of analysed patterns best.

    All of them where no pattern shows a net, or there are no more than that.

    Parameters
    ----------
    analyses : of patterns of one crystal; those of several scales, some of them unknown, are
        held for unknown each by itself.
    """
    if len(crystals) <= count:
        return list(crystals)
    nets, errors, sizes = [], [], []
    for analysis in analyses:
        own = [lattice for lattice in analysis.lattices if lattice.rank == 2]
        if analysis.kind == "spots" and own:
            size = analysis.pattern.pixel_size
            nets.append(own[0].basis * (size or 1.0))
            sizes.append(size)
            errors.append(analysis.pattern.pixel_size_error)
    if not nets:
        return list(crystals)
    index = NetIndex.of(crystals)
    known = [size is not None for size in sizes]
    if all(known):
        score = index.scores(np.array(nets), max(errors))
    elif not any(known):
        score = index.scores(np.array(nets), None)
    else:
        one = zip(nets, errors, known, strict=True)
        score = np.sum([index.scores(n[None], e if k else None) for n, e, k in one], axis=0)
    return [index.crystals[i] for i in np.argsort(-score, kind="stable")[:count].tolist()]


def crystal_nets(crystal: Crystal) -> tuple[Floats, Floats]:
    """(N, 3) nets of the zones of a crystal as in `NetIndex`, and (N,) their weights."""
    try:
        lattice = primitive_cell(crystal).lattice
    except DiskernError:
        lattice = crystal.lattice
    lattice = _shortest(lattice)
    zones, planes = _zones()
    length = np.linalg.norm(zones @ lattice, axis=1)
    weight = (length.min() / length) ** SHORT
    vectors = planes @ np.linalg.inv(lattice).T
    flat = _flattened(vectors)
    fine = net_shape(flat)
    coarse = [net_shape(form @ flat) for form in sublattices(2)]
    net = np.concatenate([fine, *coarse])
    share = np.concatenate([weight * (1 - COARSE), *[weight * COARSE / len(coarse)] * len(coarse)])
    return net, share / share.sum()


def net_shape(basis: Floats) -> Floats:
    """(P, 3) ln|a|, ln(b/a) and |cos| of the reduced nets of (P, 2, 2) bases."""
    net = reduced(basis)
    a, b = (np.linalg.norm(net[:, i], axis=1) for i in (0, 1))
    cosine = np.abs((net[:, 0] * net[:, 1]).sum(1)) / (a * b)
    return np.stack([np.log(a), np.log(b / a), cosine], 1)


@cache
def _zones() -> tuple[Ints, Ints]:
    """(Z, 3) zones up to their sign, and (Z, 2, 3) bases of their planes."""
    axis = range(-LARGEST, LARGEST + 1)
    zones = [u for u in product(axis, repeat=3) if gcd(*u) == 1 and u > (0, 0, 0)]
    return np.array(zones), np.array([plane_basis(np.array(u)) for u in zones])


def _shortest(lattice: Floats) -> Floats:
    """Three short vectors that span the same lattice: pairs are reduced until nothing shrinks."""
    rows = np.array(lattice, dtype=np.float64)
    for _ in range(60):
        before = rows.copy()
        for i, j in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)):
            rows[i] -= np.rint(rows[i] @ rows[j] / (rows[j] @ rows[j])) * rows[j]
        if np.allclose(before, rows):
            break
    return rows


def _flattened(vectors: Floats) -> Floats:
    """(Z, 2, 2) planar coordinates of (Z, 2, 3) pairs of vectors."""
    x = vectors[:, 0] / np.linalg.norm(vectors[:, 0], axis=1, keepdims=True)
    along = (vectors[:, 1] * x).sum(1)
    across = np.linalg.norm(vectors[:, 1] - along[:, None] * x, axis=1)
    out = np.zeros((len(vectors), 2, 2))
    out[:, 0, 0] = np.linalg.norm(vectors[:, 0], axis=1)
    out[:, 1, 0], out[:, 1, 1] = along, across
    return out


def _smoothed(found: Floats) -> Floats:
    """Neighbouring steps of the scale shared: nets are measured to about a step."""
    kernel = np.array([0.054, 0.244, 0.404, 0.244, 0.054])
    padded = np.pad(found, ((0, 0), (2, 2)))
    width = found.shape[1]
    return np.asarray(sum(k * padded[:, i : i + width] for i, k in enumerate(kernel)))
