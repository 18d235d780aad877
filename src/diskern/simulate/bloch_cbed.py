"""Convergent-beam patterns from Bloch waves, drawn on a detector's pixels.

Waves and intensities of a beam change smoothly with the incident direction; what changes sharply
over a pattern is the aperture.  So they are solved once, on a square grid of directions as coarse
as the fringes of the thickest foil allow, and read off at the middles of the pixels of each disk.
There the aperture is applied, and where disks overlap their waves or intensities are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.simulate.bloch import BlochOptions, BlochWaves, precession_ring
from diskern.simulate.probe import Probe, aperture_coverage
from diskern.simulate.render import Detector

if TYPE_CHECKING:
    from diskern.simulate.probe import ApertureShape

Floats = NDArray[np.float64]
INTENSITY_STEPS = 6
"""Directions to a fringe of intensity, 1/(λ t) for a reflection of 1 1/Å."""
WAVE_STEPS = 3
"""The same for waves, which turn half as fast once half of each beam's phase is taken out.
Patterns of 460 Å then have 0.2 to 0.9 % of their intensity elsewhere, those of 210 Å in the same
series below 0.05 % (`benchmarks/coherent_probe.py`)."""
MOST_VALUES = 2**22
"""Values of disks, of all thicknesses, drawn at a time."""


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
    """CBED patterns at (T,) thicknesses in Å; disks that overlap add as intensities.

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
    ring = np.zeros((1, 2))
    if precession_angle is not None:
        longest = float(t.max())
        ring = precession_ring(waves.beams.g, waves.wavelength, precession_angle, longest)
    samples = _samples(waves, pixel_size, t)
    pitch = _pitch(waves, probe, pixel_size, t, INTENSITY_STEPS)
    # A pixel that the rim just touches reaches half its diagonal further, and so does its mean.
    grid = DirectionGrid(probe.k_reach + 1.5 * pixel_size, pitch)
    flux = waves.intensities(t, grid.k + ring[0])
    for tilt in ring[1:]:
        flux += waves.intensities(t, grid.k + tilt)
    curves = grid.filled(flux.permute(2, 0, 1) / len(ring))
    image = curves.new_zeros((shape[0] * shape[1], len(t)))
    for disks in windows(waves.beams.g, detector, probe, len(t)):
        # Cubic interpolation can fall below zero beside a sharp fringe.
        values = disks.read(curves, grid, samples).clamp_min_(0)
        values *= disks.coverage(probe).to(values)[..., None]
        image.index_add_(0, disks.places(values.device), values.flatten(0, 2))
    return image.T.reshape(-1, *shape)


