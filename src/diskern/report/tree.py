"""The symmetry tree as inline SVG: system → extinction symbol → space group.

Drawn by hand rather than with matplotlib, so that it takes the page's colours and fonts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from diskern.report.markup import Html, html
from diskern.report.notation import percent, space_group_text
from diskern.symmetry.identification import Identification, Ranked

WIDTH, ROW, MARGIN = 860, 30, 16
COLUMNS = (72, 310, 550, 788)
MOST = (4, 7, 12)
"""How many branches are drawn at each of the three levels."""


@dataclass(frozen=True)
class _Node:
    label: str
    probability: float
    x: float
    y: float


def symmetry_tree(identification: Identification) -> Html:
    """The tree, or nothing where there are fewer than two levels to show."""
    levels = [
        identification.system[: MOST[0]],
        identification.extinction_symbol[: MOST[1]],
        identification.space_group[: MOST[2]],
    ]
    if not levels[0] or not levels[1]:
        return Html("")
    levels = [level for level in levels if level]
    height = ROW * max(len(level) for level in levels) + 2 * MARGIN
    columns = [
        _column(level, x, height, _name if depth < 2 else _group_name)
        for depth, (level, x) in enumerate(zip(levels, COLUMNS[1:], strict=False))
    ]
    root = _Node("measured", 1.0, COLUMNS[0], height / 2)
    links = [_link(root, node) for node in columns[0]]
    for parents, children, above, below in zip(
        columns, columns[1:], levels, levels[1:], strict=False
    ):
        for node, ranked in zip(children, below, strict=True):
            parent = _parent(ranked, above)
            if parent is not None:
                links.append(_link(parents[parent], node))
    marks = [_mark(node) for node in [root, *(n for column in columns for n in column)]]
    drawing = "".join(links) + "".join(marks)
    return Html(
        f'<svg class="tree" role="img" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'aria-label="Symmetry tree with probabilities">{drawing}</svg>'
    )


def _name(ranked: Ranked) -> str:
    return ranked.name


def _group_name(ranked: Ranked) -> str:
    if len(ranked.space_groups) == 1:
        return space_group_text(ranked.space_groups[0])
    return ranked.name


def _column(
    level: tuple[Ranked, ...], x: float, height: float, name: Callable[[Ranked], str]
) -> list[_Node]:
    step = (height - 2 * MARGIN) / len(level)
    return [
        _Node(name(r), r.probability, x, MARGIN + (i + 0.5) * step) for i, r in enumerate(level)
    ]


def _parent(ranked: Ranked, above: tuple[Ranked, ...]) -> int | None:
    """The branch above that shares the most space groups with this one."""
    shared = [len(set(ranked.space_groups) & set(r.space_groups)) for r in above]
    best = max(range(len(above)), key=shared.__getitem__)
    return best if shared[best] else None


def _link(start: _Node, end: _Node) -> str:
    left, right = start.x + 62, end.x - 62
    middle = (left + right) / 2
    width = 1 + 11 * min(max(end.probability, 0), 1)
    path = f"M{left:.0f},{start.y:.1f}C{middle:.0f},{start.y:.1f} {middle:.0f},{end.y:.1f} "
    path += f"{right:.0f},{end.y:.1f}"
    return f'<path class="link" d="{path}" stroke-width="{width:.1f}"/>'


def _mark(node: _Node) -> str:
    strength = 0.62 + 0.38 * min(max(node.probability, 0), 1)
    share = "" if node.label == "measured" else f"  {percent(node.probability)}"
    box = f'<rect x="{node.x - 62}" y="{node.y - 12:.1f}" width="124" height="24" rx="6"/>'
    words = (
        f'<text x="{node.x}" y="{node.y + 4:.1f}">{html(_short(node.label))}{html(share)}</text>'
    )
    return f'<g class="node" opacity="{strength:.2f}">{box}{words}</g>'


def _short(label: str) -> str:
    return label if len(label) <= 13 else label[:12] + "…"
