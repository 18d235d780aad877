"""The zone reasoner: from nets and node states to probabilities of symmetry, without learning.

Every hypothesis is a diffraction symbol with a zone and an identification of the net for each
pattern.  Its evidence is the density of the measured net shapes under one shared cell
(`likelihood_metric`) times the probability of every node's state (`likelihood_nodes`), summed
over zones, identifications and cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.spacegroups import diffraction_symbols
from diskern.errors import DiskernError
from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.hypotheses_table import blocks
from diskern.symmetry.likelihood_nodes import NodeLikelihood, NodeModel, log_sum
from diskern.symmetry.posterior import Posterior, Prior, leading, of_symbols
from diskern.symmetry.posterior_ambiguity import ambiguity_set, next_zone, zone_posteriors
from diskern.symmetry.posterior_reasons import best_cell, sentences
from diskern.symmetry.reasoner_joint import Combination, Relation, combine
from diskern.symmetry.reasoner_single import measured_shapes, single

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What the reasoner may assume.

    Attributes
    ----------
    node_model : probabilities of the node mixture.
    relations : measured angles between zone axes.
    systems : crystal systems to consider; all where empty.
    """

    node_model: NodeModel = field(default_factory=NodeModel)
    relations: tuple[Relation, ...] = ()
    systems: tuple[str, ...] = ()


def reason(
    patterns: Sequence[PatternEvidence],
    *,
    prior: Prior | None = None,
    settings: Settings | None = None,
) -> Posterior:
    """Probabilities of symmetry, zones and the ambiguity left, from zone-axis patterns.

    Parameters
    ----------
    patterns : one or more patterns of one crystal.

    Raises
    ------
    DiskernError
        Where there is no pattern, or a setting makes no sense.
    """
    settings = settings or Settings()
    group_prior = (prior or Prior()).of_groups()
    results = weigh(patterns, settings)
    log_evidence = np.full(len(diffraction_symbols()), -np.inf)
    for result in results:
        for symbol, value in zip(result.block.symbols, result.log_evidence, strict=True):
            log_evidence[symbol.index] = value
    with np.errstate(divide="ignore"):
        weight = log_evidence + np.log(of_symbols(group_prior))
    if not np.isfinite(weight).any():
        raise DiskernError("no hypothesis that the prior allows fits; widen systems or prior")
    groups = np.zeros(230)
    probability = np.exp(weight - log_sum(weight))
    for symbol in diffraction_symbols():
        members = np.array(symbol.space_groups) - 1
        share = group_prior[members]
        groups[members] = probability[symbol.index] * share / max(share.sum(), 1e-300)
    head = leading(groups)
    best = next(r for r in results if head in r.block.symbols)
    chosen = best.best(best.block.symbols.index(head))
    zone, why = next_zone(best, chosen, probability)
    undecided = ambiguity_set(results, best, chosen, head, patterns, settings.node_model)
    return Posterior(
        groups=groups,
        zone_axes=zone_posteriors(results, head, probability, len(patterns)),
        ambiguity_set=undecided,
        next_zone=zone,
        reasons=(*sentences(best, chosen, head, patterns, settings.node_model), *why),
        cell=best_cell(best, chosen, patterns),
        log_evidence=log_evidence,
    )


def weigh(
    patterns: Sequence[PatternEvidence], settings: Settings | None = None
) -> list[Combination]:
    """The evidence of every Laue class for the patterns together.

    Returns
    -------
    One `Combination` for each block of hypotheses.
    """
    settings = settings or Settings()
    if not patterns:
        raise DiskernError("no patterns were given; the reasoner needs at least one")
    for relation in settings.relations:
        if not 0 <= relation.first < relation.second < len(patterns):
            raise DiskernError(
                f"relation between patterns {relation.first} and {relation.second}: number them "
                f"from 0 to {len(patterns) - 1}, the smaller first"
            )
    nodes = [NodeLikelihood(p, settings.node_model) for p in patterns]
    shape, covariance, scale = measured_shapes(patterns)
    results = []
    for block in blocks():
        if settings.systems and block.system not in settings.systems:
            continue
        singles = [
            single(block, nodes[i], shape[i], covariance[i], scale) for i in range(len(patterns))
        ]
        results.append(combine(block, singles, shape, covariance, scale, settings.relations))
    return results
