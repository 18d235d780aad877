"""Measures of trained networks as Markdown, CSV and a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

_COLOURS = ("#648fff", "#dc267f", "#ffb000", "#785ef0", "#fe6100", "#000000")
_RULES = (("mean", _COLOURS[0], "o"), ("product", _COLOURS[1], "s"))


def markdown_table(rows: Rows) -> str:
    """Rows as a Markdown table; columns in the order in which rows first name them."""
    if not rows:
        return ""
    names = _columns(rows)
    lines = [names, ["---"] * len(names)]
    lines += [[words(row.get(name)) for name in names] for row in rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def csv_table(rows: Rows) -> str:
    """Rows as CSV at full precision; columns in the order in which rows first name them."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def words(value: Any) -> str:
    """A value of a table as people read it: whole numbers grouped, others to four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).replace("|", "\\|")
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def ensemble_figure(rows: Rows) -> Figure:
    """Accuracy of the space group against the number of zone axes, beside what is possible.

    A panel for each held-out part of ``rows`` as `diskern.train.saed_evaluate.ensemble_rows`
    gives them.
    """
    from matplotlib.figure import Figure

    parts = list(dict.fromkeys(row["held_out"] for row in rows))
    columns = min(len(parts), 4)
    lines = -(-len(parts) // columns)
    figure = Figure(figsize=(1.2 + 3.4 * columns, 0.4 + 3.2 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(parts) :]:
        axes.remove()
    panels = grid.flat[: len(parts)]
    for axes, part in zip(panels, parts, strict=True):
        own = [row for row in rows if row["held_out"] == part]
        count = [row["patterns"] for row in own]
        for rule, colour, mark in _RULES:
            network = [100 * row[rule] for row in own]
            ideal = [100 * row[f"{rule}_ideal"] for row in own]
            axes.plot(count, network, color=colour, marker=mark, label=rule)
            axes.plot(count, ideal, color=colour, ls=":", label=f"{rule}, labels known")
        axes.set_title(part, fontsize=10)
        axes.set_xlabel("zone axes")
        axes.set_xticks(count)
        axes.set_ylim(0, 102)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel("space group right (%)")
    panels[-1].legend(fontsize=8, loc="lower right")
    return figure


def bands_figure(rows: Rows) -> Figure:
    """Share of right answers in bands of one property each, as `diskern.train.symmetry_bands`
    gives them: a panel for each property and level of symmetry, a line for each number of
    patterns."""
    from matplotlib.figure import Figure

    properties = list(dict.fromkeys(row["of"] for row in rows))
    levels = list(dict.fromkeys(row["level"] for row in rows))
    counts = list(dict.fromkeys(row["patterns"] for row in rows))
    figure = Figure(
        figsize=(1.0 + 2.9 * len(properties), 0.6 + 2.3 * len(levels)), layout="constrained"
    )
    grid = figure.subplots(len(levels), len(properties), sharey="row", squeeze=False)
    for line, level in zip(grid, levels, strict=True):
        for axes, of in zip(line, properties, strict=True):
            for number, k in enumerate(counts):
                own = [r for r in rows if (r["of"], r["level"], r["patterns"]) == (of, level, k)]
                place = range(len(own))
                right = [100 * r["top1"] for r in own]
                error = [100 * _binomial(r["top1"], r["crystals"]) for r in own]
                style = {"color": _COLOURS[number % len(_COLOURS)], "marker": "o", "ms": 4}
                axes.errorbar(place, right, error, label=_patterns(k), capsize=2, **style)
                axes.set_xticks(place, [r["band"] for r in own], fontsize=7)
            axes.set_ylim(0, 102)
            axes.grid(alpha=0.3)
        line[0].set_ylabel(f"{level.replace('_', ' ')}\nright (%)")
    for axes, of in zip(grid[0], properties, strict=True):
        axes.set_title(of, fontsize=10)
    grid[0, -1].legend(fontsize=8)
    return figure


def counts_figure(rows: Rows) -> Figure:
    """Share of right answers against the number of patterns, as `evaluate_symmetry` gives them:
    a panel for each kind of crystals, a line for each level of symmetry, the ceiling dotted."""
    from matplotlib.figure import Figure

    own = [r for r in rows if r.get("source") == "network" and r.get("scale") == "known"]
    kinds = list(dict.fromkeys(r["crystals_are"] for r in own))
    figure = Figure(figsize=(1.0 + 2.9 * len(kinds), 3.6), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        part = [r for r in own if r["crystals_are"] == kind]
        for number, level in enumerate(dict.fromkeys(r["level"] for r in part)):
            line = [r for r in part if r["level"] == level]
            count = [r["patterns"] for r in line]
            colour = _COLOURS[number % len(_COLOURS)]
            label = str(level).replace("_", " ")
            axes.plot(count, [100 * r["top1"] for r in line], color=colour, marker="o", label=label)
            if all("ceiling" in r for r in line):
                axes.plot(count, [100 * r["ceiling"] for r in line], color=colour, ls=":")
        axes.set_title(",\n".join(str(kind).split(", ", 1)), fontsize=9)
        axes.set_xlabel("patterns")
        axes.set_xscale("log")
        axes.set_xticks(count, [str(k) for k in count])
        axes.minorticks_off()
        axes.set_ylim(0, 102)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("right (%)")
    lines = panels[0].get_legend_handles_labels()
    figure.legend(*lines, fontsize=8, loc="outside lower center", ncols=len(lines[0]))
    return figure


def _binomial(share: float, count: int) -> float:
    return float((share * (1 - share) / max(count, 1)) ** 0.5)


def _patterns(count: int) -> str:
    return "1 pattern" if count == 1 else f"{count} patterns"


FIGURES: Mapping[str, Callable[[Rows], Figure]] = {
    "ensemble": ensemble_figure,
    "bands": bands_figure,
    "symmetry": counts_figure,
}
"""What is drawn of each table that can be."""
