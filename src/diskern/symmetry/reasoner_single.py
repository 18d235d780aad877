"""One pattern: which nets fit its shape, and what its node states say of each symbol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.hypotheses import Block
from diskern.symmetry.likelihood_metric import MetricFit, fit_cells
from diskern.symmetry.likelihood_nodes import NodeLikelihood, log_sum

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNKNOWN_SCALE = 3.0
"""Standard deviation of the logarithm of a scale of which nothing is known."""
NOMINAL_LENGTH = 0.25
"""1/Å; an uncalibrated net is taken to have basis vectors of about this length."""
SAME_CAMERA = 0.003
"""Relative scatter of the scale between patterns of one camera length."""
DEPTH = 30.0
"""Nets whose shape alone is e^-30 worse than the best of their block are dropped."""
HOPELESS = 2000.0
"""A net whose shape is this far off (χ²) after the first steps cannot recover."""


@dataclass(frozen=True, eq=False)
class Single:
    """The nets of one block that fit one pattern.

    Attributes
    ----------
    net : (M,) indices into the block.
    fit : the metric fit of each.
    metric : (M,) log evidence of the shape with the log prior of the zone.
    nodes : (M, S) log-likelihood of the node states under each symbol; -inf where the symbol
        does not have that net.
    """

    net: Ints
    fit: MetricFit
    metric: Floats
    nodes: Floats


def measured_shapes(patterns: Sequence[PatternEvidence]) -> tuple[Floats, Floats, float]:
    """Net shapes in 1/Å with what is known of the scale.

    Returns
    -------
    (K, 3) ln|a|, ln|b|, γ; (K, 3, 3) covariances; and the standard deviation of the logarithm of
    a scale that all share.
    """
    shape = np.array([p.shape for p in patterns])
    covariance = np.array([p.covariance for p in patterns])
    both = np.outer([1.0, 1.0, 0.0], [1.0, 1.0, 0.0])
    cameras = {p.camera for p in patterns}
    known = [p for p in patterns if p.pixel_size is not None]
    if len(patterns) == 1 or (len(cameras) == 1 and None not in cameras):
        shape[:, :2] += _log_scale(known[0] if known else None, shape)
        error = known[0].pixel_size_error if known else UNKNOWN_SCALE
        if len(patterns) > 1:
            covariance = covariance + SAME_CAMERA**2 * both
        return shape, covariance, error
    for i, pattern in enumerate(patterns):
        shape[i, :2] += _log_scale(pattern, shape[i : i + 1])
        error = UNKNOWN_SCALE if pattern.pixel_size is None else pattern.pixel_size_error
        covariance[i] += error**2 * both
    return shape, covariance, 0.0


def _log_scale(pattern: PatternEvidence | None, shape: Floats) -> float:
    if pattern is not None and pattern.pixel_size is not None:
        return float(np.log(pattern.pixel_size))
    return float(np.log(NOMINAL_LENGTH) - shape[:, :2].mean())


def single(
    block: Block, nodes: NodeLikelihood, shape: Floats, covariance: Floats, scale: float
) -> Single:
    """Fit all nets of a block to one pattern and weigh the node states of those that fit."""
    basis = block.basis[:, None]
    first = fit_cells(basis, block.cell, shape[None], covariance[None], scale, steps=4, robust=0)
    near = np.flatnonzero(first.misfit <= max(HOPELESS, 4 * float(first.misfit.min())))
    fit = fit_cells(
        basis[near], block.cell, shape[None], covariance[None], scale, first.phi[near], steps=4
    )
    score = fit.log_evidence + block.log_prior[near]
    keep = np.flatnonzero(score > score.max() - DEPTH)
    net = near[keep]
    return Single(net, fit.select(keep), score[keep], _node_table(block, nodes, net))


def of_any_net(triclinic: Single) -> float:
    """Log evidence of one pattern as a net of any shape without symmetry."""
    return float(log_sum(triclinic.metric[:, None] + triclinic.nodes))


def _node_table(block: Block, nodes: NodeLikelihood, net: Ints) -> Floats:
    local = np.full(len(block), -1)
    local[net] = np.arange(len(net))
    chosen = np.flatnonzero(local[block.prediction[:, 0]] >= 0)
    of_net, rowset, kind = block.prediction[chosen].T
    group = block.group[of_net]
    looks, which = np.unique(group * len(block.rowsets) + rowset, return_inverse=True)
    value = np.empty(len(looks))
    for i, look in enumerate(looks.tolist()):
        g, r = divmod(look, len(block.rowsets))
        value[i] = nodes.under(block.groups[g], block.rowsets[r])
    table = np.full((len(net), len(block.symbols)), -np.inf)
    entry, symbol = np.nonzero(block.member[kind])
    total = value[which.reshape(-1)] + block.kind_log_prior[kind]
    table[local[of_net[entry]], symbol] = total[entry]
    return table
