"""Measuring disks whose places are roughly known: Poisson fits of all disks of a block at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from diskern.bragg.disk_basis import count, recentred
from diskern.bragg.disk_fit import BACKGROUND, Step, Tables, gauss_newton, model
from diskern.bragg.disk_neighbours import beside, strongest
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_windows import Rim, Windows, windows_at
from diskern.bragg.disks import CONTRAST, Candidates, Disks, visibility_of

STEPS = 5
"""Gauss–Newton steps at most; the first with low orders only."""
TURNS = 8
"""Steps at most of disks that share pixels."""
WILD = 1e3
"""Times the largest count of its window that no part of a disk's model can be."""
SETTLED = 0.25
"""Standard uncertainties: a disk that moves by less has been measured."""
LOW = 2
"""Largest order of the first step, and of disks that show no finer contrast."""
HIGHEST = 6
"""Largest order of disks that do: fringes of a third of the diameter."""
FINER = 0.01
"""Posterior probability of the highest low order from which on higher ones are tried."""
CHUNK = 200_000
"""Pixels of the windows fitted together, about: they stay in the processor's cache."""
FLOOR, DARK = 0.05, 0.01
"""Least variance of a pixel inside and outside a disk, of the disk's mean level: the fringes of a
model may fall below 0, and no rim is known to the last percent."""
ALIKE = 0.06
"""Share of a disk's squared radius that a misfit well above noise has in common: fringes that no
polynomial follows do not average out like noise."""
BESIDE = 4.0
"""Pixels more where disks lie beside: what they are taken to draw is wrong all over them."""
BORROWED = 0.5
"""Share of what other disks draw on a pixel that is taken as unknown: flexible disks on top of each
other, each fitted to what the others leave, would pass their errors on and run away."""


