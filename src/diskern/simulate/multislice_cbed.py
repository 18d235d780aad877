"""Convergent-beam patterns of a crystal by multislice, on the detector grid asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.supercell import Atoms, PeriodicCell, oriented_box, periodic_zone_cell
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.multislice import multislice, propagator, transmission
from diskern.simulate.multislice_foil import (
    Surfaces,
    entered_through_gap,
    matter_density,
    sliced,
)
from diskern.simulate.multislice_grid import Grid
from diskern.simulate.potential import (
    SlicedPotential,
    Slicing,
    slice_potentials,
    thermal_displacements,
)
from diskern.simulate.probe import Probe, aperture_coverage, probe_wave
from diskern.simulate.scattering import Parametrization

Floats = NDArray[np.float64]
_BLOCK_BYTES = 1 << 28
_HIGHEST_INDEX = 4
_BELOW = 6.0
"""Å of crystal kept below the thickest foil of a box."""


@dataclass(frozen=True)
class MultisliceOptions:
    """How finely and by which route a multislice pattern is computed.

    Attributes
    ----------
    slice_thickness : thickest slice in Å.
    k_max : wave numbers carried, in 1/Å; 3.5 leaves 000 of Si [001] at 200 Å within 0.1 % of its
        limit (u = 0.08 Å), 1.7 within 3 %.
    route : ``periodic`` propagates one plane wave per point of the aperture through a single
        exact zone-axis cell, the residual tilt in the beam; it gives the pattern averaged over
        probe positions, which for disks that do not overlap is every pattern.  ``box`` sends the
        probe through a cut box.  ``auto`` takes the first where such a cell exists, disks stay
        apart and no phonons are frozen.
    box : smallest lateral edge of a cut box in Å; truncation costs about 1 % of weak disks at
        50 Å and 2 mrad.
    centre : fractional coordinates of the crystal under the probe (``box`` only).
    max_tilt : largest tilt in mrad of the beam from the axis of a periodic cell.
    frozen_phonons : configurations to average, 0 for static Debye-Waller damping (``box`` only).
    seed : of the frozen phonons.
    parametrization : table of scattering factors.
    device : torch device, e.g. ``"cuda"``; the processor by default.
    """

    slice_thickness: float = 1.6
    k_max: float = 3.5
    route: Literal["auto", "periodic", "box"] = "auto"
    box: float = 60.0
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    max_tilt: float = 50.0
    frozen_phonons: int = 0
    seed: int = 0
    parametrization: Parametrization = "peng"
    device: str | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.slice_thickness <= 10:
            raise DiskernError(f"slice_thickness={self.slice_thickness} Å is outside 0.1 to 10 Å")
        if not 0.2 <= self.k_max <= 30:
            raise DiskernError(f"k_max={self.k_max} 1/Å is outside 0.2 to 30 1/Å")
        if self.route not in ("auto", "periodic", "box"):
            raise DiskernError(f"route={self.route!r} is unknown; use auto, periodic or box")
        if not 0 <= self.frozen_phonons <= 10_000:
            raise DiskernError(f"frozen_phonons={self.frozen_phonons} must be 0 to 10000")
        if self.frozen_phonons and self.route == "periodic":
            raise DiskernError("frozen phonons break the periodic cell; use route='box'")


def cbed_multislice(
    crystal: Crystal,
    orientation: Rotation,
    energy: float,
    semiangle: float,
    thicknesses: ArrayLike,
    shape: tuple[int, int],
    pixel_size: float,
    *,
    probe: Probe | None = None,
    options: MultisliceOptions | None = None,
) -> NDArray[np.float32]:
    """Convergent-beam electron diffraction of a foil normal to the beam.

    Parameters
    ----------
    orientation : rotation crystal → lab.
    energy, semiangle : of the probe, in eV and mrad; 0 mrad gives spots.
    thicknesses : (T,) in Å; between two atomic planes the intensities of both foils are mixed, as
        terraces do.  A series costs little more than its thickest member.
    shape, pixel_size : (Q_y, Q_x) and 1/Å per pixel of the detector; the direct beam falls on
        pixel (Q_y // 2, Q_x // 2).
    probe : full description of the probe, in place of ``energy`` and ``semiangle``.

    Returns
    -------
    (T, Q_y, Q_x) float32 fractions of the incident beam.

    Raises
    ------
    DiskernError
        For impossible thicknesses or pixels, or where ``route="periodic"`` finds no cell.
    """
    options = options or MultisliceOptions()
    probe = probe or Probe(energy, semiangle)
    depths = _checked_thicknesses(thicknesses)
    _check_detector(shape, pixel_size)
    route = None if options.route == "box" or options.frozen_phonons else (
        nearest_zone_cell(crystal, orientation, options.max_tilt)
    )  # fmt: skip
    if options.route == "periodic" and route is None:
        raise DiskernError(
            "no exact periodic cell within "
            f"{options.max_tilt:g} mrad of this orientation; use route='box'"
        )
    if route is not None and (
        options.route == "periodic" or _pays(route, probe, shape, pixel_size, options)
    ):
        return _periodic(route, orientation, probe, depths, shape, pixel_size, options)
    return _boxed(crystal, orientation, probe, depths, shape, pixel_size, options)


def nearest_zone_cell(
    crystal: Crystal, orientation: Rotation, max_tilt: float
) -> PeriodicCell | None:
    """The periodic cell of the lowest-index zone axis within ``max_tilt`` mrad of the beam."""
    beam = orientation.inv().apply([0.0, 0.0, 1.0])
    span = range(-_HIGHEST_INDEX, _HIGHEST_INDEX + 1)
    indices = np.array([t for t in product(span, repeat=3) if math.gcd(*t) == 1])
    vectors = indices @ crystal.lattice
    length = np.linalg.norm(vectors, axis=1)
    cross = np.linalg.norm(np.cross(vectors / length[:, None], beam), axis=1)
    near = np.flatnonzero((vectors @ beam > 0) & (cross <= math.sin(max_tilt * 1e-3)))
    for i in near[np.lexsort((cross[near], np.round(length[near], 6)))]:
        cell = periodic_zone_cell(crystal, indices[i])
        if cell is not None:
            return cell
    return None


# --- one cell, one plane wave per point of the aperture -----------------------------------


def _pays(
    cell: PeriodicCell,
    probe: Probe,
    shape: tuple[int, int],
    pixel_size: float,
    options: MultisliceOptions,
) -> bool:
    """Whether the periodic route gives the same pattern as a box, for less work."""
    shortest = 1 / max(cell.size[0], cell.size[1])
    if probe.semiangle == 0:
        return True
    # Centred cells leave out the shortest vectors; the potential's own spectrum decides.
    apart = _shortest_reflection(cell) if probe.k_reach * 2 >= shortest else shortest
    if probe.k_reach * 2 >= apart:
        return False
    waves = math.pi * (probe.k_reach / _aperture_step(probe, pixel_size)) ** 2
    edge = _box_edge(pixel_size, options)
    return waves * float(cell.size[0] * cell.size[1]) < 2 * edge**2


def _shortest_reflection(cell: PeriodicCell) -> float:
    """Shortest in-plane reciprocal vector in 1/Å at which the cell scatters at all."""
    hk = np.array([t for t in product(range(-12, 13), repeat=2) if any(t)])
    hkl = np.concatenate([np.column_stack([hk, np.full(len(hk), n)]) for n in range(4)])
    phase = np.exp(-2j * np.pi * (hkl @ (cell.atoms.positions / cell.size).T))
    strength = np.abs(phase @ (cell.atoms.numbers * cell.atoms.occupancy))
    lengths = np.linalg.norm(hkl[:, :2] / cell.size[:2], axis=1)
    return float(lengths[strength > 1e-6 * cell.atoms.numbers.sum()].min(initial=np.inf))


def _periodic(
    cell: PeriodicCell,
    orientation: Rotation,
    probe: Probe,
    depths: Floats,
    shape: tuple[int, int],
    pixel_size: float,
    options: MultisliceOptions,
) -> NDArray[np.float32]:
    device = torch.device(options.device or "cpu")
    cell = entered_through_gap(cell)
    grid = Grid.covering((float(cell.size[1]), float(cell.size[0])), options.k_max)
    slicing = sliced(cell, options.slice_thickness)
    potentials = slice_potentials(
        cell.atoms, grid, slicing, parametrization=options.parametrization, device=device
    )
    waves = transmission(potentials, grid, probe.energy)
    turn = (orientation * cell.orientation.inv()).as_matrix()
    beams, weights = aperture_samples(probe, _aperture_step(probe, pixel_size))
    k0 = 1 / wavelength(probe.energy)
    incident = _on_sphere(beams, k0) @ turn
    exits, shares = Surfaces.of_cell(cell, slicing).exits(depths)
    mixing = torch.from_numpy(shares).to(device, torch.float32)
    detector = _Detector(shape, pixel_size, len(depths), device)
    keep = grid.antialias(device).bool()
    k_y, k_x = grid.mesh(device)
    outgoing = torch.stack([k_x[keep], k_y[keep]], dim=-1).cpu().numpy()
    batch = max(1, _BLOCK_BYTES // (16 * (len(exits) + 4) * keep.numel()))
    for start in range(0, len(beams), batch):
        k_t = incident[start : start + batch, :2]
        propagate = propagator(
            grid, probe.energy, slicing.thickness, torch.from_numpy(k_t[:, ::-1].copy()),
            device=device,
        )  # fmt: skip
        wave = torch.zeros((len(k_t), *grid.shape), dtype=torch.complex64, device=device)
        wave[:, 0, 0] = 1.0
        out = multislice(wave, waves, propagate, exits)[:, :, keep]
        share = torch.from_numpy(weights[start : start + batch]).to(device, torch.float32)
        intensity = (out.real**2 + out.imag**2) * share[:, None]
        directions = _on_sphere(k_t[:, None, :] + outgoing[None], k0) @ turn.T
        found = mixing @ intensity.reshape(len(exits), -1)
        detector.add(directions[..., :2].reshape(-1, 2), found)
    return detector.image()


def aperture_samples(probe: Probe, step: float) -> tuple[Floats, Floats]:
    """Plane waves that make up a probe: (K, 2) wave vectors (k_x, k_y) in 1/Å and weights.

    The points lie on a square grid of ``step`` 1/Å with the optic axis on a point; the (K,)
    weights are intensities and sum to 1.
    """
    if probe.semiangle == 0:
        return np.zeros((1, 2)), np.ones(1)
    n = math.ceil(probe.k_reach / step + 0.5)
    line = torch.arange(-n, n + 1, dtype=torch.float64) * step
    k_y, k_x = torch.meshgrid(line, line, indexing="ij")
    coverage = aperture_coverage(probe, k_y, k_x, (step, step))
    inside = coverage > 0
    points = torch.stack([k_x[inside], k_y[inside]], dim=-1).numpy()
    weights = coverage[inside].numpy()
    return points, weights / weights.sum()


def _aperture_step(probe: Probe, pixel_size: float) -> float:
    """Detector pixel, divided until the radius of the aperture holds three steps."""
    return pixel_size / max(1, math.ceil(3 * pixel_size / max(probe.k_semiangle, 1e-12)))


def _on_sphere(in_plane: Floats, k0: float) -> Floats:
    """(..., 3) wave vectors of length k0 from their (..., 2) transverse parts."""
    along = np.sqrt(np.clip(k0**2 - (in_plane**2).sum(-1), 0.0, None))
    return np.concatenate([in_plane, along[..., None]], axis=-1)


# --- a cut box, the whole probe at once ---------------------------------------------------


def _box_edge(pixel_size: float, options: MultisliceOptions) -> float:
    """Lateral edge in Å, a whole number of 1/pixel_size so that pixels bin exactly."""
    return max(1, math.ceil(options.box * pixel_size - 1e-9)) / pixel_size


def _boxed(
    crystal: Crystal,
    orientation: Rotation,
    probe: Probe,
    depths: Floats,
    shape: tuple[int, int],
    pixel_size: float,
    options: MultisliceOptions,
) -> NDArray[np.float32]:
    device = torch.device(options.device or "cpu")
    edge = _box_edge(pixel_size, options)
    # Deep enough that the next atomic plane below the thickest foil is in it.
    slicing = Slicing.of_depth(float(depths.max()) + _BELOW, options.slice_thickness)
    grid = Grid.covering((edge, edge), max(options.k_max, probe.k_reach))
    atoms = oriented_box(crystal, orientation, (edge, edge, slicing.depth), centre=options.centre)
    density = matter_density(crystal.numbers, crystal.occupancy, crystal.volume)
    exits, shares = Surfaces.of_box(atoms, edge, density, slicing).exits(depths)
    mixing = torch.from_numpy(shares).to(device, torch.float32)
    propagate = propagator(grid, probe.energy, slicing.thickness, device=device)
    incident = probe_wave(probe, grid, device=device)
    k_y, k_x = grid.mesh(device)
    keep = grid.antialias(device).bool()
    places = torch.stack([k_x[keep], k_y[keep]], dim=-1).cpu().numpy()
    detector = _Detector(shape, pixel_size, len(depths), device)
    runs = max(1, options.frozen_phonons)
    for run in range(runs):
        frozen = (
            thermal_displacements(atoms, options.seed + run) if options.frozen_phonons else atoms
        )
        column = _Column(frozen, grid, slicing, probe.energy, options, device)
        out = multislice(incident, column, propagate, exits)[:, 0][:, keep]
        detector.add(places, mixing @ (out.real**2 + out.imag**2) / runs)
    return detector.image()


class _Column:
    """Transmission functions of a deep box, a block of slices in memory at a time."""

    def __init__(
        self,
        atoms: Atoms,
        grid: Grid,
        slicing: Slicing,
        energy: float,
        options: MultisliceOptions,
        device: torch.device,
    ) -> None:
        self._grid, self._count, self._energy = grid, slicing.count, energy
        self._potential = SlicedPotential(
            atoms, grid, slicing, parametrization=options.parametrization, device=device
        )
        self._size = max(1, _BLOCK_BYTES // (32 * grid.shape[0] * grid.shape[1]))
        self._first, self._block = -1, torch.empty(0)

    def __call__(self, n: int) -> torch.Tensor:
        first = n - n % self._size
        if first != self._first:
            self._first = first
            potentials = self._potential(first, min(first + self._size, self._count))
            self._block = transmission(potentials, self._grid, self._energy)
        return self._block[n - first]


# --- the detector -------------------------------------------------------------------------


class _Detector:
    """Gathers intensity at points of reciprocal space into pixels, shared among four."""

    def __init__(
        self, shape: tuple[int, int], pixel_size: float, frames: int, device: torch.device
    ) -> None:
        self._shape, self._pixel = shape, pixel_size
        # One spare row and column on each side catch what falls off the edge.
        self._flat = torch.zeros(frames, (shape[0] + 2) * (shape[1] + 2), device=device)

    def add(self, points: Floats, intensity: torch.Tensor) -> None:
        """Add (T, P) intensities at (P, 2) points (q_x, q_y) in 1/Å."""
        height, width = self._shape
        # Rounding at 1e-6 px keeps a point meant for one pixel out of its neighbour.
        col = np.round(points[:, 0] / self._pixel + width // 2, 6)
        row = np.round(points[:, 1] / self._pixel + height // 2, 6)
        inside = (row > -1) & (row < height) & (col > -1) & (col < width)
        row, col = row[inside], col[inside]
        values = intensity[:, torch.from_numpy(inside).to(intensity.device)]
        base_row, base_col = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
        part_row, part_col = row - base_row, col - base_col
        for down, right in product((0, 1), repeat=2):
            share = np.where(down, part_row, 1 - part_row) * np.where(right, part_col, 1 - part_col)
            flat = (base_row + 1 + down) * (width + 2) + base_col + 1 + right
            self._flat.index_add_(
                1,
                torch.from_numpy(flat).to(self._flat.device),
                values * torch.from_numpy(share).to(values),
            )

    def image(self) -> NDArray[np.float32]:
        height, width = self._shape
        frames = self._flat.view(-1, height + 2, width + 2)[:, 1:-1, 1:-1]
        return np.ascontiguousarray(frames.cpu().numpy(), dtype=np.float32)


def _checked_thicknesses(thicknesses: ArrayLike) -> Floats:
    depths = np.atleast_1d(np.asarray(thicknesses, dtype=np.float64))
    if depths.ndim != 1 or not len(depths) or not np.isfinite(depths).all():
        raise DiskernError(f"thicknesses={thicknesses!r} must be one or more numbers in Å")
    if depths.min() <= 0 or depths.max() > 1e5:
        raise DiskernError(
            f"thickness {depths.min():g} to {depths.max():g} Å is outside 0 to 1e5 Å"
        )
    return depths


def _check_detector(shape: Sequence[int], pixel_size: float) -> None:
    if len(shape) != 2 or min(shape) < 1 or max(shape) > 8192:
        raise DiskernError(f"detector shape {tuple(shape)} must be (rows, columns), 1 to 8192 each")
    if not (math.isfinite(pixel_size) and 1e-6 < pixel_size < 10):
        raise DiskernError(f"pixel_size={pixel_size} 1/Å is not between 1e-6 and 10 1/Å")
