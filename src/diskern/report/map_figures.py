"""Figures of maps: Bragg vectors, strain, tilt, grains, quality, virtual images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diskern.compute.files import whole_file
from diskern.errors import DiskernError
from diskern.mapping.lattice_map import LatticeMap
from diskern.mapping.strain import StrainMap
from diskern.mapping.tilt import TiltMap
from diskern.report import map_style as look
from diskern.report import style
from diskern.report.scale_bar import scale_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_NAMES = {"e_xx": "$e_{xx}$", "e_yy": "$e_{yy}$", "e_xy": "$e_{xy}$", "rotation": "rotation"}
_WIDTH = 10.0  # inches of a row of four panels
_GAP, _BAR, _FOOT = 0.14, 0.50, 0.26  # inches between panels, for a colour bar, for a scale bar
_HEAD, _EDGE = 0.30, 0.16
_WHEEL = 1.7  # inches of the legend of directions, at least


class _Sheet:
    """A grid of equal panels with room for titles, scale bars and colour bars, in inches."""

    def __init__(
        self, shape: tuple[int, ...], rows: int, columns: int, width: float, least: float = 0.0
    ) -> None:
        panel = (width - 2 * _EDGE - (columns - 1) * _GAP) / columns
        self.width = width
        self.column = self.panel = panel
        self.high = float(np.clip(panel * shape[0] / shape[1], 0.06, 2.2 * panel))
        if self.high < panel * shape[0] / shape[1]:
            self.panel = self.high * shape[1] / shape[0]
        self.step = panel + _GAP
        self.line = max(_HEAD + self.high + _FOOT + _BAR, least)
        self.height = rows * self.line + 0.05
        self.figure = look.new_figure(width, self.height)

    def axes(self, row: int, column: int) -> Axes:
        """The panel at a row and column."""
        left = _EDGE + column * self.step
        bottom = self.height - row * self.line - _HEAD - self.high
        box = (
            left / self.width,
            bottom / self.height,
            self.panel / self.width,
            self.high / self.height,
        )
        return self.figure.add_axes(box)

    def legend(self, column: int, high: float) -> Axes:
        """A place for a legend in the first row, from the panels' top down."""
        left = _EDGE + column * self.step
        high = max(high, min(self.high, self.column))
        bottom = self.height - _HEAD - high
        box = (left / self.width, bottom / self.height, self.column / self.width,
               high / self.height)  # fmt: skip
        return self.figure.add_axes(box)

    def bar(
        self, image: object, row: int, first: int, last: int, label: str, *, whole: bool = False
    ) -> None:
        """A colour bar under the panels ``first`` to ``last`` of a row."""
        left = _EDGE + first * self.step
        span = (last - first) * self.step + self.column
        inset = min(0.15 * span, 0.8)
        bottom = self.height - row * self.line - _HEAD - self.high - _FOOT - 0.14
        box = (
            (left + inset) / self.width,
            bottom / self.height,
            (span - 2 * inset) / self.width,
            0.10 / self.height,
        )
        ticks = max(2, min(8, int(span / 0.6)))
        look.colour_bar(self.figure, image, box, label, ticks=ticks, whole=whole)


def strain_figure(strain: StrainMap, lattice: int = 0, width: float = _WIDTH) -> Figure:
    """Strain components and rotation, their standard uncertainties below.

    The three components share one symmetric scale; positions without a value are striped.

    Parameters
    ----------
    lattice : which of the overlapping lattices.
    width : of the figure in inches.
    """
    shape = strain.values.shape[1:3]
    sheet = _Sheet(shape, 2, 4, width)
    percent = {name: strain.component(name, lattice) * 100 for name in list(_NAMES)[:3]}
    limit = look.symmetric_limit(np.stack(list(percent.values())))
    rotation = np.degrees(strain.component("rotation", lattice))
    turn = look.symmetric_limit(rotation)
    step = strain.scan_step[1] if strain.scan_step else None
    for column, (name, values) in enumerate([*percent.items(), ("rotation", rotation)]):
        bound = turn if name == "rotation" else limit
        axes = sheet.axes(0, column)
        image = look.draw_map(axes, values, look.DIVERGING, -bound, bound, _NAMES[name])
        if column == 0:
            look.draw_scan_bar(axes, shape, step)
            first = image
        if column == 2:
            sheet.bar(first, 0, 0, 2, "strain (%)")
            look.draw_axes_cross(axes, _axes_angle(strain))
    sheet.bar(image, 0, 3, 3, "rotation (°)")
    _uncertainties(sheet, strain, lattice)
    return sheet.figure


