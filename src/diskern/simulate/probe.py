"""The electron probe: an aperture, its aberrations, where it stands on the specimen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from diskern.errors import DiskernError
from diskern.physics import check_energy, wavelength
from diskern.simulate.multislice_grid import Grid

ApertureShape = Literal["round", "annular", "bullseye", "square"]


@dataclass(frozen=True)
class Aberrations:
    """Coefficients of the aberration function χ, lengths in Å, angles in degrees.

    χ(α, φ) = (2π/λ) [ ½ α² (C1 + A1 cos 2(φ − φ_A1)) + ⅓ α³ B2 cos(φ − φ_B2) + ¼ C3 α⁴ + ⅙ C5 α⁶ ]
    with the wave multiplied by exp(−iχ) (Krivanek, Dellby & Lupini, Ultramicroscopy 78 (1999) 1,
    DOI 10.1016/S0304-3991(99)00013-3).

    Attributes
    ----------
    defocus : the crossover lies this far in Å *below* the entrance face (C1 = −defocus), > 0
        for a probe that still converges when it enters.
    c3, c5 : spherical aberration in Å (1 mm = 1e7 Å).
    astigmatism, astigmatism_angle : twofold astigmatism A1 and the direction of its maximum.
    coma, coma_angle : axial coma B2, written so that χ holds B2 α³/3, and its direction.
    """

    defocus: float = 0.0
    c3: float = 0.0
    c5: float = 0.0
    astigmatism: float = 0.0
    astigmatism_angle: float = 0.0
    coma: float = 0.0
    coma_angle: float = 0.0

    def phase(self, k_y: torch.Tensor, k_x: torch.Tensor, lam: float) -> torch.Tensor:
        """χ in radians at transverse wave numbers in 1/Å, for a wavelength in Å."""
        angle, azimuth = lam * torch.hypot(k_y, k_x), torch.atan2(k_y, k_x)
        twofold = torch.cos(2 * (azimuth - math.radians(self.astigmatism_angle)))
        onefold = torch.cos(azimuth - math.radians(self.coma_angle))
        path = (
            angle**2 / 2 * (-self.defocus + self.astigmatism * twofold)
            + angle**3 / 3 * self.coma * onefold
            + angle**4 / 4 * self.c3
            + angle**6 / 6 * self.c5
        )
        return 2 * math.pi / lam * path

    @property
    def any(self) -> bool:
        """Whether anything departs from a flat phase."""
        return any((self.defocus, self.c3, self.c5, self.astigmatism, self.coma))


@dataclass(frozen=True)
class Probe:
    """A focused beam.

    Attributes
    ----------
    energy : in eV.
    semiangle : convergence half-angle in mrad; 0 is a parallel beam.
    shape : of the condenser aperture.  ``annular`` is open from ``inner`` to 1; ``bullseye`` has
        ``rings`` opaque rings cut by four spokes inside an open rim (after Zeltmann et al.,
        Ultramicroscopy 209 (2020) 112890, DOI 10.1016/j.ultramic.2019.112890); ``square`` has
        the half-edge ``semiangle``.
    inner : inner radius of ``annular`` as a fraction of the semiangle.
    rings : opaque rings of ``bullseye``.
    aberrations : what the wave's phase suffers.
    """

    energy: float
    semiangle: float = 0.0
    shape: ApertureShape = "round"
    inner: float = 0.5
    rings: int = 2
    aberrations: Aberrations = field(default_factory=Aberrations)

    def __post_init__(self) -> None:
        check_energy(self.energy)
        if not 0 <= self.semiangle <= 200:
            raise DiskernError(f"semiangle={self.semiangle} mrad is outside 0 to 200 mrad")
        if self.shape not in get_args(ApertureShape):
            choices = ", ".join(get_args(ApertureShape))
            raise DiskernError(f"aperture shape {self.shape!r} is not known; choose from {choices}")
        if not 0 <= self.inner < 1:
            raise DiskernError(f"inner={self.inner} must be a fraction of the semiangle in [0, 1)")

    @property
    def k_semiangle(self) -> float:
        """Radius of the aperture in 1/Å."""
        return self.semiangle * 1e-3 / wavelength(self.energy)

    @property
    def k_reach(self) -> float:
        """Largest wave number in 1/Å that the aperture lets through."""
        return self.k_semiangle * (math.sqrt(2) if self.shape == "square" else 1.0)


def aperture_coverage(
    probe: Probe, k_y: torch.Tensor, k_x: torch.Tensor, pixel: tuple[float, float]
) -> torch.Tensor:
    """Open fraction in [0, 1] of the reciprocal pixels centred on (k_y, k_x) (1/Å).

    Edges are soft over one pixel, (dk_y, dk_x) = ``pixel``, so that the summed coverage is the
    area of the aperture and a disk of a few pixels keeps its radius.
    """
    radius = torch.hypot(k_y, k_x)
    unit_y, unit_x = k_y / radius.clamp_min(1e-30), k_x / radius.clamp_min(1e-30)
    # Width of a pixel along the radius.
    width = torch.hypot(unit_y * pixel[0], unit_x * pixel[1]).clamp_min(1e-30)
    edge = probe.k_semiangle

    def within(limit: float) -> torch.Tensor:
        return torch.clamp((limit - radius) / width + 0.5, 0, 1)

    if probe.shape == "square":
        rows = torch.clamp((edge - k_y.abs()) / pixel[0] + 0.5, 0, 1)
        cols = torch.clamp((edge - k_x.abs()) / pixel[1] + 0.5, 0, 1)
        return rows * cols
    if probe.shape == "annular":
        return within(edge) - (within(edge * probe.inner) if probe.inner > 0 else 0.0)
    if probe.shape == "bullseye":
        return _bullseye(probe, radius, unit_y, unit_x, within)
    return within(edge)


def _bullseye(
    probe: Probe,
    radius: torch.Tensor,
    unit_y: torch.Tensor,
    unit_x: torch.Tensor,
    within: Callable[[float], torch.Tensor],
) -> torch.Tensor:
    # Open disc and rings alternate with opaque rings, each one band wide.
    band = probe.k_semiangle / (2 * probe.rings + 1)
    opaque = torch.zeros_like(radius)
    for ring in range(probe.rings):
        opaque = opaque + within((2 * ring + 2) * band) - within((2 * ring + 1) * band)
    # Four bridges along the diagonals hold the opaque rings and are themselves opaque over the
    # open ones, save the rim, as in a milled aperture.
    across = torch.minimum((unit_y - unit_x).abs(), (unit_y + unit_x).abs()) * radius / 2**0.5
    bridge = (across < band / 6) & (radius > band) & (radius < 2 * probe.rings * band)
    return torch.clamp(within(probe.k_semiangle) - torch.maximum(opaque, bridge.to(opaque)), 0, 1)


def probe_wave(
    probe: Probe,
    grid: Grid,
    positions: torch.Tensor | None = None,
    *,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Probe waves in reciprocal space.

    Parameters
    ----------
    positions : (B, 2) of (y, x) in Å on the grid; the middle of the grid by default.

    Returns
    -------
    (B, ny, nx) complex128 in FFT order; each |ψ(k)|² sums to 1.

    Raises
    ------
    DiskernError
        Where the grid cannot carry the aperture.
    """
    if probe.k_reach > grid.k_max:
        raise DiskernError(
            f"semiangle={probe.semiangle} mrad needs {probe.k_reach:.3g} 1/Å but the grid carries "
            f"{grid.k_max:.3g} 1/Å; use finer pixels"
        )
    k_y, k_x = grid.wave_numbers(device)
    amplitude = torch.sqrt(_sampled_aperture(probe, grid, device))
    amplitude = amplitude / torch.linalg.norm(amplitude)
    wave = torch.polar(amplitude, -probe.aberrations.phase(k_y, k_x, wavelength(probe.energy)))
    if positions is None:
        positions = torch.tensor([[e / 2 for e in grid.extent]], dtype=torch.float64)
    place = positions.to(device=device, dtype=torch.float64)
    shift = k_y[None] * place[:, 0, None, None] + k_x[None] * place[:, 1, None, None]
    return wave[None] * torch.exp(-2j * math.pi * shift)


def _sampled_aperture(probe: Probe, grid: Grid, device: torch.device | None) -> torch.Tensor:
    k_y, k_x = grid.mesh(device)
    pixel = 1 / grid.extent[0], 1 / grid.extent[1]
    if probe.semiangle == 0:
        coverage = torch.zeros(grid.shape, dtype=torch.float64, device=device)
        coverage[0, 0] = 1.0
        return coverage
    coverage = aperture_coverage(probe, k_y, k_x, pixel)
    if not coverage.any():
        raise DiskernError(
            f"semiangle={probe.semiangle} mrad lies between the samples of a {grid.extent} Å "
            "box; use 0 for a parallel beam or a larger box"
        )
    return coverage
