"""Disks of a block of patterns: a classical search without thresholds set by hand, then the fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.stats import norm

from diskern.bragg.disk_gain import estimate_gain
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disks import Candidates, Disks, Proposer
from diskern.errors import DiskernError
from diskern.nets.correlation import correlate, parabolic_peaks

Floats = NDArray[np.float64]
BLOCK = 32
"""Patterns searched at once."""


@dataclass(frozen=True)
class DiskOptions:
    """What may be chosen; nothing needs to be.

    Attributes
    ----------
    false_alarms : disks per pattern that noise alone may make; sets the threshold.
    gain : counts per electron; estimated from the noise by default.
    orders : largest polynomial order inside a disk; chosen from the radius by default.
    spacing : least distance of two disks in disk radii.
    limit : most disks of a pattern, strongest first.
    """

    false_alarms: float = 0.05
    gain: float | None = None
    orders: int | None = None
    spacing: float = 1.0
    limit: int = 1000


def find_disks(
    patterns: NDArray[Any],
    probe: Probe,
    *,
    mask: NDArray[np.bool_] | None = None,
    options: DiskOptions | None = None,
    proposer: Proposer | None = None,
) -> Disks:
    """Find and measure the disks of patterns.

    Parameters
    ----------
    patterns : (B, H, W) counts, whole or not.
    probe : what one disk looks like; its image has the shape of the patterns.
    mask : (H, W) True where a pixel may be used.
    options : see `DiskOptions`.
    proposer : names the candidates; the classical search by default.

    Returns
    -------
    Disks
        Sorted by pattern, strongest first within one; intensities in counts as given.

    Raises
    ------
    DiskernError : for patterns, probe or mask that cannot be used.
    """
    chosen = options or DiskOptions()
    counts, good = _checked(patterns, probe, mask, chosen)
    gain = chosen.gain if chosen.gain is not None else estimate_gain(counts, good)
    electrons = (counts / np.float32(gain)) if gain != 1 else counts
    if proposer is None:
        candidates = search_disks(electrons, probe, mask=good, options=chosen)
    else:
        candidates = proposer(electrons, probe.image)
    candidates = candidates.select(np.lexsort((-candidates.probability, candidates.pattern)))
    found = refine_disks(electrons, probe, candidates, mask=good, orders=chosen.orders)
    found = accept(found, probe, electrons.shape, chosen)
    return replace(
        found,
        intensity=found.intensity * gain,
        sigma_intensity=found.sigma_intensity * gain,
        background=found.background * gain,
    )


def search_disks(
    patterns: NDArray[np.float32],
    probe: Probe,
    *,
    mask: NDArray[np.bool_] | None = None,
    options: DiskOptions | None = None,
) -> Candidates:
    """Places where a disk stands out of its surroundings.

    The counts within the probe are compared with those of a ring of equal area around it: a
    likelihood ratio of two Poisson rates, right for single electrons and for thousands.  The
    ring makes texture inside a bright disk, and the skirt around one, dimmer than their
    surroundings.  What passes the largest deviate of noise in a pattern is proposed, the
    strongest first, each clearing its neighbourhood.

    Parameters
    ----------
    patterns : (B, H, W) electrons.
    probe : what one disk looks like.
    mask : (H, W) True where a pixel may be used.
    options : false alarms, spacing, limit.
    """
    chosen = options or DiskOptions()
    shape = patterns.shape[1:]
    good = np.ones(shape, bool) if mask is None else mask
    size, disk, ring = _kernels(probe, (shape[0], shape[1]))
    floor = float(norm.isf(min(chosen.false_alarms / (shape[0] * shape[1]), 0.5)))
    seen = _padded(good[None].astype(np.float32), size)
    area_in, area_out = (correlate(seen, k).clamp(min=1e-3)[0] for k in (disk, ring))
    allowed = area_in > 0.4 * disk.sum()
    allowed[shape[0] :] = allowed[:, shape[1] :] = False
    allowed &= area_out > 0.1 * ring.sum()
    parts = []
    for start in range(0, len(patterns), BLOCK):
        block = _padded(patterns[start : start + BLOCK] * good, size)
        inside, outside = correlate(block, disk), correlate(block, ring)
        peaks = _peaks(inside, outside, area_in, area_out, allowed, floor)
        keep = _strongest(*peaks, chosen.spacing * _size(probe), chosen.limit)
        pattern, row, col, deviate = (p[keep] for p in peaks)
        parts.append((pattern + start, row, col, deviate))
    pattern, row, col, deviate = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Candidates.at(pattern, row, col, 1 / (1 + np.exp(np.minimum(floor - deviate, 50))))


def accept(found: Disks, probe: Probe, shape: tuple[int, ...], options: DiskOptions) -> Disks:
    """Measured disks that are still disks: on the detector, above their noise, and only once."""
    inside = (found.row > -0.5) & (found.row < shape[1] - 0.5)
    inside &= (found.col > -0.5) & (found.col < shape[2] - 0.5)
    ratio = found.intensity / found.sigma_intensity
    sharp = np.maximum(found.sigma_row, found.sigma_col) < 0.35 * probe.radius
    floor = norm.isf(min(options.false_alarms / (shape[1] * shape[2]), 0.5))
    kept = found.select(inside & np.isfinite(ratio) & (ratio > floor) & sharp)
    ratio = kept.intensity / kept.sigma_intensity
    spacing = options.spacing * _size(probe)
    keep = _strongest(kept.pattern, kept.row, kept.col, ratio, spacing, options.limit)
    kept = kept.select(keep)
    return kept.select(np.lexsort((-kept.intensity, kept.pattern)))


def _size(probe: Probe) -> float:
    """Radius in px, at least that of a pixel's neighbours."""
    return max(probe.radius, 1.5)


