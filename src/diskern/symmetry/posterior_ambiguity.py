"""What the patterns leave undecided, and which further zone would decide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.extinction_groups import DiffractionSymbol, diffraction_symbols
from diskern.crystal.spacegroups import systematically_absent
from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.hypotheses import Block
from diskern.symmetry.hypotheses_zones import Row, plane_basis, stabiliser, zones
from diskern.symmetry.identification import ZoneAxis
from diskern.symmetry.likelihood_metric import freedom
from diskern.symmetry.likelihood_nodes import NodeLikelihood, NodeModel
from diskern.symmetry.reasoner_joint import DOUBTED, Combination

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SYMMETRIC = 0.5
"""Scatter of ln I between Friedel mates up to which intensities speak of symmetry at all."""
LOW_INDEX = 3
"""Largest index of a zone that is proposed."""
WORTH_BITS = 0.05
"""A zone that is expected to tell less than this is not proposed."""


def zone_posteriors(
    results: Sequence[Combination], head: DiffractionSymbol, probability: Floats, count: int
) -> tuple[tuple[ZoneAxis, ...], ...]:
    """Zone axes of each pattern within the crystal system of the best symbol."""
    tables: list[dict[tuple[int, int, int] | None, float]] = [{} for _ in range(count)]
    for result in results:
        if result.block.system != head.system or not len(result.nets):
            continue
        index = [s.index for s in result.block.symbols]
        evidence = result.log_evidence
        share = np.where(np.isfinite(evidence), probability[index], 0.0)
        joint = result.metric[:, None] + result.nodes - np.where(share > 0, evidence, 0.0)
        weight = np.where(share > 0, np.exp(np.minimum(joint, 0.0)) * share, 0.0).sum(1)
        for t, w in enumerate(weight.tolist()):
            for i, table in enumerate(tables):
                zone = result.zone(t, i)
                table[zone] = table.get(zone, 0.0) + w
    ranked = []
    for table in tables:
        # What is left to none of them is the probability that the net is misread.
        total = max(sum(table.values()), 1e-300)
        named = [(zone, w / total) for zone, w in table.items() if zone is not None]
        axes = [ZoneAxis(zone, share) for zone, share in named if share > 1e-4]
        ranked.append(tuple(sorted(axes, key=lambda z: -z.probability)[:10]))
    return tuple(ranked)


def darkened(rows: tuple[Row, ...], indices: Ints) -> Bools:
    """(N,) nodes that thinned rows forbid."""
    dark = np.zeros(len(indices), dtype=bool)
    for m, n, period, _ in rows:
        on = indices[:, 0] * n == indices[:, 1] * m
        multiple = (indices @ np.array([m, n])) // (m * m + n * n)
        dark |= on & (multiple % period != 0)
    return dark


def rows_of(block: Block, net: int, symbol: int) -> tuple[Row, ...]:
    """The thinned rows that a symbol of the block predicts for one of its nets."""
    for row in block.prediction[block.prediction[:, 0] == net].tolist():
        if block.member[row[2], symbol]:
            return block.rowsets[row[1]]
    return ()


def ambiguity_set(
    results: Sequence[Combination],
    best: Combination,
    chosen: int,
    head: DiffractionSymbol,
    patterns: Sequence[PatternEvidence],
    model: NodeModel,
) -> tuple[int, ...]:
    """Space groups that predict what the best hypothesis predicts, node by visible node.

    A group is told apart where every cell and zone that fits makes a visible node differ (lit
    or systematically absent), where it needs a free cell parameter to take a special value, or
    where it demands another symmetry of intensities that the pattern is able to show.
    """
    which = best.block.symbols.index(head)
    wanted = []
    for i, pattern in enumerate(patterns):
        net = int(best.nets[chosen, i])
        if net == DOUBTED:
            continue
        nodes = NodeLikelihood(pattern, model)
        dark = darkened(rows_of(best.block, net, which), nodes.indices)
        turns = best.block.groups[int(best.block.group[net])]
        shows = nodes.scatter < SYMMETRIC and nodes.pairs >= 3
        label = nodes.orbits(turns) if shows else None
        wanted.append((i, nodes, dark, label))
    own = _freedom(best, np.array([chosen]))[0]
    limit = float(best.misfit[chosen]) + 9.0 * len(patterns)
    alike: set[int] = set(head.space_groups)
    for result in results:
        if result.block.laue_class == "-1" and len(patterns) > 1:
            continue
        fits = np.flatnonzero(result.misfit <= limit)
        fits = fits[_freedom(result, fits) <= own] if len(fits) else fits
        if not len(fits):
            continue
        same = np.ones((len(fits), len(result.block.symbols)), dtype=bool)
        for i, nodes, dark, label in wanted:
            same &= _alike(result.block, result.nets[fits, i], nodes, dark, label)
        for s in np.flatnonzero(same.any(0)):
            alike.update(result.block.symbols[s].space_groups)
    return tuple(sorted(alike))


def _freedom(result: Combination, which: Ints) -> Ints:
    nets = result.nets[which]
    return freedom(result.block.basis[nets], result.block.cell, result.phi[which], nets != DOUBTED)


def _alike(
    block: Block, nets: Ints, nodes: NodeLikelihood, dark: Bools, label: Ints | None
) -> Bools:
    """(T, S) whether a symbol with that net predicts the same node states and orbits."""
    unique, place = np.unique(nets, return_inverse=True)
    table = np.zeros((len(unique), len(block.symbols)), dtype=bool)
    known: dict[int, bool] = {}
    turned: dict[int, bool] = {}
    for row, net in enumerate(unique.tolist()):
        if net == DOUBTED:  # it predicts nothing, so it is like none
            continue
        group = int(block.group[net])
        if label is not None:
            if group not in turned:
                turned[group] = bool((nodes.orbits(block.groups[group]) == label).all())
            if not turned[group]:
                continue
        for _, rowset, kind in block.prediction[block.prediction[:, 0] == net].tolist():
            if block.kind_log_prior[kind] < 0:
                continue
            if rowset not in known:
                states = darkened(block.rowsets[rowset], nodes.indices)
                known[rowset] = bool((states == dark).all())
            if known[rowset]:
                table[row] |= block.member[kind]
    return np.asarray(table[place.reshape(-1)])


def next_zone(
    best: Combination, chosen: int, probability: Floats
) -> tuple[tuple[int, int, int] | None, tuple[str, ...]]:
    """The low-index zone of the best cell expected to split what is left, and why.

    Only symbols of the same crystal system are weighed: their zones mean the same thing.
    """
    block = best.block
    rivals = [
        s for s in diffraction_symbols() if s.system == block.system and probability[s.index] > 1e-4
    ]
    weight = np.array([probability[s.index] for s in rivals])
    if len(rivals) < 2:
        return None, ()
    weight /= weight.sum()
    seen = {best.zone(chosen, i) for i in range(best.nets.shape[1])}
    gains: list[tuple[float, tuple[int, int, int], list[list[DiffractionSymbol]]]] = []
    for u, v, w in zones(block.laue_class, LOW_INDEX).uvw.tolist():
        if (u, v, w) in seen:
            continue
        classes: dict[bytes, list[int]] = {}
        for i, symbol in enumerate(rivals):
            classes.setdefault(_look(symbol, (u, v, w)), []).append(i)
        share = np.array([weight[members].sum() for members in classes.values()])
        bits = float(-(share * np.log2(np.maximum(share, 1e-12))).sum())
        parts = sorted(classes.values(), key=lambda m: -weight[m].sum())
        apart = [[rivals[i] for i in m] for m in parts]
        gains.append((bits - 0.01 * float(np.hypot(np.hypot(u, v), w)), (u, v, w), apart))
    if not gains:
        return None, ()
    gain, zone, told = max(gains, key=lambda g: g[0])
    if gain < WORTH_BITS:
        return None, ()
    shown = _named([part[:3] for part in told[:4]])
    text = f"zone {list(zone)} would tell most ({gain:.1f} bit): it separates {shown}"
    return zone, (text,)


def _named(parts: list[list[DiffractionSymbol]]) -> str:
    """Extinction symbols of each part, with the Laue class where two parts share one."""
    held = Counter(name for part in parts for name in {s.extinction for s in part})
    words = [[s.extinction if held[s.extinction] == 1 else s.name for s in part] for part in parts]
    return " / ".join(", ".join(dict.fromkeys(part)) for part in words)


def _look(symbol: DiffractionSymbol, uvw: tuple[int, int, int]) -> bytes:
    """What a symbol shows in a zone of known cell: absent nodes and the symmetry in the plane."""
    side = np.arange(-6, 7)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    absent = systematically_absent(symbol.representative, grid @ plane_basis(np.array(uvw)))
    return np.packbits(absent).tobytes() + stabiliser(symbol.laue_class, uvw).tobytes()
