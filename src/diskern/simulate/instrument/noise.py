"""How a detector counts: dose, transfer function, gain, read noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from diskern.errors import DiskernError
from diskern.simulate.instrument.diffuse import filtered, frequencies
from diskern.simulate.instrument.labels import Image, Labels
from diskern.simulate.instrument.transform import Scene, frame_shape, log_uniform


@dataclass(frozen=True)
class Dose:
    """Poisson arrival of ``electrons`` per unit of intensity (per incident beam)."""

    electrons: float = 1e6

    def __post_init__(self) -> None:
        if not 0 < self.electrons <= 1e12:
            raise DiskernError(f"electrons={self.electrons} per frame is outside 0 to 1e12")

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        mean = np.maximum(image, 0).astype(np.float64) * self.electrons
        return rng.poisson(mean).astype(np.float32), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """0.3–300 electrons per pixel on average, within 1e2–1e8 per frame.

        The two counting frames of the real set hold 7 and 13 per pixel.
        """
        pixels = scene.shape[0] * scene.shape[1]
        return cls(float(np.clip(log_uniform(rng, 0.3, 300.0) * pixels, 1e2, 1e8)))


@dataclass(frozen=True)
class ModulationTransfer:
    """Spread of light in a scintillator or of charge between pixels: MTF 1/(1 + (f/f_half)²).

    ``nyquist`` is the transfer left at the Nyquist frequency.  Applied after the dose it blurs
    the shot noise too, as a scintillator does; before it, as a counting detector.
    """

    nyquist: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.nyquist <= 1:
            raise DiskernError(f"nyquist={self.nyquist} must be a transfer in (0, 1]")

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        f = frequencies(frame_shape(image))
        slope = np.float32(4 * (1 / self.nyquist - 1))
        return filtered(image, (1 / (1 + slope * f * f)).astype(np.float32, copy=False)), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """0.08–0.6 at Nyquist."""
        return cls(float(rng.uniform(0.08, 0.6)))


@dataclass(frozen=True)
class Gain:
    """Counts per electron, and what the gain reference left uncorrected.

    ``flat_field`` is the rms pixel-to-pixel difference, the same in every frame (``seed``).
    """

    counts: float = 1.0
    flat_field: float = 0.0
    seed: int = 0

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        flat = np.random.default_rng(self.seed).standard_normal(frame_shape(image), np.float32)
        flat *= np.float32(self.counts * self.flat_field)
        flat += np.float32(self.counts)
        return image * np.maximum(flat, np.float32(0)), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """0.5–30 counts per electron, flat to 0.2–3 %."""
        return cls(log_uniform(rng, 0.5, 30), log_uniform(rng, 0.002, 0.03), _seed(rng))


@dataclass(frozen=True)
class ReadNoise:
    """Gaussian noise of the amplifier in counts on a pedestal; pixels may read below zero."""

    sigma: float = 1.0
    pedestal: float = 0.0

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= np.float32(self.sigma)
        noise += image
        noise += np.float32(self.pedestal)
        return noise, labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """0.5–8 counts; one in three keeps a pedestal of up to 100."""
        pedestal = float(rng.uniform(5, 100)) if rng.random() < 1 / 3 else 0.0
        return cls(log_uniform(rng, 0.5, 8.0), pedestal)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 2**31))