def _uncertainties(sheet: _Sheet, strain: StrainMap, lattice: int) -> None:
    sigma = {n: strain.component(f"sigma_{n}", lattice) * 100 for n in list(_NAMES)[:3]}
    sigma["rotation"] = np.degrees(strain.component("sigma_rotation", lattice))
    low, top = _range(np.stack([sigma[n] for n in list(_NAMES)[:3]]))
    for column, (name, values) in enumerate(sigma.items()):
        limits = _range(values) if name == "rotation" else (low, top)
        axes = sheet.axes(1, column)
        title = f"σ({_NAMES[name]})"
        image = look.draw_map(axes, values, look.SEQUENTIAL, *limits, title)
        if column == 2:
            sheet.bar(image, 1, 0, 2, "standard uncertainty (%)")
    sheet.bar(image, 1, 3, 3, "standard uncertainty (°)")


def tilt_figure(tilt: TiltMap, width: float = _WIDTH) -> Figure:
    """Direction and size of the tilt in colours with their wheel, its size, its uncertainty."""
    shape = tilt.tilt.shape[:2]
    sheet = _Sheet(shape, 1, 4, width, least=_HEAD + _WHEEL)
    known = np.isfinite(tilt.magnitude)
    limit = look.round_up(float(np.percentile(tilt.magnitude[known], 98))) if known.any() else 1.0
    axes = sheet.axes(0, 0)
    rough = " (rough)" if tilt.rough else ""
    colours = look.vector_colours(np.nan_to_num(tilt.laue_centre), limit)
    look.draw_colours(axes, colours, known, f"zone axis off the beam{rough}")
    look.draw_scan_bar(axes, shape, tilt.scan_step[1] if tilt.scan_step else None)
    _wheel(sheet, limit)
    axes = sheet.axes(0, 2)
    image = look.draw_map(axes, tilt.magnitude, "magma", 0, limit, "tilt")
    sheet.bar(image, 0, 2, 2, "mrad")
    sigma = np.sqrt((tilt.sigma**2).mean(axis=-1))
    axes = sheet.axes(0, 3)
    image = look.draw_map(axes, sigma, look.SEQUENTIAL, *_range(sigma), "σ(tilt)")
    sheet.bar(image, 0, 3, 3, "standard uncertainty (mrad)")
    return sheet.figure


def _wheel(sheet: _Sheet, limit: float) -> None:
    """The legend of direction and size, in the second panel's place."""
    size = 201
    axis = np.linspace(-1, 1, size)
    x, y = np.meshgrid(axis, axis)
    rgb = look.vector_colours(np.stack([x, y], axis=-1) * limit, limit)
    inside = np.clip((1 - np.hypot(x, y)) * size / 2, 0, 1)
    axes = sheet.legend(1, _WHEEL)
    axes.imshow(np.concatenate([np.clip(rgb, 0, 1), inside[..., None]], axis=-1),
                extent=(-1, 1, 1, -1), interpolation="bilinear")  # fmt: skip
    axes.set(xlim=(-1.75, 1.75), ylim=(1.75, -1.75), aspect="equal")
    axes.set_axis_off()
    angle = np.linspace(0, 2 * np.pi, 181)
    for share in (0.5, 1.0):
        axes.plot(share * np.cos(angle), share * np.sin(angle), color=look.SOFT, lw=0.5)
        at = share * np.sqrt(0.5)
        axes.text(at + 0.06, -at - 0.06, f"{share * limit:g}", fontsize=7.5, color=look.INK)
    axes.text(-0.8, -1.0, "mrad", fontsize=8, color=look.SOFT, ha="right", va="center")
    for name, (x_at, y_at) in {"x": (1.0, 0.0), "y": (0.0, 1.0)}.items():
        arrow = {"arrowstyle": "-|>", "lw": 0.8, "color": look.SOFT, "mutation_scale": 7,
                 "shrinkA": 0, "shrinkB": 0}  # fmt: skip
        axes.annotate("", (1.3 * x_at, 1.3 * y_at), (x_at, y_at), arrowprops=arrow)
        words = axes.text(1.46 * x_at, 1.46 * y_at, name, fontsize=8.5, color=look.SOFT)
        words.set(style="italic", ha="center", va="center")