def refine_disks(
    patterns: NDArray[np.float32],
    probe: Probe,
    candidates: Candidates,
    *,
    mask: NDArray[np.bool_] | None = None,
    orders: int | None = None,
    contrast: bool = False,
    start: float | None = None,
) -> Disks:
    """Position, intensity and their covariance for every candidate, in the order given.

    Disks that overlap are fitted together: each step takes what the others draw from the counts.
    Uncertainties come from the fit and grow with its reduced chi-square where it exceeds one.

    Parameters
    ----------
    patterns : (B, H, W) electrons.
    probe : its shape.
    candidates : sorted by pattern; starts good to about 1 px or a quarter of the radius.
    mask : (H, W) True where a pixel may be used.
    orders : largest order of the polynomial inside a disk; chosen from the radius by default.
    contrast : whether to tell what the polynomials are, for those who read them.
    start : rms error in radii of the candidates' places, which then count as a measurement: where
        fringes of neighbours leave the place open it holds, and what is strong knows better.
    """
    if len(candidates) == 0:
        return Disks.empty()
    rim = Rim.of(probe)
    highest = orders if orders is not None else order_of(probe.radius)
    reach = rim.extent + max(2.0, 0.1 * probe.radius)
    low, full = (Tables.of(probe.radius, reach, min(highest, n)) for n in (LOW, highest))
    distance = reach + rim.extent + probe.edge
    near = beside(candidates.pattern, candidates.row, candidates.col, distance)
    alike = ALIKE * probe.radius**2
    size = max(1, CHUNK // len(low.row))
    parts, places = [], []
    for together in (False, True):
        chosen = np.flatnonzero(near == together)
        for first, stop in _chunks(candidates.pattern[chosen], together, size):
            place = chosen[first:stop]
            part = candidates.select(place)
            middle, fits = _refine_chunk(
                patterns, mask, part, rim, (low, full), together, distance, start
            )
            made = _as_disks(part, middle, fits, alike + BESIDE * together)
            if contrast:
                made = replace(made, contrast=_contrast(fits, rim.radius))
            parts.append(made)
            places.append(place)
    return Disks.concatenate(parts).select(np.argsort(np.concatenate(places)))


def order_of(radius: float) -> int:
    """Largest order tried inside a disk; evidence, not this, keeps smooth disks smooth."""
    return HIGHEST if radius >= 2 else LOW


def _colours(part: Candidates, distance: float) -> torch.Tensor:
    """(N,) numbers, no two alike within a distance."""
    colour = np.full(len(part), -1)
    tint = 0
    while (left := np.flatnonzero(colour < 0)).size:
        rank = part.probability[left]
        chosen = strongest(
            part.pattern[left], part.row[left], part.col[left], rank, distance, len(left)
        )
        colour[left[chosen]] = tint
        tint += 1
    return torch.from_numpy(colour)


def _chunks(pattern: NDArray[np.int64], whole: bool, size: int) -> list[tuple[int, int]]:
    """Ranges of about ``size`` disks, of whole patterns if need be."""
    total = len(pattern)
    if not whole:
        return [(n, min(n + size, total)) for n in range(0, total, size)]
    ends = np.append(np.nonzero(np.diff(pattern))[0] + 1, total)
    chunks, start = [], 0
    for i, stop in enumerate(ends):
        if total and (i + 1 == len(ends) or ends[i + 1] - start > size):
            chunks.append((start, int(stop)))
            start = int(stop)
    return chunks


@dataclass(eq=False)
class Fits:
    """State of the fit of N disks.

    Attributes
    ----------
    position : (N, 2) px in the window.
    linear : (N, 6 + m) background and polynomial.
    covariance : (N, 2, 2) px².
    weights : (N, order + 1) posterior probability of every degree.
    flux, variance : (N,) intensity.
    chi2 : (N,) reduced, of the model before the last step.
    drift : px², variance of the disks about where they began.
    """

    position: torch.Tensor
    linear: torch.Tensor
    covariance: torch.Tensor
    weights: torch.Tensor
    flux: torch.Tensor
    variance: torch.Tensor
    chi2: torch.Tensor
    drift: float

    @classmethod
    def start(
        cls, position: torch.Tensor, linear: torch.Tensor, highest: int, drift: float
    ) -> Self:
        """Before the first step; room for polynomials up to the highest degree."""
        n, size = len(position), BACKGROUND + count(highest)
        wide = linear.new_zeros(n, size)
        wide[:, : linear.shape[1]] = linear
        none = linear.new_zeros(n)
        covariance = linear.new_zeros(n, 2, 2)
        weights = linear.new_zeros(n, highest + 1)
        flux, variance, chi2 = none, none.clone(), none.clone()
        return cls(position.clone(), wide, covariance, weights, flux, variance, chi2, drift)

    def put(self, at: torch.Tensor, step: Step, chi2: torch.Tensor) -> None:
        """What a step found, but for the move."""
        self.linear[at, : step.linear.shape[1]] = step.linear
        self.covariance[at] = step.covariance
        self.weights[at] = 0
        self.weights[at, : step.weights.shape[1]] = step.weights
        self.flux[at], self.variance[at], self.chi2[at] = step.flux, step.variance_flux, chi2


def _refine_chunk(
    patterns: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    part: Candidates,
    rim: Rim,
    tables: tuple[Tables, Tables],
    together: bool,
    distance: float,
    start: float | None,
) -> tuple[NDArray[np.int64], Fits]:
    """Fits of some disks, each alone or all together, and the middles of their windows."""
    place = np.stack([part.row, part.col], 1)
    middle = np.clip(np.rint(place).astype(np.int64), 0, np.array(patterns.shape[1:]) - 1)
    windows = windows_at(patterns, mask, part.pattern, middle, tables[0])
    colour = _colours(part, distance) if together else None
    origin = torch.from_numpy(place - middle)
    variance = math.inf if start is None else (start * rim.radius) ** 2
    return middle, _fit(windows, rim, tables, origin, colour, variance)


def _fit(
    windows: Windows,
    rim: Rim,
    tables: tuple[Tables, Tables],
    origin: torch.Tensor,
    colour: torch.Tensor | None,
    variance: float,
) -> Fits:
    """All steps: those that show fine contrast go on with all orders, those settled stop.

    ``colour`` numbers disks that share pixels, so that no two of one number do.
    """
    low, full = tables
    level, linear = _first_guess(windows, rim, low, origin)
    fits = Fits.start(origin, linear, full.order, variance)
    every = torch.arange(len(origin))
    if colour is not None:
        _sweep(fits, windows, rim, low, level, origin, None, colour)
    else:
        _move(fits, every, windows, rim, low, level, origin, None, None)
    habit, fine = _habit(fits.weights[:, : low.order + 1], full.order)
    if colour is not None:
        table = full if bool(fine.any()) else low
        for _ in range(TURNS):
            if not _sweep(fits, windows, rim, table, level, origin, habit, colour):
                break
        return fits
    groups = ((every[~fine], low), (every[fine], full))
    for member, table in groups if full.order > low.order else ((every, low),):
        at = member
        for _ in range(STEPS - 1):
            if len(at) == 0:
                break
            here = windows if len(at) == len(every) else windows.select(at)
            step = _move(fits, at, here, rim, table, level[at], origin[at], habit, None)
            at = at[_moving(step)]
    return fits


def _moving(step: Step) -> torch.Tensor:
    """(N,) whether a disk still moves by more than its uncertainty allows."""
    sigma = step.covariance.diagonal(dim1=1, dim2=2).sqrt()
    return (step.shift.abs() > SETTLED * sigma).any(1)


def _sweep(
    fits: Fits,
    windows: Windows,
    rim: Rim,
    tables: Tables,
    level: torch.Tensor,
    origin: torch.Tensor,
    habit: torch.Tensor | None,
    colour: torch.Tensor,
) -> bool:
    """One step of every disk, neighbours one after the other; whether any still moves.

    Two that share pixels and step at once would both take what is too much, and never settle.
    """
    size = BACKGROUND + count(tables.order)
    canvas = torch.zeros(windows.pixels)

    def draw(at: torch.Tensor, index: torch.Tensor, sign: float) -> None:
        S = rim(tables, fits.position[at])[0]
        inner = model(tables, S, fits.linear[at, :size])[0]
        canvas.index_add_(0, index.reshape(-1), (S * inner).view(-1), alpha=sign)

    draw(torch.arange(len(origin)), windows.index, 1.0)
    moving = False
    for tint in range(int(colour.max()) + 1):
        at = torch.nonzero(colour == tint)[:, 0]
        here = windows.select(at)
        draw(at, here.index, -1.0)
        step = _move(fits, at, here, rim, tables, level[at], origin[at], habit, canvas)
        draw(at, here.index, 1.0)
        moving = moving or bool(_moving(step).any())
    return moving


def _move(
    fits: Fits,
    at: torch.Tensor,
    windows: Windows,
    rim: Rim,
    tables: Tables,
    level: torch.Tensor,
    origin: torch.Tensor,
    habit: torch.Tensor | None,
    others: torch.Tensor | None,
) -> Step:
    """One step of the disks ``at``, whose windows, levels and origins these are.

    ``others`` are the counts of all other disks on the padded patterns.
    """
    size, limit = BACKGROUND + count(tables.order), max(1.5, 0.4 * rim.radius)
    position, linear = fits.position[at], fits.linear[at, :size]
    shape = rim(tables, position)
    inner, _, expected = model(tables, shape[0], linear)
    floor = level[:, None] * (DARK + (FLOOR - DARK) * shape[0]) + 0.02
    if others is None:
        variance = torch.maximum(expected, floor)
    else:
        borrowed = others[windows.index]
        expected = expected + borrowed
        variance = torch.maximum(expected, floor) + (BORROWED * borrowed) ** 2
    residual = windows.counts - expected
    weight = windows.valid / variance
    drift = (position - origin, fits.drift)
    step = gauss_newton(residual, weight, shape, inner, linear, tables, habit, drift)
    step = _tamed(step, windows)
    free = windows.valid.sum(1) - 2 - BACKGROUND - count(tables.order)
    chi2 = (residual * residual * weight).sum(1) / free.clamp(min=1)
    fits.put(at, step, chi2.double())
    moved = position + step.shift.clamp(-1, 1)
    fits.position[at] = origin + (moved - origin).clamp(-limit, limit)
    return step


def _tamed(step: Step, windows: Windows) -> Step:
    """Nothing, where overlapping disks drive each other beyond all that was counted.

    Such a disk is drawn as nothing and may begin again; its neighbours never see it.
    """
    most = (windows.counts * windows.valid).amax(1).double()
    size = step.linear.abs().amax(1)
    wild = ~(torch.isfinite(step.shift).all(1) & (size < WILD * (most + 1)))
    if not bool(wild.any()):
        return step
    kept = (getattr(step, f.name) for f in fields(Step))
    return Step(*(torch.where(wild.view(-1, *[1] * (x.dim() - 1)), 0.0, x) for x in kept))


def _habit(weights: torch.Tensor, order: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the disks have in common: whether the specimen draws inside them.

    Strong disks tell what the weak ones cannot.

    Returns
    -------
    (order + 1,) logarithm of the share of disks of every degree, and (N,) which may be finer
    than these degrees show.
    """
    share = torch.full((weights.shape[1],), 1 / weights.shape[1], dtype=weights.dtype)
    posterior = weights
    for _ in range(8):
        posterior = weights * share
        posterior = posterior / posterior.sum(1, keepdim=True).clamp(min=1e-30)
        share = (posterior.sum(0) + 0.5) / (len(weights) + 0.5 * len(share))
    beyond = share[-1:].expand(order + 1 - len(share))
    return torch.cat([share, beyond]).log(), posterior[:, -1] > FINER


def _first_guess(
    windows: Windows, rim: Rim, tables: Tables, position: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) mean level inside the disks, and (N, 6 + m) uniform disks on flat backgrounds."""
    S = rim(tables, position)[0]
    inside = (S > 0.7) * windows.valid
    outside = (S < 0.1) * windows.valid
    level = (windows.counts * inside).sum(1) / inside.sum(1).clamp(min=1)
    ground = (windows.counts * outside).sum(1) / outside.sum(1).clamp(min=1)
    linear = torch.zeros(len(level), BACKGROUND + count(tables.order), dtype=torch.float64)
    linear[:, 0] = ground
    linear[:, BACKGROUND] = (level - ground).clamp(min=1e-3)
    return level, linear


def _as_disks(part: Candidates, middle: NDArray[np.int64], fits: Fits, alike: float) -> Disks:
    """Columns of what was fitted; misfits have ``alike`` pixels in common."""
    centre = fits.position.numpy().astype(np.float64) + middle
    excess = np.maximum(fits.chi2.numpy() - 1, 0)
    grow = 1 + excess * (1 + alike * (1 - 1 / (1 + excess)))
    covariance = fits.covariance.numpy() * grow[:, None, None]
    flux = fits.flux.numpy()
    sigma = np.sqrt(np.maximum(fits.variance.numpy() * grow, 1e-30))
    return Disks(
        pattern=part.pattern,
        row=centre[:, 0],
        col=centre[:, 1],
        intensity=flux,
        sigma_row=np.sqrt(covariance[:, 0, 0]),
        sigma_col=np.sqrt(covariance[:, 1, 1]),
        covariance=covariance[:, 0, 1],
        sigma_intensity=sigma,
        background=fits.linear[:, 0].numpy().astype(np.float64),
        chi2=fits.chi2.numpy(),
        order=fits.weights.argmax(1).numpy(),
        visibility=visibility_of(flux / sigma),
        v_g=part.v_g,
        sigma_v_g=part.sigma_v_g,
        q_z=part.q_z,
        sigma_q_z=part.sigma_q_z,
        contrast=np.zeros((len(part), CONTRAST)),
    )


def _contrast(fits: Fits, radius: float) -> NDArray[np.float64]:
    """(N, `CONTRAST`) polynomials inside the disks about their centres, of the mean level."""
    offset = fits.position.numpy().astype(np.float64) / radius
    inner = recentred(fits.linear[:, BACKGROUND:].double().numpy(), offset)
    level = np.maximum(inner[:, :1], 1e-9)
    out = np.zeros((len(inner), CONTRAST))
    out[:, : inner.shape[1] - 1] = np.clip(inner[:, 1:] / level, -10, 10)
    return out
