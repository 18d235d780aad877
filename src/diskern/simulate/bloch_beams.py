"""Which beams take part in dynamical diffraction, and how strongly they couple."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import reciprocal_vectors
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.excitation import excitation_errors
from diskern.simulate.scattering import Parametrization, reduced_potential
from diskern.simulate.structure_factors import structure_factors
from diskern.simulate.thermal_absorption import absorptive_structure_factors

MOST_BEAMS = 4000
"""Coupling matrices above this size are refused (4000² complex128 are 256 MB)."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Coupling = NDArray[np.float64] | NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Beams:
    """Plane waves of one crystal in one orientation, the direct beam first.

    Attributes
    ----------
    hkl : (N, 3) indices in the crystal's own cell.
    g : (N, 3) reciprocal vectors in the lab frame, 1/Å.
    U : (N, N) coupling U_{g-h} in 1/Å², Hermitian; real where the crystal has a centre of
        inversion, with the origin moved there.
    absorbed : (N, N) U'_{g-h} in 1/Å² of thermal diffuse scattering, about the same origin, or
        None where it is not asked for.
    origin : (3,) the point of the crystal in Å that U refers to, in the lab frame.
    """

    hkl: Ints
    g: Floats
    U: Coupling
    absorbed: Coupling | None = None
    origin: Floats = field(default_factory=lambda: np.zeros(3))

    def __len__(self) -> int:
        return len(self.hkl)


def select_beams(
    crystal: Crystal,
    orientation: Rotation,
    energy: float,
    *,
    g_max: float,
    s_max: float,
    k_reach: float = 0.0,
    parametrization: Parametrization = "peng",
    thermal: bool = False,
    hkl: Ints | None = None,
) -> Beams:
    """Beams within ``g_max`` whose excitation error stays within ``s_max`` for some direction.

    Parameters
    ----------
    g_max, s_max : in 1/Å.
    k_reach : largest transverse wave vector of the incident beam in 1/Å.
    thermal : also find the coupling by which thermal diffuse scattering absorbs.
    hkl : (N, 3) exactly these reflections (indices of ``crystal``) beside the direct beam.

    Raises
    ------
    DiskernError
        Where more than 4000 beams would take part.
    """
    # Reflections that a centring extinguishes never take part; chosen ones are taken as they are.
    cell = crystal.primitive() if hkl is None else crystal
    to_own = np.linalg.inv(crystal.reciprocal)
    if hkl is None:
        indices, g = reciprocal_vectors(cell, g_max)
        lam = wavelength(energy)
        lab = orientation.apply(g) if len(g) else np.zeros((0, 3))
        slack = (
            lam * k_reach * np.linalg.norm(lab[:, :2], axis=1)
            + abs(lab[:, 2]) * (lam * k_reach) ** 2
        )
        indices = indices[np.abs(excitation_errors(lab, lam)) <= s_max + slack]
        own = np.rint(indices @ cell.reciprocal @ to_own).astype(np.int64)
    else:
        own = np.asarray(hkl, dtype=np.int64).reshape(-1, 3)
        own = own[own.any(axis=1)]
    if len(own) >= MOST_BEAMS:
        raise DiskernError(
            f"{len(own)} beams take part; lower g_max={g_max} or s_max={s_max} 1/Å, or use "
            "method='multislice'"
        )
    g_own = own @ crystal.reciprocal
    order = np.lexsort((own[:, 2], own[:, 1], own[:, 0], np.linalg.norm(g_own, axis=1).round(9)))
    own = np.concatenate([np.zeros((1, 3), dtype=np.int64), own[order]])
    small = np.rint(own @ crystal.reciprocal @ np.linalg.inv(cell.reciprocal)).astype(np.int64)
    U, absorbed, origin = coupling(cell, small, energy, parametrization, thermal=thermal)
    g = orientation.apply(own @ crystal.reciprocal)
    return Beams(own, g, U, absorbed, orientation.apply(origin))


def coupling(
    crystal: Crystal,
    hkl: Ints,
    energy: float,
    parametrization: Parametrization,
    *,
    thermal: bool = False,
) -> tuple[Coupling, Coupling | None, Floats]:
    """(N, N) matrices U_{g-h} and U'_{g-h} in 1/Å² of (N, 3) beams; U_0 on the diagonal.

    The third is the point of the crystal, (3,) cartesian in Å, that they refer to.
    """
    low, span = hkl.min(0) - hkl.max(0), 2 * (hkl.max(0) - hkl.min(0)) + 1
    strides = np.array([span[1] * span[2], span[2], 1])
    # Key of a difference = difference of keys, so the N² differences are never formed.
    key = hkl @ strides
    keys = key[:, None] - key[None, :] - int(low @ strides)
    needed = np.zeros(int(np.prod(span)), dtype=bool)
    needed[keys.ravel()] = True
    flat = np.flatnonzero(needed)
    differences = np.stack(np.unravel_index(flat, tuple(span)), 1) + low
    F = structure_factors(crystal, differences, parametrization)
    centre = _inversion_centre(crystal, differences, F)

    def matrix(factors: NDArray[np.complex128]) -> Coupling:
        kept: Coupling = factors
        if centre is not None:
            kept = (factors * np.exp(2j * math.pi * (differences @ centre))).real
        table = np.zeros(len(needed), dtype=kept.dtype)
        table[flat] = reduced_potential(kept, crystal.volume, energy)
        return np.asarray(table[keys])

    origin = np.zeros(3) if centre is None else centre @ crystal.lattice
    if not thermal:
        return matrix(F), None, origin
    absorbed = absorptive_structure_factors(crystal, differences, energy, parametrization)
    return matrix(F), matrix(absorbed), origin


def _inversion_centre(crystal: Crystal, hkl: Ints, F: NDArray[np.complex128]) -> Floats | None:
    """A centre of inversion in fractional coordinates, or None where there is none.

    With the origin there F is real.  The crystal's own origin is tried first; a centre lies
    half-way between two atoms of the rarest element.  Real matrices are several times quicker to
    diagonalise and multiply; intensities do not depend on the origin.
    """
    numbers, amount = np.unique(crystal.numbers, return_counts=True)
    rare = crystal.fractional[crystal.numbers == numbers[amount.argmin()]]
    size = np.abs(F).max()
    for centre in (np.zeros(3), *(rare[0] + rare[:64]) / 2):
        moved = F * np.exp(2j * math.pi * (hkl @ centre))
        if np.abs(moved.imag).max() <= 1e-10 * size:
            return np.asarray(centre)
    return None
