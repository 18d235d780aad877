"""Measures of trained networks as Markdown, CSV and a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

_RULES = (("mean", "#648fff", "o"), ("product", "#dc267f", "s"))


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
