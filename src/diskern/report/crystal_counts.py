"""What a collection of crystals holds: how many of each system, space group and prototype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diskern.crystal.sources.catalogue import Listed
from diskern.crystal.spacegroups import SYSTEMS, space_group
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADES = ("#648fff", "#785ef0", "#dc267f", "#fe6100", "#ffb000", "#4cc9f0", "#2a9d5c")
"""One colour a crystal system."""
MOST = 15
"""Prototypes that are named."""


def count_crystals(listed: Sequence[Listed]) -> dict[str, Any]:
    """Counts by system, space group and prototype, most frequent first, ready for JSON."""
    systems = Counter(c.system for c in listed)
    return {
        "crystals": len(listed),
        "systems": {s: systems[s] for s in SYSTEMS},
        "space_groups": dict(Counter(c.number for c in listed).most_common()),
        "prototypes": dict(Counter(c.prototype for c in listed if c.prototype).most_common()),
        "disordered": sum(bool(c.disorder) for c in listed),
        "unsteady": sum(not c.steady for c in listed),
    }


def counts_figure(listed: Sequence[Listed], title: str = "") -> Figure:
    """Bars of systems, a strip of the 230 groups, and the most frequent prototypes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not listed:
        raise DiskernError("there is no crystal to count")
    counts = count_crystals(listed)
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.1))
    colour = dict(zip(SYSTEMS, SHADES, strict=True))

    left = figure.add_subplot(grid[0, 0])
    amounts = [counts["systems"][s] for s in SYSTEMS]
    bars = left.barh(SYSTEMS, amounts, color=SHADES)
    left.bar_label(bars, padding=3)
    left.invert_yaxis()
    left.set_title("crystal systems")

    right = figure.add_subplot(grid[0, 1])
    top = list(counts["prototypes"].items())[:MOST]
    shades = [colour[space_group(int(label.split("_")[0])).system] for label, _ in top]
    bars = right.barh([label for label, _ in top], [n for _, n in top], color=shades)
    right.bar_label(bars, padding=3)
    right.invert_yaxis()
    right.set_title(f"prototypes ({len(counts['prototypes'])} in all)")

    below = figure.add_subplot(grid[1, :])
    numbers = np.arange(1, 231)
    heights = [counts["space_groups"].get(int(n), 0) for n in numbers]
    below.bar(numbers, heights, color=[colour[space_group(int(n)).system] for n in numbers])
    below.set_xlim(0, 231)
    below.set_xlabel("space group")
    filled = sum(h > 0 for h in heights)
    below.set_title(f"space groups ({filled} of 230)")
    for axes in (left, right, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title or f"{len(listed)} crystals")
    return figure
