"""The calibrated image (`Pattern`) and the lazy scan (`Scan`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError
from diskern.physics import check_energy

Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False, repr=False)
class Pattern:
    """One diffraction image with what is known of its scale.

    Attributes
    ----------
    image : (Q_y, Q_x) float32 in detector counts or grey levels; NaN marks missing pixels.
    pixel_size : 1/Å per pixel, or None where unknown.
    pixel_size_error : relative standard uncertainty of ``pixel_size``.
    energy : beam energy in eV, or None.
    centre : (row, column) of the direct beam in px where stated by the file or user, or None.
    source : file name or other origin, for reports.
    """

    image: Image
    pixel_size: float | None = None
    energy: float | None = None
    pixel_size_error: float = 0.03
    camera_length: float | None = None
    centre: tuple[float, float] | None = None
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def from_array(
        cls,
        image: ArrayLike,
        pixel_size: float | None = None,
        energy: float | None = None,
        **known: Any,
    ) -> Self:
        """Wrap a 2-D array (grey levels or counts, any real type).

        Raises
        ------
        DiskernError
            For an array that is not a real 2-D image of at least 16 × 16 pixels, or an
            impossible ``pixel_size`` or ``energy``.
        """
        array = np.asarray(image)
        if array.ndim != 2:
            raise DiskernError(f"the image has shape {array.shape}; give a 2-D array (Q_y, Q_x)")
        if array.dtype.kind not in "buif":
            raise DiskernError(f"the image has type {array.dtype}; give real numbers")
        if min(array.shape) < 16:
            raise DiskernError(f"the image is {array.shape[0]}×{array.shape[1]}; at least 16×16")
        if not np.isfinite(array).any():
            raise DiskernError("the image holds no finite value")
        if pixel_size is not None and not (np.isfinite(pixel_size) and 1e-6 < pixel_size < 10):
            raise DiskernError(f"pixel_size={pixel_size} 1/Å is not between 1e-6 and 10 1/Å")
        if energy is not None:
            energy = check_energy(energy)
        return cls(np.array(array, dtype=np.float32), pixel_size, energy, **known)

    @property
    def shape(self) -> tuple[int, int]:
        """(Q_y, Q_x) in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def with_calibration(self, **changes: Any) -> Self:
        """A copy with other calibration fields (pixel_size, energy, centre …)."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        scale = "uncalibrated" if self.pixel_size is None else f"{self.pixel_size:.6g} 1/Å per px"
        beam = "energy unknown" if self.energy is None else f"{self.energy / 1e3:g} kV"
        return (
            f"Pattern({self.source or 'array'}: {self.shape[0]}×{self.shape[1]}, {scale}, {beam})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Scan:
    """A 4D-STEM scan; nothing is read before it is asked for.

    Attributes
    ----------
    data : (scan_y, scan_x, Q_y, Q_x), anything sliceable.
    """

    data: Any
    pixel_size: float | None = None
    energy: float | None = None
    scan_step: tuple[float, float] | None = None
    camera_length: float | None = None
    centre: tuple[float, float] | None = None
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def from_array(cls, cube: Any, **known: Any) -> Self:
        """Wrap a 4-D array; a 3-D stack becomes one scan row."""
        shape = tuple(getattr(cube, "shape", ()))
        if len(shape) == 3:
            cube = _AsRow(cube)
        elif len(shape) != 4:
            raise DiskernError(f"a scan needs (scan_y, scan_x, Q_y, Q_x); this has shape {shape}")
        if min(cube.shape[2:]) < 16:
            raise DiskernError(f"detector frames of {cube.shape[2:]} px are too small; at least 16")
        return cls(cube, **known)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(scan_y, scan_x, Q_y, Q_x)."""
        a, b, c, d = self.data.shape
        return a, b, c, d

    def pattern(self, y: int, x: int) -> Pattern:
        """The image at one scan position."""
        ny, nx = self.shape[:2]
        if not (-ny <= y < ny and -nx <= x < nx):
            raise DiskernError(f"position ({y}, {x}) is outside the {ny}×{nx} scan")
        return self._wrap(np.asarray(self.data[y % ny, x % nx]), f"{self.source}[{y},{x}]")

    def patterns(self) -> Iterator[Pattern]:
        """All images in scan order, one at a time."""
        for y in range(self.shape[0]):
            for x in range(self.shape[1]):
                yield self.pattern(y, x)

    def mean_pattern(self) -> Pattern:
        """The average image, read one scan row at a time."""
        ny, nx = self.shape[:2]
        total = np.zeros(self.shape[2:], dtype=np.float64)
        for y in range(ny):
            total += np.asarray(self.data[y]).sum(axis=0, dtype=np.float64)
        return self._wrap(total / (ny * nx), f"{self.source} (mean of {ny}×{nx})")

    def _wrap(self, image: NDArray[Any], source: str) -> Pattern:
        return Pattern.from_array(
            image,
            self.pixel_size,
            self.energy,
            camera_length=self.camera_length,
            centre=self.centre,
            source=source,
            metadata=self.metadata,
            notes=self.notes,
        )

    def __repr__(self) -> str:
        return f"Scan({self.source or 'array'}: {' × '.join(map(str, self.shape))})"


class _AsRow:
    """A (N, Q_y, Q_x) stack seen as (1, N, Q_y, Q_x), still lazy."""

    def __init__(self, stack: Any) -> None:
        self._stack = stack
        self.shape = (1, *stack.shape)
        self.dtype = stack.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, *rest = key if isinstance(key, tuple) else (key,)
        block = np.asarray(self._stack[tuple(rest)] if rest else self._stack[:])
        return block if isinstance(first, int | np.integer) else block[None][first]
