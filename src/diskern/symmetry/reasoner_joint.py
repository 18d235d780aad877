"""Several patterns, one crystal: combinations of net hypotheses that share a cell.

Patterns are added one by one, the most decided first.  A cell is fitted only to combinations
whose nets agree on the rows that they have in common (`reasoner_rows`).  A net may be misread, of
another grain, or of a zone that nobody looks at: it then counts as a triclinic net of its own, as
long as no more than half of the nets do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.spacegroups import laue_operations
from diskern.symmetry.hypotheses import Block
from diskern.symmetry.likelihood_metric import ROBUST_STEPS, MetricFit, fit_cells
from diskern.symmetry.likelihood_nodes import log_sum
from diskern.symmetry.likelihood_shapes import reciprocal_metric, shapes
from diskern.symmetry.reasoner_rows import CommonRows

if TYPE_CHECKING:
    from diskern.symmetry.reasoner_single import Single

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_KEPT = 400
"""Combinations carried from one pattern to the next, whatever their symbols."""
MOST_OF_SYMBOL = 40
"""Those carried for the sake of each symbol."""
MOST_SINGLES = 2000
"""Nets of a pattern that are combined with others."""
MOST_FITTED = 4000
"""Combinations for which a common cell is fitted roughly."""
MOST_REFINED = 1500
"""Those of them for which it is fitted well."""
DEPTH = 30.0
"""Combinations that are e^-30 worse than the best of their symbol are dropped."""
LOOSE = 0.08
"""Shape tolerance of the mean of two cells, from which a fit starts."""
DOUBTED = -1
"""In place of a net that is doubted."""


@dataclass(frozen=True)
class Relation:
    """Measured angle between the zone axes of two patterns, in degrees, with its uncertainty."""

    first: int
    second: int
    angle: float
    sigma: float = 1.0


@dataclass(frozen=True, eq=False)
class Measured:
    """What all patterns of a crystal were measured to be.

    Attributes
    ----------
    shape : (K, 3) ln|a|, ln|b| (1/Å) and γ of the nets.
    covariance : (K, 3, 3) of the shapes.
    scale : standard deviation of the logarithm of a scale that all share.
    doubt : (K,) prior probability that a net is none of those looked at.
    any_net : (K,) log evidence of each pattern should that be so.
    relations : measured angles between zone axes.
    """

    shape: Floats
    covariance: Floats
    scale: float
    doubt: Floats
    any_net: Floats
    relations: Sequence[Relation] = ()

    @property
    def aside(self) -> Floats:
        """(K,) log evidence of a pattern that is set aside."""
        return np.asarray(np.log(self.doubt) + self.any_net)

    @property
    def believed(self) -> Floats:
        """(K,) log prior probability of a pattern that is not."""
        return np.asarray(np.log1p(-self.doubt))

    @property
    def most_aside(self) -> int:
        """Patterns of a combination that may be set aside."""
        return max(len(self.doubt) // 2, int((self.doubt > 0.5).sum()))

    def between(self, pattern: int, others: Sequence[int]) -> list[Relation]:
        """Relations of a pattern with any of others."""
        pairs = [(r, {r.first, r.second} - {pattern}) for r in self.relations]
        return [r for r, rest in pairs if len(rest) == 1 and rest <= set(others)]


@dataclass(frozen=True, eq=False)
class Combination:
    """Joint hypotheses of one block, a net for each of K patterns.

    Attributes
    ----------
    nets : (T, K) indices into the block; `DOUBTED` where a pattern is not believed.
    metric : (T,) log evidence of shapes and relations with the log prior of zones.
    nodes : (T, S) log-likelihood of all node states under each symbol.
    phi : (T, F) most probable free cell parameters.
    misfit : (T,) χ² of the shapes.
    """

    block: Block
    nets: Ints
    metric: Floats
    nodes: Floats
    phi: Floats
    misfit: Floats

    @property
    def log_evidence(self) -> Floats:
        """(S,) of each symbol of the block."""
        if not len(self.nets):
            return np.full(len(self.block.symbols), -np.inf)
        return np.asarray(log_sum(self.metric[:, None] + self.nodes, axis=0))

    def best(self, symbol: int) -> int:
        """The most probable combination for one symbol of the block."""
        return int((self.metric + self.nodes[:, symbol]).argmax())

    def zone(self, combination: int, pattern: int) -> tuple[int, int, int] | None:
        """Zone axis of a pattern in a combination; None where its net is doubted."""
        net = self.nets[combination, pattern]
        if net == DOUBTED:
            return None
        u, v, w = self.block.zones.uvw[self.block.zone[net]].tolist()
        return u, v, w

    def select(self, keep: Ints) -> Combination:
        """The combinations at an index array."""
        return Combination(
            self.block,
            self.nets[keep],
            self.metric[keep],
            self.nodes[keep],
            self.phi[keep],
            self.misfit[keep],
        )


def combine(block: Block, singles: Sequence[Single], measured: Measured) -> Combination:
    """All patterns of a block together, those hypotheses first that explain most."""
    if block.laue_class == "-1":
        joint = _of_single(block, singles[0])
        for i in range(1, len(singles)):
            joint = _independent(joint, singles[i], measured.between(i, range(i)))
        return joint
    order = np.argsort([_undecided(s) for s in singles], kind="stable").tolist()
    rows = CommonRows(block, measured.shape, measured.covariance)
    joint = _undetermined(block)
    for place, i in enumerate(order):
        if place:
            found = _extended(joint, singles, order[: place + 1], measured, rows)
        else:
            found = _of_single(block, singles[i])
            found = replace(found, metric=found.metric + measured.believed[i])
        doubt = measured.aside[i] + sum(map(_anywhere, measured.between(i, order[:place])))
        joint = _strongest(_doubting(joint, found, doubt, measured.most_aside))
    return replace(joint, nets=joint.nets[:, np.argsort(order)])


def _of_single(block: Block, one: Single) -> Combination:
    return Combination(
        block,
        one.net[:, None],
        one.metric,
        one.nodes,
        one.fit.phi,
        one.fit.misfit,
    )


def _undecided(one: Single) -> float:
    """Entropy of the nets of one pattern: those that say most come first."""
    score = one.metric + one.nodes.max(1, initial=-np.inf)
    alive = score[np.isfinite(score)]
    if not len(alive):
        return -1.0
    share = np.exp(alive - log_sum(alive))
    return float(-(share * np.log(np.maximum(share, 1e-300))).sum())


def _independent(joint: Combination, other: Single, relations: Sequence[Relation]) -> Combination:
    """Triclinic: two zones share only a row of nodes, so each pattern stands for itself."""
    block = joint.block
    metric = joint.metric[:, None] + other.metric
    metric = metric + sum(map(_anywhere, relations))
    nodes = joint.nodes[:, None] + other.nodes
    order = np.argsort((metric[..., None] + nodes).max(-1), axis=None)[::-1][:MOST_KEPT]
    a, b = np.unravel_index(order, metric.shape)
    # Dropped combinations keep their weight, so that triclinic is not belittled.
    lost = log_sum(metric[..., None] + nodes) - log_sum(metric[a, b][:, None] + nodes[a, b])
    return Combination(
        block,
        np.c_[joint.nets[a], other.net[b]],
        metric[a, b] + lost,
        nodes[a, b],
        joint.phi[a],
        joint.misfit[a] + other.fit.misfit[b],
    )


def _extended(
    joint: Combination,
    singles: Sequence[Single],
    order: Sequence[int],
    measured: Measured,
    rows: CommonRows,
) -> Combination:
    """One pattern more: the last of ``order``, whose others ``joint`` holds in that order."""
    block, i = joint.block, order[-1]
    other = singles[i]
    a, b = _agreeing(joint, other, order, rows)
    if not len(a):
        return _nothing(block, len(order))
    nodes = joint.nodes[a] + other.nodes[b]
    nets = np.c_[joint.nets[a], other.net[b]]
    seen = list(order)
    there = nets != DOUBTED
    believed = np.where(there, block.log_prior[nets] + measured.believed[seen], 0.0).sum(1)
    believed = believed + np.where(there[:, :-1], 0.0, measured.aside[seen[:-1]]).sum(1)

    def fitted(which: Ints, start: Floats, steps: int, robust: int) -> MetricFit:
        return fit_cells(
            block.basis[nets[which]],
            block.cell,
            measured.shape[seen],
            measured.covariance[seen],
            measured.scale,
            start=start,
            steps=steps,
            there=there[which],
            robust=robust,
        )

    rough = fitted(np.arange(len(a)), _middle(joint, other, a, b), 3, 0)
    score = rough.log_evidence + believed + nodes.max(1)
    best = np.argsort(score)[::-1][:MOST_REFINED]
    fit = fitted(best, rough.phi[best], 4, ROBUST_STEPS)
    metric = fit.log_evidence + believed[best]
    found = Combination(block, nets[best], metric, nodes[best], fit.phi, fit.misfit)
    for place, one in enumerate(order):
        for relation in measured.between(one, order[:place]):
            metric = metric + _angle_evidence(found, order, relation)
    return replace(found, metric=metric)


def _agreeing(
    joint: Combination, other: Single, order: Sequence[int], rows: CommonRows
) -> tuple[Ints, Ints]:
    """Pairs of (joint, other) that are worth a fit."""
    own = other.metric + other.nodes.max(1, initial=-np.inf)
    right = np.argsort(own)[::-1][:MOST_SINGLES]
    score = (joint.metric + joint.nodes.max(1))[:, None] + own[right]
    for column, earlier in enumerate(order[:-1]):
        score += rows.agreement(earlier, joint.nets[:, column], order[-1], other.net[right])
    flat = score.reshape(-1)
    if not flat.size:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    most = min(4 * MOST_FITTED, flat.size)
    first = np.argpartition(flat, flat.size - most)[-most:]
    a, b = np.unravel_index(first, score.shape)
    # No symbol need allow both nets, nor like both as the best of each do.
    liked = (joint.nodes[a] + other.nodes[right[b]]).max(1, initial=-np.inf)
    exact = flat[first] - joint.nodes.max(1)[a] - other.nodes.max(1)[right[b]] + liked
    exact = np.where(np.isnan(exact), -np.inf, exact)
    best = np.argsort(exact)[::-1][:MOST_FITTED]
    best = best[np.isfinite(exact[best])]
    return a[best], right[b[best]]


def _doubting(joint: Combination, found: Combination, doubt: float, most: int) -> Combination:
    """Combinations of one pattern more, or with that pattern set aside.

    Parameters
    ----------
    joint : without the pattern.
    found : with it.
    doubt : log evidence of the pattern when its net is doubted.
    most : nets of a combination that may be doubted.
    """
    some = np.flatnonzero((joint.nets == DOUBTED).sum(1) < most)
    return Combination(
        joint.block,
        np.r_[found.nets, np.c_[joint.nets[some], np.full(len(some), DOUBTED)]],
        np.r_[found.metric, joint.metric[some] + doubt],
        np.r_[found.nodes, joint.nodes[some]],
        np.r_[found.phi, joint.phi[some]],
        np.r_[found.misfit, joint.misfit[some]],
    )


def _undetermined(block: Block) -> Combination:
    """No pattern yet: the cell that is held before any is seen."""
    one = np.zeros(1)
    return Combination(
        block,
        np.zeros((1, 0), dtype=np.int64),
        one,
        np.zeros((1, len(block.symbols))),
        block.cell.mean[None],
        one,
    )


def _nothing(block: Block, patterns: int) -> Combination:
    """No symbol of the block has nets for all the patterns."""
    none, f, s = np.zeros(0), len(block.cell.mean), len(block.symbols)
    nets = np.zeros((0, patterns), dtype=np.int64)
    return Combination(block, nets, none, np.zeros((0, s)), np.zeros((0, f)), none)


def _strongest(joint: Combination) -> Combination:
    """Those worth going on with: the best of all, and of each symbol."""
    score = joint.metric[:, None] + joint.nodes
    best = np.argsort(score.max(1, initial=-np.inf))[::-1][:MOST_KEPT]
    rest = max(len(score) - MOST_OF_SYMBOL, 0)
    of_symbol = np.argpartition(score, rest, axis=0)[rest:]
    own = np.take_along_axis(score, of_symbol, 0)
    of_symbol = of_symbol[np.isfinite(own) & (own > own.max(0, initial=-np.inf) - DEPTH)]
    best = best[score.max(1)[best] > score.max(initial=-np.inf) - DEPTH]
    return joint.select(np.union1d(best, of_symbol))


def _information(block: Block, nets: Ints, phi: Floats) -> Floats:
    """(N, F, F) what (N, K) nets tell of the free parameters, at a loose tolerance."""
    _, jacobian = shapes(block.basis[nets], block.cell, phi)
    jacobian = jacobian * (nets != DOUBTED)[..., None, None]
    # Lengths only up to scale: the difference of their logarithms, and the angle.
    ratio = jacobian[..., 0, :] - jacobian[..., 1, :]
    rows = np.stack([ratio, jacobian[..., 2, :]], -2) / LOOSE
    rows = rows.reshape(len(nets), -1, rows.shape[-1])
    return np.asarray(rows.swapaxes(1, 2) @ rows + np.diag(block.cell.spread**-2.0))


def _middle(joint: Combination, other: Single, a: Ints, b: Ints) -> Floats:
    """Where to start the common fit: the information-weighted mean of the two cells."""
    block = joint.block
    one = _information(block, joint.nets[a], joint.phi[a])
    two = _information(block, other.net[b, None], other.fit.phi[b])
    rhs = np.einsum("nfg,ng->nf", one, joint.phi[a]) + np.einsum(
        "nfg,ng->nf", two, other.fit.phi[b]
    )
    return np.asarray(np.linalg.solve(one + two, rhs[..., None])[..., 0])


def _angle_evidence(found: Combination, order: Sequence[int], relation: Relation) -> Floats:
    """ln density of a measured angle between zone axes, over the equivalents of the second.

    Zones of doubted nets may be at any angle.
    """
    block = found.block
    first, second = (found.nets[:, order.index(i)] for i in (relation.first, relation.second))
    metric = np.linalg.inv(reciprocal_metric(block.cell.parameters(found.phi)))
    u = block.zones.uvw[block.zone[first]].astype(float)
    v = block.zones.uvw[block.zone[second]].astype(float)
    images = np.einsum("gij,tj->tgi", laue_operations(block.laue_class), v)
    dot = np.einsum("ti,tij,tgj->tg", u, metric, images)
    size_u = np.einsum("ti,tij,tj->t", u, metric, u)
    size_v = np.einsum("ti,tij,tj->t", v, metric, v)
    cosine = dot / np.sqrt(size_u * size_v)[:, None]
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    z = (angle - relation.angle) / relation.sigma
    density = -0.5 * z**2 - np.log(relation.sigma * np.sqrt(2 * np.pi))
    known = log_sum(density, axis=1) - np.log(images.shape[1])
    doubted = (first == DOUBTED) | (second == DOUBTED)
    return np.asarray(np.where(doubted, _anywhere(relation), known))


def _anywhere(relation: Relation) -> float:
    """ln density of a measured angle between two directions at random: it goes as its sine."""
    return float(np.log(np.radians(1) * max(np.sin(np.radians(relation.angle)), 1e-3)))