def grain_figure(
    lattices: LatticeMap,
    scan_step: tuple[float, float] | None = None,
    width: float = _WIDTH,
) -> Figure:
    """Grains in colours, lattices and disks per pattern, and how well the lattices fit."""
    shape = lattices.scan_shape
    sheet = _Sheet(shape, 1, 4, width)
    colours = look.grain_colours(max(lattices.grains, 1))
    first = lattices.grain[0]
    axes = sheet.axes(0, 0)
    look.draw_colours(axes, colours[np.maximum(first, 0)], first >= 0, "grains")
    look.draw_scan_bar(axes, shape, scan_step[1] if scan_step else None)
    axes = sheet.axes(0, 1)
    several = (lattices.grain >= 0).sum(axis=0).astype(np.float64)
    several[~lattices.indexed] = np.nan
    image = look.draw_map(axes, several, "BuPu", 0, max(len(lattices.label), 2), "lattices")
    sheet.bar(image, 0, 1, 1, "lattices in a pattern", whole=True)
    counts = np.where(lattices.indexed, lattices.count[0], np.nan)
    image = look.draw_map(
        sheet.axes(0, 2), counts, look.SEQUENTIAL, *_range(counts), "indexed disks"
    )
    sheet.bar(image, 0, 2, 2, "disks of the first lattice")
    chi2 = np.log10(lattices.chi2[0])
    image = look.draw_map(sheet.axes(0, 3), chi2, look.DIVERGING, -1.0, 1.0, "fit")
    sheet.bar(image, 0, 3, 3, "log₁₀ reduced χ² (0: as expected)")
    return sheet.figure


def vector_map_figure(
    histogram: Floats,
    pixel_size: float | None = None,
    *,
    bases: Floats | None = None,
    origin: tuple[float, float] | None = None,
    size: float = 5.4,
) -> Figure:
    """The Bragg vectors of all patterns on one detector, square-root of the logarithm in grey.

    Parameters
    ----------
    histogram : (Q_y, Q_x) as from `BraggVectors.histogram`.
    bases : (K, 2, 2) lattices in px whose basis vectors are drawn from ``origin`` (row, column).
    """
    rows, cols = histogram.shape
    figure = look.new_figure(size, size * rows / cols)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    positive = histogram[histogram > 0]
    floor = float(np.percentile(positive, 20)) if positive.size else 1.0
    shown = np.log1p(np.maximum(histogram, 0) / floor)
    top = float(np.percentile(shown[shown > 0], 99.7)) if positive.size else 1.0
    axes.imshow(shown, cmap="inferno", interpolation="antialiased", vmin=0, vmax=top)
    if bases is not None and origin is not None:
        for k, basis in enumerate(bases[: len(style.LATTICE_COLOURS)]):
            colour = style.LATTICE_COLOURS[(k + 1) % len(style.LATTICE_COLOURS)]
            for vector in basis:
                arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 0,
                         "shrinkB": 0, "mutation_scale": 10}  # fmt: skip
                tip = (origin[1] + vector[1], origin[0] + vector[0])
                axes.annotate("", tip, (origin[1], origin[0]), arrowprops=arrow)
    bar = scale_bar(cols, pixel_size)
    left, top = cols * 0.96 - bar.pixels, rows * 0.955
    axes.plot([left, left + bar.pixels], [top, top], color="white", lw=3, solid_capstyle="butt")
    axes.text(left + bar.pixels / 2, top - rows * 0.02, bar.label, color="white", fontsize=9,
              ha="center", va="bottom")  # fmt: skip
    axes.set(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5))
    return figure


def images_figure(
    images: Mapping[str, Floats],
    scan_step: tuple[float, float] | None = None,
    labels: Sequence[str] = (),
    width: float = _WIDTH,
) -> Figure:
    """Virtual images side by side, up to four, each on its own grey scale.

    Parameters
    ----------
    images : title → (Y, X).
    labels : what each colour bar says.

    Raises
    ------
    DiskernError
        For no images, or more than four.
    """
    if not 1 <= len(images) <= 4:
        raise DiskernError(f"{len(images)} images do not fit side by side; give 1 to 4")
    shape = next(iter(images.values())).shape
    sheet = _Sheet(shape, 1, 4, width)
    for column, (title, values) in enumerate(images.items()):
        axes = sheet.axes(0, column)
        image = look.draw_map(axes, values, "gray", *_range(values), title)
        if column == 0:
            look.draw_scan_bar(axes, shape, scan_step[1] if scan_step else None)
        sheet.bar(image, 0, column, column, labels[column] if column < len(labels) else "")
    return sheet.figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all.

    Raises
    ------
    DiskernError
        Where the file cannot be written.
    """
    target = Path(path)
    try:
        with whole_file(target) as draft:
            Path(draft).write_bytes(look.png(figure))
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _range(values: Floats) -> tuple[float, float]:
    """Limits that show all but the outermost values."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, [1, 99]))
    if high - low < 1e-9 * max(abs(high), 1e-12):
        return low - 0.5 * max(abs(low), 1e-9), high + 0.5 * max(abs(high), 1e-9)
    return low, high


def _axes_angle(strain: StrainMap) -> float:
    return 0.0 if isinstance(strain.axes, str) else float(strain.axes)
