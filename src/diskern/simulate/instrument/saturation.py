"""What too many electrons do: clipping, and charge that spills down the columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diskern.patterns.geometry import Flaw
from diskern.simulate.instrument.labels import Image, Labels
from diskern.simulate.instrument.transform import Scene, frame_shape


def _level(image: Image, share: float) -> NDArray[np.float32]:
    """(..., 1, 1) full well: absolute counts, or a share of each frame's maximum below 1."""
    if share >= 1:
        return np.full((*image.shape[:-2], 1, 1), share, dtype=np.float32)
    peak: Image = image.max(axis=(-2, -1), keepdims=True) * np.float32(share)
    return np.maximum(peak, np.float32(1e-12))


def _anywhere(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) True where any frame of a (..., H, W) mask is."""
    return np.asarray(mask.reshape(-1, *mask.shape[-2:]).any(axis=0))


@dataclass(frozen=True)
class Saturation:
    """Counts stop at ``level``: absolute where at least 1, else a share of the brightest pixel."""

    level: float = 65535.0

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        limit = _level(image, self.level)
        full = _anywhere(image >= limit)
        return np.minimum(image, limit), labels.flagged(full, Flaw.SATURATED)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """The full well at 10–90 % of the brightest pixel."""
        return cls(float(rng.uniform(0.1, 0.9)))


@dataclass(frozen=True)
class Blooming:
    """Charge above the full well spills along the columns of a CCD until it finds room.

    ``level`` is as for `Saturation`; ``drained`` of the excess is lost on the way.
    """

    level: float = 0.3
    drained: float = 0.5
    reach: int = 200

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        limit = _level(image, self.level)
        out = spill(image, limit, self.drained, self.reach)
        marked = labels.flagged(_anywhere(out >= limit), Flaw.SATURATED)
        return out, marked.flagged(_anywhere(out > image), Flaw.BLOOMING)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Full well at 2–30 % of the peak, half or more of the excess drained."""
        return cls(
            float(rng.uniform(0.02, 0.3)),
            float(rng.uniform(0.5, 0.95)),
            int(rng.integers(scene.width // 10 + 1, scene.width // 2 + 2)),
        )


def spill(image: Image, full: float | Image, drained: float, reach: int) -> Image:
    """Move what exceeds ``full`` up and down its column, at most ``reach`` px.

    Half the excess goes each way and fills pixels in turn; what has not found room after
    ``reach`` steps is lost.

    Parameters
    ----------
    image : (..., H, W) counts.
    full : the full well, one or (..., 1, 1).
    """
    well = np.broadcast_to(np.asarray(full, dtype=np.float32), (*image.shape[:-2], 1, 1))
    out = np.minimum(image, well)
    excess = (image - out) * np.float32((1 - drained) / 2)
    frame, column = np.nonzero(excess.any(axis=-2).reshape(-1, image.shape[-1]))
    flat = out.reshape(-1, *frame_shape(image))
    # (H, C): all columns that overflow, side by side.
    block, start = (a[frame, :, column].T.copy() for a in (flat, excess.reshape(flat.shape)))
    limit = well.reshape(-1)[frame]
    for direction in (1, -1):
        pixels, moving = block[::direction], start[::direction].copy()
        for step in range(1, min(reach, len(block) - 1) + 1):
            moving = moving[:-1]
            room = np.minimum(limit - pixels[step:], moving)
            pixels[step:] += room
            moving -= room
            if not moving.any():
                break
    flat[frame, :, column] = block.T
    return out
