"""What every part of the instrument looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diskern.simulate.instrument.labels import Image, Labels


@runtime_checkable
class Transform(Protocol):
    """One thing an instrument does to an image: a frozen dataclass of plain numbers.

    ``apply`` takes a (..., H, W) float32 image and its labels and returns new ones; what is
    random from frame to frame comes from ``rng`` alone, what belongs to the instrument from the
    dataclass's own fields.
    """

    def apply(
        self, image: Image, labels: Labels, rng: np.random.Generator
    ) -> tuple[Image, Labels]: ...


@dataclass(frozen=True)
class Scene:
    """What a transform must know before its values are drawn.

    Attributes
    ----------
    shape : (H, W) of the image.
    pixel_size : 1/Å per px.
    """

    shape: tuple[int, int]
    pixel_size: float

    @property
    def width(self) -> int:
        """The shorter side in px."""
        return min(self.shape)


def radii(shape: tuple[int, int], centre: NDArray[np.float64]) -> Image:
    """(H, W) distances in px from a (row, column)."""
    rows, cols = steps_from(shape, centre)
    return np.asarray(np.sqrt(rows * rows + cols * cols))


def scattering_vectors(shape: tuple[int, int], labels: Labels) -> Image:
    """(H, W) |q| in 1/Å of each pixel, seen through the distortion the labels carry."""
    rows, cols = steps_from(shape, labels.centre)
    inverse = np.linalg.inv(labels.distortion)
    metric = (inverse.T @ inverse * labels.scale**2).astype(np.float32)
    square = metric[0, 0] * rows * rows + metric[1, 1] * cols * cols
    square = np.maximum(square + 2 * metric[0, 1] * rows * cols, np.float32(0))
    return np.asarray(np.sqrt(square))


def steps_from(shape: tuple[int, int], centre: NDArray[np.float64]) -> tuple[Image, Image]:
    """Rows (H, 1) and columns (1, W) counted from a point, in single precision for speed."""
    rows = (np.arange(shape[0])[:, None] - centre[0]).astype(np.float32)
    cols = (np.arange(shape[1])[None, :] - centre[1]).astype(np.float32)
    return rows, cols


def frame_shape(image: NDArray[np.float32]) -> tuple[int, int]:
    """(H, W) of a (..., H, W) stack."""
    return image.shape[-2], image.shape[-1]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between ``low`` and ``high``, every octave equally likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
