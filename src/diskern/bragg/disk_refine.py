"""Measuring disks whose places are roughly known: Poisson fits of all disks of a block at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom

from diskern.bragg.disk_basis import count
from diskern.bragg.disk_fit import BACKGROUND, Step, Tables, gauss_newton, model
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disks import Candidates, Disks, visibility_of

STEPS = 4
"""Gauss–Newton steps; the first with low orders only."""
LOW = 2
"""Largest order of the first step, and of disks that show no finer contrast."""
CHUNK = 256
"""Disks fitted together, about: their windows stay in the processor's cache."""
FLOOR = 0.05
"""Least variance of a pixel, of the disk's mean level: the fringes of a model may fall below 0."""
FINE = 4
"""Nodes per px at which a measured probe is tabulated."""


@dataclass(frozen=True, eq=False)
class Rim:
    """The shape S of a disk and its derivatives to the position, at any offset.

    Attributes
    ----------
    radius, edge : px of a round disk.
    extent : px beyond which S vanishes.
    table : (1, 3, n, n) S, dS/drow, dS/dcol on a fine grid, of a probe that is not round.
    """

    radius: float
    edge: float
    extent: float
    table: torch.Tensor | None

    @classmethod
    def of(cls, probe: Probe) -> Rim:
        """The rim of a probe."""
        if probe.round:
            return cls(probe.radius, probe.edge, probe.radius + 1.5 * probe.edge, None)
        image = probe.image / np.quantile(probe.image[probe.image > probe.image.max() / 2], 0.5)
        rows, cols = (np.arange(n) - n // 2 for n in image.shape)
        lit = image > 0.02
        extent = float(np.hypot(rows[:, None], cols)[lit].max())
        half = min(int(extent) + 6, min(image.shape) // 2 - 1)
        middle = [n // 2 for n in image.shape]
        cut = image[
            middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1
        ]
        fine = zoom(cut, (2 * half * FINE + 1) / (2 * half + 1), order=3, grid_mode=False)
        slope_row, slope_col = np.gradient(fine, 1 / FINE)
        table = torch.from_numpy(np.stack([fine, -slope_row, -slope_col])).float()[None]
        return cls(probe.radius, probe.edge, extent, table)

    def __call__(
        self, tables: Tables, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, n) S and its derivatives to row and column of (N, 2) positions in a window."""
        down = tables.row - position[:, :1].float()
        across = tables.col - position[:, 1:].float()
        if self.table is None:
            r = torch.hypot(down, across).clamp_(min=1e-3)
            t = torch.tanh((r - self.radius) / self.edge)
            slope = (0.5 / self.edge) * (1 - t * t) / r
            return 0.5 - 0.5 * t, slope * down, slope * across
        half = (self.table.shape[-1] - 1) / 2 / FINE
        where = torch.stack([across, down], dim=-1)[None] / half
        read = torch.nn.functional.grid_sample(
            self.table, where, mode="bilinear", padding_mode="zeros", align_corners=True
        )[0]
        return read[0], read[1], read[2]


@dataclass(frozen=True, eq=False)
class Windows:
    """Pixels around the disks of a chunk of patterns.

    Attributes
    ----------
    index : (N, n) into the flat padded patterns.
    counts, valid : (N, n).
    pixels : number of padded pixels.
    """

    index: torch.Tensor
    counts: torch.Tensor
    valid: torch.Tensor
    pixels: int


def refine_disks(
    patterns: NDArray[np.float32],
    probe: Probe,
    candidates: Candidates,
    *,
    mask: NDArray[np.bool_] | None = None,
    orders: int | None = None,
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
    """
    if len(candidates) == 0:
        return Disks.empty()
    rim = Rim.of(probe)
    highest = orders if orders is not None else order_of(probe.radius)
    reach = rim.extent + max(2.0, 0.1 * probe.radius)
    low, full = (Tables.of(probe.radius, reach, min(highest, n)) for n in (LOW, highest))
    parts = []
    for start, stop in _chunks(candidates.pattern):
        part = candidates.select(np.arange(start, stop))
        parts.append(_refine_chunk(patterns, mask, part, rim, low, full))
    return Disks.concatenate(parts)


def order_of(radius: float) -> int:
    """Largest order that a disk has pixels for."""
    return int(min(6, max(2, math.floor(1.2 * radius))))


def _chunks(pattern: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of disks of whole patterns."""
    ends = np.append(np.nonzero(np.diff(pattern))[0] + 1, len(pattern))
    chunks, start = [], 0
    for i, stop in enumerate(ends):
        if i + 1 == len(ends) or ends[i + 1] - start > CHUNK:
            chunks.append((start, int(stop)))
            start = int(stop)
    return chunks


def _windows(
    patterns: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    pattern: NDArray[np.int64],
    middle: NDArray[np.int64],
    tables: Tables,
) -> Windows:
    """The pixels around the middles; those off the detector are not valid."""
    first, last = int(pattern.min()), int(pattern.max())
    reach = int(tables.row.max())
    height, width = patterns.shape[1:]
    block = patterns[first : last + 1]
    margin = ((reach, reach), (reach, reach))
    padded = np.pad(block, ((0, 0), *margin))
    usable = np.pad(np.ones((height, width), bool) if mask is None else mask, margin)
    wide, area = width + 2 * reach, usable.size
    at = (middle[:, 0] + reach) * wide + middle[:, 1] + reach
    offsets = (tables.row * wide + tables.col).long()
    here = torch.from_numpy(at)[:, None] + offsets
    index = here + torch.from_numpy((pattern - first) * area)[:, None]
    valid = torch.from_numpy(usable.reshape(-1))[here].float()
    counts = torch.from_numpy(padded.reshape(-1))[index] * valid
    return Windows(index, counts, valid, padded.size)


def _refine_chunk(
    patterns: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    part: Candidates,
    rim: Rim,
    low: Tables,
    full: Tables,
) -> Disks:
    """Refine the disks of a few whole patterns."""
    start = np.stack([part.row, part.col], 1)
    middle = np.clip(np.rint(start).astype(np.int64), 0, np.array(patterns.shape[1:]) - 1)
    windows = _windows(patterns, mask, part.pattern, middle, low)
    position = torch.from_numpy(start - middle)
    level, linear = _first_guess(windows, rim, low, position)
    floor = FLOOR * level[:, None] + 0.02
    tables, limit = low, max(1.5, 0.4 * rim.radius)
    origin = position.clone()
    fine = torch.zeros(len(position), dtype=torch.bool)
    for turn in range(STEPS):
        step, _ = _step(windows, rim, tables, position, linear, floor)
        position = origin + (position + step.shift.clamp(-1, 1) - origin).clamp(-limit, limit)
        linear = step.linear
        if turn == 0 and full.order > low.order:
            fine = step.weights[:, -1] > 0.01
            tables = full if bool(fine.any()) else low
            grown = linear.new_zeros(len(linear), BACKGROUND + count(tables.order))
            grown[:, : linear.shape[1]] = linear
            linear = grown
    chi2 = _chi2(windows, rim, tables, position, linear, floor)
    return _as_disks(part, middle, position, linear, step, chi2)


def _first_guess(
    windows: Windows, rim: Rim, tables: Tables, position: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) mean level inside the disks, and (N, 3 + m) uniform disks on flat backgrounds."""
    S = rim(tables, position)[0]
    inside = (S > 0.7) * windows.valid
    outside = (S < 0.1) * windows.valid
    level = (windows.counts * inside).sum(1) / inside.sum(1).clamp(min=1)
    ground = (windows.counts * outside).sum(1) / outside.sum(1).clamp(min=1)
    linear = torch.zeros(len(level), BACKGROUND + count(tables.order), dtype=torch.float64)
    linear[:, 0] = ground
    linear[:, BACKGROUND] = (level - ground).clamp(min=1e-3)
    return level, linear


def _step(
    windows: Windows,
    rim: Rim,
    tables: Tables,
    position: torch.Tensor,
    linear: torch.Tensor,
    floor: torch.Tensor,
) -> tuple[Step, torch.Tensor]:
    """One step of every disk, the others' counts taken off; and the weights."""
    shape = rim(tables, position)
    inner, residual, weight = _residual(windows, tables, shape[0], linear, floor)
    return gauss_newton(residual, weight, shape, inner, linear, tables), weight


def _residual(
    windows: Windows, tables: Tables, S: torch.Tensor, linear: torch.Tensor, floor: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(N, n) polynomial, counts less the model of all disks, and weights."""
    inner, ground, _ = model(tables, S, linear)
    canvas = torch.zeros(windows.pixels)
    canvas.index_add_(0, windows.index.view(-1), (S * inner).view(-1))
    expected = canvas[windows.index] + ground
    weight = windows.valid / torch.maximum(expected, floor)
    return inner, windows.counts - expected * windows.valid, weight


def _chi2(
    windows: Windows,
    rim: Rim,
    tables: Tables,
    position: torch.Tensor,
    linear: torch.Tensor,
    floor: torch.Tensor,
) -> torch.Tensor:
    """(N,) reduced chi-square in the windows."""
    S = rim(tables, position)[0]
    _, residual, weight = _residual(windows, tables, S, linear, floor)
    used = 2 + BACKGROUND + (linear[:, BACKGROUND:].abs() > 0).sum(1)
    free = (windows.valid.sum(1) - used).clamp(min=1)
    return (residual * residual * weight).sum(1).double() / free


def _as_disks(
    part: Candidates,
    middle: NDArray[np.int64],
    position: torch.Tensor,
    linear: torch.Tensor,
    step: Step,
    chi2: torch.Tensor,
) -> Disks:
    """Columns of what was fitted."""
    centre = position.numpy().astype(np.float64) + middle
    grow = np.maximum(chi2.numpy(), 1)
    covariance = step.covariance.numpy() * grow[:, None, None]
    flux = step.flux.numpy()
    sigma = np.sqrt(np.maximum(step.variance_flux.numpy() * grow, 1e-30))
    return Disks(
        pattern=part.pattern,
        row=centre[:, 0],
        col=centre[:, 1],
        intensity=flux,
        sigma_row=np.sqrt(covariance[:, 0, 0]),
        sigma_col=np.sqrt(covariance[:, 1, 1]),
        covariance=covariance[:, 0, 1],
        sigma_intensity=sigma,
        background=linear[:, 0].numpy().astype(np.float64),
        chi2=chi2.numpy(),
        order=step.weights.argmax(1).numpy(),
        visibility=visibility_of(flux / sigma),
        v_g=part.v_g,
        sigma_v_g=part.sigma_v_g,
        q_z=part.q_z,
        sigma_q_z=part.sigma_q_z,
    )
