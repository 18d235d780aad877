"""Structure factors F_g, potentials V_g and U_g of a crystal for many reflections at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import reciprocal_vectors
from diskern.crystal.phase_sums import phase_sums
from diskern.errors import DiskernError
from diskern.simulate.arrays import is_torch, like, namespace
from diskern.simulate.scattering import (
    Parametrization,
    electron_scattering_factor,
    extinction_distance,
    potential,
    reduced_potential,
)

CHUNK = 2**22
"""Reflection × atom products computed at a time (64 MB of complex128)."""


def structure_factors(
    crystal: Crystal,
    hkl: Any,
    parametrization: Parametrization = "peng",
    *,
    fractional: Any = None,
    u_iso: Any = None,
    lattice: Any = None,
) -> Any:
    """F_hkl = Σ occ f_e(g) exp(-2π² g·U·g) exp(-2πi h·r) in Å per cell, rest mass.

    Parameters
    ----------
    hkl : (..., 3) whole indices, a numpy array or a torch tensor; the answer is of that kind.
    fractional, u_iso, lattice : tensors that stand in for the crystal's own (N, 3) positions,
        (N,) ⟨u²⟩ in Å² and (3, 3) cell, for instance ones that require a gradient.

    Returns
    -------
    (...) complex128 (or complex64 for float32 tensors).
    """
    stands_in = any(a is not None for a in (fractional, u_iso, lattice))
    if not stands_in and crystal.u_aniso is None and _fill_their_box(hkl):
        return _separable_factors(crystal, np.asarray(hkl), parametrization)
    given = next((a for a in (fractional, u_iso, lattice, hkl) if is_torch(a)), None)
    reference = np.zeros(0) if given is None else given
    if given is not None and not given.is_floating_point():
        reference = given.double()
    h = like(hkl, reference)
    cell = like(crystal.lattice if lattice is None else lattice, reference)
    positions = like(crystal.fractional if fractional is None else fractional, reference)
    u = like(crystal.u_iso if u_iso is None else u_iso, reference)
    tensors = None if u_iso is not None or crystal.u_aniso is None else crystal.u_aniso
    flat = h.reshape(-1, 3)
    g = flat @ namespace(cell).linalg.inv(cell).T
    step = max(1, CHUNK // len(crystal))
    parts = [
        _sum_atoms(
            crystal, flat[i : i + step], g[i : i + step], positions, u, tensors, parametrization
        )
        for i in range(0, max(len(flat), 1), step)
    ]
    out = parts[0] if len(parts) == 1 else namespace(flat).concatenate(parts)
    return out.reshape(h.shape[:-1])


def _sum_atoms(
    crystal: Crystal,
    h: Any,
    g: Any,
    positions: Any,
    u_iso: Any,
    u_aniso: NDArray[np.float64] | None,
    parametrization: Parametrization,
) -> Any:
    xp = namespace(h)
    length = xp.sqrt((g * g).sum(-1))
    species, which = np.unique(crystal.numbers, return_inverse=True)
    factors = [electron_scattering_factor(int(z), length, parametrization) for z in species]
    weights = like(crystal.occupancy, h)
    if u_aniso is None:
        damping = (length * length)[:, None] * u_iso[None, :]
    else:
        damping = xp.einsum("pi,nij,pj->pn", g, like(u_aniso, h), g)
    amplitude = weights * xp.exp(-2 * math.pi**2 * damping)
    wave = amplitude * xp.exp(-2j * math.pi * (h @ positions.T))
    total = 0.0
    for i, f in enumerate(factors):
        total = total + f * wave[:, which == i].sum(-1)
    return total


def _fill_their_box(hkl: Any) -> bool:
    """Whether whole indices are so many within their bounds that all between come as cheap."""
    if is_torch(hkl):
        return False
    indices = np.asarray(hkl)
    if not (indices.size and np.issubdtype(indices.dtype, np.integer)):
        return False
    flat = indices.reshape(-1, 3)
    # A place in the box costs a hundredth of an exponential.
    return bool(np.prod(np.ptp(flat, 0) + 1.0) < 100 * len(flat))


def _separable_factors(
    crystal: Crystal, hkl: NDArray[np.int64], parametrization: Parametrization
) -> NDArray[np.complex128]:
    """The same sum for many (..., 3) reflections of an isotropic crystal."""
    low, high = (f(hkl.reshape(-1, 3), 0) for f in (np.min, np.max))
    axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    place = tuple(np.moveaxis(hkl - low, -1, 0))
    g = np.linalg.norm(hkl @ crystal.reciprocal, axis=-1)
    kinds, which = np.unique(
        np.stack([crystal.numbers, crystal.u_iso], 1), axis=0, return_inverse=True
    )
    F = np.zeros(g.shape, dtype=np.complex128)
    for i, (z, u) in enumerate(kinds):
        members = which.reshape(-1) == i
        total = phase_sums(crystal.fractional[members], crystal.occupancy[members], axes)
        factor = electron_scattering_factor(int(z), g, parametrization)
        F += factor * np.exp(-2 * math.pi**2 * u * g * g) * total[place]
    return F


@dataclass(frozen=True, eq=False, repr=False)
class Reflections:
    """Reflections of one crystal out to ``g_max``, without 000.

    Attributes
    ----------
    crystal : whose reflections these are.
    hkl : (P, 3) indices.
    g : (P, 3) reciprocal vectors in the crystal's cartesian frame, 1/Å.
    F : (P,) complex structure factors in Å per cell, rest mass.
    g_max : 1/Å.
    parametrization : the scattering-factor table.
    """

    crystal: Crystal
    hkl: NDArray[np.int64]
    g: NDArray[np.float64]
    F: NDArray[np.complex128]
    g_max: float
    parametrization: Parametrization

    @classmethod
    def of(
        cls, crystal: Crystal, g_max: float = 2.0, parametrization: Parametrization = "peng"
    ) -> Reflections:
        """All reflections with 0 < |g| ≤ ``g_max`` 1/Å, the extinct ones with F = 0.

        Raises
        ------
        DiskernError
            For a ``g_max`` that is not a positive number, or too large for the cell.
        """
        if not (math.isfinite(g_max) and g_max > 0):
            raise DiskernError(f"g_max={g_max} must be a positive number in 1/Å, e.g. 2.0")
        hkl, g = reciprocal_vectors(crystal, g_max)
        if not len(hkl):
            shortest = np.linalg.norm(crystal.reciprocal, axis=1).min()
            raise DiskernError(
                f"no reflection within g_max={g_max} 1/Å; raise it above {shortest:.3g}"
            )
        # Friedel: F(-g) = F(g)* because the free-atom factors are real.
        half = len(hkl) // 2
        F = np.empty(len(hkl), dtype=np.complex128)
        F[half:] = structure_factors(crystal, hkl[half:], parametrization)
        F[:half] = F[half:][::-1].conj()
        return cls(crystal, hkl, g, F, g_max, parametrization)

    def __len__(self) -> int:
        return len(self.F)

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """(P,) False where the structure factor vanishes."""
        size = np.abs(self.F)
        return np.asarray(size > 1e-6 * size.max())

    @cached_property
    def scattering(self) -> Reflections:
        """The reflections whose structure factor does not vanish."""
        return self.select(self.allowed)

    def select(self, keep: NDArray[np.bool_]) -> Reflections:
        """The reflections of a mask."""
        rows = np.flatnonzero(keep)
        return Reflections(
            self.crystal,
            self.hkl.take(rows, axis=0),
            self.g.take(rows, axis=0),
            self.F[rows],
            self.g_max,
            self.parametrization,
        )

    def V(self) -> NDArray[np.complex128]:
        """(P,) Fourier coefficients of the potential in V."""
        return np.asarray(potential(self.F, self.crystal.volume))

    def U(self, energy: float) -> NDArray[np.complex128]:
        """(P,) U_g = γ F_g/(π V) in 1/Å² at a beam energy in eV."""
        return np.asarray(reduced_potential(self.F, self.crystal.volume, energy))

    def extinction_distance(self, energy: float) -> NDArray[np.float64]:
        """(P,) ξ_g in Å, infinite for extinct reflections."""
        return np.asarray(extinction_distance(self.F, self.crystal.volume, energy))

    def __repr__(self) -> str:
        return f"Reflections({len(self)} of {self.crystal!r}, g ≤ {self.g_max:g} 1/Å)"


def mean_inner_potential(crystal: Crystal, parametrization: Parametrization = "lobato") -> float:
    """V_0 in V of the free-atom superposition (bonding lowers the real one by 5-15 %)."""
    f = structure_factors(crystal, np.zeros((1, 3)), parametrization)
    return float(potential(f, crystal.volume)[0].real)


def extinction_distances(
    crystal: Crystal,
    hkl: ArrayLike,
    energy: float,
    parametrization: Parametrization = "peng",
) -> NDArray[np.float64]:
    """(N,) two-beam extinction distances ξ_g in Å of (N, 3) reflections at an energy in eV."""
    F = structure_factors(crystal, np.atleast_2d(np.asarray(hkl)), parametrization)
    return np.asarray(extinction_distance(F, crystal.volume, energy))
