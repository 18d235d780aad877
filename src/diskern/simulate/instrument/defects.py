"""Faults of the chip: hot and dead pixels and lines, the cross between chips, a round edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from diskern.patterns.geometry import Flaw
from diskern.simulate.instrument.labels import Image, Labels
from diskern.simulate.instrument.transform import Scene, frame_shape, log_uniform, radii


@dataclass(frozen=True)
class PixelDefects:
    """Hot and dead pixels and dead lines, in the same places in every frame.

    Attributes
    ----------
    hot, dead : fraction of the pixels.
    lines : number of dead rows or columns.
    brightness : of hot pixels as a share of the frame's maximum (drawn anew up to this).
    seed : of the places.
    """

    hot: float = 1e-4
    dead: float = 1e-4
    lines: int = 0
    brightness: float = 1.0
    seed: int = 0

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        place = np.random.default_rng(self.seed)
        shape = frame_shape(image)
        hot, dead = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        hot_at = place.integers(0, hot.size, place.binomial(hot.size, min(self.hot, 1.0)))
        dead_at = place.integers(0, dead.size, place.binomial(dead.size, min(self.dead, 1.0)))
        glow = (self.brightness * place.random(len(hot_at)) ** 2).astype(np.float32)
        dead.reshape(-1)[dead_at] = True
        for _ in range(self.lines):
            axis = int(place.integers(2))
            index = int(place.integers(shape[axis]))
            dead[(index, slice(None)) if axis == 0 else (slice(None), index)] = True
        hot.reshape(-1)[hot_at] = True
        hot &= ~dead
        out = image.copy()
        flat = out.reshape(*image.shape[:-2], -1)
        peak = image.max(axis=(-2, -1))[..., None]
        flat[..., hot_at] = np.maximum(flat[..., hot_at], peak * glow)
        out[..., dead] = 0
        return out, labels.flagged(hot, Flaw.HOT).flagged(dead, Flaw.DEAD)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """1e-6 to 1e-3 of the pixels each; one frame in five has dead lines."""
        lines = int(rng.integers(1, 4)) if rng.random() < 0.2 else 0
        return cls(
            log_uniform(rng, 1e-6, 1e-3),
            log_uniform(rng, 1e-6, 1e-3),
            lines,
            float(rng.uniform(0.05, 1.0)),
            int(rng.integers(0, 2**31)),
        )


@dataclass(frozen=True)
class DetectorCross:
    """Wide pixels between the four chips of a Medipix or TimePix: ``factor`` times the counts.

    ``width`` px on either side of the middle row and column of the detector.
    """

    width: int = 1
    factor: float = 2.5

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        height, width = frame_shape(image)
        cross = np.zeros((height, width), dtype=bool)
        cross[height // 2 - self.width : height // 2 + self.width] = True
        cross[:, width // 2 - self.width : width // 2 + self.width] = True
        out = np.where(cross, np.round(image * np.float32(self.factor)), image)
        return out.astype(np.float32), labels.flagged(cross, Flaw.CROSS)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """One pixel each side, two to three times as sensitive, or without counts."""
        factor = 0.0 if rng.random() < 0.3 else float(rng.uniform(2.0, 3.0))
        return cls(1 if rng.random() < 0.8 else 2, factor)


@dataclass(frozen=True)
class DetectorEdge:
    """A round screen: nothing beyond ``radius``, a share of half the shorter side."""

    radius: float = 1.0

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        shape = frame_shape(image)
        middle = (np.array(shape, dtype=np.float64) - 1) / 2
        outside = radii(shape, middle) > self.radius * min(shape) / 2
        dark = np.where(outside, np.float32(0), image)
        return dark, labels.flagged(outside, Flaw.MISSING, hides=True)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Radius 0.9–1.2 of half the side."""
        return cls(float(rng.uniform(0.9, 1.2)))
