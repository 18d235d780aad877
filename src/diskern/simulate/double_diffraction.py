"""Twice-scattered beams: the second Born order lights up kinematically extinct reflections."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal
from diskern.physics import wavelength
from diskern.simulate.arrays import index_like, is_torch, like, namespace, to_numpy, zeros
from diskern.simulate.scattering import Parametrization, reduced_potential
from diskern.simulate.structure_factors import structure_factors

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


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
    out = zeros(tuple(s_g.shape), s_g)
    key, box = _keys(to_numpy(hkl))
    potentials = partial(_potentials, crystal, box, energy=energy, parametrization=parametrization)
    first = potentials(key) * (key != 0)
    # Waves go from the allowed beams to the extinct ones that any of them leads to.
    size = np.abs(first)
    weak = size <= 1e-6 * size.max(initial=0.0)
    source, sends = _true_first(~weak)
    target, lit = _true_first(weak & (key != 0))
    rows = np.arange(len(key))[:, None]
    between = potentials(key[rows, target][:, :, None] - key[rows, source][:, None])
    leads = np.abs(between) > 1e-6 * size.max(initial=0.0)
    lit &= (leads & sends[:, None]).any(2)
    reached, lit = _true_first(lit)
    if not lit.size:
        return out
    target = index_like(target[rows, reached], s_g)
    start = _complex_like(first[rows, source] * sends, s_g)
    between = _complex_like(between[rows, reached], s_g)
    source, rows = index_like(source, s_g), index_like(rows, s_g)
    reach = float(abs(s_g).max()) * thickness
    twice = _twice_scattered(start, between, s_g[rows, source], s_g[rows, target], thickness, reach)
    strength = (math.pi * wavelength(energy)) ** 2
    out[rows, target] = abs(strength * twice) ** 2 * like(lit, s_g)
    return out


def _twice_scattered(
    start: Any, between: Any, s_source: Any, s_target: Any, thickness: float, reach: float
) -> Any:
    """(B, E) double integrals of U_{g-h} U_h over the foil.

    Parameters
    ----------
    start : (B, A) U_h of the beams that send, with their excitation errors ``s_source``.
    between : (B, E, A) U_{g-h} to the beams that receive, with theirs ``s_target``.
    reach : largest |s| t, which decides the number of nodes.
    """
    xp = namespace(s_source)
    nodes, weights = np.polynomial.legendre.leggauss(int(min(256, 12 + 8 * reach)))
    z = like((nodes + 1) * thickness / 2, s_source)
    w = like(weights * thickness / 2, s_source)
    s = s_source[..., None]
    inner = z * xp.sinc(s * z) * xp.exp(1j * math.pi * s * z)
    arriving = between @ (start[..., None] * inner)
    leaving = w * xp.exp(2j * math.pi * s_target[..., None] * (thickness - z))
    return (leaving * arriving).sum(-1)


def _true_first(mask: Bools) -> tuple[Ints, Bools]:
    """(B, M) places of the true entries of each row, padded, and which of them are true."""
    most = int(mask.sum(1).max(initial=0))
    place = np.argsort(~mask, axis=1, kind="stable")[:, :most]
    return place, np.take_along_axis(mask, place, 1)


def _keys(hkl: Ints) -> tuple[Ints, Ints]:
    """(B, N) numbers of the reflections, 0 for 000, and the sizes (3,) of the box they count.

    Differences of numbers are the numbers of differences.
    """
    box = 4 * np.array([np.abs(hkl[..., d]).max(initial=0) for d in range(3)]) + 1
    h, k, m = np.moveaxis(hkl, -1, 0)
    return (h * box[1] + k) * box[2] + m, box


def _potentials(
    crystal: Crystal, box: Ints, key: Ints, energy: float, parametrization: Parametrization
) -> NDArray[np.complex128]:
    """(...) U_g in 1/Å² of numbered reflections with many repeats."""
    origin = int(np.prod(box)) // 2
    place = key + origin
    needed = np.zeros(2 * origin + 1, dtype=bool)
    needed[place.ravel()] = True
    flat = np.flatnonzero(needed)
    indices = np.stack(np.unravel_index(flat, tuple(box)), 1) - box // 2
    table = np.zeros(len(needed), dtype=np.complex128)
    F = structure_factors(crystal, indices, parametrization)
    table[flat] = reduced_potential(F, crystal.volume, energy)
    return np.asarray(table[place])


def _complex_like(values: NDArray[np.complex128], reference: Any) -> Any:
    if not is_torch(reference):
        return values
    import torch

    dtype = torch.promote_types(reference.dtype, torch.complex64)
    return torch.as_tensor(values, dtype=dtype, device=reference.device)
