"""Projected potentials of thin slices, each atom placed exactly between the pixels.

A slice holds every atom whose z lies in it, projected to infinity along the beam.  Atoms are
spread over the grid with cardinal B-splines of high order and the spline is divided out again in
Fourier space (smooth particle-mesh Ewald: Essmann et al., J. Chem. Phys. 103 (1995) 8577,
DOI 10.1063/1.470117), so one FFT per element serves any number of atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from diskern.crystal.supercell import Atoms
from diskern.errors import DiskernError
from diskern.simulate.multislice_grid import Grid
from diskern.simulate.scattering import (
    POTENTIAL_CONSTANT,
    Parametrization,
    electron_scattering_factor,
)

_ROUNDING = 1e-5
"""Å by which an atom may lie below a slice face and still count as beyond it."""


@dataclass(frozen=True)
class Slicing:
    """Equal slices of a column of matter.

    Attributes
    ----------
    thickness : of one slice in Å.
    count : slices in the column.
    """

    thickness: float
    count: int

    @property
    def depth(self) -> float:
        """Thickness of the column in Å."""
        return self.thickness * self.count

    @classmethod
    def of_depth(cls, depth: float, at_most: float) -> Slicing:
        """The fewest equal slices no thicker than ``at_most`` Å."""
        count = max(1, math.ceil(depth / at_most - 1e-9))
        return cls(depth / count, count)

    @classmethod
    def of_planes(
        cls, heights: ArrayLike, period: float, at_most: float, multiple: int = 1
    ) -> Slicing:
        """Slices of a periodic cell that fall on its atomic planes where few enough do.

        Parameters
        ----------
        heights : (N,) z of the atoms in Å.
        period : of the cell along the beam in Å.
        at_most : thickest slice in Å.
        multiple : the count is a multiple of it.

        Notes
        -----
        Slices that part a plane unevenly put false periods into the crystal; the count (up to
        four times the fewest) that puts every atom within 0.02 Å of a slice face is taken.
        """
        fewest = multiple * cls.of_depth(period / multiple, at_most).count
        z = np.asarray(heights, dtype=np.float64)
        for count in range(fewest, 4 * fewest + 1, multiple):
            thickness = period / count
            if np.abs(z - np.round(z / thickness) * thickness).max() < 0.02:
                return cls(thickness, count)
        return cls(period / fewest, fewest)

    def index(self, z: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N,) the slice each height in Å falls in; heights repeat with the depth."""
        return np.floor((z + _ROUNDING) / self.thickness).astype(np.int64) % self.count


