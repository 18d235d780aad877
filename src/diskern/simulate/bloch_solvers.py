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
from typing import Literal

import numpy as np
import torch
from scipy.special import jv

Solver = Literal["auto", "eigen", "chebyshev"]
BLOCK = 16
"""Chebyshev vectors gathered before they are added to all thicknesses at once."""


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


def propagate(
    system: Dynamics, thicknesses: torch.Tensor, solver: Solver = "auto", tolerance: float = 1e-12
) -> torch.Tensor:
    """(K, T, N) complex amplitudes at (T,) thicknesses in Å, the wave entering in beam 0.

    ``tolerance`` bounds the truncation of the Chebyshev series; the eigen-solver is exact to
    rounding.
    """
    chosen = choose_solver(system, thicknesses) if solver == "auto" else solver
    if chosen == "eigen":
        return _by_eigenvectors(system, thicknesses)
    return _by_chebyshev(system, thicknesses, tolerance)


def choose_solver(system: Dynamics, thicknesses: torch.Tensor) -> Literal["eigen", "chebyshev"]:
    """The cheaper solver, by counting operations."""
    directions, beams = system.diagonal.shape
    _, radius = spectrum(system)
    terms = 2 * math.pi * radius * float(thicknesses.abs().max()) + 20
    # Diagonalising takes about 12 N³ (real), 30 N³ (complex) or 200 N³ (not Hermitian)
    # multiplications at the speed of a matrix product; a product with few columns is bound by
    # memory.
    eigen = beams * (12 if system.real else 200 if system.absorbs else 30)
    product = (2 if system.real else 8) * (1 if directions >= 8 else 6)
    return "chebyshev" if terms * product < eigen else "eigen"


def spectrum(system: Dynamics) -> tuple[float, float]:
    """Centre and radius in 1/Å of an interval that holds the eigenvalues of every direction."""
    edge = torch.linalg.eigvalsh(_hermitian(system.coupling))[[0, -1]] * system.scale.abs().max()
    diagonal = system.diagonal.real
    low = float(diagonal.min() + edge[0])
    high = float(diagonal.max() + edge[1])
    return (low + high) / 2, max((high - low) / 2, 1e-9) * 1.0001


def _hermitian(matrix: torch.Tensor) -> torch.Tensor:
    symmetric: torch.Tensor = (matrix + matrix.mH) / 2
    return symmetric


def _by_eigenvectors(system: Dynamics, thicknesses: torch.Tensor) -> torch.Tensor:
    A = system.scale[:, None, None] * system.coupling[None]
    if system.absorbs and not A.is_complex():
        A = A.to(system.diagonal.dtype)
    A = A + torch.diag_embed(system.diagonal)
    if system.absorbs:
        values, vectors = torch.linalg.eig(A)
        entry = torch.zeros_like(A[..., :1])
        entry[:, 0] = 1
        excitation = torch.linalg.solve(vectors, entry)[..., 0]
    else:
        values, vectors = torch.linalg.eigh(A)
        excitation = vectors[:, 0, :].conj()
    # Phases reach hundreds of radians: float64 for them even where the vectors are float32.
    wide = torch.complex128
    phase = torch.exp(2j * math.pi * thicknesses.double()[None, :, None] * values.to(wide)[:, None])
    narrow = torch.complex64 if vectors.real.dtype == torch.float32 else wide
    waves: torch.Tensor = phase.to(narrow) * excitation.to(narrow)[:, None]
    return waves.matmul(vectors.to(narrow).mT)


def _by_chebyshev(system: Dynamics, thicknesses: torch.Tensor, tolerance: float) -> torch.Tensor:
    centre, radius = spectrum(system)
    weights = _series(thicknesses, radius, tolerance)
    diagonal = (system.diagonal.mT - centre) / radius
    coupling = system.coupling / radius
    dtype = torch.promote_types(coupling.dtype, diagonal.dtype)
    coupling, diagonal = coupling.to(dtype), diagonal.to(dtype)
    shape = diagonal.shape

    def apply(v: torch.Tensor) -> torch.Tensor:
        return (coupling @ v) * system.scale + diagonal * v

    before = torch.zeros(shape, dtype=dtype, device=diagonal.device)
    before[0] = 1
    now = apply(before)
    total = _Sums(len(thicknesses), before)
    total.add(weights[0], before)
    for n in range(1, len(weights)):
        total.add(weights[n], now)
        before, now = now, 2 * apply(now) - before
    waves = total.finished()
    turn = torch.exp(2j * math.pi * centre * thicknesses.double()).to(waves.dtype)
    turned: torch.Tensor = waves * turn[:, None, None]
    return turned.permute(2, 0, 1)


def _series(thicknesses: torch.Tensor, radius: float, tolerance: float) -> torch.Tensor:
    """(M, T) complex coefficients (2 - δ_n0) iⁿ J_n(2π r t), cut where all are negligible."""
    x = 2 * math.pi * radius * thicknesses.double().cpu().numpy()
    longest = float(np.abs(x).max(initial=0.0))
    orders = np.arange(int(longest + 12 * longest ** (1 / 3) + 40))
    values = jv(orders[:, None], x[None, :])
    kept = np.flatnonzero(np.abs(values).max(1) > tolerance / 10)
    count = int(kept[-1]) + 1 if len(kept) else 1
    series = values[:count] * np.array([1, 1j, -1, -1j])[orders[:count] % 4][:, None]
    series[1:] *= 2
    return torch.as_tensor(series, device=thicknesses.device)


class _Sums:
    """Σ_n c_n(t) v_n for all thicknesses, gathered in blocks so that it is a matrix product.

    Real vectors (a centrosymmetric crystal) stay real: even orders make the real part, odd ones
    the imaginary part.
    """

    def __init__(self, count: int, like: torch.Tensor) -> None:
        self.shape = (count, *like.shape)
        size = (count, like.numel())
        parts = 1 if like.is_complex() else 2
        self.totals = [like.new_zeros(size) for _ in range(parts)]
        self.vectors: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []

    def add(self, weights: torch.Tensor, vector: torch.Tensor) -> None:
        self.vectors.append(vector.reshape(-1))
        self.weights.append(weights)
        if len(self.vectors) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        stack, weights = torch.stack(self.vectors), torch.stack(self.weights, 1)
        shares = [weights] if stack.is_complex() else [weights.real, weights.imag]
        for total, share in zip(self.totals, shares, strict=True):
            total.addmm_(share.to(stack.dtype), stack)
        self.vectors, self.weights = [], []

    def finished(self) -> torch.Tensor:
        if self.vectors:
            self._flush()
        total = self.totals[0] if len(self.totals) == 1 else torch.complex(*self.totals)
        return total.reshape(self.shape)
