"""The figure of a simulated pattern: the image, indices on it, a scale bar.

matplotlib is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError
from diskern.report.notation import plane_mathtext
from diskern.report.scale_bar import scale_bar
from diskern.simulate.render import Detector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from diskern.simulate.spot_pattern import SpotPattern

LABELS_AT_MOST = 24
INCHES = 4.2


def simulation_figure(
    images: ArrayLike,
    pixel_size: float,
    pattern: SpotPattern | None = None,
    *,
    titles: Sequence[str] = (),
    gamma: float = 0.4,
    clearance: float = 8.0,
    radius: float = 0.0,
) -> Figure:
    """Draw one pattern or a thickness series side by side.

    Parameters
    ----------
    images : (H, W) or (T, H, W) intensities; the direct beam on (H // 2, W // 2).
    pixel_size : 1/Å per px.
    pattern : reflections to label on the first image, strongest first.
    titles : a line over each image.
    gamma : exponent of the grey scale.
    clearance : distance in px of a label from its reflection.
    radius : of the disks in px; 0 for spots.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stack = np.asarray(images, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    columns = min(4, len(stack))
    rows = -(-len(stack) // columns)
    height = INCHES * stack.shape[1] / stack.shape[2] + 0.3 * bool(titles)
    figure = Figure(figsize=(INCHES * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    top = float(stack.max()) or 1.0
    for i, axes in enumerate(grid):
        axes.set_axis_off()
        if i >= len(stack):
            continue
        axes.imshow(np.clip(stack[i] / top, 0, 1) ** gamma, cmap="gray", vmin=0, vmax=1)
        _draw_scale_bar(axes, stack.shape[1:], pixel_size)
        if i < len(titles):
            axes.set_title(titles[i], fontsize=10)
    if pattern is not None:
        _draw_indices(grid[0], pattern, stack.shape[1:], pixel_size, clearance, radius)
    return figure


def save_simulation_figure(path: Path, figure: Figure, dpi: int = 150) -> None:
    """Write the figure as PNG, PDF or SVG, by the ending of ``path``."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise DiskernError(f"{path.name} is no figure; end it in .png, .pdf or .svg")
    try:
        figure.savefig(path, dpi=dpi)
    except OSError as error:
        raise DiskernError(f"cannot write {path}: {error.strerror or error}") from error


def _draw_indices(
    axes: Axes,
    pattern: SpotPattern,
    shape: tuple[int, ...],
    pixel_size: float,
    clearance: float,
    radius: float,
) -> None:
    """hkl above the strongest reflections, left out where labels would overlap.

    Where disks overlap, what is above one belongs to another: there labels stand on their middles.
    """
    height, width = shape
    rows, cols = Detector((height, width), pixel_size).pixels(pattern.q)
    shortest = np.linalg.norm(pattern.q, axis=1).min(initial=np.inf) / pixel_size
    overlap = 2 * radius > shortest
    rows = rows - (0.0 if overlap else clearance)
    across = "center" if overlap else "baseline"
    room = np.array([0.045 * height, 0.085 * width])
    placed: list[NDArray[Any]] = []
    for hkl, row, col in zip(pattern.hkl, rows, cols, strict=True):
        at = np.array([row, col])
        inside = 0.04 * height < row < 0.97 * height and 0.04 * width < col < 0.96 * width
        if not inside or any((np.abs(at - other) < room).all() for other in placed):
            continue
        placed.append(at)
        axes.text(col, row, plane_mathtext(hkl), color="#ffb000", size=7.5, ha="center", va=across)
        if len(placed) == LABELS_AT_MOST:
            return


def _draw_scale_bar(axes: Axes, shape: tuple[int, ...], pixel_size: float) -> None:
    from matplotlib.patches import Rectangle

    rows, cols = shape
    bar = scale_bar(cols, pixel_size)
    left, top = 0.965 * cols - bar.pixels, 0.955 * rows
    axes.add_patch(Rectangle((left, top), bar.pixels, 0.009 * rows, color="white", lw=0))
    axes.text(
        left + bar.pixels / 2, top - 0.01 * rows, bar.label, color="white", size=9, ha="center"
    )
