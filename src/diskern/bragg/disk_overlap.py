"""Candidates that a stronger disk reaches into: disks of their own, or its fringes?

Dynamical fringes, and the dark between them, look like further disks to any search.  What tells
is the part of the candidate that the stronger disk leaves free: a disk is bright there too.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diskern.bragg.disk_fit import Tables
from diskern.bragg.disk_neighbours import beside
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_windows import Rim, Windows, windows_at
from diskern.bragg.disks import Candidates, Disks

Floats = NDArray[np.float64]
COVERED = 0.02
"""Share of a stronger disk's light in a pixel from which on the pixel is that disk's."""
TAIL = 0.02
"""What a disk's surroundings may hold of its own level: tails of the detector, halo."""
OWN = 0.04
"""Least part of a candidate that must be its own."""
CHUNK = 256


def unexplained(
    patterns: NDArray[np.float32],
    probe: Probe,
    found: Disks,
    candidates: Candidates,
    floor: float,
    *,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """(N,) which candidates stand out where no disk of ``found`` reaches.

    Parameters
    ----------
    patterns : (B, H, W) electrons.
    found : measured disks, sorted by pattern.
    candidates : sorted by pattern.
    floor : standard deviations by which a disk must stand out.
    mask : (H, W) True where a pixel may be used.
    """
    rim = Rim.of(probe)
    reach = math.hypot(rim.extent, probe.radius) + probe.edge + 1
    tables = Tables.of(probe.radius, reach, 0)
    out = np.zeros(len(candidates), bool)
    for start in range(0, len(candidates), CHUNK):
        part = candidates.select(np.arange(start, min(start + CHUNK, len(candidates))))
        near = _reaching(found, part, reach + rim.extent)
        pattern = np.concatenate([part.pattern, near.pattern])
        place = np.stack([np.append(part.row, near.row), np.append(part.col, near.col)], axis=1)
        middle = np.clip(np.rint(place).astype(np.int64), 0, np.array(patterns.shape[1:]) - 1)
        windows = windows_at(patterns, mask, pattern, middle, tables)
        shape = rim(tables, torch.from_numpy(place - middle))[0]
        level = torch.from_numpy(near.intensity).float() / shape[len(part) :].sum(1).clamp(min=1)
        out[start : start + len(part)] = _stands_out(windows, shape, level, tables, floor)
    return out


def left_free(
    patterns: NDArray[np.float32], probe: Probe, found: Disks, mask: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(B, H, W) the pixels of (H, W) ``mask`` that no measured disk reaches."""
    rim = Rim.of(probe)
    reach = rim.extent + probe.edge + 1
    tables = Tables.of(probe.radius, reach, 0)
    out = np.repeat(mask[None], len(patterns), axis=0)
    for n in np.unique(found.pattern):
        here = found.pattern == n
        place = np.stack([found.row[here], found.col[here]], axis=1)
        middle = np.clip(np.rint(place).astype(np.int64), 0, np.array(mask.shape) - 1)
        zero = np.zeros(len(place), np.int64)
        windows = windows_at(patterns[n : n + 1], None, zero, middle, tables)
        shape = rim(tables, torch.from_numpy(place - middle))[0]
        cover = torch.zeros(windows.pixels)
        cover.index_add_(0, windows.index.view(-1), shape.view(-1))
        edge = int(tables.row.max())
        whole = cover.numpy().reshape(mask.shape[0] + 2 * edge, mask.shape[1] + 2 * edge)
        out[n] &= whole[edge:-edge, edge:-edge] < COVERED
    return out


def crowded(found: Disks, distance: float) -> NDArray[np.int64]:
    """Patterns in which two disks are nearer than a distance in px."""
    return np.unique(found.pattern[beside(found.pattern, found.row, found.col, distance)])


def _reaching(found: Disks, part: Candidates, distance: float) -> Disks:
    """The disks within a distance of any candidate."""
    apart = 10 * distance + 2 * float(np.abs(np.append(part.row, part.col)).max(initial=1))
    apart += 2 * float(np.abs(np.append(found.row, found.col)).max(initial=1))
    trees = [cKDTree(np.stack([x.row, x.col, x.pattern * apart], axis=1)) for x in (found, part)]
    hits = trees[0].query_ball_tree(trees[1], distance)
    return found.select(np.array([bool(h) for h in hits], dtype=bool))


def _stands_out(
    windows: Windows, shape: torch.Tensor, level: torch.Tensor, tables: Tables, floor: float
) -> NDArray[np.bool_]:
    """(N,) for the first N windows, the others being the disks that may explain them."""
    n = len(shape) - len(level)
    cover, light = torch.zeros(windows.pixels), torch.zeros(windows.pixels)
    there = windows.index[n:].reshape(-1)
    cover.index_add_(0, there, shape[n:].reshape(-1))
    light.index_add_(0, there, (shape[n:] * level[:, None]).reshape(-1))
    index, own = windows.index[:n], shape[:n]
    free = windows.valid[:n] * (cover[index] < COVERED)
    inside, outside = (own > 0.5) * free, (own < COVERED) * free
    enough = inside.sum(1) > torch.clamp(OWN * own.sum(1), min=4.0)
    enough &= outside.sum(1) > 4
    # Variances of flat regions: those of the counts themselves would favour dark pixels.
    rates = [(windows.counts[:n] * x).sum(1) / x.sum(1).clamp(min=1) for x in (inside, outside)]
    variance = rates[1][:, None] + own * (rates[0] - rates[1]).clamp(min=0)[:, None] + 0.02
    plane = tables.values[:, :3].T.expand(n, -1, -1)
    terms = torch.cat([own[:, None], plane], dim=1)
    weighted = (terms * (free / variance)[:, None]).double()
    normal = weighted @ terms.double().mT
    normal.diagonal(dim1=1, dim2=2).add_(1e-9 * normal[:, 1, 1, None] + 1e-30)
    right = weighted @ windows.counts[:n, :, None].double()
    inverse = torch.linalg.inv(normal)
    height = (inverse @ right)[:, 0, 0]
    sigma = inverse[:, 0, 0].clamp(min=0).sqrt()
    halo = TAIL * light[index].amax(1)
    keep = enough & (height > floor * sigma) & (height > halo)
    return np.asarray(keep.numpy())