def _checked(
    patterns: NDArray[Any],
    probe: Probe,
    mask: NDArray[np.bool_] | None,
    options: DiskOptions,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Patterns as float32 with nothing negative, and the pixels to use."""
    array = np.asarray(patterns)
    if array.ndim != 3 or array.dtype.kind not in "biuf" or array.size == 0:
        raise DiskernError(
            f"patterns of shape {array.shape} and type {array.dtype}: give (B, H, W) real counts"
        )
    shape = array.shape[1:]
    if probe.image.shape != shape:
        raise DiskernError(f"the probe is {probe.image.shape} px, the patterns are {shape}")
    if mask is not None and (mask.shape != shape or mask.dtype != np.bool_):
        raise DiskernError(
            f"mask of shape {mask.shape} and type {mask.dtype}: give {shape} booleans"
        )
    if options.gain is not None and not (np.isfinite(options.gain) and options.gain > 0):
        raise DiskernError(f"gain {options.gain}: counts per electron, above 0")
    good = np.ones(shape, bool) if mask is None else mask
    if not good.any():
        raise DiskernError("the mask leaves no pixel to use")
    counts = array.astype(np.float32)
    if counts.dtype != array.dtype or not np.isfinite(counts).all():
        bad = ~np.isfinite(counts)
        if bad[:, good].any():
            place = np.argwhere(bad & good)[0].tolist()
            raise DiskernError(f"pattern {place[0]} is not finite at {place[1:]}: mask the pixel")
        counts[bad] = 0
    return np.maximum(counts, 0), good


def _kernels(
    probe: Probe, shape: tuple[int, int]
) -> tuple[tuple[int, int], torch.Tensor, torch.Tensor]:
    """Size that keeps the borders apart, the disk, and the ring around it of about equal area."""
    rows, cols = (np.arange(n) - n // 2 for n in shape)
    r = np.hypot(rows[:, None], cols)
    open_part = probe.image / np.quantile(probe.image[probe.image > probe.image.max() / 2], 0.5)
    extent = float(r[open_part > 0.5].max(initial=0.5))
    inner = extent + 1.5 * probe.edge + 0.5
    outer = math.hypot(inner, max(probe.radius, 1.5))
    ring = np.clip(r - inner + 0.5, 0, 1) * np.clip(outer - r + 0.5, 0, 1)
    margin = math.ceil(outer) + 1
    size = (next_fast_len(shape[0] + margin, True), next_fast_len(shape[1] + margin, True))
    return size, _centred(np.clip(open_part, 0, 1.5), size), _centred(ring, size)


def _centred(image: Floats, size: tuple[int, int]) -> torch.Tensor:
    """The image in a larger one, centre on centre."""
    out = np.zeros(size, np.float32)
    r, c = (n // 2 - m // 2 for n, m in zip(size, image.shape, strict=True))
    out[r : r + image.shape[0], c : c + image.shape[1]] = image
    return torch.from_numpy(out)


def _padded(block: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    """(B, *size) the patterns with zeros beyond their last rows and columns."""
    padded = torch.zeros(len(block), *size)
    padded[:, : block.shape[1], : block.shape[2]] = torch.from_numpy(np.ascontiguousarray(block))
    return padded


def _peaks(
    inside: torch.Tensor,
    outside: torch.Tensor,
    area_in: torch.Tensor,
    area_out: torch.Tensor,
    allowed: torch.Tensor,
    floor: float,
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Pattern, row, column and normal deviate of local maxima of the contrast."""
    rate = outside / area_out
    contrast = (inside - rate * area_in) * allowed
    highest = torch.nn.functional.max_pool2d(contrast[:, None], 3, 1, 1)[:, 0]
    # A quick bound on the deviate first: the likelihood ratio only where it may pass.
    hopeful = (contrast == highest) & (contrast > 0.5 * floor)
    hopeful &= contrast * contrast > (0.3 * floor) ** 2 * inside.clamp(min=0)
    pattern, row, col = torch.nonzero(hopeful, as_tuple=True)
    n_in, n_out = (x[pattern, row, col].double().clamp(min=1e-6) for x in (inside, outside))
    a_in, a_out = area_in[row, col].double(), area_out[row, col].double()
    pooled = (n_in + n_out) / (a_in + a_out)
    ratio = n_in * torch.log(n_in / (a_in * pooled)) + n_out * torch.log(n_out / (a_out * pooled))
    deviate = torch.sqrt(2 * ratio.clamp(min=0))
    passed = deviate > floor
    pattern, row, col = pattern[passed], row[passed], col[passed]
    down, across = parabolic_peaks(contrast, pattern, row, col)
    return (
        pattern.numpy(),
        down.double().numpy(),
        across.double().numpy(),
        deviate[passed].numpy(),
    )


def _strongest(
    pattern: NDArray[np.int64],
    row: Floats,
    col: Floats,
    strength: Floats,
    spacing: float,
    limit: int,
) -> NDArray[np.int64]:
    """Indices of those that have no stronger one within ``spacing`` px, by pattern and strength.

    In rounds: each keeps what is the strongest of its neighbourhood, and clears that.
    """
    from scipy.spatial import cKDTree

    if len(pattern) == 0:
        return np.zeros(0, np.int64)
    apart = 10 * spacing + 2 * float(np.abs([row, col]).max())
    tree = cKDTree(np.stack([row, col, pattern * apart], 1))
    pairs = tree.query_pairs(spacing, output_type="ndarray")
    rank = np.empty(len(pattern), np.int64)
    order = np.lexsort((-strength, pattern))
    rank[order] = np.arange(len(order))
    alive = np.ones(len(pattern), bool)
    kept = np.zeros(len(pattern), bool)
    while len(pairs):
        stronger = np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
        weaker = pairs.sum(1) - stronger
        top = alive.copy()
        top[weaker] = False
        kept |= top
        alive[weaker[top[stronger]]] = False
        alive &= ~top
        pairs = pairs[alive[pairs].all(1)]
    kept |= alive
    chosen = order[kept[order]]
    first = np.searchsorted(pattern[chosen], pattern[chosen])
    return np.asarray(chosen[np.arange(len(chosen)) - first < limit])
