"""What lies under the spots: direct beam, diffuse background, halos, inelastic blur.

These act on fractions of the incident beam, before the detector counts and after the camera's
geometry, whose distortion they follow: the field of view has no empty margins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from scipy.fft import dctn, idctn

from diskern.simulate.instrument.labels import Image, Labels
from diskern.simulate.instrument.transform import (
    Scene,
    frame_shape,
    log_uniform,
    scattering_vectors,
)


def add_share(image: Image, profile: Image, fraction: float) -> Image:
    """Mix a profile in so that it carries ``fraction`` of each frame's total."""
    total = image.sum(axis=(-2, -1), keepdims=True, dtype=np.float64)
    amount = (fraction * total / max(float(profile.sum(dtype=np.float64)), 1e-30)).astype(
        np.float32
    )
    mixed: Image = image * np.float32(1 - fraction) + amount * profile
    return mixed


@dataclass(frozen=True)
class DirectBeam:
    """The unscattered beam, where the simulation drew only the reflections.

    Attributes
    ----------
    fraction : of all counts that it carries.
    sigma : rms radius in px.
    """

    fraction: float = 0.3
    sigma: float = 1.5

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        rows, cols = (
            np.exp(-((np.arange(n) - c) ** 2) / (2 * self.sigma**2)).astype(np.float32)
            for n, c in zip(frame_shape(image), labels.centre, strict=True)
        )
        return add_share(image, np.outer(rows, cols), self.fraction), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """8–45 % of the counts, 0.8–3 px wide (real frames: 20–39 % within 12 px, all told)."""
        return cls(float(rng.uniform(0.08, 0.45)), log_uniform(rng, 0.8, 3.0))


@dataclass(frozen=True)
class DiffuseBackground:
    """Plasmon, thermal-diffuse and support scattering, falling steeply from the direct beam.

    I(r) ∝ (1 + (r/core)²)^(−power/2) exp(−r/reach): between 20 and 200 px the TimePix frame of
    real-patterns (117, 38, 18, 10, 6 counts) follows power 1.0 and reach 1.0 1/Å, the glycine
    frame (113, 27, 7, 3, 1) power 1.3 and reach 0.5 1/Å.

    Attributes
    ----------
    fraction : of all counts.
    core : radius in 1/Å within which it is flat.
    power : slope of the fall.
    reach : distance in 1/Å over which the tail dies.
    """

    fraction: float = 0.5
    core: float = 0.02
    power: float = 1.2
    reach: float = 0.8

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        q = scattering_vectors(frame_shape(image), labels)
        fall = -self.power / 2 * np.log1p((q / self.core) ** 2) - q / self.reach
        return add_share(image, np.exp(fall), self.fraction), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """20–75 % of the counts; slopes between and somewhat beyond the measured frames."""
        return cls(
            float(rng.uniform(0.2, 0.75)),
            log_uniform(rng, 0.008, 0.05),
            float(rng.uniform(0.8, 1.7)),
            log_uniform(rng, 0.3, 1.5),
        )


@dataclass(frozen=True)
class AmorphousHalo:
    """Broad rings of an amorphous film, ice or carbon.

    Attributes
    ----------
    fraction : of all counts, both rings together.
    radius : of the first ring in 1/Å; the second lies 1.75 times further and is a third as
        strong (carbon: 0.48 and 0.84 1/Å; vitreous ice: 0.27 and 0.47 1/Å).
    width : rms width in 1/Å.
    """

    fraction: float = 0.1
    radius: float = 0.48
    width: float = 0.05

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        q = scattering_vectors(frame_shape(image), labels)
        first = np.exp(-((q - self.radius) ** 2) / (2 * self.width**2))
        second = np.exp(-((q - 1.75 * self.radius) ** 2) / (2 * (1.3 * self.width) ** 2))
        return add_share(image, first + second / 3, self.fraction), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """2–30 % of the counts, first ring at 0.22–0.55 1/Å."""
        radius = float(rng.uniform(0.22, 0.55))
        return cls(log_uniform(rng, 0.02, 0.3), radius, radius * float(rng.uniform(0.07, 0.16)))


@dataclass(frozen=True)
class InelasticBlur:
    """Electrons that lost energy and a little direction: each feature gets a Lorentzian skirt.

    Attributes
    ----------
    fraction : of the intensity that is spread.
    width : half-width in px of the skirt, a Cauchy profile in two dimensions.
    """

    fraction: float = 0.3
    width: float = 3.0

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        f = frequencies(frame_shape(image))
        # The transform of (1 + r²/w²)^(-3/2) is exp(-2π w f).
        response = 1 - self.fraction + self.fraction * np.exp(-2 * np.pi * self.width * f)
        return filtered(image, response), labels

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """5–50 % within 1–6 px."""
        return cls(float(rng.uniform(0.05, 0.5)), log_uniform(rng, 1.0, 6.0))


@lru_cache(maxsize=8)
def frequencies(shape: tuple[int, int]) -> Image:
    """(H, W) spatial frequencies in cycles per px of a cosine transform; not to be written to."""
    rows, cols = ((np.arange(n) / (2 * n)).astype(np.float32) for n in shape)
    out = np.asarray(np.sqrt(rows[:, None] ** 2 + cols[None, :] ** 2))
    out.flags.writeable = False
    return out


def filtered(image: Image, response: Image) -> Image:
    """Convolve with an even kernel of the given response, mirrored at the edges."""
    spectrum = dctn(image, type=2, axes=(-2, -1), overwrite_x=False)
    spectrum *= response
    out: Image = idctn(spectrum, type=2, axes=(-2, -1), overwrite_x=True)
    return np.maximum(out, np.float32(0), out=out)
