"""The beam stop: a pointer or bar that enters from an edge and hides the direct beam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diskern.patterns.geometry import Flaw
from diskern.simulate.instrument.labels import Image, Labels
from diskern.simulate.instrument.transform import Scene, frame_shape, radii, steps_from


@dataclass(frozen=True)
class BeamStop:
    """A shadow from the edge of the screen to its rounded tip.

    Attributes
    ----------
    angle : direction in degrees, from +column towards +row, from the tip to the edge.
    width : of the tip in px.
    wedge : opening half-angle of the shaft in degrees; 0 is a bar.
    overlap : how far in px the tip reaches beyond the direct beam.
    aside : distance in px by which the axis misses the direct beam.
    leak : fraction of the intensity that comes through.
    edge : width in px of the half-shadow.
    glow : brightness of the halo round the tip (blooming, scatter off its edge) as a fraction of
        the brightest pixel, dying over ``glow_reach`` px.
    """

    angle: float = 0.0
    width: float = 20.0
    wedge: float = 2.0
    overlap: float = 10.0
    aside: float = 0.0
    leak: float = 0.01
    edge: float = 2.0
    glow: float = 0.02
    glow_reach: float = 10.0

    def distance(self, shape: tuple[int, int], centre: NDArray[np.float64]) -> Image:
        """(H, W) signed distance in px from the outline, negative in the shadow."""
        a = np.radians(self.angle)
        along = np.array([np.sin(a), np.cos(a)])
        across = np.array([np.cos(a), -np.sin(a)])
        middle = centre + self.aside * across - (self.overlap - self.width / 2) * along
        rows, cols = steps_from(shape, middle)
        down = rows * np.float32(along[0]) + cols * np.float32(along[1])
        side = np.abs(rows * np.float32(across[0]) + cols * np.float32(across[1]))
        c, s = (
            np.float32(np.cos(np.radians(self.wedge))),
            np.float32(np.sin(np.radians(self.wedge))),
        )
        half = np.float32(self.width / 2)
        shaft = (side - half) * c - np.maximum(down, 0) * s
        tip = np.sqrt(down * down + side * side) - half
        return np.asarray(np.where(down > 0, shaft, tip))

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        shape = frame_shape(image)
        distance = self.distance(shape, labels.centre)
        open_part = np.clip(0.5 + distance / max(self.edge, 1e-6), self.leak, 1.0).astype(
            np.float32
        )
        peak = image.max(axis=(-2, -1), keepdims=True)
        out = image * open_part
        if self.glow > 0:
            # Along the outline, and only near the beam.
            fade = distance / self.glow_reach + radii(shape, labels.centre) / (4 * self.glow_reach)
            out += peak * np.where(distance > 0, self.glow * np.exp(-fade), 0).astype(np.float32)
        return out, labels.flagged(distance < 0, Flaw.BEAM_STOP, hides=True)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """A pointer or bar from any side, up to 12 % of the pixels of a centred image."""
        side = scene.width
        bar = rng.random() < 0.4
        wedge = 0.0 if bar else float(rng.uniform(0.5, 6.0))
        # Area of a shaft of length L: w L + L² tan(wedge), with L up to 0.7 of the side.
        reach = 0.7 * side
        widest = (0.12 * side**2 - reach**2 * np.tan(np.radians(wedge))) / reach
        width = float(rng.uniform(0.02 * side, max(0.03 * side, min(0.16 * side, widest))))
        return cls(
            angle=float(rng.uniform(0, 360)),
            width=width,
            wedge=wedge,
            overlap=float(rng.uniform(0.3, 1.5)) * width,
            aside=float(rng.normal(0, 0.1)) * width,
            leak=float(rng.choice([0.0, 0.002, 0.01])),
            edge=float(rng.uniform(1.0, 4.0)),
            glow=float(rng.choice([0.0, 0.003, 0.02])),
            glow_reach=float(rng.uniform(0.01, 0.05)) * side,
        )