def coherent_cbed(
    crystal: Crystal,
    orientation: Rotation,
    probes: Sequence[Probe],
    thicknesses: ArrayLike,
    shape: tuple[int, int],
    pixel_size: float,
    *,
    options: BlochOptions | None = None,
    centre: ArrayLike = (0.0, 0.0, 0.0),
) -> NDArray[np.float32]:
    """Patterns of focused probes at one place of a perfect crystal; overlapping disks interfere.

    Parameters
    ----------
    orientation : rotation crystal → lab.
    probes : their apertures and aberrations; of one energy, so that one solution serves all.
    thicknesses : (T,) in Å.
    shape, pixel_size : (H, W) px and 1/Å per px; the direct beam falls on (H // 2, W // 2).
    centre : fractional coordinates of the crystal point on the entrance face under the probe.

    Returns
    -------
    (P, T, H, W) float32 fractions of the incident beam, a pattern series for each probe.

    Raises
    ------
    DiskernError
        For a parallel beam, probes of several energies, a detector that cannot be, or more beams
        than can be solved.
    """
    energies = {probe.energy for probe in probes}
    if len(energies) != 1:
        raise DiskernError(f"probes of energies {sorted(energies)} eV; they must share one")
    widest = max(probes, key=lambda probe: probe.k_reach)
    if not all(probe.semiangle > 0 for probe in probes):
        raise DiskernError("semiangle=0 mrad is a parallel beam; use simulate_saed for it")
    t = np.atleast_1d(np.asarray(thicknesses, dtype=np.float64))
    options = options or BlochOptions(dtype="float32")
    waves = BlochWaves(crystal, orientation, energies.pop(), options, k_reach=widest.k_reach)
    samples = _samples(waves, pixel_size, t)
    fine = pixel_size / samples
    grid = DirectionGrid(
        widest.k_reach + 0.75 * fine, _pitch(waves, widest, pixel_size, t, WAVE_STEPS)
    )
    curves = grid.filled(_slow_waves(waves, t, grid.k))
    place = orientation.apply(np.asarray(centre, dtype=np.float64) @ crystal.lattice)
    phases = _Phases(waves, t, place - waves.beams.origin)
    # Every pixel is cut into samples², whose fluxes are added up in the end.
    height, width = shape[0] * samples, shape[1] * samples
    middle = [n // 2 * samples + (samples - 1) / 2 for n in shape]
    detector = Detector((height, width), fine, centre=(middle[0], middle[1]))
    images = np.empty((len(probes), len(t), *shape), dtype=np.float32)
    for number, probe in enumerate(probes):
        wave = curves.new_zeros((height * width, len(t)))
        for disks in windows(waves.beams.g, detector, probe, 2 * len(t)):
            values = disks.read(curves, grid)
            values *= phases.of(disks, probe).to(values)
            wave.index_add_(0, disks.places(wave.device), values.flatten(0, 2))
        images[number] = _flux(wave, shape, samples).cpu().numpy()
    return images


def _flux(wave: torch.Tensor, shape: tuple[int, int], samples: int) -> torch.Tensor:
    """(T, H, W) fluxes from (H samples W samples, T) waves, which are overwritten."""
    parts = torch.view_as_real(wave).square_()
    flux = (parts[..., 0] + parts[..., 1]).T
    if samples == 1:
        return flux.contiguous().view(-1, *shape)
    return flux.reshape(-1, shape[0], samples, shape[1], samples).sum((2, 4))


def _fringe(waves: BlochWaves, thicknesses: Floats) -> float:
    """1/(λ g t) in 1/Å of a reflection of 1 1/Å in the thickest foil."""
    return 1 / (waves.wavelength * max(float(thicknesses.max(initial=0.0)), 1.0))


def _samples(waves: BlochWaves, pixel_size: float, thicknesses: Floats) -> int:
    """Points along either side of a pixel that follow the fringes in it."""
    if waves.options.oversample is not None:
        return waves.options.oversample
    steps = INTENSITY_STEPS * pixel_size / _fringe(waves, thicknesses)
    return int(np.clip(math.ceil(steps), 1, 8))


def _pitch(
    waves: BlochWaves, probe: Probe, pixel_size: float, thicknesses: Floats, steps: float
) -> float:
    """Distance in 1/Å of the directions that are solved."""
    if waves.options.oversample is not None:
        return pixel_size / waves.options.oversample
    pitch = max(_fringe(waves, thicknesses) / steps, pixel_size / 8)
    return min(pitch, probe.k_reach)


class DirectionGrid:
    """A square grid of incident directions around the axis.

    Attributes
    ----------
    pitch : in 1/Å.
    axis : (G,) transverse wave vectors in 1/Å along x and along y, symmetric about 0.
    k : (K, 2) the directions (k_x, k_y) to solve: those from which a point within ``reach`` of
        the axis is interpolated.
    place : (K,) of each in the grid, counted along lines of one k_x.
    """

    def __init__(self, reach: float, pitch: float) -> None:
        self.pitch = pitch
        nodes = math.ceil(reach / pitch) + 2
        self.axis = np.arange(-nodes, nodes + 1) * pitch
        k_x, k_y = np.meshgrid(self.axis, self.axis, indexing="ij")
        nearest = [np.maximum(np.abs(k) - 2 * pitch, 0) for k in (k_x, k_y)]
        read = np.hypot(*nearest) < reach
        self.k = np.stack([k_x[read], k_y[read]], 1)
        self.place = np.flatnonzero(read)

    def filled(self, values: torch.Tensor) -> torch.Tensor:
        """(N, G, G, T) from (N, K, T); nothing where nothing was solved."""
        size = len(self.axis)
        table = values.new_zeros((len(values), size * size, values.shape[2]))
        table[:, torch.as_tensor(self.place, device=values.device)] = values
        return table.view(len(values), size, size, -1)

    def weights(self, k: Floats, samples: int, step: float) -> Floats:
        """(N, w, G) that read values at (N, w) places along one axis.

        With several ``samples``, means of as many points over a ``step``.
        """
        within = (np.arange(samples) - (samples - 1) / 2) * (step / samples)
        x = (k[..., None] + within) / self.pitch
        nodes = np.arange(len(self.axis)) - len(self.axis) // 2
        return np.asarray(_cubic(np.abs(x[..., None] - nodes)).mean(-2))


def _cubic(d: Floats) -> Floats:
    """Keys' cubic convolution kernel (a = -1/2), doi:10.1109/TASSP.1981.1163711."""
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


@dataclass(frozen=True, eq=False)
class Windows:
    """Square windows of w² pixels around the disks of N beams.

    Attributes
    ----------
    beams : (N,) which.
    rows, cols : (N, w) pixels.
    k_y, k_x : (N, w) incident directions in 1/Å that those pixels of the disk show.
    detector : whose pixels they are.
    """

    beams: NDArray[np.int64]
    rows: Floats
    cols: Floats
    k_y: Floats
    k_x: Floats
    detector: Detector

    def read(self, curves: torch.Tensor, grid: DirectionGrid, samples: int = 1) -> torch.Tensor:
        """(N, w, w, T) values, rows first, of (all, G, G, T) tables, real or complex."""
        some = curves[torch.as_tensor(self.beams, device=curves.device)]
        if some.is_complex():
            found = self.read_real(torch.view_as_real(some).flatten(3), grid, samples)
            return torch.view_as_complex(found.view(*found.shape[:3], -1, 2))
        return self.read_real(some, grid, samples)

    def read_real(self, curves: torch.Tensor, grid: DirectionGrid, samples: int) -> torch.Tensor:
        """The same of the (N, G, G, C) tables of these beams."""
        px = self.detector.scale
        along_x, along_y = (
            torch.as_tensor(grid.weights(k, samples, px), dtype=curves.dtype, device=curves.device)
            for k in (self.k_x, self.k_y)
        )
        count, size, _, values = curves.shape
        width = self.rows.shape[1]
        lines = (along_x @ curves.reshape(count, size, -1)).view(count, width, size, values)
        lines = lines.transpose(1, 2).reshape(count, size, width * values)
        return (along_y @ lines).view(count, width, width, values)

    def coverage(self, probe: Probe) -> torch.Tensor:
        """(N, w, w) share of the aperture in each pixel, 0 outside the detector."""
        px = self.detector.scale
        square = (len(self.beams), self.rows.shape[1], self.rows.shape[1])
        k_y, k_x = self.directions()
        cover = aperture_coverage(probe, k_y.expand(square), k_x.expand(square), (px, px))
        cover = cover / cover.sum((1, 2), keepdim=True).clamp_min(1e-30)
        return cover * torch.as_tensor(self._inside())

    def directions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """k_y as (N, w, 1) and k_x as (N, 1, w)."""
        return torch.as_tensor(self.k_y)[:, :, None], torch.as_tensor(self.k_x)[:, None, :]

    def places(self, device: torch.device) -> torch.Tensor:
        """(N w w,) pixels in the flattened image; what falls outside goes to the nearest inside."""
        height, width = self.detector.shape
        rows, cols = self.rows.clip(0, height - 1), self.cols.clip(0, width - 1)
        place = rows[:, :, None] * width + cols[:, None, :]
        return torch.as_tensor(place.astype(np.int64).ravel(), device=device)

    def _inside(self) -> NDArray[np.bool_]:
        height, width = self.detector.shape
        rows, cols = (self.rows >= 0) & (self.rows < height), (self.cols >= 0) & (self.cols < width)
        return np.asarray(rows[:, :, None] & cols[:, None, :])


def windows(g: Floats, detector: Detector, probe: Probe, values: int) -> Iterator[Windows]:
    """Windows of the disks at (N, 3) reciprocal vectors that reach the detector, some at a time.

    ``values`` are as many numbers as a pixel of a disk is going to hold.
    """
    px = detector.scale
    # A disk lies up to half a pixel off its window's middle and is soft over half a pixel.
    reach = max(1, math.ceil(probe.k_reach / px + 1 - 1e-9) - 1)
    offsets = np.arange(-reach, reach + 1)
    rows, cols = detector.pixels(g[:, :2])
    near_row, near_col = np.rint(rows), np.rint(cols)
    height, width = detector.shape
    seen = (near_row >= -reach) & (near_row < height + reach)
    seen &= (near_col >= -reach) & (near_col < width + reach)
    step = max(1, MOST_VALUES // (len(offsets) ** 2 * values))
    chosen = np.flatnonzero(seen)
    for i in range(0, len(chosen), step):
        some = chosen[i : i + step]
        row, col = near_row[some, None] + offsets, near_col[some, None] + offsets
        k_y, k_x = (row - rows[some, None]) * px, (col - cols[some, None]) * px
        yield Windows(some, row, col, k_y, k_x, detector)


def _slow_waves(waves: BlochWaves, thicknesses: Floats, k: Floats) -> torch.Tensor:
    """(N, K, T) amplitudes without half of the phase 2π s_g t that their beams gather.

    Scattered at any depth, a wave's phase is a share between none and all of it, so that what is
    left turns at most half as fast from one direction to the next.
    """
    found = waves.amplitudes(thicknesses, k)
    angle = np.pi * waves.excitation_errors(k)[:, None, :] * thicknesses[:, None]
    return (found * _turn(-angle, found)).permute(2, 0, 1)


class _Phases:
    """What turns the slow waves into those that meet on the detector.

    The foil adds 2π (K_n(k) + g_z) t to the phase of beam g, of which 2π s_g t is a part.  With the
    half of it that was taken out, all but π λ t (q·g - g²/2) + π g_z t is common to the waves that
    meet at q = k + g.  A probe over a place p of the crystal adds 2π g·p.
    """

    def __init__(self, waves: BlochWaves, thicknesses: Floats, place: Floats) -> None:
        g = waves.beams.g
        self.slope = math.pi * waves.wavelength * thicknesses
        self.g = g
        self.start = 2 * math.pi * (g @ place)[:, None] + math.pi * g[:, 2:] * thicknesses
        self.start -= 0.5 * (g[:, :2] ** 2).sum(1)[:, None] * self.slope
        self.wavelength = waves.wavelength

    def of(self, disks: Windows, probe: Probe) -> torch.Tensor:
        """(N, w, w, T) complex factors with the amplitude and the aberrations of the probe."""
        g = self.g[disks.beams]
        q_y, q_x = disks.k_y + g[:, 1:2], disks.k_x + g[:, :1]
        along_y = (q_y * g[:, 1:2])[..., None] * self.slope + self.start[disks.beams, None]
        along_x = (q_x * g[:, :1])[..., None] * self.slope
        like = torch.zeros(0, dtype=torch.complex64)
        turn = _turn(along_y, like)[:, :, None] * _turn(along_x, like)[:, None]
        entry = disks.coverage(probe).sqrt().to(torch.complex64)
        if probe.aberrations.any:
            chi = probe.aberrations.phase(*disks.directions(), self.wavelength)
            entry = entry * torch.polar(torch.ones_like(chi), -chi)
        return turn * entry[..., None]


def _turn(angle: Floats, like: torch.Tensor) -> torch.Tensor:
    """exp(i angle), as complex as ``like``."""
    turned = torch.as_tensor(angle)
    return torch.polar(torch.ones_like(turned), turned).to(like)
