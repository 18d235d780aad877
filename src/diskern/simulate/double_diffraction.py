"""Twice-scattered beams: the second Born order lights up kinematically extinct reflections."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diskern.crystal.crystal import Crystal
from diskern.physics import wavelength
from diskern.simulate.arrays import index_like, is_torch, like, namespace, to_numpy
from diskern.simulate.scattering import Parametrization, reduced_potential
from diskern.simulate.structure_factors import structure_factors


def second_order(
    crystal: Crystal,
    hkl: Any,
    s_g: Any,
    energy: float,
    thickness: float,
    parametrization: Parametrization = "peng",
) -> Any:
    """Intensities that twice-scattered waves give to extinct reflections of a parallel foil.

    ψ_g = (iπλ)² Σ_h U_{g-h} U_h ∫∫_{z' < z} exp 2πi [s_g (t-z) + s_h (z-z')] dz' dz, the outer
    integral by Gauss-Legendre quadrature.  The sum is coherent, so extinctions that double
    diffraction cannot break (Gjønnes & Moodie 1965) stay.  Allowed reflections are left at
    first order: their own correction of this size needs the third order too.

    Parameters
    ----------
    hkl : (B, N, 3) reflections of each pattern, all zero where padded.
    s_g : (B, N) excitation errors in 1/Å.
    thickness : Å.

    Returns
    -------
    (B, N) |ψ_g|² as fractions of the incident beam, 0 for allowed reflections and padding.
    """
    xp = namespace(s_g)
    real = (hkl != 0).any(2)
    direct, between = _coupling(crystal, hkl, s_g, energy, parametrization)
    first = direct * real
    size = abs(first)
    extinct = real & (size <= 1e-6 * size.max()) if math.prod(s_g.shape) else real
    strength = math.pi * wavelength(energy)
    reach = float(abs(s_g).max()) * thickness if math.prod(s_g.shape) else 0.0
    nodes, weights = np.polynomial.legendre.leggauss(int(min(256, 12 + 8 * reach)))
    z = like((nodes + 1) * thickness / 2, s_g)
    w = like(weights * thickness / 2, s_g)
    s = s_g[..., None]
    inner = z * xp.sinc(s * z) * xp.exp(1j * math.pi * s * z)
    arriving = between @ (first[..., None] * inner)
    leaving = w * xp.exp(2j * math.pi * s * (thickness - z))
    twice = -(strength**2) * (leaving * arriving).sum(-1)
    return abs(twice) ** 2 * extinct


def _coupling(
    crystal: Crystal, hkl: Any, reference: Any, energy: float, parametrization: Parametrization
) -> tuple[Any, Any]:
    """(B, N) U_g and (B, N, N) U_{g-h} in 1/Å², zero for g = h."""
    whole = to_numpy(hkl).astype(np.int64)
    bound = 2 * np.abs(whole).max((0, 1)) if whole.size else np.zeros(3, dtype=np.int64)
    strides = np.array([(2 * bound[1] + 1) * (2 * bound[2] + 1), 2 * bound[2] + 1, 1])
    key = whole @ strides
    origin = int(bound @ strides)
    apart = key[:, :, None] - key[:, None, :] + origin
    size = int(np.prod(2 * bound + 1))
    needed = np.zeros(size, dtype=bool)
    needed[apart.ravel()] = True
    needed[(key + origin).ravel()] = True
    needed[origin] = False
    flat = np.flatnonzero(needed)
    indices = np.stack(np.unravel_index(flat, tuple(2 * bound + 1)), 1) - bound
    F = structure_factors(crystal, indices, parametrization)
    table = np.zeros(size, dtype=np.complex128)
    table[flat] = reduced_potential(F, crystal.volume, energy)
    if is_torch(reference):
        import torch

        dtype = torch.promote_types(reference.dtype, torch.complex64)
        values = torch.as_tensor(table, dtype=dtype, device=reference.device)
        return values[index_like(key + origin, hkl)], values[index_like(apart, hkl)]
    return table[key + origin], table[apart]
