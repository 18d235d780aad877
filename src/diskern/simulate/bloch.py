"""Dynamical diffraction of a perfect crystal by Bloch waves.

Conventions: ψ = Σ_g ψ_g exp(2πi (K+g)·r), beam along +z, foil surfaces normal to z.  With
K_n = K_z and M_g = (1 + g_z/K_n)^(-1/2) the beams φ_g = ψ_g/M_g obey dφ/dz = 2πi A φ,
A_gg = M_g² s'_g and A_gh = M_g M_h U_{g-h}/2K_n, with s'_g = (K² - |K+g|²)/2K_n.  |φ_g|² is the
flux that leaves in beam g; without absorption the fluxes sum to one.  See De Graef,
Introduction to Conventional TEM (2003), ch. 5.  The mean inner potential only turns the common
phase (refraction at the entrance face, 1e-4 of K, is left out).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import check_energy, wavelength
from diskern.simulate.bloch_beams import Beams, select_beams
from diskern.simulate.bloch_solvers import (
    WAVES_HELD,
    Dynamics,
    Solver,
    choose_solver,
    propagate,
    propagate_flux,
)
from diskern.simulate.excitation import excitation_errors
from diskern.simulate.saed_options import Absorption, SaedOptions, check_absorption, check_thickness
from diskern.simulate.scattering import Parametrization
from diskern.simulate.spot_pattern import SpotPattern

MEMORY = 2**25
"""Complex numbers held at a time while directions are worked through in chunks."""


@dataclass(frozen=True)
class BlochOptions:
    """Which beams a Bloch-wave calculation keeps, and how it solves.

    Attributes
    ----------
    g_max : largest |g| in 1/Å.  With beams to 2 1/Å the direct beam at 100 to 200 Å comes within
        0.1 % of its limit in Si [001], 1 % in [011], 1.5 % in [111] and 2 % in ZnS [001].
    s_max : largest excitation error in 1/Å.  Far Laue zones n and -n shift the strong beams in
        opposite senses, so a value that takes in one of the two is worse than one that takes in
        neither: Si [011], where they begin at 0.26 1/Å, is 4 % off at 0.25, 2 % at 0.15 and
        0.1 % at 0.4.
    parametrization : scattering-factor table.
    absorption : imaginary over real part of the potential (about 0.05 to 0.1); or "thermal", the
        loss to thermal diffuse scattering that the crystal's own displacements cause, see
        `diskern.simulate.thermal_absorption`; or None.
    solver : "eigen", "chebyshev", or "auto" for the cheaper; both are exact for the beams kept.
    oversample : directions per pixel and axis of convergent patterns, or None for enough to
        follow the fringes of the thickest foil.
    dtype : "float64" (rounding 1e-12) or "float32" (1e-5, twice as quick).
    device : torch device.
    """

    g_max: float = 2.0
    s_max: float = 0.06
    parametrization: Parametrization = "peng"
    absorption: Absorption = None
    solver: Solver = "auto"
    oversample: int | None = None
    dtype: str = "float64"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("g_max", "s_max"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise DiskernError(f"{name}={value} must be a positive number in 1/Å")
        check_absorption(self.absorption)
        if self.oversample is not None and not 1 <= self.oversample <= 8:
            raise DiskernError(f"oversample={self.oversample} must be 1 to 8 directions per pixel")
        if self.dtype not in ("float64", "float32"):
            raise DiskernError(f"dtype={self.dtype!r} is unknown; use float64 or float32")
        if self.solver not in ("auto", "eigen", "chebyshev"):
            raise DiskernError(f"solver={self.solver!r} is unknown; use auto, eigen or chebyshev")


class BlochWaves:
    """One crystal in one orientation, ready for any thickness and incident direction.

    Parameters
    ----------
    crystal, orientation : the structure and its rotation crystal → lab.
    energy : eV.
    options : `BlochOptions`.
    k_reach : largest transverse wave vector in 1/Å of the incident directions to come; widens
        the choice of beams accordingly.
    hkl : (N, 3) use exactly these reflections beside the direct beam (a two-beam case, say).

    Attributes
    ----------
    beams : the `Beams`, direct beam first.
    """

    def __init__(
        self,
        crystal: Crystal,
        orientation: Rotation,
        energy: float = 200e3,
        options: BlochOptions | None = None,
        *,
        k_reach: float = 0.0,
        hkl: ArrayLike | None = None,
    ) -> None:
        self.options = options or BlochOptions()
        self.energy = check_energy(energy)
        self.wavelength = wavelength(energy)
        self.beams: Beams = select_beams(
            crystal,
            orientation,
            self.energy,
            g_max=self.options.g_max,
            s_max=self.options.s_max,
            k_reach=k_reach,
            parametrization=self.options.parametrization,
            thermal=self.options.absorption == "thermal",
            hkl=None if hkl is None else np.asarray(hkl, dtype=np.int64),
        )
        self.name = crystal.name or crystal.formula

    def __len__(self) -> int:
        return len(self.beams)

    def __repr__(self) -> str:
        kind = "complex" if np.iscomplexobj(self.beams.U) else "real"
        return (
            f"BlochWaves({self.name}: {len(self)} beams, {kind} coupling, {self.energy / 1e3:g} kV)"
        )

    def system(self, k_transverse: ArrayLike | None = None) -> Dynamics:
        """Structure matrices for (K, 2) transverse wave vectors (k_x, k_y) in 1/Å.

        The symmetrising factors M_g of the coupling are those of the mean direction; their
        change over the beam's cone is of the order g_z k_t²/K³ and below 1e-6.
        """
        k_t = np.zeros((1, 2)) if k_transverse is None else np.asarray(k_transverse, dtype=float)
        k_t = k_t.reshape(-1, 2)
        K = 1 / self.wavelength
        if not (np.isfinite(k_t).all() and (k_t**2).sum(1).max() < 0.25 * K * K):
            raise DiskernError("incident directions must lie within 30° of the foil normal")
        K_n = np.sqrt(K * K - (k_t**2).sum(1))
        g = self.beams.g
        M2 = 1 / (1 + g[None, :, 2] / K_n[:, None])
        diagonal: NDArray[Any] = self.excitation_errors(k_t) * M2
        middle = float(K_n.mean())
        M = 1 / np.sqrt(1 + g[:, 2] / middle)
        weight = M[:, None] * M / (2 * middle)
        coupling: NDArray[Any] = self.beams.U * weight
        lost = self._lost(coupling, weight)
        if lost is not None:
            diagonal = diagonal + 1j * lost.diagonal().real
            coupling = coupling + 1j * lost
        coupling = coupling - np.diag(coupling.diagonal())
        return Dynamics(self._tensor(diagonal), self._tensor(coupling), self._tensor(middle / K_n))

    def excitation_errors(self, k_transverse: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, N) s'_g of every beam in 1/Å for (K, 2) transverse wave vectors."""
        g, K = self.beams.g, 1 / self.wavelength
        K_n = np.sqrt(K * K - (k_transverse**2).sum(1))[:, None]
        along = k_transverse @ g[:, :2].T + K_n * g[:, 2]
        return np.asarray(-(2 * along + (g**2).sum(1)) / (2 * K_n))

    def _lost(self, coupling: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any] | None:
        """(N, N) absorptive coupling in 1/Å, or None."""
        if self.beams.absorbed is not None:
            return np.asarray(self.beams.absorbed * weight)
        fraction = self.options.absorption
        return coupling * fraction if isinstance(fraction, float | int) and fraction else None

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        single = self.options.dtype == "float32"
        if np.iscomplexobj(array):
            dtype = torch.complex64 if single else torch.complex128
        else:
            dtype = torch.float32 if single else torch.float64
        return torch.as_tensor(array, dtype=dtype, device=self.options.device)

    @property
    def tolerance(self) -> float:
        """Bound on the error of an amplitude for the beams that are kept."""
        return 1e-6 if self.options.dtype == "float32" else 1e-13

    def solver(self, thicknesses: ArrayLike, k_transverse: ArrayLike | None = None) -> str:
        """Which solver "auto" takes for these thicknesses and directions."""
        t = self._tensor(_thicknesses(thicknesses))
        return choose_solver(self.system(k_transverse), t)

    def amplitudes(
        self, thicknesses: ArrayLike, k_transverse: ArrayLike | None = None
    ) -> torch.Tensor:
        """(K, T, N) complex φ_g whose squares are fluxes, for T thicknesses in Å."""
        return self._in_chunks(propagate, thicknesses, k_transverse)

    def intensities(
        self, thicknesses: ArrayLike, k_transverse: ArrayLike | None = None
    ) -> torch.Tensor:
        """(K, T, N) fluxes as fractions of the incident beam; sum over N is 1 unless absorbed."""
        return self._in_chunks(propagate_flux, thicknesses, k_transverse)

    def _in_chunks(
        self,
        solve: Callable[[Dynamics, torch.Tensor, Solver, float], torch.Tensor],
        thicknesses: ArrayLike,
        k_transverse: ArrayLike | None,
    ) -> torch.Tensor:
        t = torch.as_tensor(_thicknesses(thicknesses), device=self.options.device)
        k_t = np.zeros((1, 2)) if k_transverse is None else np.asarray(k_transverse, float)
        k_t = k_t.reshape(-1, 2)
        solver, held = self.options.solver, max(len(self), len(t))
        whole = self.system(k_t)
        if solver == "auto":
            solver = choose_solver(whole, t)
        if solver == "chebyshev":
            held = len(t) + WAVES_HELD
        step = max(8, MEMORY // (len(self) * held))
        parts = [
            solve(
                whole if step >= len(k_t) else self.system(k_t[i : i + step]),
                t,
                solver,
                self.tolerance,
            )
            for i in range(0, len(k_t), step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def spots(
        self,
        thicknesses: ArrayLike,
        *,
        precession_angle: float | None = None,
        min_intensity: float = 0.0,
    ) -> list[SpotPattern]:
        """Spot patterns at each thickness in Å, the direct beam in ``direct``.

        Parameters
        ----------
        precession_angle : average over a beam that precesses at this angle in mrad.
        min_intensity : leave out what is weaker than this share of the strongest reflection.
        """
        t = _thicknesses(thicknesses)
        ring = None
        if precession_angle is not None:
            ring = precession_ring(self.beams.g, self.wavelength, precession_angle, float(t.max()))
        mean = self.intensities(t, ring).mean(0).double().cpu().numpy()
        s = excitation_errors(self.beams.g, self.wavelength)
        made = []
        for thickness, flux in zip(t.tolist(), mean, strict=True):
            order = np.argsort(-flux[1:], kind="stable") + 1
            order = order[flux[order] > min_intensity * flux[order[:1]].sum()]
            made.append(
                SpotPattern(
                    self.beams.hkl[order],
                    self.beams.g[order, :2],
                    s[order],
                    flux[order],
                    self.energy,
                    thickness,
                    float(flux[0]),
                )
            )
        return made


def precession_ring(
    g: NDArray[np.float64], lam: float, angle: float, thickness: float
) -> NDArray[np.float64]:
    """(K, 2) transverse wave vectors in 1/Å of a beam precessing at ``angle`` mrad.

    The azimuth steps are small enough that the excitation error of every beam changes by less
    than half a thickness fringe between them.
    """
    radius = math.sin(angle * 1e-3) / lam
    reach = float(np.linalg.norm(g[:, :2], axis=1).max(initial=0.0))
    sweep = 2 * math.pi * reach * math.sin(angle * 1e-3) * thickness
    count = int(min(720, max(24, 2 * math.ceil(sweep / 2))))
    azimuth = 2 * math.pi * (np.arange(count) + 0.5) / count
    return radius * np.stack([np.cos(azimuth), np.sin(azimuth)], 1)


def saed_bloch(
    crystal: Crystal,
    orientation: Rotation,
    energy: float,
    g_max: float,
    thickness: float | None,
    options: SaedOptions,
) -> SpotPattern:
    """The dynamical counterpart of `simulate_saed`, same arguments."""
    if thickness is None:
        raise DiskernError("method='bloch' needs a thickness in Å; add e.g. thickness=200")
    check_thickness(thickness)
    bloch = BlochOptions(
        g_max=g_max,
        parametrization=options.parametrization,
        absorption=options.absorption,
    )
    if options.max_excitation_error is not None:
        bloch = replace(bloch, s_max=options.max_excitation_error)
    tilt = options.precession_angle
    reach = 0.0 if tilt is None else math.sin(tilt * 1e-3) / wavelength(check_energy(energy))
    waves = BlochWaves(crystal, orientation, energy, bloch, k_reach=reach)
    found = waves.spots(thickness, precession_angle=tilt, min_intensity=options.min_intensity)
    return found[0]


def _thicknesses(values: ArrayLike) -> NDArray[np.float64]:
    t = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if t.ndim != 1 or not len(t) or not np.isfinite(t).all() or t.min() < 0 or t.max() > 1e6:
        raise DiskernError(f"thickness={values!r} must be one or more numbers in Å, 0 to 1e6")
    return t
