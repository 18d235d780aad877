"""What is true of a simulated image, and where it moved to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.patterns.geometry import Flaw

Image = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labels:
    """The truth about one image (or a stack of images from one instrument).

    Every transform that moves pixels moves these too, so a label stays on its spot.

    Attributes
    ----------
    points : (N, 2) row and column in px of whatever is to be found, usually reflections.
    visible : (N,) False where a beam stop, an overlay or the edge of the detector hides a point.
    centre : (2,) row and column in px of the direct beam.
    pixel_size : true 1/Å per px of the undistorted image, or None.
    distortion : (2, 2) matrix that takes an ideal offset (row, column) from the direct beam to
        the offset in this image.
    flaws : (H, W) uint16 of `diskern.patterns.geometry.Flaw` bits.
    maps : (C, H, W) float32 label images, such as V_g and q_z disks; they are resampled with the
        image but get no noise.
    """

    points: Floats
    visible: NDArray[np.bool_]
    centre: Floats
    flaws: NDArray[np.uint16]
    pixel_size: float | None = None
    distortion: Floats = field(default_factory=lambda: np.eye(2))
    maps: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the image in px."""
        return self.flaws.shape[0], self.flaws.shape[1]

    @property
    def scale(self) -> float:
        """1/Å per px, for transforms whose widths are in 1/Å."""
        if self.pixel_size is None:
            raise DiskernError("this transform needs a scale; give Labels.of(..., pixel_size=)")
        return self.pixel_size

    @classmethod
    def of(
        cls,
        image: NDArray[np.floating],
        points: Floats | None = None,
        *,
        centre: Floats | tuple[float, float] | None = None,
        pixel_size: float | None = None,
        maps: NDArray[np.float32] | None = None,
    ) -> Self:
        """Labels of a fresh (..., H, W) image; the direct beam is at (H // 2, W // 2) by default.

        Raises
        ------
        DiskernError
            Where points or maps do not have the shapes named above.
        """
        height, width = image.shape[-2:]
        where = np.zeros((0, 2)) if points is None else np.asarray(points, dtype=np.float64)
        if where.ndim != 2 or where.shape[1] != 2:
            raise DiskernError(f"points have shape {where.shape}; give (N, 2) rows and columns")
        if maps is not None and maps.shape[-2:] != (height, width):
            raise DiskernError(f"maps have shape {maps.shape}; the image is {height}×{width} px")
        middle = (height // 2, width // 2) if centre is None else centre
        inside = _inside(where, height, width)
        return cls(
            where,
            inside,
            np.asarray(middle, dtype=np.float64),
            np.zeros((height, width), dtype=np.uint16),
            pixel_size,
            np.eye(2),
            maps,
        )

    def flagged(self, mask: NDArray[np.bool_], flaw: Flaw, *, hides: bool = False) -> Self:
        """Labels with ``flaw`` set under an (H, W) mask, which may hide the points beneath."""
        flaws = self.flaws | np.where(mask, np.uint16(flaw), np.uint16(0)).astype(np.uint16)
        if not hides:
            return replace(self, flaws=flaws)
        height, width = mask.shape
        row, col = (
            np.round(self.points).astype(int).T if len(self.points) else (np.zeros(0, int),) * 2
        )
        inside = _inside(self.points, height, width)
        under = np.zeros(len(self.points), dtype=bool)
        under[inside] = mask[row[inside], col[inside]]
        return replace(self, flaws=flaws, visible=self.visible & ~under)

    def moved(self, matrix: Floats, centre: Floats, shape: tuple[int, int]) -> Self:
        """Points carried from about the old centre to about the new one by a (2, 2) matrix."""
        points = (self.points - self.centre) @ matrix.T + centre
        return replace(
            self,
            points=points,
            visible=self.visible & _inside(points, *shape),
            centre=np.asarray(centre, dtype=np.float64),
            distortion=matrix @ self.distortion,
        )


def _inside(points: Floats, height: int, width: int) -> NDArray[np.bool_]:
    low = (points > -0.5).all(axis=1)
    return np.asarray(low & (points[:, 0] < height - 0.5) & (points[:, 1] < width - 0.5))
