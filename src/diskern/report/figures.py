"""Figures of an identification, drawn with matplotlib (no display, no global state).

matplotlib is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diskern.report import notation, style
from diskern.report.scale_bar import scale_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from diskern.bragg.analysis import Analysis
    from diskern.bragg.lattice import Lattice2D
    from diskern.bragg.rings import Rings
    from diskern.symmetry.identification import Identification, PhaseMatch

Floats = NDArray[np.float64]

LABELS_AT_MOST = 28
DISPLAY_SIDE = 1024


def pattern_figure(identification: Identification, index: int = 0, size: float = 6.0) -> Figure:
    """One pattern with everything that was read off it.

    Log-scaled image, masked regions shaded, direct beam, measured spots, lattice lines with
    the two basis vectors, indices of the best phase (or the lattice's own m, n), rings, zone
    axis and a scale bar.

    Parameters
    ----------
    index : which of the patterns, in the order they were given.
    size : width in inches; the height follows the image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    analysis = identification.analyses[index]
    rows, cols = analysis.pattern.shape
    figure = Figure(figsize=(size, size * float(np.clip(rows / cols, 0.3, 3.0))))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    draw_image(axes, analysis)
    phase = identification.phases[0] if identification.phases else None
    if analysis.rings is not None and analysis.kind == "rings":
        draw_rings(axes, analysis.rings, _ring_labels(analysis.rings, phase, index))
    for number, lattice in enumerate(analysis.lattices):
        draw_lattice(axes, lattice, analysis.pattern.shape, _colour(number))
    draw_spots(axes, analysis)
    if analysis.kind == "spots":
        _draw_labels(axes, analysis, *_spot_labels(analysis, phase, index))
    draw_centre(axes, analysis)
    _draw_scale_bar(axes, analysis)
    zone = _zone_title(identification, phase, index)
    if zone:
        _corner_text(axes, analysis.pattern.shape, zone)
    axes.set_xlim(-0.5, cols - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    return figure


def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as a PNG file, reduced to a palette of 256 colours."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="black")
    buffer.seek(0)
    reduced = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    out = io.BytesIO()
    reduced.save(out, format="PNG", optimize=True)
    return out.getvalue()


# --- the image ----------------------------------------------------------------------------
def display_levels(image: NDArray[np.floating[Any]], flaws: NDArray[np.uint16]) -> Floats:
    """(Q_y, Q_x) grey levels 0 to 1: a log scale between percentiles of the good pixels.

    The dark end is the median of the darker half, so that a sparse counting image keeps a
    black background; the bright end is the 99.8 % level, so the direct beam may saturate.
    """
    good = np.isfinite(image) & (flaws == 0)
    values = image[good] if good.any() else image[np.isfinite(image)]
    if values.size == 0:
        return np.zeros(image.shape)
    low, middle, high = np.percentile(values, [2.0, 50.0, 99.8])
    knee = max(middle - low, (high - low) * 2e-3, 1e-12)
    lifted = np.log1p(np.clip(np.nan_to_num(image, nan=low) - low, 0, None) / knee)
    top = np.log1p((high - low) / knee)
    return np.asarray(np.clip(lifted / max(top, 1e-12), 0, 1), dtype=np.float64)


def draw_image(axes: Axes, analysis: Analysis) -> None:
    """The image in grey with masked regions in translucent blue."""
    image, flaws = analysis.pattern.image, analysis.flaws
    rows, cols = image.shape
    extent = (-0.5, cols - 0.5, rows - 0.5, -0.5)
    levels = _block_mean(display_levels(image, flaws))
    axes.imshow(levels, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    masked = _block_mean((flaws != 0).astype(np.float64)) > 0.5
    if masked.any():
        from matplotlib.colors import to_rgba

        shade = np.zeros((*masked.shape, 4))
        shade[masked] = to_rgba(style.MASK_COLOUR, 0.38)
        axes.imshow(shade, extent=extent, interpolation="nearest")


def _block_mean(image: Floats) -> Floats:
    """Shrink by whole-number blocks until the longer side fits the display."""
    step = -(-max(image.shape) // DISPLAY_SIDE)
    if step == 1:
        return image
    rows, cols = (n // step * step for n in image.shape)
    blocks = image[:rows, :cols].reshape(rows // step, step, cols // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)))


# --- marks ----------------------------------------------------------------------------------
def draw_lattice(axes: Axes, lattice: Lattice2D, shape: tuple[int, int], colour: str) -> None:
    """Thin lines through the nodes and the two basis vectors as arrows from the origin."""
    from matplotlib.collections import LineCollection

    reach = float(np.hypot(*shape))
    segments = []
    a, b = lattice.basis
    pairs = [(a, b), (b, a)] if lattice.rank == 2 else [(a, np.zeros(2))]
    for along, across in pairs:
        spread = np.linalg.norm(across)
        count = int(reach / spread) + 1 if spread else 0
        starts = lattice.origin + np.arange(-count, count + 1)[:, None] * across
        step = along / np.linalg.norm(along) * 2 * reach
        segments += [[(p - step)[::-1], (p + step)[::-1]] for p in starts]
    axes.add_collection(LineCollection(segments, colors=colour, linewidths=0.5, alpha=0.28))
    names = "ab"[: lattice.rank]
    for vector, name in zip(lattice.basis, names, strict=False):
        _draw_arrow(axes, lattice.origin, vector, name, colour)


def _draw_arrow(axes: Axes, origin: Floats, vector: Floats, name: str, colour: str) -> None:
    start, tip = origin, origin + vector
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (tip[1], tip[0]), (start[1], start[0]), arrowprops=arrow)
    normal = np.array([-vector[1], vector[0]]) / np.linalg.norm(vector)
    row, col = origin + 0.55 * vector + normal * 0.03 * max(axes.get_images()[0].get_extent())
    text = axes.text(col, row, name, color=colour, style="italic", weight="bold", size=11)
    text.set(ha="center", va="center", path_effects=_outline())


def draw_spots(axes: Axes, analysis: Analysis) -> None:
    """Circles on measured spots, coloured by the lattice they belong to."""
    spots = analysis.spots
    if not len(spots):
        return
    owner = np.full(len(spots), -1)
    for number in reversed(range(len(analysis.lattices))):
        owner[analysis.lattices[number].members] = number
    for number in np.unique(owner):
        mine = spots.position[owner == number]
        axes.scatter(
            mine[:, 1],
            mine[:, 0],
            s=46,
            facecolors="none",
            edgecolors=_colour(int(number)),
            linewidths=0.9 if number >= 0 else 0.7,
            alpha=0.95 if number >= 0 else 0.6,
        )


def draw_rings(axes: Axes, rings: Rings, labels: list[str]) -> None:
    """Fitted rings with their common ellipse, labels staggered around the circle."""
    phi = np.linspace(0, 2 * np.pi, 361)
    swing = np.cos(2 * (phi - np.radians(rings.ellipse.angle)))
    shape = 1 + (rings.ellipse.ratio - 1) / 2 * swing
    for number, (radius, label) in enumerate(zip(rings.radius, labels, strict=True)):
        row = rings.centre.row + radius * shape * np.sin(phi)
        col = rings.centre.col + radius * shape * np.cos(phi)
        axes.plot(col, row, color=style.RING_COLOUR, lw=0.8, ls=(0, (5, 4)), alpha=0.9)
        at = int((25 + 37 * number) % 360)
        text = axes.text(col[at], row[at], label, color=style.RING_COLOUR, size=9)
        text.set(ha="center", va="center", path_effects=_outline(), clip_on=True)


def draw_centre(axes: Axes, analysis: Analysis) -> None:
    """The direct beam as a cross."""
    centre = analysis.centre
    axes.plot(centre.col, centre.row, "+", color=style.CENTRE_COLOUR, ms=12, mew=1.8, zorder=6)


# --- words on the image -----------------------------------------------------------------------
def _spot_labels(
    analysis: Analysis, phase: PhaseMatch | None, index: int
) -> tuple[Floats, list[str]]:
    """Positions and labels, strongest spot first: hkl of the phase, or (m, n)."""
    if phase is not None and index < len(phase.hkl):
        hkl = np.asarray(phase.hkl[index])
        if len(hkl) == len(analysis.spots):
            known = np.flatnonzero((hkl != notation.UNINDEXED).all(axis=1))
            return analysis.spots.position[known], [notation.plane_mathtext(h) for h in hkl[known]]
    if not analysis.lattices:
        return np.zeros((0, 2)), []
    first = analysis.lattices[0]
    order = np.argsort(first.members)
    members, indices = first.members[order], first.indices[order]
    return analysis.spots.position[members], [f"{m},{n}" for m, n in indices]


def _ring_labels(rings: Rings, phase: PhaseMatch | None, index: int) -> list[str]:
    """Indices of the best phase, or the ring's number counted from the centre."""
    labels = [str(n + 1) for n in range(len(rings.radius))]
    if phase is None or index >= len(phase.hkl) or len(phase.hkl[index]) != len(labels):
        return labels
    rows = np.asarray(phase.hkl[index])
    return [
        notation.plane_mathtext(hkl) if (hkl != notation.UNINDEXED).all() else "?" for hkl in rows
    ]


def _draw_labels(axes: Axes, analysis: Analysis, position: Floats, labels: list[str]) -> None:
    """Labels under their spots, strongest first, left out where they would overlap."""
    rows, cols = analysis.pattern.shape
    clear = np.array([0.035 * max(rows, cols), 0.065 * max(rows, cols)])
    placed: list[Floats] = []
    for (row, col), label in zip(position, labels, strict=True):
        at = np.array([row + clear[0] * 0.75, col])
        crowded = any((np.abs(at - other) < clear).all() for other in placed)
        if crowded or not (0 < at[0] < rows and 0.02 * cols < col < 0.98 * cols):
            continue
        placed.append(at)
        text = axes.text(at[1], at[0], label, color="white", size=8)
        text.set(ha="center", va="center", path_effects=_outline(), clip_on=True)
        if len(placed) == LABELS_AT_MOST:
            return


def _zone_title(identification: Identification, phase: PhaseMatch | None, index: int) -> str:
    """Zone axis of this pattern, with its phase or probability."""
    if phase is not None and index < len(phase.zone_axes):
        nearest = phase.zone_axes[index]
        if nearest is not None:
            uvw, degrees = nearest
            off = f", {degrees:.1f}° off" if degrees >= 0.5 else ""
            return f"{_plain(phase.name)} [{notation.plane_mathtext(uvw)}]{off}"
    if index < len(identification.zone_axes) and identification.zone_axes[index]:
        zone = identification.zone_axes[index][0]
        return f"[{notation.plane_mathtext(zone.uvw)}]  {notation.percent(zone.probability)}"
    return ""


def _plain(name: str) -> str:
    """A name from outside, safe for matplotlib's math text and short enough for a corner."""
    clean = "".join(c for c in name if c.isprintable()).replace("$", r"\$")
    return clean if len(clean) <= 32 else clean[:31] + "…"


def _corner_text(axes: Axes, shape: tuple[int, int], words: str) -> None:
    text = axes.text(0.025 * shape[1], 0.03 * shape[0], words, color="white", size=12)
    box = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 4}
    text.set(ha="left", va="top", bbox=box)


def _draw_scale_bar(axes: Axes, analysis: Analysis) -> None:
    from matplotlib.patches import Rectangle

    rows, cols = analysis.pattern.shape
    bar = scale_bar(cols, analysis.pattern.pixel_size)
    height, margin = 0.009 * rows, 0.035 * cols
    left, top = cols - margin - bar.pixels, rows * 0.955
    pad = 0.015 * cols
    corner, width = (left - pad, rows * 0.893), bar.pixels + 2 * pad
    axes.add_patch(Rectangle(corner, width, rows * 0.085, color="black", alpha=0.55, lw=0))
    axes.add_patch(Rectangle((left, top), bar.pixels, height, color="white", lw=0))
    middle = left + bar.pixels / 2
    axes.text(middle, top - 0.01 * rows, bar.label, color="white", size=10, ha="center")


def _outline() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.2, foreground="black")]


def _colour(number: int) -> str:
    if number < 0:
        return style.LONE_SPOT_COLOUR
    return style.LATTICE_COLOURS[number % len(style.LATTICE_COLOURS)]
