"""Augmentation of zone-axis images: turned about the beam, and a window cut out at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.train.samples import Block


@dataclass(frozen=True)
class TurnAndCrop:
    """Turn images by 0 to ``rotation`` degrees and keep a ``crop`` × ``crop`` window.

    The window is placed at random, as Ra et al. cut 224² px out of 256².  Images become float32
    in [0, 1]; the other arrays of a block are left alone.  Bilinear, zero outside.
    """

    rotation: float = 30.0
    crop: int = 224

    def __call__(self, block: Block, rng: np.random.Generator) -> Block:
        """Apply to every image of a block."""
        images = block["image"]
        count, height, width = images.shape
        if self.crop > min(height, width):
            raise DiskernError(f"crop={self.crop} px does not fit into {height}×{width} px")
        angle = np.radians(rng.uniform(0, self.rotation, count))
        corner = rng.integers(0, [height - self.crop + 1, width - self.crop + 1], (count, 2))
        scale = np.float32(1 / 255 if images.dtype == np.uint8 else 1)
        turned = turn_and_crop(images.astype(np.float32) * scale, angle, corner, self.crop)
        return {**block, "image": turned}


def turn_and_crop(
    images: NDArray[np.float32],
    angle: NDArray[np.float64],
    corner: NDArray[np.int64],
    size: int,
) -> NDArray[np.float32]:
    """(B, size, size) windows of (B, H, W) images turned about their middle.

    Parameters
    ----------
    angle : (B,) in radians, from +column towards +row.
    corner : (B, 2) row and column of each window's first pixel.
    """
    height, width = images.shape[1:]
    middle = np.array([height // 2, width // 2])
    steps = np.arange(size)
    rows = (corner[:, 0, None] + steps - middle[0])[:, :, None].astype(np.float32)
    cols = (corner[:, 1, None] + steps - middle[1])[:, None, :].astype(np.float32)
    c, s = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    y, x = c * rows - s * cols + middle[0], s * rows + c * cols + middle[1]
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2)))
    y, x = np.clip(y + 1, 0, height + 1), np.clip(x + 1, 0, width + 1)
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    dy, dx = y - top, x - left
    which = np.arange(len(images))[:, None, None]
    upper = padded[which, top, left] * (1 - dx) + padded[which, top, left + 1] * dx
    lower = padded[which, top + 1, left] * (1 - dx) + padded[which, top + 1, left + 1] * dx
    return np.asarray(upper * (1 - dy) + lower * dy, dtype=np.float32)
