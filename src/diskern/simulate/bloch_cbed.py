"""Convergent-beam disks from Bloch waves, drawn on a detector's pixels.

Every incident direction k_t gives a rocking intensity I_g(k_t).  They are solved once on a
square grid of directions and read off, for each disk, at the pixels it covers: cubic
interpolation in the disk's own sub-pixel position, an aperture soft over one pixel at the rim.
Disks add as intensities: exact where they do not overlap, see `diskern.simulate.bloch_probe` where
they do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from diskern.errors import DiskernError
from diskern.simulate.bloch import BlochWaves, precession_ring
from diskern.simulate.probe import Probe, aperture_coverage
from diskern.simulate.render import Detector

if TYPE_CHECKING:
    from collections.abc import Callable

    from diskern.simulate.probe import ApertureShape

Floats = NDArray[np.float64]


def cbed_disks(
    waves: BlochWaves,
    semiangle: float,
    thicknesses: ArrayLike,
    shape: tuple[int, int],
    pixel_size: float,
    *,
    centre: tuple[float, float] | None = None,
    aperture: ApertureShape = "round",
    precession_angle: float | None = None,
) -> torch.Tensor:
    """CBED patterns at (T,) thicknesses in Å.

    Parameters
    ----------
    semiangle : convergence half-angle in mrad, above 0.
    shape, pixel_size : (H, W) px and 1/Å per px.
    centre : (row, col) of the direct beam, default (H // 2, W // 2).
    aperture : shape of the condenser aperture, see `diskern.simulate.probe.Probe`.
    precession_angle : mrad; the descanned average over the precessing cone.

    Returns
    -------
    (T, H, W) real tensor, fractions of the incident beam per pixel.

    Raises
    ------
    DiskernError
        For a semiangle of 0, or a detector that cannot be.
    """
    if not (math.isfinite(semiangle) and 0 < semiangle <= 200):
        raise DiskernError(
            f"semiangle={semiangle} mrad must be above 0 and at most 200; a parallel beam is "
            "simulate_saed's"
        )
    detector = Detector(shape, pixel_size, centre=centre)
    probe = Probe(waves.energy, semiangle, aperture)
    t = np.atleast_1d(np.asarray(thicknesses, dtype=np.float64))
    grid = DirectionGrid(probe, pixel_size, oversampling(waves, pixel_size, t))
    rocking = _rocking_curves(waves, grid, t, precession_angle)

    def covered(k_y: torch.Tensor, k_x: torch.Tensor) -> torch.Tensor:
        cover = aperture_coverage(probe, k_y, k_x, (pixel_size, pixel_size))
        return cover / cover.sum((1, 2), keepdim=True).clamp_min(1e-30)

    return draw_disks(rocking, waves.beams.g[:, :2], detector, grid, covered)


def oversampling(waves: BlochWaves, pixel_size: float, thicknesses: Floats) -> int:
    """Directions per pixel that follow the fringes, spacing 1/(λ g t) for g near 1 1/Å.

    Six to a fringe leave 0.2 % of the pattern in the wrong pixels.
    """
    if waves.options.oversample is not None:
        return waves.options.oversample
    fringe = 1 / (waves.wavelength * 1.0 * max(float(thicknesses.max(initial=0.0)), 1.0))
    return int(np.clip(math.ceil(6 * pixel_size / fringe), 1, 8))


class DirectionGrid:
    """A square grid of incident directions that covers the aperture.

    Attributes
    ----------
    axis : (G,) transverse wave vectors in 1/Å along x and along y, symmetric about 0.
    k : (K, 2) the directions (k_x, k_y) that are solved.
    reach : pixels from the middle of a disk's window to its edge.
    place : (K,) of each in the grid, counted along its rows.
    source : (G, G) for each node (row = k_y) the solved direction it takes its value from;
        nodes far outside the aperture repeat the nearest one.
    """

    def __init__(self, probe: Probe, pixel_size: float, oversample: int) -> None:
        self.oversample = oversample
        pitch = pixel_size / oversample
        # A disk lies up to half a pixel off its window's middle and is soft over half a pixel.
        self.reach = max(1, math.ceil(probe.k_reach / pixel_size + 1 - 1e-9) - 1)
        nodes = (self.reach + 1) * oversample + 2
        self.pitch = pitch
        self.axis = np.arange(-nodes, nodes + 1) * pitch
        k_y, k_x = np.meshgrid(self.axis, self.axis, indexing="ij")
        inside = np.hypot(k_y, k_x) <= probe.k_reach + 0.75 * pixel_size + 1e-9
        self.k = np.stack([k_x[inside], k_y[inside]], 1)
        self.place = np.flatnonzero(inside)
        nearest = cKDTree(self.k).query(np.stack([k_x.ravel(), k_y.ravel()], 1))[1]
        self.source = nearest.reshape(k_x.shape)


def _rocking_curves(
    waves: BlochWaves, grid: DirectionGrid, thicknesses: Floats, precession_angle: float | None
) -> torch.Tensor:
    """(T, N, G, G) intensities of every beam at every grid node."""
    if precession_angle is None:
        found = waves.intensities(thicknesses, grid.k)
    else:
        longest = float(thicknesses.max())
        ring = precession_ring(waves.beams.g, waves.wavelength, precession_angle, longest)
        total = waves.intensities(thicknesses, grid.k + ring[0])
        for tilt in ring[1:]:
            total += waves.intensities(thicknesses, grid.k + tilt)
        found = total / len(ring)
    source = torch.as_tensor(grid.source.ravel(), device=found.device)
    count, frames, beams = found.shape
    # A two-dimensional selection: torch is five times slower at any other.
    nodes = found.permute(1, 2, 0).reshape(-1, count).index_select(1, source)
    return nodes.view(frames, beams, *grid.source.shape)


def draw_disks(
    curves: torch.Tensor,
    g: Floats,
    detector: Detector,
    grid: DirectionGrid,
    weight: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """(T, H, W) sums of N disks, each read from its curve at the middles of its pixels.

    Parameters
    ----------
    curves : (T, N, G, G) intensities at the nodes of ``grid``.
    g : (N, 2) middles of the disks (q_x, q_y) in 1/Å.
    weight : of (N, w, w) wave vectors (k_y, k_x) within the disks, where curves alone do not end.
    """
    height, width = detector.shape
    px = detector.scale
    reach = grid.reach
    offsets = np.arange(-reach, reach + 1)
    rows, cols = detector.pixels(g)
    keep = (rows > -reach) & (rows < height + reach) & (cols > -reach) & (cols < width + reach)
    if not keep.all():
        rows, cols, curves = rows[keep], cols[keep], curves[:, torch.as_tensor(keep)]
    k_y = (np.rint(rows)[:, None] + offsets - rows[:, None]) * px
    k_x = (np.rint(cols)[:, None] + offsets - cols[:, None]) * px
    weights_y = torch.as_tensor(_interpolation(k_y, grid), dtype=curves.dtype, device=curves.device)
    weights_x = torch.as_tensor(_interpolation(k_x, grid), dtype=curves.dtype, device=curves.device)
    # Cubic interpolation can fall below zero beside a sharp fringe.
    disks = (weights_y @ curves @ weights_x.mT).clamp_min_(0)
    if weight is not None:
        y = torch.as_tensor(k_y, dtype=curves.dtype, device=curves.device)[:, :, None]
        x = torch.as_tensor(k_x, dtype=curves.dtype, device=curves.device)[:, None, :]
        square = (-1, len(offsets), len(offsets))
        disks *= weight(y.expand(square), x.expand(square))
    row, col = np.rint(rows)[:, None] + offsets, np.rint(cols)[:, None] + offsets
    inside = ((row >= 0) & (row < height))[:, :, None] & ((col >= 0) & (col < width))[:, None, :]
    if not inside.all():
        disks = disks * torch.as_tensor(inside, device=disks.device)
    # What falls outside is added as nothing to the nearest pixel inside.
    place = row.clip(0, height - 1)[:, :, None] * width + col.clip(0, width - 1)[:, None, :]
    index = torch.as_tensor(place.astype(np.int64).ravel(), device=curves.device)
    image = torch.zeros(len(disks), height * width, dtype=curves.dtype, device=curves.device)
    image.index_add_(1, index, disks.flatten(1))
    return image.view(-1, height, width)


def _interpolation(k: Floats, grid: DirectionGrid) -> Floats:
    """(N, w, G) weights that read (N, w) pixel positions from the grid along one axis.

    With several directions per pixel each weight is the mean over that pixel.
    """
    m = grid.oversample
    within = (np.arange(m) - (m - 1) / 2) * grid.pitch
    x = (k[..., None] + within - grid.axis[0]) / grid.pitch
    x = np.clip(x, 0, len(grid.axis) - 1)
    distance = np.abs(x[..., None] - np.arange(len(grid.axis)))
    return np.asarray(_cubic(distance).mean(-2))


def _cubic(d: Floats) -> Floats:
    """Keys' cubic convolution kernel (a = -1/2), doi:10.1109/TASSP.1981.1163711."""
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))
