"""Several patterns, one crystal: combinations of net hypotheses that share a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.spacegroups import laue_operations
from diskern.symmetry.hypotheses import Block
from diskern.symmetry.likelihood_metric import fit_cells, reciprocal_metric, shapes
from diskern.symmetry.likelihood_nodes import log_sum

if TYPE_CHECKING:
    from diskern.symmetry.reasoner_single import Single

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_KEPT = 250
"""Combinations carried from one pattern to the next."""
MOST_FITTED = 2000
"""Combinations for which a common cell is fitted."""
LOOSE = 0.08
"""Shape tolerance of the first, linear, comparison of two cells; it only sorts."""


@dataclass(frozen=True)
class Relation:
    """Measured angle between the zone axes of two patterns, in degrees, with its uncertainty."""

    first: int
    second: int
    angle: float
    sigma: float = 1.0


@dataclass(frozen=True, eq=False)
class Combination:
    """Joint hypotheses of one block, a net for each of K patterns.

    Attributes
    ----------
    nets : (T, K) indices into the block.
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

    def uvw(self, combination: int) -> Ints:
        """(K, 3) zone axes of a combination."""
        zone = self.block.zone[self.nets[combination]]
        return np.asarray(self.block.zones.uvw[zone])


def combine(
    block: Block,
    singles: Sequence[Single],
    shape: Floats,
    covariance: Floats,
    scale: float,
    relations: Sequence[Relation],
) -> Combination:
    """All patterns of a block together, those hypotheses first that explain most."""
    first = singles[0]
    joint = Combination(
        block,
        first.net[:, None],
        first.fit.log_evidence + block.log_prior[first.net],
        first.nodes,
        first.fit.phi,
        first.fit.misfit,
    )
    for i in range(1, len(singles)):
        if not len(joint.nets):
            joint = _nothing(joint, i)
        elif block.laue_class == "-1":
            joint = _independent(joint, singles[i], [r for r in relations if r.second == i])
        else:
            joint = _extended(joint, singles[i], i, shape, covariance, scale, relations)
    return joint


def _independent(joint: Combination, other: Single, relations: Sequence[Relation]) -> Combination:
    """Triclinic: two zones share only a row of nodes, so each pattern stands for itself."""
    block = joint.block
    metric = joint.metric[:, None] + other.fit.log_evidence + block.log_prior[other.net]
    # A random pair of directions is at an angle of density sin θ.
    metric = metric + sum(
        np.log(np.radians(1) * max(np.sin(np.radians(r.angle)), 1e-3)) for r in relations
    )
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
    other: Single,
    i: int,
    shape: Floats,
    covariance: Floats,
    scale: float,
    relations: Sequence[Relation],
) -> Combination:
    block = joint.block
    left = _strongest(joint.metric + joint.nodes.max(1))
    right = _strongest(other.fit.log_evidence + block.log_prior[other.net] + other.nodes.max(1))
    a, b = _compatible(joint, other, left, right, i, shape)
    nodes = joint.nodes[a] + other.nodes[b]
    alive = np.isfinite(nodes.max(1, initial=-np.inf))
    a, b, nodes = a[alive], b[alive], nodes[alive]
    if not len(a):
        return _nothing(joint, i)
    nets = np.c_[joint.nets[a], other.net[b]]
    start = _middle(joint, other, a, b)
    here = slice(0, i + 1)
    fit = fit_cells(
        block.basis[nets], block.cell, shape[here], covariance[here], scale, start=start
    )
    metric = fit.log_evidence + block.log_prior[nets].sum(1)
    for relation in (r for r in relations if r.second == i):
        metric = metric + _angle_evidence(block, nets, fit.phi, relation)
    keep = _strongest(metric + nodes.max(1, initial=-np.inf))
    return Combination(
        block,
        nets[keep],
        metric[keep],
        nodes[keep],
        fit.phi[keep],
        fit.misfit[keep],
    )


