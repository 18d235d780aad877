"""Disks of a table of rocking curves drawn on a detector, and how well each could be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diskern.train.disks_rocking import SPAN, RockedDisks

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

TINY = np.float32(1e-9)
"""Electrons."""


@dataclass(frozen=True, eq=False)
class Aperture:
    """The probe-forming aperture's image.

    Attributes
    ----------
    radius : px.
    edge : px; the rim is ½ − ½ tanh((r − radius)/edge).
    hole : radius of the shade of an annular aperture as a share of ``radius``, 0 for a disk.
    distortion : (2, 2) what the projector does to offsets (row, column) from the direct beam.
    """

    radius: float
    edge: float
    hole: float
    distortion: Floats

    @property
    def half(self) -> int:
        """Half-width in px of a patch that holds the whole disk."""
        stretch = float(np.linalg.norm(self.distortion, 2))
        return math.ceil(self.radius * stretch + 2.5 * self.edge + 0.5)

    @property
    def area(self) -> float:
        """px² that are open, before the distortion."""
        if self.hole:
            return math.pi * self.radius**2 * (1 - self.hole**2)
        # A soft rim opens more than a sharp one; at a hole the two cancel.
        return math.pi * (self.radius**2 + (math.pi * self.edge) ** 2 / 12)

    def open_share(self, rho: Singles) -> Singles:
        """Transmission at distances in aperture radii."""
        slope = np.float32(self.radius / max(self.edge, 1e-3))
        rim = np.float32(0.5) - np.float32(0.5) * np.tanh((rho - 1) * slope)
        if self.hole:
            rim *= np.float32(0.5) + np.float32(0.5) * np.tanh(
                (rho - np.float32(self.hole)) * slope
            )
        return np.asarray(rim)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Disks on their pixels.

    Attributes
    ----------
    image : (B, H, W) fractions of the incident beam.
    frame : (N,) pattern of each disk; the last B are the direct beams.
    places : (N, 2) row and column in px.
    pixels : (N, P·P) flat indices into ``image``; −1 off the detector.
    values : (N, P·P) what the disk adds there.
    """

    image: Singles
    frame: Ints
    places: Floats
    pixels: Ints
    values: Singles


def draw_rocked(
    disks: RockedDisks, centres: Floats, aperture: Aperture, shape: tuple[int, int]
) -> Drawn:
    """Draw all disks of B patterns.

    Parameters
    ----------
    centres : (B, 2) row and column of the direct beam in px.
    """
    count = len(centres)
    frame = np.concatenate([disks.frame, np.arange(count)])
    offsets = disks.G @ (aperture.distortion.T * aperture.radius)
    places = np.concatenate([centres[disks.frame] + offsets, centres])
    curves = np.concatenate([disks.curves, disks.direct])
    middle = np.rint(places).astype(np.int64)
    values = _disk_patches(curves, places - middle, aperture)
    steps = np.arange(-aperture.half, aperture.half + 1)
    rows, cols = (middle[:, i, None] + steps for i in (0, 1))
    inside = _within(rows, shape[0])[:, :, None] & _within(cols, shape[1])[:, None, :]
    flat = (frame[:, None, None] * shape[0] + rows[:, :, None]) * shape[1] + cols[:, None, :]
    pixels = np.where(inside, flat, -1).reshape(len(frame), -1)
    values = values.reshape(len(frame), -1)
    size = count * shape[0] * shape[1]
    # One bin more takes what falls off the detector.
    image = np.bincount((pixels + 1).reshape(-1), weights=values.reshape(-1), minlength=size + 1)
    return Drawn(image[1:].astype(np.float32).reshape(count, *shape), frame, places, pixels, values)


def _within(indices: Ints, size: int) -> NDArray[np.bool_]:
    return np.asarray((indices >= 0) & (indices < size))


def _disk_patches(curves: Singles, fraction: Floats, aperture: Aperture) -> Singles:
    """(N, P, P) disks about the pixel nearest to their place, ``fraction`` px beside it."""
    steps = np.arange(-aperture.half, aperture.half + 1, dtype=np.float32)
    down = (steps - fraction[:, :1].astype(np.float32))[:, :, None]
    across = (steps - fraction[:, 1:].astype(np.float32))[:, None, :]
    inverse = (np.linalg.inv(aperture.distortion) / aperture.radius).astype(np.float32)
    k_row = inverse[0, 0] * down + inverse[0, 1] * across
    k_col = inverse[1, 0] * down + inverse[1, 1] * across
    opening = aperture.open_share(np.sqrt(k_row * k_row + k_col * k_col))
    return _bilinear(curves, k_row, k_col) * opening / np.float32(aperture.area)


def _bilinear(curves: Singles, k_row: Singles, k_col: Singles) -> Singles:
    where = np.stack([k_col, k_row], -1) * np.float32(1 / SPAN)
    read = torch.nn.functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(curves))[:, None],
        torch.from_numpy(where),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return np.asarray(read[:, 0].numpy())


def signal_to_noise(drawn: Drawn, passed: Singles, mean: Singles, variance: Singles) -> Floats:
    """(N,) ratio that a matched filter reaches for each disk under Poisson noise.

    Parameters
    ----------
    passed : (B, H, W) share of each pixel's signal that is recorded, times electrons per frame.
    mean : (B, H, W) expected electrons, everything included.
    variance : (B,) of the detector's own noise, in electrons².
    """
    noise = mean + variance.astype(np.float32)[:, None, None]
    share, variances = (_at_pixels(image, drawn.pixels) for image in (passed, noise))
    signal = drawn.values * share
    # A disk brings its own noise, also where blur has carried its light away.
    return np.asarray(np.sqrt((signal**2 / np.maximum(variances, signal + TINY)).sum(1)))


def _at_pixels(image: Singles, pixels: Ints) -> Singles:
    """(N, P·P) values at flat indices into (B, H, W); 0 at −1, off the detector."""
    padded = torch.from_numpy(np.concatenate([np.zeros(1, np.float32), image.reshape(-1)]))
    return np.asarray(padded[torch.from_numpy(pixels + 1)].numpy())
