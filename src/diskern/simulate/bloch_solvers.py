"""Two exact ways to propagate beams through a crystal: eigenvectors and Chebyshev series.

Both compute φ(t) = exp(2πi A t) φ(0) for many incident directions, of which only the diagonal
of A depends on the direction.  The eigen-solver costs N³ per direction; the Chebyshev series
(Tal-Ezer & Kosloff, J. Chem. Phys. 81 (1984) 3967, doi:10.1063/1.448136) is one N × N matrix
product per term, shared by all directions and all thicknesses, and its truncation error falls
faster than exponentially once the number of terms exceeds π t times the spectral width.

Where the crystal absorbs, the eigenvalues leave the real axis, terms of the series grow beyond
their sum, and rounding with them.  A thick foil is then crossed in steps (`LOST`), the mean
absorption is taken out of each, and the interval is wider than the spectrum (`MARGIN`): it is
at the ends of the interval that the terms grow most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.fft import dct

Solver = Literal["auto", "eigen", "chebyshev"]
BLOCK = 16
"""Chebyshev vectors gathered before they are added to all thicknesses at once."""
WAVES_HELD = 2 * BLOCK + 8
"""Vectors a direction that a Chebyshev series keeps, beside one for each thickness."""
LOST = 4.0
"""Largest range of -ln of the amplitudes over one step through a crystal that absorbs."""
MARGIN = 1.1
"""Width of the interval of a crystal that absorbs over that of its spectrum."""


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
    def spectrum(self) -> Spectrum:
        """A rectangle of the complex plane that holds the eigenvalues of every direction."""
        low, high = self._edges((self.coupling + self.coupling.mH) / 2, self.diagonal.real)
        if not self.absorbs:
            return Spectrum((low + high) / 2, 0.0, max((high - low) / 2, 1e-9) * 1.0001, math.inf)
        lost = (self.coupling - self.coupling.mH) / 2j
        least, most = self._edges(lost, self.diagonal.imag)
        height = max((most - least) / 2, 1e-12)
        radius = max(MARGIN * (high - low) / 2, height, 1e-9)
        step = LOST / (2 * math.pi * 2 * height)
        return Spectrum((low + high) / 2, (least + most) / 2, radius, step)

    def _edges(self, coupling: torch.Tensor, diagonal: torch.Tensor) -> tuple[float, float]:
        edge = torch.linalg.eigvalsh(coupling)[[0, -1]] * self.scale.abs().max()
        return float(diagonal.min() + edge[0]), float(diagonal.max() + edge[1])


class Spectrum(NamedTuple):
    """Where eigenvalues are, in 1/Å.

    Attributes
    ----------
    centre, absorption : real and imaginary part of the middle.
    radius : of the interval that a Chebyshev series is for.
    step : largest thickness in Å that one series may cross.
    """

    centre: float
    absorption: float
    radius: float
    step: float


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
    parts = _by_chebyshev(system, thicknesses, tolerance)
    waves = parts[0] if len(parts) == 1 else torch.complex(*parts)
    turn = torch.exp(2j * math.pi * system.spectrum.centre * thicknesses.double()).to(waves.dtype)
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
    parts = _by_chebyshev(system, thicknesses, tolerance)
    if parts[0].is_complex():
        flux = parts[0].real ** 2 + parts[0].imag ** 2
    else:
        flux = parts[0].square_().addcmul_(parts[1], parts[1])
    return flux.permute(2, 0, 1)


def choose_solver(system: Dynamics, thicknesses: torch.Tensor) -> Literal["eigen", "chebyshev"]:
    """The cheaper solver, by counting operations."""
    directions, beams = system.diagonal.shape
    longest = float(thicknesses.abs().max())
    steps = math.ceil(max(longest / system.spectrum.step, 1))
    terms = 2 * math.pi * system.spectrum.radius * longest + 20 * steps
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
) -> list[torch.Tensor]:
    """The waves (T, N, K) but for the phase exp(2πi c t): complex, or real and imaginary part."""
    step = system.spectrum.step
    longest = float(thicknesses.max())
    if longest <= step:
        return _one_step(system, thicknesses, tolerance, None)
    number = (torch.ceil(thicknesses / step).long() - 1).clamp(min=0)
    found: dict[int, torch.Tensor] = {}
    start = None
    for n in range(int(number.max()) + 1):
        mine = (number == n).nonzero()[:, 0]
        whole = torch.full_like(thicknesses[:1], step)
        (waves,) = _one_step(
            system, torch.cat([thicknesses[mine] - n * step, whole]), tolerance, start
        )
        found.update(zip(mine.tolist(), waves, strict=False))
        start = waves[-1]
    return [torch.stack([found[i] for i in range(len(thicknesses))])]


def _one_step(
    system: Dynamics, thicknesses: torch.Tensor, tolerance: float, start: torch.Tensor | None
) -> list[torch.Tensor]:
    """The same behind thicknesses that one series may cross, from (N, K) waves before them.

    Without ``start`` all of the wave is in beam 0.
    """
    centre, absorption, radius, _ = system.spectrum
    weights = _series(thicknesses, radius, tolerance)
    middle = complex(centre, absorption) if system.absorbs else centre
    diagonal = ((system.diagonal.mT - middle) / radius).contiguous()
    coupling = system.coupling / radius
    dtype = torch.promote_types(coupling.dtype, diagonal.dtype)
    coupling, diagonal = coupling.to(dtype), diagonal.to(dtype)
    # A row per beam; the scale of each direction and the factor 2 of the recursion go along.
    twice = 2 * system.scale.to(diagonal.real.dtype)
    doubled = 2 * diagonal

    total = _Sums(len(thicknesses), diagonal)
    before = total.next()
    if start is None:
        before.zero_()[0] = 1
    else:
        before.copy_(start)
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
    parts = [part.view(total.shape) for part in total.totals]
    if absorption:
        left = torch.exp(-2 * math.pi * absorption * thicknesses.double())
        for part in parts:
            part.mul_(left.to(part.real.dtype)[:, None, None])
    return parts


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
