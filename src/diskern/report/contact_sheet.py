"""A contact sheet: small pictures in rows, each with a few words under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = 1.9


def contact_sheet(
    pictures: Sequence[ArrayLike],
    captions: Sequence[str],
    *,
    title: str = "",
    columns: int = 6,
    gamma: float = 0.5,
) -> Figure:
    """Draw (H, W) pictures, each scaled to its own range.

    Parameters
    ----------
    captions : one for each picture; lines are kept.
    gamma : exponent of the grey scale of pictures that are not 8-bit.

    Raises
    ------
    DiskernError
        For no picture, or a caption more or less.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not pictures or len(pictures) != len(captions):
        raise DiskernError(f"{len(pictures)} pictures with {len(captions)} captions make no sheet")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    lines = max(c.count("\n") + 1 for c in captions)
    height = rows * (INCHES + 0.14 * lines) + (0.4 if title else 0.0)
    figure = Figure(figsize=(columns * INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid[len(pictures) :]:
        axes.set_axis_off()
    for axes, image, caption in zip(grid, pictures, captions, strict=False):
        axes.imshow(_grey(np.asarray(image), gamma), cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(caption, fontsize=6.5)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _grey(image: NDArray[Any], gamma: float) -> NDArray[np.float64]:
    """Between 0 and 1, without the brightest half per mille: the direct beam outshines all."""
    values = image.astype(np.float64)
    low = float(np.percentile(values, 1))
    high = float(np.percentile(values, 99.95)) if gamma != 1 else float(values.max())
    high = high if high > low else max(float(values.max()), low + 1e-12)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) ** gamma)
