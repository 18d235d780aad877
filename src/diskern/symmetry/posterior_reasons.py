"""The evidence in sentences, and the cell they speak of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.conditions import reflection_conditions
from diskern.crystal.crystal import parameters_from_lattice
from diskern.crystal.extinction_groups import DiffractionSymbol
from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.hypotheses import Block
from diskern.symmetry.hypotheses_zones import Row
from diskern.symmetry.likelihood_nodes import NodeLikelihood, NodeModel
from diskern.symmetry.likelihood_shapes import reciprocal_metric, shapes
from diskern.symmetry.posterior_ambiguity import SYMMETRIC, rows_of
from diskern.symmetry.reasoner_joint import DOUBTED, Combination

Ints = NDArray[np.int64]


def best_cell(
    best: Combination, chosen: int, patterns: Sequence[PatternEvidence]
) -> tuple[float, float, float, float, float, float]:
    """a, b, c in Å (relative to a = 1 where no pattern is calibrated), α, β, γ in degrees."""
    metric = reciprocal_metric(best.block.cell.parameters(best.phi[chosen]))
    reciprocal = np.linalg.cholesky(metric)
    a, b, c, alpha, beta, gamma = parameters_from_lattice(np.linalg.inv(reciprocal).T)
    if all(p.pixel_size is None for p in patterns):
        a, b, c = 1.0, b / a, c / a
    return a, b, c, alpha, beta, gamma


def sentences(
    best: Combination,
    chosen: int,
    head: DiffractionSymbol,
    patterns: Sequence[PatternEvidence],
    model: NodeModel,
) -> tuple[str, ...]:
    """What speaks for the best hypothesis, pattern by pattern."""
    which = best.block.symbols.index(head)
    lines = []
    conditions = "; ".join(str(c) for c in reflection_conditions(head.representative))
    lines.append(
        f"{head.system}, extinction symbol {head.extinction}: "
        + (f"reflections need {conditions}" if conditions else "no systematic absences")
    )
    for i, pattern in enumerate(patterns):
        net = int(best.nets[chosen, i])
        number = i + 1 if pattern.number is None and len(patterns) > 1 else pattern.number
        label = "the pattern" if number is None else f"pattern {number}"
        if net == DOUBTED:
            lines.append(f"{label}: {_aside(pattern, len(patterns))}")
            continue
        nodes = NodeLikelihood(pattern, model)
        lines.append(_metric(best, chosen, i, pattern, label))
        for row in rows_of(best.block, net, which):
            text = _row(row, best.block.basis[net], nodes)
            if text:
                lines.append(f"{label}: {text}")
        lines.append(f"{label}: {_symmetry(best.block, net, nodes)}")
    return tuple(lines)


def _aside(pattern: PatternEvidence, patterns: int) -> str:
    """Why a pattern is set aside."""
    if pattern.doubt > 0.5:
        return "its net leaves most of its spots aside, as off any zone axis; it is set aside"
    others = " of the cell of the others" if patterns > 1 else ""
    return f"its net fits no zone{others}; it is set aside as misread, or of another crystal"


def _metric(best: Combination, chosen: int, i: int, pattern: PatternEvidence, label: str) -> str:
    basis = best.block.basis[best.nets[chosen, i]].astype(np.float64)
    shape, _ = shapes(basis[None, None], best.block.cell, best.phi[chosen][None])
    error = pattern.shape - shape[0, 0]
    ratio = abs(np.expm1(error[1] - error[0]))
    zone = list(best.zone(chosen, i) or ())
    first, second = (_hkl(h) for h in best.block.basis[best.nets[chosen, i]])
    return (
        f"{label}: the net ({first}, {second}) fits zone {zone} within {ratio:.2%} in the ratio "
        f"of its axes and {abs(np.degrees(error[2])):.2f}° in their angle"
    )


def _hkl(indices: Ints) -> str:
    return " ".join(str(int(i)) for i in indices)


def _row(row: Row, basis: Ints, nodes: NodeLikelihood) -> str:
    m, n, period, guarded = row
    found = nodes.directions.get((m, n))
    if found is None:
        return ""
    place, multiple = found
    forbidden = multiple % period != 0
    if not forbidden.any():
        return ""
    lit = int(nodes.observed[place[forbidden]].sum())
    count = int(forbidden.sum())
    step = np.array([m, n]) @ basis
    if step[np.flatnonzero(step)[0]] < 0:
        step = -step
    which = "n odd" if period == 2 else f"n no multiple of {period}"
    name = f"row n·({_hkl(step)}) with {which}"
    if lit == 0:
        kind = "a screw axis along it or a glide plane" if guarded > 1 else "a symmetry element"
        return f"{name}: dark at {count} of {count} visible nodes, as {kind} demands"
    return (
        f"{name}: forbidden, yet {lit} of {count} visible nodes are lit; all are sums of allowed "
        f"reflections, so double diffraction explains them"
    )


def _symmetry(block: Block, net: int, nodes: NodeLikelihood) -> str:
    turns = block.groups[int(block.group[net])]
    name = plane_symmetry(turns)
    if nodes.pairs < 3:
        return "too few Friedel pairs to judge the symmetry of intensities"
    percent = np.expm1(nodes.scatter)
    if nodes.scatter >= SYMMETRIC:
        return (
            f"Friedel mates differ by {percent:.0%}: the crystal is off the zone axis and "
            "intensities carry little evidence of symmetry"
        )
    if name == "2":
        return f"Friedel mates agree within {percent:.0%}; the zone has symmetry 2 only"
    return f"Friedel mates agree within {percent:.0%}, and equivalents under {name} are compared"


def plane_symmetry(turns: Ints) -> str:
    """Name of a two-dimensional Laue group from its (G, 2, 2) matrices."""
    mirrors = (np.linalg.det(turns) < 0).any()
    order = len(turns) // 2 if mirrors else len(turns)
    return {2: "2mm" if mirrors else "2", 4: "4mm" if mirrors else "4"}.get(
        order, "6mm" if mirrors else "6"
    )
