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
        shape = frame_shape(image)
        limit = _level(image, self.level)
        frames = image.reshape(-1, *shape)
        limits = np.broadcast_to(limit, (*image.shape[:-2], 1, 1)).reshape(-1)
        spilt = [
            spill(f, float(w), self.drained, self.reach)
            for f, w in zip(frames, limits, strict=True)
        ]
        out = np.stack(spilt).reshape(image.shape)
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


def spill(frame: Image, full: float, drained: float, reach: int) -> Image:
    """Move what exceeds ``full`` up and down its column, at most ``reach`` px.

    Half the excess goes each way and fills pixels in turn; what has not found room after
    ``reach`` steps is lost.
    """
    out = np.minimum(frame, np.float32(full))
    excess = np.maximum(frame - np.float32(full), 0) * np.float32((1 - drained) / 2)
    columns = np.flatnonzero(excess.any(axis=0))
    if not len(columns):
        return out
    block, start = out[:, columns], excess[:, columns]
    for step in (1, -1):
        moving = start.copy()
        for _ in range(reach):
            if step == 1:
                moving[1:], moving[0] = moving[:-1].copy(), 0
            else:
                moving[:-1], moving[-1] = moving[1:].copy(), 0
            room = np.minimum(np.float32(full) - block, moving)
            block = block + room
            moving = moving - room
            if not moving.any():
                break
    out[:, columns] = block
    return out
