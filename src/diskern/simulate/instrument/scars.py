"""What happens to an image after the microscope: grey levels, overlays, JPEG, inversion."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from diskern.patterns.geometry import Flaw
from diskern.simulate.instrument.labels import Image, Labels
from diskern.simulate.instrument.transform import Scene, frame_shape


@dataclass(frozen=True)
class EightBit:
    """Grey levels 0 to 255 from the counts, as a screen shows them.

    Attributes
    ----------
    gamma : exponent of the display curve; below 1 lifts the faint.
    white : fraction of the pixels that are shown white.
    black : fraction that are shown black, or a pedestal where negative (grey level −black).
    """

    gamma: float = 0.5
    white: float = 0.002
    black: float = 0.01

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        low, high = np.quantile(
            image, [max(self.black, 0.0), 1 - self.white], axis=(-2, -1), keepdims=True
        ).astype(np.float32)
        span = np.maximum(high - low, 1e-12)
        floor = max(-self.black, 0.0)
        level = np.clip((image - low) / span, 0, 1) ** self.gamma
        grey = np.round(floor + level * (255 - floor)).astype(np.float32)
        full = (grey >= 255).reshape(-1, *frame_shape(image)).any(axis=0)
        return grey, labels.flagged(full, Flaw.SATURATED)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Display curves from linear to strongly lifted; one in four on a grey pedestal."""
        black = -float(rng.uniform(5, 40)) if rng.random() < 0.25 else float(rng.uniform(0, 0.05))
        return cls(float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.0005, 0.01)), black)


@dataclass(frozen=True)
class ScaleBar:
    """A bar and its legend burnt into a corner.

    Attributes
    ----------
    length : the bar stands for this many 1/nm.
    corner : 0 lower left, 1 lower right, 2 upper left, 3 upper right.
    height : of the letters as a share of the image.
    bright : white on the image, else black.
    """

    length: float = 5.0
    corner: int = 0
    height: float = 0.04
    bright: bool = True

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        shape = frame_shape(image)
        drawn = self._drawing(shape, labels.scale)
        level = np.float32(image.max() if self.bright else image.min())
        # What is hidden is the legend's box, not only its ink.
        box = np.zeros(shape, dtype=bool)
        rows, cols = np.nonzero(drawn)
        if len(rows):
            box[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] = True
        out = np.where(drawn, level, image).astype(np.float32)
        return out, labels.flagged(box, Flaw.OVERLAY, hides=True)

    def _drawing(self, shape: tuple[int, int], pixel_size: float) -> NDArray[np.bool_]:
        height, width = shape
        size = max(8, round(self.height * height))
        length = min(self.length / 10 / pixel_size, 0.6 * width)
        canvas = PillowImage.new("L", (width, height), 0)
        pen = ImageDraw.Draw(canvas)
        margin = size
        left = margin if self.corner in (0, 2) else round(width - margin - length)
        top = height - 3 * size if self.corner in (0, 1) else margin
        pen.rectangle((left, top, left + length, top + max(2, size // 5)), fill=255)
        font = ImageFont.load_default(size=size)
        pen.text((left, top + size // 3), f"{self.length:g} 1/nm", fill=255, font=font)
        return np.asarray(canvas) > 127

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """The round length nearest a quarter of the width, in any corner."""
        target = 0.25 * scene.shape[1] * scene.pixel_size * 10
        lengths = np.array([0.5, 1, 2, 5, 10, 20, 50])
        return cls(
            float(lengths[np.argmin(np.abs(np.log(lengths / target)))]),
            int(rng.integers(4)),
            float(rng.uniform(0.03, 0.06)),
            bool(rng.random() < 0.8),
        )


@dataclass(frozen=True)
class Jpeg:
    """Lossy compression of an 8-bit image at Pillow's ``quality``; counts become grey levels."""

    quality: int = 75

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        frames = np.clip(np.round(image), 0, 255).astype(np.uint8).reshape(-1, *frame_shape(image))
        decoded = [_through_jpeg(f, self.quality) for f in frames]
        return np.stack(decoded).reshape(image.shape).astype(np.float32), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Quality 40–95."""
        return cls(int(rng.integers(40, 96)))


@dataclass(frozen=True)
class Inverted:
    """A negative: black spots on white, 255 minus the grey level."""

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        return np.float32(255) - image, labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Nothing to draw."""
        return cls()


def _through_jpeg(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    PillowImage.fromarray(frame).save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    with PillowImage.open(buffer) as image:
        return np.asarray(image)
