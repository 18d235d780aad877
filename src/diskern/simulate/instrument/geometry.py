"""The camera's geometry: ellipse, scale, rotation, offset, descan, crop.

All but the crop are linear maps about the direct beam.  Neighbours in an instrument are fused, so
an image is interpolated once however many of them there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from diskern.errors import DiskernError
from diskern.simulate.instrument.labels import Floats, Image, Labels
from diskern.simulate.instrument.transform import Scene, Transform, frame_shape


def resample(image: Image, labels: Labels, matrix: Floats, shift: Floats) -> tuple[Image, Labels]:
    """Move an image by a (2, 2) matrix about the direct beam and a (2,) shift of it, in px.

    Cubic spline interpolation; each feature keeps its counts, so the image is scaled by the
    inverse of the magnification.  Flaws already marked move by nearest neighbour.
    """
    centre = labels.centre + shift
    inverse = np.linalg.inv(matrix)
    offset = labels.centre - inverse @ centre
    density = float(abs(np.linalg.det(inverse)))
    shape = frame_shape(image)

    def carried(frame: NDArray[np.float32], order: Literal[1, 3]) -> NDArray[np.float32]:
        # Splines ring at sharp spots; counts are never negative.
        out = np.asarray(affine_transform(frame, inverse, offset, order=order), dtype=np.float32)
        return np.maximum(out, np.float32(0))

    frames = image.reshape(-1, *shape)
    moved = np.stack([carried(f, 3) for f in frames]).reshape(image.shape) * np.float32(density)
    new = labels.moved(matrix, centre, shape)
    if labels.maps is not None:
        new = replace(new, maps=np.stack([carried(m, 1) for m in labels.maps]))
    if labels.flaws.any():
        new = replace(
            new, flaws=affine_transform(labels.flaws, inverse, offset, order=0, mode="nearest")
        )
    return moved.astype(np.float32), new


class Linear:
    """A transform that is a matrix about the direct beam and a shift of it, in px."""

    @property
    def matrix(self) -> Floats:
        return np.eye(2)

    @property
    def shift(self) -> Floats:
        return np.zeros(2)

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        return resample(image, labels, self.matrix, self.shift)


@dataclass(frozen=True)
class Fused(Linear):
    """Several linear transforms carried out with one interpolation."""

    parts: tuple[Linear, ...]

    @property
    def matrix(self) -> Floats:
        """Product of the parts' matrices, the first applied first."""
        total = np.eye(2)
        for part in self.parts:
            total = np.asarray(part.matrix @ total)
        return total

    @property
    def shift(self) -> Floats:
        """Sum of the parts' shifts in px."""
        return np.asarray(np.sum([part.shift for part in self.parts], axis=0))


@dataclass(frozen=True)
class Ellipticity(Linear):
    """Residual astigmatism of the projector: circles become ellipses of the same area.

    Attributes
    ----------
    ratio : major over minor axis, 1 to 1.04 in practice (3.3 % at low camera length).
    angle : of the major axis in degrees from +column towards +row.
    """

    ratio: float = 1.01
    angle: float = 0.0

    @property
    def matrix(self) -> Floats:
        """Stretch along the angle, squeeze across it."""
        a = np.radians(self.angle)
        major = np.array([np.sin(a), np.cos(a)])
        minor = np.array([np.cos(a), -np.sin(a)])
        root = np.sqrt(self.ratio)
        return np.asarray(root * np.outer(major, major) + np.outer(minor, minor) / root)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """0–4 %, mostly below 1.5 %, as measured on real frames."""
        return cls(1 + min(0.04, float(rng.exponential(0.010))), float(rng.uniform(0, 180)))


@dataclass(frozen=True)
class ScaleError(Linear):
    """The camera length is not the stated one: true positions are ``factor`` further out."""

    factor: float = 1.0

    @property
    def matrix(self) -> Floats:
        """A multiple of the identity."""
        return np.eye(2) * self.factor

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Normal with 2 %, within ±5 %."""
        return cls(1 + float(np.clip(rng.normal(0, 0.02), -0.05, 0.05)))


@dataclass(frozen=True)
class InPlaneRotation(Linear):
    """The camera turned about the beam by ``angle`` degrees from +column towards +row."""

    angle: float = 0.0

    @property
    def matrix(self) -> Floats:
        """In (row, column) order."""
        c, s = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        return np.array([[c, s], [-s, c]])

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Any angle."""
        return cls(float(rng.uniform(0, 360)))


@dataclass(frozen=True)
class CentreOffset(Linear):
    """The direct beam away from the middle of the image, in px."""

    rows: float = 0.0
    cols: float = 0.0

    @property
    def shift(self) -> Floats:
        """(row, column) in px."""
        return np.array([self.rows, self.cols])

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Usually within 5 % of the width, one in four up to 15 %."""
        reach = 0.15 if rng.random() < 0.25 else 0.05
        radius, angle = reach * scene.width * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        return cls(float(radius * np.sin(angle)), float(radius * np.cos(angle)))


@dataclass(frozen=True)
class Descan(Linear):
    """Drift of the direct beam with the probe's place in the scan, as misset descan coils give.

    Attributes
    ----------
    rows, cols : shift in px per scan step along (scan_y, scan_x).
    position : (scan_y, scan_x) of the frame from the middle of the scan.
    """

    rows: tuple[float, float] = (0.0, 0.0)
    cols: tuple[float, float] = (0.0, 0.0)
    position: tuple[float, float] = (0.0, 0.0)

    @property
    def shift(self) -> Floats:
        """(row, column) in px at ``position``."""
        return np.asarray(np.array([self.rows, self.cols]) @ np.array(self.position))

    def at(self, position: tuple[float, float]) -> Self:
        """The same coils at another place."""
        return replace(self, position=position)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """Up to 0.02 px per step each way."""
        (a, b), (c, d) = rng.uniform(-0.02, 0.02, (2, 2)).tolist()
        return cls((a, b), (c, d))


@dataclass(frozen=True)
class Crop:
    """Keep a window of the image."""

    top: int
    left: int
    height: int
    width: int

    def apply(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """See `Transform`."""
        rows, cols = image.shape[-2:]
        low = min(self.top, self.left, self.height - 1, self.width - 1)
        if low < 0 or self.top + self.height > rows or self.left + self.width > cols:
            raise DiskernError(f"{self} does not fit into an image of {rows}×{cols} px")
        window = (
            ...,
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )
        corner = np.array([self.top, self.left], dtype=np.float64)
        moved = labels.moved(np.eye(2), labels.centre - corner, (self.height, self.width))
        maps = None if labels.maps is None else labels.maps[window]
        return image[window], replace(moved, flaws=labels.flaws[window], maps=maps)

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene) -> Self:
        """A window of 80–100 % of either side, so that images are not square."""
        height, width = (round(n * rng.uniform(0.8, 1.0)) for n in scene.shape)
        top = int(rng.integers(0, scene.shape[0] - height + 1))
        left = int(rng.integers(0, scene.shape[1] - width + 1))
        return cls(top, left, height, width)


def fuse(transforms: Sequence[Transform]) -> list[Transform]:
    """The same transforms with each run of linear ones made into one."""
    out: list[Transform] = []
    for linear, run in groupby(transforms, key=lambda t: isinstance(t, Linear)):
        members = list(run)
        if linear and len(members) > 1:
            out.append(Fused(tuple(t for t in members if isinstance(t, Linear))))
        else:
            out.extend(members)
    return out