def _nothing(joint: Combination, i: int) -> Combination:
    """No symbol of the block has nets for all the patterns."""
    f, s = joint.phi.shape[1], len(joint.block.symbols)
    none = np.zeros(0)
    nets = np.zeros((0, i + 1), dtype=np.int64)
    return Combination(joint.block, nets, none, np.zeros((0, s)), np.zeros((0, f)), none)


def _strongest(score: Floats, depth: float = 30.0) -> Ints:
    order: Ints = np.argsort(score)[::-1][:MOST_KEPT]
    return np.asarray(order[score[order] > score[order[:1]] - depth])


def _information(block: Block, nets: Ints, phi: Floats) -> Floats:
    """(N, F, F) what (N, K) nets tell of the free parameters, at a loose tolerance."""
    _, jacobian = shapes(block.basis[nets].astype(np.float64), block.cell, phi)
    # Lengths only up to scale: the difference of their logarithms, and the angle.
    ratio = jacobian[..., 0, :] - jacobian[..., 1, :]
    rows = np.stack([ratio, jacobian[..., 2, :]], -2) / LOOSE
    rows = rows.reshape(len(nets), -1, rows.shape[-1])
    return np.asarray(rows.swapaxes(1, 2) @ rows + np.diag(block.cell.spread**-2.0))


def _compatible(
    joint: Combination, other: Single, left: Ints, right: Ints, i: int, shape: Floats
) -> tuple[Ints, Ints]:
    """Pairs of (joint, other) worth a fit: those whose cells agree best, by a linear estimate."""
    block = joint.block
    one = np.linalg.inv(_information(block, joint.nets[left], joint.phi[left]))
    two = np.linalg.inv(_information(block, other.net[right, None], other.fit.phi[right]))
    score = (joint.metric[left] + joint.nodes[left].max(1))[:, None] + (
        other.fit.log_evidence + block.log_prior[other.net] + other.nodes.max(1)
    )[right]
    both = one[:, None] + two
    apart = joint.phi[left][:, None] - other.fit.phi[right]
    if len(block.cell.mean) == 1:
        apart = apart * 0.0
    solved = np.linalg.solve(both, apart[..., None])[..., 0]
    score = score - 0.5 * (solved * apart).sum(-1) - 0.5 * np.linalg.slogdet(both)[1]
    order = np.argsort(score, axis=None)[::-1][:MOST_FITTED]
    a, b = np.unravel_index(order, score.shape)
    return left[a], right[b]


def _middle(joint: Combination, other: Single, a: Ints, b: Ints) -> Floats:
    """Where to start the common fit: the information-weighted mean of the two cells."""
    block = joint.block
    one = _information(block, joint.nets[a], joint.phi[a])
    two = _information(block, other.net[b, None], other.fit.phi[b])
    rhs = np.einsum("nfg,ng->nf", one, joint.phi[a]) + np.einsum(
        "nfg,ng->nf", two, other.fit.phi[b]
    )
    return np.asarray(np.linalg.solve(one + two, rhs[..., None])[..., 0])


def _angle_evidence(block: Block, nets: Ints, phi: Floats, relation: Relation) -> Floats:
    """ln density of a measured angle between zone axes, over the equivalents of the second."""
    metric = np.linalg.inv(reciprocal_metric(block.cell.parameters(phi)))
    u = block.zones.uvw[block.zone[nets[:, relation.first]]].astype(float)
    v = block.zones.uvw[block.zone[nets[:, relation.second]]].astype(float)
    images = np.einsum("gij,tj->tgi", laue_operations(block.laue_class), v)
    dot = np.einsum("ti,tij,tgj->tg", u, metric, images)
    size_u = np.einsum("ti,tij,tj->t", u, metric, u)
    size_v = np.einsum("ti,tij,tj->t", v, metric, v)
    cosine = dot / np.sqrt(size_u * size_v)[:, None]
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    z = (angle - relation.angle) / relation.sigma
    density = -0.5 * z**2 - np.log(relation.sigma * np.sqrt(2 * np.pi))
    return np.asarray(log_sum(density, axis=1) - np.log(images.shape[1]))
