"""The camera of a training set for disk finders: background, shadows, blur, counting, defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.simulate.instrument import (
    AmorphousHalo,
    BeamStop,
    Blooming,
    DiffuseBackground,
    InelasticBlur,
    Labels,
    ModulationTransfer,
    PixelDefects,
    Saturation,
    Scene,
    Transform,
)
from diskern.simulate.instrument.saturation import spill
from diskern.simulate.instrument.transform import log_uniform

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """What one microscope does to every pattern of a block.

    Attributes
    ----------
    scattering : transforms of the mean image in fractions of the incident beam.
    stop : a beam stop, or None.
    blur : transfer function, or None, and whether it acts before the electrons are counted.
    defects : hot and dead pixels, or None.
    read_noise : rms in electrons, 0 of a counting detector.
    well : what happens to more charge than a pixel holds, or None.
    """

    scattering: tuple[Transform, ...]
    stop: BeamStop | None
    blur: ModulationTransfer | None
    counting: bool
    defects: PixelDefects | None
    read_noise: float
    well: Saturation | Blooming | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene, flooded: float = 0.0) -> Camera:
        """A camera with everything drawn at random, too full in a share ``flooded`` of all."""
        scattering: list[Transform] = []
        if rng.random() < 0.4:
            scattering.append(InelasticBlur.draw(rng, scene))
        if rng.random() < 0.85:
            tail = DiffuseBackground.draw(rng, scene)
            share = log_uniform(rng, 0.01, 0.7)
            scattering.append(DiffuseBackground(share, tail.core, tail.power, tail.reach))
        if rng.random() < 0.25:
            scattering.append(AmorphousHalo.draw(rng, scene))
        stop = BeamStop.draw(rng, scene) if rng.random() < 0.08 else None
        counting = bool(rng.random() < 0.7)
        transfer = float(rng.uniform(0.4, 0.9) if counting else rng.uniform(0.1, 0.6))
        blur = ModulationTransfer(transfer) if rng.random() < 0.5 else None
        defects = PixelDefects.draw(rng, scene) if rng.random() < 0.4 else None
        noise = 0.0 if counting else log_uniform(rng, 0.02, 2.0)
        well: Saturation | Blooming | None = None
        if flooded and rng.random() < flooded:
            well = (Saturation if rng.random() < 0.5 else Blooming).draw(rng, scene)
        return cls(tuple(scattering), stop, blur, counting, defects, noise, well)

    def expected(
        self, image: Singles, labels: Labels, rng: np.random.Generator
    ) -> tuple[Singles, Singles]:
        """Mean image (B, H, W) and the share (H, W) of the disks' light that it still holds."""
        unscattered = np.float32(1)
        for part in self.scattering:
            image, labels = part.apply(image, labels, rng)
            unscattered *= np.float32(1 - getattr(part, "fraction", 0.0))
        shape = (image.shape[-2], image.shape[-1])
        passed = np.full(shape, unscattered, dtype=np.float32)
        if self.stop is not None:
            image, labels = self.stop.apply(image, labels, rng)
            shade = self.stop.distance(shape, labels.centre) / max(self.stop.edge, 1e-6)
            passed *= np.clip(0.5 + shade, self.stop.leak, 1.0).astype(np.float32)
        if self.blur is not None and self.counting:
            image, labels = self.blur.apply(image, labels, rng)
        return image, passed

    def flooded(self, mean: Singles) -> NDArray[np.bool_]:
        """(B, H, W) where charge from other pixels hides what a pixel of the mean image shows."""
        if not isinstance(self.well, Blooming):
            return np.zeros(mean.shape, dtype=bool)
        full = mean.max(axis=(-2, -1), keepdims=True) * np.float32(self.well.level)
        return np.asarray(spill(mean, full, self.well.drained, self.well.reach) >= full)

    def record(self, mean: Singles, labels: Labels, rng: np.random.Generator) -> Singles:
        """Counts (B, H, W) from expected electrons; below zero only through read noise."""
        counts = rng.poisson(np.maximum(mean, 0)).astype(np.float32)
        if self.blur is not None and not self.counting:
            counts, labels = self.blur.apply(counts, labels, rng)
        if self.well is not None:
            counts, labels = self.well.apply(counts, labels, rng)
        if self.read_noise:
            noise = rng.standard_normal(counts.shape, dtype=np.float32)
            counts += noise * np.float32(self.read_noise)
        if self.defects is not None:
            counts, labels = self.defects.apply(counts, labels, rng)
        return counts
