"""Many trial lattices at once: robust growth from a rough basis, and their log-evidence.

A trial explains the spots as a mixture: lattice nodes blurred by the position uncertainty, and
clutter spread evenly over the region.  All arrays carry a leading batch axis B; N is the number
of spots plus one, the direct beam being point 0, a node by definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

from diskern.bragg.lattice_sight import Sight

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FAR = 1e6  # px; second basis vector of a rank-1 trial, so long that only its own row is in sight
_TRUSTED = 0.18  # a node predicted to within this part of the spacing may claim a spot
_LOOSEST = 0.10  # largest position scatter beyond the spots' own sigma, in spacings
# Volumes of lattice space under the invariant measure d²a d²b / area² (d²a / |a|² for a row), with
# the scale known to e^4 in area: π directions × modular area π/3 × 2, and π × 2.
_VOLUME = {2: 2 * np.pi * np.pi / 3, 1: 2 * np.pi}


@dataclass(frozen=True, eq=False)
class Nets:
    """B trial lattices.

    Attributes
    ----------
    origin : (B, 2) a node, row and column in px.
    basis : (B, 2, 2) rows a and b; for rank 1 b is `FAR` long and plays no part.
    covariance : (B, 3, 3) of one coordinate of (origin, a, b).
    excess : (B,) position variance beyond the spots' own, px².
    purity : (B,) part of the spots that lie on nodes.
    rank : (B,) 1 or 2.
    """

    origin: Floats
    basis: Floats
    covariance: Floats
    excess: Floats
    purity: Floats
    rank: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.origin)

    def __getitem__(self, keep: Bools | NDArray[np.int64] | slice) -> Nets:
        return Nets(
            self.origin[keep],
            self.basis[keep],
            self.covariance[keep],
            self.excess[keep],
            self.purity[keep],
            self.rank[keep],
        )

    @property
    def spacing(self) -> Floats:
        """(B,) length of the shorter basis vector in px."""
        return np.asarray(np.sqrt(np.einsum("bij,bij->bi", self.basis, self.basis).min(axis=1)))

    @property
    def area(self) -> Floats:
        """(B,) area of the cell in px²."""
        b = self.basis
        return np.abs(b[:, 0, 0] * b[:, 1, 1] - b[:, 0, 1] * b[:, 1, 0])


def start(origin: Floats, basis: Floats, rank: NDArray[np.int64], doubt: float) -> Nets:
    """Trials from rough bases: (B, 2) nodes, (B, 2, 2) vectors uncertain by ``doubt`` px."""
    covariance = np.zeros((len(origin), 3, 3))
    covariance[:, 0, 0] = doubt**2
    covariance[:, 1, 1] = doubt**2
    covariance[:, 2, 2] = np.where(rank == 2, doubt**2, 1e-12)
    spacing = np.linalg.norm(basis, axis=2).min(axis=1)
    excess = np.minimum(doubt, 0.05 * spacing) ** 2
    return Nets(origin, basis, covariance, excess, np.full(len(origin), 0.6), rank)


def concatenate(parts: list[Nets]) -> Nets:
    """One batch of several."""
    names = ("origin", "basis", "covariance", "excess", "purity", "rank")
    return Nets(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def rows(vectors: Floats) -> Floats:
    """(B, 2, 2) bases of rank-1 trials along (B, 2) vectors."""
    across = vectors[:, ::-1] * [1.0, -1.0]
    across = across / np.linalg.norm(vectors, axis=1, keepdims=True) * FAR
    return np.stack([vectors, across], axis=1)


def cell_area(nets: Nets, sight: Sight) -> Floats:
    """(B,) px² of the region per node; for a row, the region shared among its few nodes."""
    row = np.sqrt(sight.region.area) * np.hypot(nets.basis[:, 0, 0], nets.basis[:, 0, 1])
    return np.where(nets.rank == 2, nets.area, row)


@dataclass(frozen=True, eq=False)
class Match:
    """Points against trials: (B, N, 3) design (1, m, n), (B, N, 2) offsets from the node in px,
    (B, N) variances of a coordinate, (B, N) variances of the prediction, (B, N) memberships."""

    design: Floats
    offset: Floats
    variance: Floats
    prediction: Floats
    member: Floats

    @property
    def squared(self) -> Floats:
        """(B, N) squared distance to the node in px²."""
        return np.asarray(np.einsum("bni,bni->bn", self.offset, self.offset))


def match(nets: Nets, sight: Sight) -> Match:
    """Assign every point to its nearest node, with the probability that it belongs there."""
    point = np.concatenate([sight.centre[None], sight.position])
    own = np.concatenate([[sight.centre_variance], sight.isotropic])
    fraction = np.matmul(point[None] - nets.origin[:, None], np.linalg.inv(nets.basis))
    design = np.ones((*fraction.shape[:2], 3))
    index = np.rint(fraction, out=design[:, :, 1:])
    fraction -= index
    offset = np.matmul(fraction, nets.basis)
    prediction = np.einsum("bni,bni->bn", np.matmul(design, nets.covariance), design)
    variance = own[None] + nets.excess[:, None]
    blur = variance + prediction
    squared = np.einsum("bni,bni->bn", offset, offset)
    signal = nets.purity * cell_area(nets, sight) / (2 * np.pi)
    signal = signal[:, None] / blur * np.exp(-squared / (2 * blur))
    member = signal / (signal + (1 - nets.purity)[:, None])
    beam = (1 - sight.astray) * signal[:, 0] / nets.purity  # times the cell: its odds
    member[:, 0] = beam / (beam + sight.astray + 1e-300)
    member *= prediction < (_TRUSTED * nets.spacing[:, None]) ** 2
    return Match(design, offset, variance, prediction, member)


def grow(nets: Nets, sight: Sight, steps: int, held: float = 1.0, freedom: float = 4.0) -> Nets:
    """Expectation–maximisation from where each trial stands.

    A spot can be claimed only where the trial predicts nodes to better than a fifth of the
    spacing, so a rough basis grows outwards from its origin, becoming sharper as it goes.

    Parameters
    ----------
    steps : rounds of claiming and least squares.
    held : weight of the starting covariance as prior knowledge of each trial.
    freedom : degrees of freedom of Student's t for the members' offsets; inf for Gaussian.
    """
    prior = np.linalg.inv(nets.covariance) * held
    for _ in range(steps):
        found = match(nets, sight)
        weight = found.member / found.variance
        if np.isfinite(freedom):
            weight *= (freedom + 2) / (freedom + found.squared / found.variance)
        weighted = found.design * weight[..., None]
        information = np.matmul(weighted.transpose(0, 2, 1), found.design) + prior
        covariance = np.linalg.inv(information)
        shift = np.matmul(covariance, np.matmul(weighted.transpose(0, 2, 1), found.offset))
        total = found.member[:, 1:].sum(axis=1)
        ceiling = np.minimum((_LOOSEST * nets.spacing) ** 2, sight.loosest)
        nets = Nets(
            nets.origin + shift[:, 0],
            nets.basis + shift[:, 1:],
            covariance,
            np.clip(_excess(nets, found, sight), 0.0, ceiling),
            np.clip(total / max(len(sight), 1), 0.05, 0.98),
            nets.rank,
        )
    return nets


def _excess(nets: Nets, found: Match, sight: Sight) -> Floats:
    """(B,) scatter of the members beyond their own variance, by the median: one false member
    must not open the door to more."""
    own = found.member[:, 1:] > 0.5
    count = own.sum(axis=1)
    surplus = np.where(own, found.squared[:, 1:] / (2 * np.log(2)) - sight.isotropic, np.inf)
    surplus.sort(axis=1)
    middle = surplus[np.arange(len(nets)), np.maximum(count - 1, 0) // 2]
    return np.where(np.isfinite(middle), middle, 0.0)


def clutter_evidence(count: Floats | float, expected: int, area: float) -> Floats:
    """ln probability of ``count`` clutter spots at their places, the mean number integrated out
    over an exponential prior of mean ``expected``, positions even over ``area`` px²."""
    mean = max(expected, 1)
    count = np.asarray(count, dtype=np.float64)
    return np.asarray(
        gammaln(count + 1) - (count + 1) * np.log1p(1 / mean) - np.log(mean) - count * np.log(area)
    )


def occupancy_evidence(lit: Floats | float, nodes: Floats | float) -> Floats:
    """ln probability that just these ``lit`` of ``nodes`` nodes show.

    The odds p of a node to show have the prior density 2p: near spots that are seen, a lattice
    that shows almost nowhere is a lattice found by chance.
    """
    lit, nodes = np.asarray(lit, dtype=np.float64), np.asarray(nodes, dtype=np.float64)
    return np.asarray(betaln(2 + lit, 1 + np.maximum(nodes - lit, 0.0)) + np.log(2))


def parameter_evidence(nets: Nets, sight: Sight, found: Match, lit: Floats) -> Floats:
    """(B,) ln of the Occam factor: prior density of the lattice × volume of its posterior."""
    area = nets.area
    length = np.hypot(nets.basis[:, 0, 0], nets.basis[:, 0, 1])
    plane = nets.rank == 2
    prior = np.where(plane, -np.log(_VOLUME[2] * area**2), -np.log(_VOLUME[1] * length**2))
    spread = np.where(
        plane,
        np.linalg.slogdet(nets.covariance)[1],
        np.linalg.slogdet(nets.covariance[:, :2, :2])[1],
    )
    spread = spread + np.where(plane, 3, 2) * np.log(2 * np.pi)
    doubt = sight.centre_variance + nets.excess
    beam = (1 - sight.astray) * np.exp(-found.squared[:, 0] / (2 * doubt)) / (2 * np.pi * doubt)
    beam = np.log(beam + sight.astray / cell_area(nets, sight) + 1e-300)
    # The scatter beyond the stated sigma: half-Cauchy prior of that scale, posterior ~ lit^-1/2.
    stated = float(np.median(sight.isotropic))
    scatter = -0.5 * np.log1p(nets.excess / stated) - 0.5 * np.log(lit + 1)
    return np.asarray(prior + spread + beam + scatter)


def quick_evidence(nets: Nets, sight: Sight) -> Floats:
    """(B,) ln evidence of each trial over "all clutter", counting nodes by area only."""
    found = match(nets, sight)
    own = (found.member > 0.5)[:, 1:]
    blur = found.variance[:, 1:]
    nodes = np.maximum(sight.region.area / cell_area(nets, sight) - 1, 1.0)
    density = -np.log(2 * np.pi * blur) - found.squared[:, 1:] / (2 * blur)
    lit = np.minimum(own.sum(axis=1), nodes)
    count, area = len(sight), sight.region.area
    total = (density * own).sum(axis=1) + occupancy_evidence(lit, nodes)
    total += clutter_evidence(count - own.sum(axis=1), count, area)
    total -= clutter_evidence(float(count), count, area)
    return np.asarray(total + parameter_evidence(nets, sight, found, lit))
