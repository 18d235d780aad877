"""What a reader gives back: an array, its calibration, and what the file did not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ArrayLikeLazy(Protocol):
    """Anything sliceable with a shape and a dtype: numpy, memmap, h5py, zarr."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: Any) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Recording:
    """One dataset of one file, in the file's own numbers.

    Attributes
    ----------
    data : (Q_y, Q_x) image, (N, Q_y, Q_x) stack or line, (scan_y, scan_x, Q_y, Q_x) scan; lazy
        where the format allows it.
    format : name of the format that was recognised, e.g. ``"DM4"``.
    pixel_size : detector pixel in 1/Å, or None where the file does not say.
    energy : beam energy in eV, or None.
    camera_length : in m, or None.
    centre : (row, column) of the direct beam in px where the file states it, or None.
    scan_step : (y, x) in Å, or None.
    metadata : the file's own words, flat, for `diskern info`.
    notes : what was doubtful, a sentence each.
    """

    data: ArrayLikeLazy
    format: str
    pixel_size: float | None = None
    energy: float | None = None
    camera_length: float | None = None
    centre: tuple[float, float] | None = None
    scan_step: tuple[float, float] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """What the file does not say and the user may, a sentence each."""
        scan = len(self.data.shape) == 4
        wanted = (
            (
                self.pixel_size is None,
                "no pixel size in 1/Å: give --pixel-size (1/Å) or --camera-constant (px·Å)",
            ),
            (self.energy is None, "no beam energy: give --voltage (kV)"),
            (scan and self.scan_step is None, "no scan step: maps will be scaled in scan pixels"),
        )
        return tuple(words for absent, words in wanted if absent)
