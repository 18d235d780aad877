"""The atlas of look-alike classes: one drawing and one list of members for each."""

from __future__ import annotations

import io
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diskern.errors import DiskernError
from diskern.report.markup import Html, element, join, page, picture
from diskern.report.notation import direction_text
from diskern.symmetry.lookalike import LookAlike, LookAlikeTable, lookalike_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORDS = {"A": "square", "B": "rectangle", "C": "hexagonal", "D": "parallelogram"}
REACH = 3.2
"""Radius of a drawing in units of the longer edge of the net."""


def write_atlas(path: Path, table: LookAlikeTable | None = None) -> Path:
    """Write the atlas of a table, of the 61 published classes by default.

    Parameters
    ----------
    path : ends in .html (one self-contained page), .png, .pdf or .svg.

    Raises
    ------
    DiskernError
        For another ending, or a path that cannot be written.
    """
    table = table or lookalike_labels()
    try:
        if path.suffix.lower() == ".html":
            path.write_text(atlas_page(table), encoding="utf-8")
        elif path.suffix.lower() in (".png", ".pdf", ".svg"):
            atlas_figure(table).savefig(path, dpi=110)
        else:
            raise DiskernError(f"{path.name} is no atlas; end it in .html, .png, .pdf or .svg")
    except OSError as error:
        raise DiskernError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def atlas_figure(table: LookAlikeTable, columns: int = 8) -> Figure:
    """All classes on one sheet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(table) // columns)
    figure = Figure(figsize=(columns * 1.9, rows * 2.35 + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, entry in zip(grid, table.classes, strict=False):
        _draw(axes, entry)
        axes.set_title(f"{entry.label}  ({len(entry.members)})", fontsize=9)
        axes.text(0.5, -0.02, members_text(entry, 3), fontsize=5.5, ha="center", va="top",
                  transform=axes.transAxes)  # fmt: skip
    figure.suptitle(f"{len(table)} look-alike classes: filled spots are seen, rings stay dark")
    return figure


def atlas_page(table: LookAlikeTable) -> str:
    """One HTML page with a card for each class."""
    kinds: defaultdict[str, list[LookAlike]] = defaultdict(list)
    for entry in table.classes:
        kinds[entry.shape.category].append(entry)
    pairs = sum(len(c.members) for c in table.classes)
    parts: list[Html] = [
        element("h1", "Atlas of look-alike patterns"),
        element(
            "p",
            f"{pairs} pairs of space group and zone axis make {len(table)} classes that geometry "
            "and absences cannot tell apart. Filled spots are seen, rings stay dark.",
        ),
    ]
    for category, entries in kinds.items():
        parts.append(element("h2", f"{category}: {WORDS[category]} ({len(entries)})"))
        parts += [_card(entry) for entry in entries]
    return page("Atlas of look-alike patterns", join(parts))


def _card(entry: LookAlike) -> Html:
    words = [
        element("h3", entry.label),
        element("p", _shape_words(entry), class_="soft"),
        element("p", members_text(entry, 99)),
    ]
    image = picture(_png(entry), f"net of {entry.label}")
    body = [element("figure", image), element("div", join(words))]
    return element("div", join(body), class_="card pattern")


def _shape_words(entry: LookAlike) -> str:
    angles = ", ".join(f"{a:.2f}°" for a in entry.shape.angles)
    hand = {1: ", right-handed", -1: ", left-handed", 0: ""}[entry.shape.chirality]
    net = f"{WORDS[entry.shape.category]} net" + (f" ({angles}{hand})" if angles else "")
    dark = len(entry.absent)
    return f"{net}; {dark} dark nodes of 49" if dark else f"{net}; no dark node"


def members_text(entry: LookAlike, lines: int) -> str:
    """Space groups and their zones, a line a group."""
    zones: defaultdict[str, list[str]] = defaultdict(list)
    for setting, zone in entry.members:
        zones[setting.title].append(direction_text(zone))
    words = [f"{title} {' '.join(found)}" for title, found in zones.items()]
    more = [f"and {len(words) - lines} more"] if len(words) > lines else []
    return "\n".join(words[:lines] + more)


def _png(entry: LookAlike) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2, 2.2))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw(axes, entry)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def _draw(axes: Axes, entry: LookAlike) -> None:
    """The net within a circle, on black as on the screen."""
    basis = _net(entry)
    nodes = np.array(list(product(range(-3, 4), repeat=2)))
    places = nodes @ basis
    radius = min(REACH, 3.4 * float(np.linalg.norm(basis, axis=1).min()) + 0.6)
    inside = np.hypot(*places.T) < radius
    dark = np.array([tuple(n) in entry.absent for n in nodes.tolist()])
    axes.set_facecolor("black")
    axes.set_aspect("equal")
    axes.set_xlim(-radius, radius)
    axes.set_ylim(-radius, radius)
    axes.axis("on")
    axes.set_xticks([])
    axes.set_yticks([])
    seen = places[inside & ~dark]
    size = np.where(np.hypot(*seen.T) < 1e-9, 60, 22)
    axes.scatter(seen[:, 0], seen[:, 1], s=size, color="white", lw=0)
    rings = places[inside & dark]
    axes.scatter(rings[:, 0], rings[:, 1], s=22, facecolors="none", edgecolors="#ff5a4d", lw=0.8)


def _net(entry: LookAlike) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(2, 2) basis rows of the reduced net, the longer edge 1."""
    shape = entry.shape
    if shape.category in ("A", "B"):
        short = np.tan(np.radians(shape.angles[0])) if shape.angles else 1.0
        return np.array([[short, 0.0], [0.0, 1.0]])
    if shape.category == "C":
        return np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    gamma, corner = np.radians(shape.angles)
    # Law of sines in the triangle O A B: OA = a, OB = b, with the angles at O and at A.
    short = np.sin(np.pi - gamma - corner) / np.sin(corner)
    turn = gamma if shape.chirality >= 0 else np.pi - gamma
    return np.array([[short, 0.0], [np.cos(turn), np.sin(turn)]])
