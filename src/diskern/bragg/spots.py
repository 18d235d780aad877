"""Bragg spots of one image: position, intensity, and how sure each is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spots:
    """Measured spots, strongest first; the direct beam is not among them.

    Attributes
    ----------
    position : (N, 2) row and column in px.
    sigma : (N, 2) standard uncertainty of the position in px.
    intensity : (N,) counts above the local background.
    sigma_intensity : (N,) its standard uncertainty.
    radius : (N,) rms radius of the spot in px.
    """

    position: Floats
    sigma: Floats
    intensity: Floats
    sigma_intensity: Floats
    radius: Floats

    def __len__(self) -> int:
        return len(self.intensity)

    @property
    def snr(self) -> Floats:
        """(N,) intensity over its uncertainty."""
        return self.intensity / np.maximum(self.sigma_intensity, 1e-12)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Spots:
        """The spots of a boolean mask or index array, in that order."""
        return Spots(
            self.position[keep],
            self.sigma[keep],
            self.intensity[keep],
            self.sigma_intensity[keep],
            self.radius[keep],
        )

    @classmethod
    def empty(cls) -> Spots:
        """No spots."""
        none = np.zeros(0)
        return cls(np.zeros((0, 2)), np.zeros((0, 2)), none, none, none)
