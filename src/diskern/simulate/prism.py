"""Many probe positions from one calculation: the plane-wave scattering matrix (PRISM).

Ophus, Adv. Struct. Chem. Imaging 3 (2017) 13, DOI 10.1186/s40679-017-0046-1.  Every plane wave of
the aperture goes through the specimen once; a probe anywhere, with any aberrations, is then a
weighted sum.  With interpolation 1 the answer is the direct one; with f only every f-th wave in
each direction is kept and the probe lives in a window 1/f of the box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from diskern.errors import DiskernError
from diskern.simulate.multislice import multislice
from diskern.simulate.multislice_grid import Grid
from diskern.simulate.probe import Probe, probe_wave


@dataclass(frozen=True, eq=False)
class ScatteringMatrix:
    """Exit waves of the plane waves inside an aperture.

    Attributes
    ----------
    grid : on which the waves were carried.
    exits : (T, K, ny, nx) complex exit waves in real space.
    rows, cols : (K,) FFT indices of the incident plane waves.
    semiangle : aperture in mrad that they fill.
    energy : in eV.
    interpolation : f.
    """

    grid: Grid
    exits: torch.Tensor
    rows: torch.Tensor
    cols: torch.Tensor
    semiangle: float
    energy: float
    interpolation: int = 1

    def diffraction(self, positions: torch.Tensor, probe: Probe | None = None) -> torch.Tensor:
        """Patterns of a probe at (P, 2) positions (y, x) in Å.

        Parameters
        ----------
        probe : any probe of the same energy whose aperture fits into the matrix's.

        Returns
        -------
        (T, P, ny/f, nx/f) float fractions of the incident beam in FFT order.
        """
        probe = probe or Probe(self.energy, self.semiangle)
        self._check(probe)
        place = positions.to(self.exits.device, torch.float64)
        coefficients = self._coefficients(place, probe)
        f, (ny, nx) = self.interpolation, self.grid.shape
        window = ny // f, nx // f
        if f == 1:
            waves = torch.einsum("pk,tkyx->tpyx", coefficients, self.exits)
        else:
            rows, cols = (
                _window(place[:, axis], self.grid.pixel[axis], window[axis], self.grid.shape[axis])
                for axis in (0, 1)
            )
            # Gather each probe's window, then sum the plane waves in it.
            picked = self.exits[:, :, rows[:, :, None], cols[:, None, :]]
            waves = torch.einsum("pk,tkpyx->tpyx", coefficients, picked)
        spectrum: torch.Tensor = torch.fft.fft2(waves)
        # A window of 1/f² of the pixels carries 1/f² of each plane wave's amplitude.
        return (spectrum.real**2 + spectrum.imag**2) * f**4

    def _coefficients(self, place: torch.Tensor, probe: Probe) -> torch.Tensor:
        """(P, K) amplitude of each plane wave in each probe; Σ|c|² = 1 over the waves."""
        wave = probe_wave(probe, self.grid, place, device=self.exits.device)
        picked = wave[:, self.rows, self.cols]
        norm = torch.linalg.norm(picked[0])
        return torch.Tensor((picked / norm).to(self.exits.dtype))

    def _check(self, probe: Probe) -> None:
        if probe.energy != self.energy or probe.k_reach > _k_reach(self) * (1 + 1e-9):
            raise DiskernError(
                f"the matrix holds {self.energy / 1e3:g} kV waves out to {self.semiangle:g} mrad; "
                f"compute another for {probe.energy / 1e3:g} kV and {probe.semiangle:g} mrad"
            )


def scattering_matrix(
    probe: Probe,
    grid: Grid,
    transmissions: torch.Tensor | Callable[[int], torch.Tensor],
    propagate: torch.Tensor,
    exits: Sequence[int],
    *,
    interpolation: int = 1,
    batch: int = 16,
) -> ScatteringMatrix:
    """Send every plane wave of an aperture through the specimen.

    Parameters
    ----------
    probe : its aperture says which waves; its position and aberrations do not matter.
    transmissions, propagate, exits : as for `diskern.simulate.multislice.multislice`.
    interpolation : f; both numbers of pixels must be divisible by it.
    batch : waves carried at a time.

    Raises
    ------
    DiskernError
        Where the grid does not divide by ``interpolation``.
    """
    ny, nx = grid.shape
    if interpolation < 1 or ny % interpolation or nx % interpolation:
        raise DiskernError(f"interpolation={interpolation} does not divide the {ny}×{nx} px box")
    aperture = probe_wave(probe, grid, device=propagate.device)[0].abs() > 0
    index_y, index_x = (torch.fft.fftfreq(n, 1 / n).round().long() for n in (ny, nx))
    kept = aperture & (index_y % interpolation == 0).to(aperture.device)[:, None]
    kept &= (index_x % interpolation == 0).to(aperture.device)[None, :]
    rows, cols = torch.nonzero(kept, as_tuple=True)
    parts = []
    for start in range(0, len(rows), batch):
        r, c = rows[start : start + batch], cols[start : start + batch]
        waves = torch.zeros((len(r), ny, nx), dtype=propagate.dtype, device=propagate.device)
        waves[torch.arange(len(r)), r, c] = 1.0
        out = multislice(waves, transmissions, propagate, exits)
        parts.append(torch.fft.ifft2(out))
    return ScatteringMatrix(
        grid, torch.cat(parts, dim=1), rows, cols, probe.semiangle, probe.energy, interpolation
    )


def _window(place: torch.Tensor, pixel: float, size: int, period: int) -> torch.Tensor:
    """(P, size) pixel indices of the window centred on each probe."""
    start = torch.round(place / pixel).long() - size // 2
    return (start[:, None] + torch.arange(size, device=place.device)) % period


def _k_reach(matrix: ScatteringMatrix) -> float:
    return Probe(matrix.energy, matrix.semiangle).k_reach
