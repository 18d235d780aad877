"""Absorption by thermal diffuse scattering: what leaves the Bragg beams because atoms move.

Einstein atoms with Debye-Waller factor exp(-M(q)), M = 2π²⟨u²⟩q², scatter diffusely between the
beams.  By the optical theorem that is an imaginary part of their scattering factor,

    f'(g) = (γλ/2) ∫ d²q f(q) f(g - q) [exp(-M(g)) - exp(-M(q) - M(g - q))],

over the plane of small angles: Hall & Hirsch, Proc. R. Soc. A286 (1965) 158; Bird & King, Acta
Cryst. A46 (1990) 202, doi:10.1107/S0108767389011906.  Weickenmeier & Kohl, Acta Cryst. A47 (1991)
590, doi:10.1107/S0108767391004804, solve the same integral in closed form for their own fit of
f; here it is done by quadrature, for whatever table is in use.  Losses to core electrons and
plasmons are not in it: their scattering stays within the disks unless it is filtered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import lorentz_factor, wavelength
from diskern.simulate.scattering import Parametrization, electron_scattering_factor

Floats = NDArray[np.float64]

_STEP = 0.2
"""1/Å between the g at which the integral is done; between them a spline is read."""
_RADII, _ANGLES = 96, 48
_MIDDLE = 1.5
"""1/Å: half of the radial nodes lie closer to the middle."""


def absorptive_factor(
    Z: int,
    g: Floats,
    u_iso: float,
    energy: float,
    parametrization: Parametrization = "peng",
) -> Floats:
    """Absorptive scattering factor f' in Å, its thermal damping included.

    Parameters
    ----------
    Z : atomic number.
    g : |g| in 1/Å, any shape.
    u_iso : ⟨u²⟩ in Å² along one axis; 0 absorbs nothing.
    energy : eV.

    Returns
    -------
    f' of the shape of ``g``.  Multiply by γ like the elastic factor.
    """
    length = np.asarray(g, dtype=np.float64)
    if u_iso <= 0 or not length.size:
        return np.zeros(length.shape)
    # Whole numbers keep the cache small.
    nodes = max(8, math.ceil(float(length.max()) / _STEP) + 1)
    spline = _spline(int(Z), float(u_iso), parametrization, nodes)
    scale = lorentz_factor(energy) * wavelength(energy) / 2
    return np.asarray(scale * spline(length))


def absorptive_structure_factors(
    crystal: Crystal,
    hkl: NDArray[np.int64],
    energy: float,
    parametrization: Parametrization = "peng",
) -> NDArray[np.complex128]:
    """(P,) Σ occ f'(g) exp(-2πi h·r) in Å per cell of (P, 3) reflections.

    Anisotropic atoms absorb like isotropic ones of the same mean ⟨u²⟩.

    Raises
    ------
    DiskernError
        Where every atom is at rest, which would absorb nothing without a word.
    """
    u = crystal.u_iso
    if crystal.u_aniso is not None:
        u = np.trace(crystal.u_aniso, axis1=1, axis2=2) / 3
    if not (u > 0).any():
        raise DiskernError(
            "absorption='thermal' needs atoms that move; give displacements, e.g. "
            "crystal.with_u_iso(0.006)"
        )
    g = np.linalg.norm(hkl @ crystal.reciprocal, axis=1)
    kinds, which = np.unique(np.stack([crystal.numbers, u], 1), axis=0, return_inverse=True)
    total = np.zeros(len(hkl), dtype=np.complex128)
    for i, (z, square) in enumerate(kinds):
        mine = which.reshape(-1) == i
        waves = np.exp(-2j * math.pi * (hkl @ crystal.fractional[mine].T))
        factor = absorptive_factor(int(z), g, float(square), energy, parametrization)
        total += factor * (waves @ crystal.occupancy[mine])
    return total


@lru_cache(maxsize=256)
def _spline(
    Z: int, u_iso: float, parametrization: Parametrization, nodes: int
) -> Callable[[Floats], Floats]:
    """The integral of the module's heading, in Å² · 1/Å² and without γλ/2, as a function of g."""
    factor = _tabulated_factor(Z, parametrization)
    g = np.arange(nodes) * _STEP
    spline: Callable[[Floats], Floats] = CubicSpline(
        g, [_integral(factor, one, u_iso) for one in g.tolist()], bc_type=("clamped", "not-a-knot")
    )
    return spline


@lru_cache(maxsize=128)
def _tabulated_factor(Z: int, parametrization: Parametrization) -> Callable[[Floats], Floats]:
    """f(q) in Å, quick for very many q: f q² is smooth up to infinity in x = q/(1 + q)."""
    x = np.linspace(0, 1, 1024, endpoint=False)
    q = x / (1 - x)
    smooth = CubicSpline(x, electron_scattering_factor(Z, q, parametrization) * (1 + q * q))

    def factor(q: Floats) -> Floats:
        return np.asarray(smooth(q / (1 + q)) / (1 + q * q))

    return factor


def _integral(factor: Callable[[Floats], Floats], g: float, u_iso: float) -> float:
    """∫ d²q about the middle q = g/2 + p: p in rings, one quadrant for four."""
    x, weight_x = _gauss_legendre(_RADII)
    turn, weight_t = _gauss_legendre(_ANGLES)
    p = _MIDDLE * x / (1 - x)
    ring = 4 * p * weight_x * _MIDDLE / (1 - x) ** 2
    square = (p**2 + g * g / 4)[:, None]
    cross = g * p[:, None] * np.cos(math.pi / 2 * turn)
    both = factor(np.sqrt(square + cross)) * factor(np.sqrt(np.maximum(square - cross, 0)))
    mean = both @ weight_t * (math.pi / 2)
    thermal = 2 * math.pi**2 * u_iso
    left = math.exp(-thermal * g * g) - np.exp(-thermal * (2 * p**2 + g * g / 2))
    return float((ring * mean * left).sum())


@cache
def _gauss_legendre(count: int) -> tuple[Floats, Floats]:
    """Nodes and weights on (0, 1)."""
    x, weights = np.polynomial.legendre.leggauss(count)
    return (x + 1) / 2, weights / 2
