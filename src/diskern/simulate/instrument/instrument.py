"""The whole instrument: an ordered tuple of transforms, drawn from documented ranges by a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args
from zlib import crc32

import numpy as np

from diskern.errors import DiskernError
from diskern.simulate.instrument.beam_stop import BeamStop
from diskern.simulate.instrument.defects import DetectorCross, DetectorEdge, PixelDefects
from diskern.simulate.instrument.diffuse import (
    AmorphousHalo,
    DiffuseBackground,
    DirectBeam,
    InelasticBlur,
)
from diskern.simulate.instrument.geometry import (
    CentreOffset,
    Ellipticity,
    InPlaneRotation,
    Linear,
    ScaleError,
    fuse,
)
from diskern.simulate.instrument.labels import Image, Labels
from diskern.simulate.instrument.noise import Dose, Gain, ModulationTransfer, ReadNoise
from diskern.simulate.instrument.saturation import Blooming, Saturation
from diskern.simulate.instrument.scars import EightBit, Inverted, Jpeg, ScaleBar
from diskern.simulate.instrument.transform import Scene, Transform

Kind = Literal["hybrid", "ccd", "picture"]


@dataclass(frozen=True)
class Instrument:
    """Transforms applied in order; the same seed gives the same image to the last bit.

    Attributes
    ----------
    transforms : see `Transform`; neighbouring linear ones are carried out as one.
    seed : of everything random from frame to frame.
    """

    transforms: tuple[Transform, ...]
    seed: int = 0

    def apply(self, image: Image, labels: Labels, *, frame: int = 0) -> tuple[Image, Labels]:
        """What the instrument makes of a (..., H, W) image in fractions of the incident beam.

        Parameters
        ----------
        frame : number of the frame; each has its own noise, independent of the others.

        Raises
        ------
        DiskernError
            For an image that is not real, finite and non-negative.
        """
        current = np.asarray(image, dtype=np.float32)
        # NaN passes into both ends and fails there.
        if current.ndim < 2 or not (current.min() >= 0 and current.max() < np.inf):
            raise DiskernError("the image to record must be 2-D or a stack, finite and ≥ 0")
        seen: Counter[str] = Counter()
        for transform in fuse(self.transforms):
            # Each transform has its own stream: leaving one out changes no other's noise.
            name = type(transform).__name__
            rng = np.random.default_rng([self.seed, frame, crc32(name.encode()), seen[name]])
            seen[name] += 1
            current, labels = transform.apply(current, labels, rng)
        return current, labels

    def place(self, labels: Labels) -> Labels:
        """Labels moved by the camera's geometry alone.

        Drawing a pattern at these points and recording it with `recorder` gives sharper spots
        and fuller edges than resampling a finished image.
        """
        for part in self.transforms:
            if isinstance(part, Linear):
                centre = labels.centre + part.shift
                labels = labels.moved(part.matrix, centre, labels.shape)
        return labels

    def recorder(self) -> Self:
        """The same instrument without its linear geometry, for images drawn in place."""
        kept = tuple(t for t in self.transforms if not isinstance(t, Linear))
        return type(self)(kept, self.seed)

    def log(self) -> list[dict[str, Any]]:
        """Every value drawn, one dict per transform, ready for JSON."""
        return [{"name": type(t).__name__, **asdict(t)} for t in self.transforms]  # type: ignore[call-overload]

    @classmethod
    def draw(
        cls,
        seed: int,
        shape: tuple[int, int],
        pixel_size: float,
        kind: Kind | None = None,
        *,
        rotate: bool = False,
        direct_beam: bool = True,
    ) -> Self:
        """An instrument with everything drawn from the ranges each transform documents.

        Parameters
        ----------
        seed : decides every value and, later, every noise.
        shape, pixel_size : of the images to come, in px and 1/Å per px.
        kind : ``hybrid`` counts single electrons (no read noise, a cross); ``ccd`` has a
            scintillator, gain, read noise and blooming; ``picture`` is a CCD frame as found in
            a publication, 8 bits with a scale bar.  Drawn by default.
        rotate : turn the camera by any angle (leave it out where spots were drawn at random
            in-plane angles already: rotation by resampling blurs).
        direct_beam : add one; leave it out for patterns that hold it, such as convergent disks.
        """
        if kind is not None and kind not in get_args(Kind):
            raise DiskernError(f"kind={kind!r} is unknown; use {', '.join(get_args(Kind))}")
        rng = np.random.default_rng([seed, 0])
        scene = Scene(shape, pixel_size)
        kind = kind or ("hybrid", "ccd", "picture")[int(rng.choice(3, p=[0.35, 0.35, 0.3]))]
        parts = _camera(rng, scene, rotate) + _scattering(rng, scene, direct_beam)
        parts += _maybe(0.35, BeamStop.draw, rng, scene)
        parts += {"hybrid": _hybrid, "ccd": _ccd, "picture": _picture}[kind](rng, scene)
        return cls(tuple(parts), seed)


def _scattering(rng: np.random.Generator, scene: Scene, direct_beam: bool) -> list[Transform]:
    out = _maybe(0.9, DiffuseBackground.draw, rng, scene)
    out += _maybe(0.3, AmorphousHalo.draw, rng, scene)
    out += _maybe(1.0 if direct_beam else 0.0, DirectBeam.draw, rng, scene)
    out += _maybe(0.6, InelasticBlur.draw, rng, scene)
    return out


def _camera(rng: np.random.Generator, scene: Scene, rotate: bool) -> list[Transform]:
    out: list[Transform] = [Ellipticity.draw(rng, scene), ScaleError.draw(rng, scene)]
    out += _maybe(1.0 if rotate else 0.0, InPlaneRotation.draw, rng, scene)
    out.append(CentreOffset.draw(rng, scene))
    return out


def _hybrid(rng: np.random.Generator, scene: Scene) -> list[Transform]:
    # Charge shared between pixels is counted in one of them: the blur comes before the dose.
    out: list[Transform] = [ModulationTransfer(float(rng.uniform(0.4, 0.8))), Dose.draw(rng, scene)]
    out += _maybe(0.4, DetectorCross.draw, rng, scene)
    out.append(PixelDefects.draw(rng, scene))
    out += _maybe(0.2, Saturation.draw, rng, scene)
    return out


def _ccd(rng: np.random.Generator, scene: Scene) -> list[Transform]:
    out: list[Transform] = [Dose.draw(rng, scene), ModulationTransfer.draw(rng, scene)]
    out.append(Gain.draw(rng, scene))
    out += _maybe(0.3, Blooming.draw, rng, scene)
    out += _maybe(0.4, Saturation.draw, rng, scene)
    out.append(ReadNoise.draw(rng, scene))
    out.append(PixelDefects.draw(rng, scene))
    out += _maybe(0.2, DetectorEdge.draw, rng, scene)
    return out


def _picture(rng: np.random.Generator, scene: Scene) -> list[Transform]:
    out = _ccd(rng, scene)
    out.append(EightBit.draw(rng, scene))
    out += _maybe(0.15, Inverted.draw, rng, scene)
    out += _maybe(0.7, ScaleBar.draw, rng, scene)
    out += _maybe(0.5, Jpeg.draw, rng, scene)
    return out


def _maybe(
    chance: float,
    draw: Callable[[np.random.Generator, Scene], Transform],
    rng: np.random.Generator,
    scene: Scene,
) -> list[Transform]:
    """The transform with a chance; values are drawn either way, so that a chance changed later
    leaves the rest of a seed's instrument alone."""
    part, chosen = draw(rng, scene), rng.random() < chance
    return [part] if chosen else []
