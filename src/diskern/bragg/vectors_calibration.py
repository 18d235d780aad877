"""What is known of the scale of Bragg vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VectorCalibration:
    """From detector pixels to 1/Å, and from scan pixels to Å; None where unknown.

    Attributes
    ----------
    pixel_size : 1/Å per detector pixel.
    energy : of the beam in eV.
    scan_step : (y, x) in Å.
    origin : (2,) or (scan_y, scan_x, 2) row and column of the direct beam in px.
    ellipse : (2, 2) symmetric matrix that makes circles of the instrument's ellipses: offsets
        (row, col) from the origin become ``offset @ ellipse``; its larger eigenvalue is 1.
    rotation : angle in rad by which the detector's axes are turned against the scan's, from
        +x (columns) towards +y (rows).
    flip : whether the detector's rows and columns are exchanged against the scan's.
    """

    pixel_size: float | None = None
    energy: float | None = None
    scan_step: tuple[float, float] | None = None
    origin: Floats | None = None
    ellipse: Floats | None = None
    rotation: float | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        if self.pixel_size is not None and not (
            np.isfinite(self.pixel_size) and self.pixel_size > 0
        ):
            raise DiskernError(f"pixel_size={self.pixel_size} 1/Å must be above 0")
        if self.origin is not None:
            origin = np.asarray(self.origin, dtype=np.float64)
            if origin.shape[-1:] != (2,) or origin.ndim not in (1, 3):
                raise DiskernError(
                    f"origin has shape {origin.shape}; give (2,) or (scan_y, scan_x, 2)"
                )
            object.__setattr__(self, "origin", origin)
        if self.ellipse is not None:
            ellipse = np.asarray(self.ellipse, dtype=np.float64)
            if ellipse.shape != (2, 2) or not np.isfinite(ellipse).all():
                raise DiskernError(f"ellipse has shape {ellipse.shape}; give a (2, 2) matrix")
            object.__setattr__(self, "ellipse", ellipse)

    def centred(
        self, position: Floats, pattern: NDArray[np.int64], scan_shape: tuple[int, int]
    ) -> Floats:
        """(N, 2) offsets in px of (N, 2) positions from their origin, the ellipse undone.

        Parameters
        ----------
        pattern : (N,) flat scan position of each.

        Raises
        ------
        DiskernError
            Where there is no origin, or one for a scan of another shape.
        """
        if self.origin is None:
            raise DiskernError("the vectors have no origin yet; calibrate them first")
        if self.origin.ndim == 3 and self.origin.shape[:2] != tuple(scan_shape):
            ny, nx = self.origin.shape[:2]
            raise DiskernError(f"origins of {ny}×{nx} positions do not fit a scan {scan_shape}")
        origin = self.origin if self.origin.ndim == 1 else self.origin.reshape(-1, 2)[pattern]
        offset = position - origin
        return offset if self.ellipse is None else offset @ self.ellipse

    def to_reciprocal(
        self, position: Floats, pattern: NDArray[np.int64], scan_shape: tuple[int, int]
    ) -> Floats:
        """(N, 2) q_y, q_x in 1/Å; NaN where origin or pixel size are unknown."""
        if self.origin is None or self.pixel_size is None:
            return np.full((len(position), 2), np.nan)
        return self.centred(position, pattern, scan_shape) * self.pixel_size

    def cut(self, rows: tuple[int, int], cols: tuple[int, int]) -> Self:
        """The calibration of a rectangle of the scan."""
        if self.origin is None or self.origin.ndim == 1:
            return self
        return replace(self, origin=self.origin[rows[0] : rows[1], cols[0] : cols[1]])

    def stacked(self, parts: Sequence[Self], shapes: Sequence[tuple[int, int]]) -> Self:
        """This calibration with the origins of several scans below each other."""
        if all(p.origin is None for p in parts):
            return self
        if any(p.origin is None for p in parts):
            return replace(self, origin=None)
        origins = [
            np.broadcast_to(p.origin, (*shape, 2))  # type: ignore[arg-type]  # none is None here
            for p, shape in zip(parts, shapes, strict=True)
        ]
        return replace(self, origin=np.concatenate(origins))

    def words(self) -> str:
        """One line for people."""
        said = []
        if self.pixel_size is not None:
            said.append(f"{self.pixel_size:.6g} 1/Å per px")
        if self.energy is not None:
            said.append(f"{self.energy / 1e3:g} kV")
        if self.scan_step is not None:
            said.append(f"step {self.scan_step[0] / 10:.4g} nm")
        said += [n for n in ("origin", "ellipse", "rotation") if getattr(self, n) is not None]
        return ", ".join(said) or "none"
