"""Two exact ways to propagate beams through a crystal: eigenvectors and Chebyshev series.

Both compute φ(t) = exp(2πi A t) φ(0) for many incident directions, of which only the diagonal
of A depends on the direction.  The eigen-solver costs N³ per direction; the Chebyshev series
(Tal-Ezer & Kosloff, J. Chem. Phys. 81 (1984) 3967, doi:10.1063/1.448136) is one N × N matrix
product per term, shared by all directions and all thicknesses, and its truncation error falls
faster than exponentially once the number of terms exceeds π t times the spectral width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from scipy.fft import dct

Solver = Literal["auto", "eigen", "chebyshev"]
BLOCK = 16
"""Chebyshev vectors gathered before they are added to all thicknesses at once."""
WAVES_HELD = 2 * BLOCK + 8
"""Vectors a direction that a Chebyshev series keeps, beside one for each thickness."""


@dataclass(frozen=True, eq=False)
class Dynamics:
    """The structure matrices A of K incident directions, in 1/Å.

    Attributes
    ----------
    diagonal : (K, N) excitation errors (complex where the crystal absorbs).
    coupling : (N, N) off-diagonal part U_{g-h}/2K_n of the central direction, zero diagonal.
    scale : (K,) by which the coupling of each direction differs from the central one (≈ 1).
    """

    diagonal: torch.Tensor
    coupling: torch.Tensor
    scale: torch.Tensor

    @property
    def absorbs(self) -> bool:
        """Whether A is not Hermitian."""
        return self.diagonal.is_complex()

    @property
    def real(self) -> bool:
        """Whether A is real symmetric."""
        return not (self.coupling.is_complex() or self.absorbs)

    @cached_property
    def spectrum(self) -> tuple[float, float]:
        """Centre and radius in 1/Å of an interval that holds the eigenvalues of every direction."""
        coupling = (self.coupling + self.coupling.mH) / 2
        edge = torch.linalg.eigvalsh(coupling)[[0, -1]] * self.scale.abs().max()
        diagonal = self.diagonal.real
        low = float(diagonal.min() + edge[0])
        high = float(diagonal.max() + edge[1])
        return (low + high) / 2, max((high - low) / 2, 1e-9) * 1.0001


def propagate(
    system: Dynamics,
    thicknesses: torch.Tensor,
    solver: Solver = "auto",
    tolerance: float = 1e-12,
) -> torch.Tensor:
    """(K, T, N) complex amplitudes at (T,) thicknesses in Å.

    ``tolerance`` bounds the truncation of the Chebyshev series; the eigen-solver is exact to
    rounding.  All of the wave enters in beam 0.
    """
    chosen = choose_solver(system, thicknesses) if solver == "auto" else solver
    if chosen == "eigen":
        return _by_eigenvectors(system, thicknesses)
    centre, sums = _by_chebyshev(system, thicknesses, tolerance)
    totals = [total.view(sums.shape) for total in sums.totals]
    waves = totals[0] if len(totals) == 1 else torch.complex(*totals)
    turn = torch.exp(2j * math.pi * centre * thicknesses.double()).to(waves.dtype)
    turned: torch.Tensor = waves * turn[:, None, None]
    return turned.permute(2, 0, 1)


def propagate_flux(
    system: Dynamics,
    thicknesses: torch.Tensor,
    solver: Solver = "auto",
    tolerance: float = 1e-12,
) -> torch.Tensor:
    """(K, T, N) squares of the amplitudes of `propagate`, without their phases."""
    chosen = choose_solver(system, thicknesses) if solver == "auto" else solver
    if chosen == "eigen":
        waves = propagate(system, thicknesses, chosen, tolerance)
        return waves.real**2 + waves.imag**2
    _, sums = _by_chebyshev(system, thicknesses, tolerance)
    total = sums.totals[0]
    if total.is_complex():
        flux = total.real**2 + total.imag**2
    else:
        flux = total.square_().addcmul_(sums.totals[1], sums.totals[1])
    return flux.view(sums.shape).permute(2, 0, 1)


def choose_solver(system: Dynamics, thicknesses: torch.Tensor) -> Literal["eigen", "chebyshev"]:
    """The cheaper solver, by counting operations."""
    directions, beams = system.diagonal.shape
    _, radius = system.spectrum
    terms = 2 * math.pi * radius * float(thicknesses.abs().max()) + 20
    # Diagonalising takes about 12 N³ (real), 30 N³ (complex) or 200 N³ (not Hermitian)
    # multiplications at the speed of a matrix product; a product with few columns is bound by
    # memory.
    eigen = beams * (12 if system.real else 200 if system.absorbs else 30)
    product = (2 if system.real else 8) * (1 if directions >= 8 else 6)
    return "chebyshev" if terms * product < eigen else "eigen"


def _by_eigenvectors(system: Dynamics, thicknesses: torch.Tensor) -> torch.Tensor:
    A = system.scale[:, None, None] * system.coupling[None]
    if system.absorbs and not A.is_complex():
        A = A.to(system.diagonal.dtype)
    A = A + torch.diag_embed(system.diagonal)
    if system.absorbs:
        values, vectors = torch.linalg.eig(A)
        entry = torch.zeros_like(system.diagonal)
        entry[:, 0] = 1
        excitation = torch.linalg.solve(vectors, entry.to(vectors.dtype))
    else:
        values, vectors = torch.linalg.eigh(A)
        excitation = vectors[:, 0, :].conj()
    # Phases reach hundreds of radians: float64 for them even where the vectors are float32.
    wide = torch.complex128
    phase = torch.exp(2j * math.pi * thicknesses.double()[None, :, None] * values.to(wide)[:, None])
    narrow = torch.complex64 if vectors.real.dtype == torch.float32 else wide
    waves: torch.Tensor = phase.to(narrow) * excitation.to(narrow)[:, None]
    return waves.matmul(vectors.to(narrow).mT)


def _by_chebyshev(
    system: Dynamics, thicknesses: torch.Tensor, tolerance: float
) -> tuple[float, _Sums]:
    """The waves (T, N, K) but for the phase exp(2πi c t), and c in 1/Å."""
    centre, radius = system.spectrum
    weights = _series(thicknesses, radius, tolerance)
    diagonal = ((system.diagonal.mT - centre) / radius).contiguous()
    coupling = system.coupling / radius
    dtype = torch.promote_types(coupling.dtype, diagonal.dtype)
    coupling, diagonal = coupling.to(dtype), diagonal.to(dtype)
    # A row per beam; the scale of each direction and the factor 2 of the recursion go along.
    twice = 2 * system.scale.to(diagonal.real.dtype)
    doubled = 2 * diagonal

    total = _Sums(len(thicknesses), diagonal)
    before = total.next()
    before.zero_()[0] = 1
    total.add(weights[0])
    now = total.next()
    torch.mm(coupling, before, out=now).mul_(system.scale).addcmul_(diagonal, before)
    for n in range(1, len(weights)):
        total.add(weights[n])
        if n + 1 < len(weights):
            after = total.next()
            torch.mm(coupling, now, out=after).mul_(twice).addcmul_(doubled, now).sub_(before)
            before, now = now, after
    total.finish()
    return centre, total


def _series(thicknesses: torch.Tensor, radius: float, tolerance: float) -> torch.Tensor:
    """(M, T) complex coefficients (2 - δ_n0) iⁿ J_n(2π r t), cut where all are negligible.

    They are the cosine series of exp(i x cos θ), so one cosine transform gives every order.
    """
    x = 2 * math.pi * radius * thicknesses.double().cpu().numpy()
    longest = float(np.abs(x).max(initial=0.0))
    count = int(longest + 12 * longest ** (1 / 3) + 40)
    wave = np.exp(1j * np.outer(x, np.cos(math.pi * (np.arange(count) + 0.5) / count)))
    series = dct(wave, type=2, axis=1).T / count
    series[0] /= 2
    series[np.abs(series) <= tolerance / 5] = 0
    count = int(np.flatnonzero(series.any(axis=1))[-1]) + 1
    return torch.as_tensor(series[:count].copy(), device=thicknesses.device)


class _Sums:
    """Σ_n c_n(t) v_n for all thicknesses, gathered in blocks so that it is a matrix product.

    Real vectors (a centrosymmetric crystal) stay real: c_n is real for even n and imaginary for
    odd n, so the even orders make the real part and the odd ones the imaginary part.

    Attributes
    ----------
    totals : one complex, or the real and the imaginary part; each (T, N K).
    shape : (T, N, K).
    """

    def __init__(self, count: int, like: torch.Tensor) -> None:
        self.shape = (count, *like.shape)
        parts = 1 if like.is_complex() else 2
        self.totals = [like.new_zeros((count, like.numel())) for _ in range(parts)]
        self.vectors = [like.new_empty((BLOCK, *like.shape)) for _ in range(parts)]
        self.weights: list[list[torch.Tensor]] = [[] for _ in range(parts)]
        self.added = 0

    def next(self) -> torch.Tensor:
        """Where the (N, K) vector of the next order is to be written; the last two stay whole."""
        part = self.added % len(self.totals)
        return self.vectors[part][len(self.weights[part])]

    def add(self, weights: torch.Tensor) -> None:
        """Count the vector written last with its (T,) weights."""
        part = self.added % len(self.totals)
        self.added += 1
        share = (
            weights if self.vectors[part].is_complex() else weights.imag if part else weights.real
        )
        self.weights[part].append(share.to(self.vectors[part].dtype))
        if len(self.weights[part]) == BLOCK:
            self._flush(part)

    def finish(self) -> None:
        """Add what is still gathered."""
        for part, waiting in enumerate(self.weights):
            if waiting:
                self._flush(part)

    def _flush(self, part: int) -> None:
        weights = torch.stack(self.weights[part], 1)
        self.weights[part] = []
        # Thin foils need no high orders; in an ascending series these are the first rows.
        needed = weights.any(dim=1).nonzero()
        if len(needed):
            some = slice(int(needed[0]), int(needed[-1]) + 1)
            vectors = self.vectors[part][: weights.shape[1]].flatten(1)
            self.totals[part][some].addmm_(weights[some], vectors)
