"""Colours, panels and scale bars shared by the figures of maps.

matplotlib is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diskern.report.scale_bar import ScaleBar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

INK = "#1b1f24"
SOFT = "#5c6570"
UNKNOWN = "#e4e7eb"
STRIPE = "#b9c0c8"
DIVERGING = "RdBu_r"
"""Red is stretched or turned clockwise, blue the opposite, white none."""
SEQUENTIAL = "cividis"
_STRIPES = 500  # px of the longer side at which unknown positions are striped
_GOLDEN = 137.50776405003785


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches that belongs to no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def draw_map(
    axes: Axes, values: Floats, cmap: str, low: float, high: float, title: str = ""
) -> Any:
    """One map; positions without a value are grey and striped.  Returns the image for a bar."""
    from matplotlib import colormaps

    colours = colormaps[cmap].with_extremes(bad=UNKNOWN)
    shown = np.ma.masked_invalid(values)
    image = axes.imshow(shown, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    frame(axes, values.shape, title)
    stripe(axes, ~np.isfinite(values))
    return image


def draw_colours(axes: Axes, rgb: Floats, known: Bools, title: str = "") -> None:
    """(Y, X, 3) colours as they are; unknown positions grey and striped."""
    from matplotlib.colors import to_rgb

    picture = np.where(known[..., None], rgb, to_rgb(UNKNOWN))
    axes.imshow(np.clip(picture, 0, 1), interpolation="nearest")
    frame(axes, known.shape, title)
    stripe(axes, ~known)


def frame(axes: Axes, shape: tuple[int, ...], title: str) -> None:
    """Thin border, no ticks, the title over the left corner."""
    axes.set(xticks=[], yticks=[], xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))
    for side in axes.spines.values():
        side.set(color=SOFT, linewidth=0.6)
    if title:
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=5)


def stripe(axes: Axes, where: Bools, colour: str = STRIPE, alpha: float = 1.0) -> None:
    """Fine diagonal stripes over the positions of a mask."""
    if not where.any():
        return
    from matplotlib.colors import to_rgba

    rows, cols = where.shape
    factor = max(1, _STRIPES // max(rows, cols))
    fine = where.repeat(factor, axis=0).repeat(factor, axis=1)
    period = max(5, max(fine.shape) // 80)
    diagonal = np.add.outer(np.arange(fine.shape[0]), np.arange(fine.shape[1])) % period
    shade = np.zeros((*fine.shape, 4), dtype=np.uint8)
    shade[fine & (diagonal < max(1, period // 3))] = np.multiply(to_rgba(colour, alpha), 255)
    extent = (-0.5, cols - 0.5, rows - 0.5, -0.5)
    axes.imshow(shade, extent=extent, interpolation="nearest")


def colour_bar(
    figure: Figure,
    image: Any,
    box: tuple[float, float, float, float],
    label: str,
    *,
    ticks: int = 5,
    whole: bool = False,
) -> None:
    """A slim horizontal bar in figure coordinates (left, bottom, width, height)."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes(box)
    bar = figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.locator = MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10], integer=whole)
    bar.update_ticks()
    bar.outline.set(linewidth=0.5, edgecolor=SOFT)
    axes.tick_params(labelsize=8, length=2.5, width=0.5, color=SOFT, labelcolor=INK, pad=2)
    axes.set_xlabel(label, fontsize=8.5, color=SOFT, labelpad=2)


def scan_bar(width: int, step: float | None, share: float = 0.4) -> ScaleBar:
    """A bar of round length for a map ``width`` positions wide, ``step`` Å each.

    In nm, or µm from 1000 nm on; in scan positions where the step is unknown.
    """
    unit = 1.0 if step is None else step / 10
    limit = share * width * unit
    decade = 10.0 ** math.floor(math.log10(limit))
    value = max(k * decade for k in (1, 2, 5) if k * decade <= limit * (1 + 1e-9))
    if step is None:
        value = max(1.0, value)
        return ScaleBar(value, f"{value:g} px")
    if value >= 1000:
        return ScaleBar(value / unit, f"{value / 1000:g} µm")
    return ScaleBar(value / unit, f"{value:g} nm")


