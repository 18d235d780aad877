"""Augmentation of zone-axis images: turned about the beam, and a window cut out at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

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
    steps = np.arange(size)
    rows = (corner[:, 0, None] + steps - height // 2)[:, :, None].astype(np.float32)
    cols = (corner[:, 1, None] + steps - width // 2)[:, None, :].astype(np.float32)
    c, s = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    y, x = c * rows - s * cols + height // 2, s * rows + c * cols + width // 2
    # torch counts from -1 to 1 between the middles of the outermost pixels, x first.
    places = np.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], axis=-1)
    turned = grid_sample(
        torch.from_numpy(images)[:, None], torch.from_numpy(places), align_corners=True
    )
    return np.asarray(turned[:, 0].numpy())