def slice_potentials(
    atoms: Atoms,
    grid: Grid,
    slicing: Slicing,
    *,
    first: int = 0,
    stop: int | None = None,
    parametrization: Parametrization = "peng",
    order: int = 8,
    band_limit: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Projected potential of slices ``first`` to ``stop`` in V Å.

    Parameters
    ----------
    atoms : in [0, extent) of the grid, which is periodic; their displacements damp the potential
        (set them to 0 for displaced atoms).  Of tensors the part in the plane counts.
    order : of the B-spline, even, 4 to 12; error in the carried band about 4e-3, 6e-4, 1e-4,
        2e-5 of the potential for 4, 6, 8, 10.
    band_limit : leave out what lies beyond `Grid.k_max`.

    Returns
    -------
    (stop − first, ny, nx) real tensor.
    """
    made = SlicedPotential(
        atoms,
        grid,
        slicing,
        parametrization=parametrization,
        order=order,
        band_limit=band_limit,
        dtype=dtype,
        device=device,
    )
    return made(first, slicing.count if stop is None else stop)


class SlicedPotential:
    """`slice_potentials` of one column, some slices at a time.

    What depends on the grid and the kinds of atoms alone is computed once.
    """

    def __init__(
        self,
        atoms: Atoms,
        grid: Grid,
        slicing: Slicing,
        *,
        parametrization: Parametrization = "peng",
        order: int = 8,
        band_limit: bool = True,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        if order not in (4, 6, 8, 10, 12):
            raise DiskernError(f"order={order} of the B-spline; use 4, 6, 8, 10 or 12")
        self._atoms, self._grid, self._order = atoms, grid, order
        self._dtype, self._device = dtype, device
        self._which = slicing.index(atoms.positions[:, 2])
        half = grid.shape[1] // 2 + 1
        k_y, k_x = (k[:, :half] for k in grid.mesh(device))
        k = torch.hypot(k_y, k_x)
        spline = _spline_spectrum(grid.shape[0], order, device)[:, None]
        spline = spline * _spline_spectrum(grid.shape[1], order, device)[None, :half]
        window = grid.antialias(device)[:, :half] if band_limit else torch.ones_like(k)
        scale = POTENTIAL_CONSTANT / grid.area * grid.shape[0] * grid.shape[1] * window / spline
        self._kinds: list[tuple[NDArray[np.int64], torch.Tensor]] = []
        for number, (u_xx, u_xy, u_yy), mine in _species(atoms):
            form = electron_scattering_factor(number, k, parametrization)
            mean_square = u_xx * k_x**2 + 2 * u_xy * k_x * k_y + u_yy * k_y**2
            form = form * torch.exp(-2 * math.pi**2 * mean_square) * scale
            self._kinds.append((mine, form.to(dtype)))

    def __call__(self, first: int, stop: int) -> torch.Tensor:
        """(stop − first, ny, nx) projected potential in V Å."""
        grid, which = self._grid, self._which
        total = torch.zeros(
            (stop - first, grid.shape[0], grid.shape[1] // 2 + 1),
            dtype=_complex_of(self._dtype),
            device=self._device,
        )
        for kind, form in self._kinds:
            mine = kind[(which[kind] >= first) & (which[kind] < stop)]
            if not len(mine):
                continue
            density = spread_atoms(
                self._atoms.positions[mine, :2], self._atoms.occupancy[mine],
                which[mine] - first, stop - first, grid, self._order, self._dtype, self._device,
            )  # fmt: skip
            total += torch.fft.rfft2(density) * form
        potentials: torch.Tensor = torch.fft.irfft2(total, s=grid.shape)
        return potentials


def spread_atoms(
    xy: NDArray[np.float64],
    weights: NDArray[np.float64],
    plane: NDArray[np.int64],
    planes: int,
    grid: Grid,
    order: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> torch.Tensor:
    """(planes, ny, nx) grid density of atoms at (N, 2) ``xy`` in Å, spread with B-splines."""
    (dy, dx), (ny, nx) = grid.pixel, grid.shape
    row, col = xy[:, 1] / dy, xy[:, 0] / dx
    base_row, base_col = np.floor(row), np.floor(col)
    spread_row = bspline_weights(row - base_row, order) * weights[:, None]
    spread_col = bspline_weights(col - base_col, order)
    # The spline is centred on the atom: pixels base - order/2 + 1 … base + order/2.
    steps = np.arange(order) - order // 2 + 1
    rows = (base_row.astype(np.int64)[:, None] + steps) % ny
    cols = (base_col.astype(np.int64)[:, None] + steps) % nx
    flat = (plane[:, None, None] * ny + rows[:, :, None]) * nx + cols[:, None, :]
    values = spread_row[:, :, None] * spread_col[:, None, :]
    density = torch.zeros(planes * ny * nx, dtype=dtype, device=device)
    density.index_add_(
        0,
        torch.from_numpy(flat.reshape(-1)).to(density.device),
        torch.from_numpy(values.reshape(-1)).to(density.device, dtype),
    )
    return density.view(planes, ny, nx)


def bspline_weights(fraction: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """(N, order) values of the centred cardinal B-spline on the ``order`` pixels around an atom.

    ``fraction`` (N,) in [0, 1) is the atom's place past its pixel; column j belongs to the pixel
    j − order/2 + 1 steps on.  Each row sums to 1.
    """
    f = np.asarray(fraction, dtype=np.float64)
    # M_p at p arguments f + j (Cox-de Boor recursion), j growing away from the atom to the left.
    values = [f, 1 - f]
    for p in range(3, order + 1):
        padded = [np.zeros_like(f), *values, np.zeros_like(f)]
        values = [((f + j) * padded[j + 1] + (p - f - j) * padded[j]) / (p - 1) for j in range(p)]
    return np.stack(values[::-1], axis=1)


def _spline_spectrum(n: int, order: int, device: torch.device | None) -> torch.Tensor:
    """(n,) real spectrum of the centred B-spline sampled on n periodic pixels."""
    weights = bspline_weights(np.zeros(1), order)[0]
    steps = np.arange(order) - order // 2 + 1
    phase = 2 * np.pi * np.fft.fftfreq(n)[:, None] * steps
    return torch.from_numpy((weights * np.cos(phase)).sum(axis=1)).to(device or "cpu")


def thermal_displacements(atoms: Atoms, seed: int) -> Atoms:
    """One frozen-phonon configuration: Einstein displacements drawn from each atom's ⟨u²⟩.

    Anisotropic atoms move by their tensors.  The atoms returned have none left to be damped by;
    the same seed gives the same configuration.
    """
    rng = np.random.default_rng(seed)
    step = rng.normal(size=atoms.positions.shape)
    if atoms.u_aniso is None:
        moved = atoms.positions + step * np.sqrt(atoms.u_iso[:, None])
    else:
        square, axes = np.linalg.eigh(atoms.u_aniso)
        along = step * np.sqrt(np.maximum(square, 0.0))
        moved = atoms.positions + np.einsum("nij,nj->ni", axes, along)
    # z is kept: a displacement along the beam only moves an atom within or between slices.
    moved[:, 2] = atoms.positions[:, 2]
    return atoms._replace(positions=moved, u_iso=np.zeros_like(atoms.u_iso), u_aniso=None)


def _species(
    atoms: Atoms,
) -> Iterator[tuple[int, tuple[float, float, float], NDArray[np.int64]]]:
    """Atomic number, u_xx, u_xy, u_yy in Å² and the (N,) places of the atoms that share them."""
    if atoms.u_aniso is None:
        plane = np.stack([atoms.u_iso, np.zeros_like(atoms.u_iso), atoms.u_iso], axis=1)
    else:
        # Equivalent atoms differ in the last digits of their turned tensors.
        plane = atoms.u_aniso[:, [0, 0, 1], [0, 1, 1]].round(9)
    rows = np.column_stack([atoms.numbers, plane])
    kinds, which = np.unique(rows, axis=0, return_inverse=True)
    for i, (z, *u) in enumerate(kinds.tolist()):
        yield int(z), (u[0], u[1], u[2]), np.flatnonzero(which.reshape(-1) == i)


def _complex_of(dtype: torch.dtype) -> torch.dtype:
    return torch.complex64 if dtype == torch.float32 else torch.complex128