def draw_scan_bar(axes: Axes, shape: tuple[int, ...], step: float | None) -> None:
    """A scale bar under the map's lower left corner, outside the data."""
    bar = scan_bar(shape[1], step)
    end = bar.pixels / shape[1]
    below = axes.transAxes
    height = -_below(axes, 8)
    axes.plot([0, end], [height] * 2, color=INK, lw=2.2, transform=below, clip_on=False,
              solid_capstyle="butt")  # fmt: skip
    axes.text(end + 0.02, height, bar.label, transform=below, fontsize=8, color=INK, va="center")


def _below(axes: Axes, points: float) -> float:
    """So many points as a share of the axes' height."""
    box = axes.get_window_extent()
    return points / 72 * axes.figure.dpi / max(box.height, 1.0)


def draw_axes_cross(axes: Axes, angle: float = 0.0) -> None:
    """Small arrows x and y under the map's lower right corner."""
    box = axes.get_window_extent()
    unit = axes.figure.dpi / 72
    size = np.array([unit / max(box.width, 1.0), unit / max(box.height, 1.0)])
    start = np.array([1.0, 0.0]) + np.array([-20, -3]) * size
    turn = math.radians(angle)
    for name, (dx, dy) in {
        "x": (math.cos(turn), -math.sin(turn)),
        "y": (-math.sin(turn), -math.cos(turn)),
    }.items():
        tip = start + np.array([dx, dy]) * 11 * size
        arrow = {"arrowstyle": "-|>", "color": SOFT, "lw": 0.8, "shrinkA": 0, "shrinkB": 0,
                 "mutation_scale": 6}  # fmt: skip
        axes.annotate("", tip, start, xycoords="axes fraction", textcoords="axes fraction",
                      arrowprops=arrow, annotation_clip=False)  # fmt: skip
        at = start + np.array([dx, dy]) * 16 * size
        words = axes.text(at[0], at[1], name, transform=axes.transAxes, fontsize=7.5, color=SOFT)
        words.set(style="italic", ha="center", va="center")


def symmetric_limit(values: Floats, share: float = 99.5) -> float:
    """A round limit L so that −L to L shows all but the outermost values."""
    known = np.abs(values[np.isfinite(values)])
    return round_up(float(np.percentile(known, share))) if known.size else 1.0


def round_up(value: float) -> float:
    """The next of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 × 10ⁿ."""
    if not value > 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return float(next(s * decade for s in steps if s * decade >= value * (1 - 1e-9)))


def lch_to_rgb(lightness: Floats, chroma: Floats, hue: Floats) -> Floats:
    """(…, 3) sRGB of CIE L*C*h(ab), hue in degrees, D65; colours outside the gamut are clipped."""
    turn = np.radians(hue)
    f_y = (lightness + 16) / 116
    f = np.stack([f_y + chroma * np.cos(turn) / 500, f_y, f_y - chroma * np.sin(turn) / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
    linear = xyz @ _XYZ_TO_RGB.T
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(curved)


_XYZ_TO_RGB = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)
"""IEC 61966-2-1, D65."""


def vector_colours(vector: Floats, limit: float) -> Floats:
    """(…, 3) colour of (…, 2) vectors (x, y): hue is the direction, white none, full the limit."""
    x, y = vector[..., 0], vector[..., 1]
    size = np.asarray(np.clip(np.hypot(x, y) / limit, 0, 1), dtype=np.float64)
    hue = np.asarray(np.degrees(np.arctan2(y, x)) + 30, dtype=np.float64)
    return lch_to_rgb(97 - 35 * size, 54 * size, hue)


def grain_colours(count: int) -> Floats:
    """(G, 3) colours that differ from number to number."""
    number = np.arange(count, dtype=np.float64)
    lightness = np.array([72.0, 58.0, 84.0])[np.arange(count) % 3]
    return lch_to_rgb(lightness, np.full(count, 46.0), 250 + number * _GOLDEN)
