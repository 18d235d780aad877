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

from diskern.crystal.extinction_groups import DiffractionSymbol, diffraction_symbols
from diskern.errors import DiskernError
from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.hypotheses import Block
from diskern.symmetry.hypotheses_table import block as block_of
from diskern.symmetry.hypotheses_table import blocks
from diskern.symmetry.joined import Witness
from diskern.symmetry.likelihood_nodes import NodeLikelihood, NodeModel
from diskern.symmetry.posterior import Posterior, Prior, groups_from, leading, of_symbols
from diskern.symmetry.posterior_ambiguity import ambiguity_set, next_zone, zone_posteriors
from diskern.symmetry.posterior_reasons import best_cell, sentences
from diskern.symmetry.reasoner_joint import Combination, Measured, Relation, combine
from diskern.symmetry.reasoner_single import Single, measured_shapes, of_any_net, single

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
    witness: Witness | None = None,
) -> Posterior:
    """Probabilities of symmetry, zones and the ambiguity left, from zone-axis patterns.

    Parameters
    ----------
    patterns : one or more patterns of one crystal.
    witness : what a network says of the same patterns; the probabilities are then those of both,
        and zones and reasons those of the best symbol that the rules do not exclude.

    Raises
    ------
    DiskernError
        Where there is no pattern, or a setting makes no sense.
    """
    settings = settings or Settings()
    group_prior = (prior or Prior()).of_groups()
    results = weigh(patterns, settings)
    log_evidence = np.full(len(diffraction_symbols()), -np.inf)
    considered = np.zeros(len(log_evidence), dtype=bool)
    for result in results:
        own = [symbol.index for symbol in result.block.symbols]
        log_evidence[own], considered[own] = result.log_evidence, True
    alone = groups = _posterior(log_evidence, group_prior)
    overruled: tuple[str, ...] = ()
    if witness is not None:
        both = np.where(considered, witness.joined(log_evidence), -np.inf)
        groups = _posterior(both, group_prior)
        overruled = _overruled(leading(alone), leading(groups))
    # Zones and reasons can only be those of a symbol that has nets for all the patterns.
    nets = np.where(np.isfinite(log_evidence), 0.0, -np.inf)
    head = leading(groups * groups_from(nets, np.ones(230)))
    probability = of_symbols(groups)
    best = next(r for r in results if head in r.block.symbols)
    chosen = best.best(best.block.symbols.index(head))
    zone, why = next_zone(best, chosen, probability)
    undecided = ambiguity_set(results, best, chosen, head, patterns, settings.node_model)
    return Posterior(
        groups=groups,
        zone_axes=zone_posteriors(results, head, probability, len(patterns)),
        ambiguity_set=undecided,
        next_zone=zone,
        reasons=(
            *sentences(best, chosen, head, patterns, settings.node_model),
            *overruled,
            *why,
        ),
        cell=best_cell(best, chosen, patterns),
        log_evidence=log_evidence,
        alone=None if witness is None else alone,
    )


def _overruled(own: DiffractionSymbol, shared: DiffractionSymbol) -> tuple[str, ...]:
    """What the network changes, where it changes the answer."""
    if own == shared:
        return ()
    return (f"the rules alone favour {own.name}; with the network {shared.name} is more probable",)


def _posterior(log_evidence: Floats, group_prior: Floats) -> Floats:
    """(230,) probabilities of the space groups."""
    if not (np.isfinite(log_evidence) & (of_symbols(group_prior) > 0)).any():
        raise DiskernError("no hypothesis that the prior allows fits; widen systems or prior")
    return groups_from(log_evidence, group_prior)


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

    def singles(block: Block) -> list[Single]:
        parts = zip(nodes, shape, covariance, strict=True)
        return [single(block, node, one, spread, scale) for node, one, spread in parts]

    anything = block_of("-1")
    free = singles(anything)
    doubt = np.array([p.doubt for p in patterns])
    any_net = np.array([of_any_net(one) for one in free])
    measured = Measured(shape, covariance, scale, doubt, any_net, settings.relations)
    return [
        combine(block, free if block is anything else singles(block), measured)
        for block in blocks()
        if not settings.systems or block.system in settings.systems
    ]
