"""What JPEG compression leaves on an image: blocks whose coefficients are multiples of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

LEVELS = 256
"""Grey levels of a JPEG image."""
SIDE = 8
"""Pixels along a block of JPEG (ITU-T T.81)."""
HIGHEST = 5
"""Waves across a block, of rows and columns together, up to which spots are made of them."""
ROUNDED = 1.2
"""Coefficients below are the rounding of pixels: four times its standard deviation."""
SMALLEST = 0.1
"""Part of the other coefficients that noise may have put below the first step."""
CLEARLY = 2.0
"""Times the variance told of blocks half a block aside that compression has."""
FEWEST = 20
"""Coefficients from which a step can be told."""


def compression_variance(image: NDArray[Any]) -> float:
    """Variance of a pixel by the rounding of coefficients, 0 without compression.

    Each coefficient of a compressed block is a multiple of its own step: none lies between 0 and
    the first.  Of blocks elsewhere some do.  A step Δ leaves Δ²/12 in its coefficient; the mean is
    over those of which spots are made.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels, whole numbers.
    """
    if np.ptp(image) >= LEVELS:
        return 0.0
    row, col = _seam(image), _seam(image.T)
    here = _of_steps(image[row:, col:])
    beside = _of_steps(image[(row + SIDE // 2) % SIDE :, (col + SIDE // 2) % SIDE :])
    return here if here > CLEARLY * beside else 0.0


def _of_steps(image: NDArray[Any]) -> float:
    """The variance for blocks that begin at the image's first pixel."""
    size = _coefficients(image)
    rows, cols = np.indices((SIDE, SIDE))
    made_of = (rows + cols > 0) & (rows + cols <= HIGHEST)
    steps = [_step(size[:, u, v]) for u, v in zip(*np.nonzero(made_of), strict=True)]
    known = [step for step in steps if step is not None]
    return float(np.mean(np.square(known))) / 12 if known else 0.0


def _coefficients(image: NDArray[Any]) -> NDArray[np.float64]:
    """(N, 8, 8) magnitudes of the blocks' cosine coefficients."""
    height, width = (n // SIDE for n in image.shape)
    blocks = image[: height * SIDE, : width * SIDE].astype(np.float64)
    blocks = blocks.reshape(height, SIDE, width, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    # Where levels were cut off, coefficients are no longer multiples.
    lowest, highest = blocks.min((1, 2)), blocks.max((1, 2))
    whole = (lowest > image.min()) & (highest < image.max()) & (lowest < highest)
    return np.asarray(np.abs(fft.dctn(blocks[whole], axes=(1, 2), norm="ortho")))


def _seam(image: NDArray[Any]) -> int:
    """First row of a block: neighbours differ more across the seams.  Images may be cropped."""
    step = np.abs(np.diff(image.astype(np.float32), axis=0)).mean(1)
    whole = len(step) // SIDE * SIDE
    if whole == 0:
        return 0
    return (int(np.argmax(np.median(step[:whole].reshape(-1, SIDE), axis=0))) + 1) % SIDE


def _step(size: NDArray[np.float64]) -> float | None:
    """The first multiple of a coefficient's step that its blocks have."""
    more = size[size > ROUNDED]
    return float(np.quantile(more, SMALLEST)) if len(more) >= FEWEST else None
