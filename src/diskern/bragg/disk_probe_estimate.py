"""The probe from the patterns of a scan themselves: no vacuum region is needed.

The radius is that of the circle across whose line the counts fall most, in likelihood ratios of
Poisson counts just inside and just outside it.  With it disks are found and measured, and the
brightest that stand alone are stacked on each other; their common shape is the probe's.  Fringes
of dynamical diffraction differ from disk to disk and average out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diskern.bragg.disk_gain import estimate_gain
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_probe_measure import cut_windows, probe_of_windows
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disk_search import DiskOptions, find_disks
from diskern.bragg.disks import Candidates, Disks
from diskern.errors import DiskernError
from diskern.nets.correlation import correlate

Floats = NDArray[np.float64]

SMALLEST, STEP = 1.5, 1.12
"""px of the smallest radius tried, and the ratio of one to the next."""
LOOKED_AT = 6
"""Patterns in which circles are tried."""
COARSE = 6.0
"""Pixels are added in squares for circles beyond this radius, as long as they keep it."""
SURE = 3.2
"""Least deviate of a pattern's best circle, in its worst sector; noise alone makes about 2."""
WIDE = 1.13
"""Circles across which the counts fall most are wider than disks: length counts, too."""
BRIGHTEST = 6
"""Circles of a pattern whose likelihood ratios are added."""
STACKED = 150
"""Disks stacked, at most."""
STRONG = 8.0
"""Least signal-to-noise ratio of a disk that is stacked."""
ROUNDS = 2
"""Times that disks are measured with the last probe."""


def estimate_probe(patterns: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> Probe:
    """The probe that a sample of patterns was taken with.

    Parameters
    ----------
    patterns : (B, H, W) counts, a few dozen spread over the scan.
    mask : (H, W) True where a pixel may be used.

    Raises
    ------
    DiskernError
        Where no disk stands out.
    """
    shape = (patterns.shape[1], patterns.shape[2])
    good = np.ones(shape, bool) if mask is None else mask
    gain = estimate_gain(patterns, good)
    electrons = np.maximum(patterns / np.float32(gain), 0) * good
    probe = Probe.synthetic(shape, _radius(electrons, good))
    options = DiskOptions(gain=1.0)
    for _ in range(ROUNDS):
        disks = find_disks(electrons, probe, mask=good, options=options)
        chosen, half, alone = _single(disks, probe, good)
        if len(chosen) == 0:
            return _overlapping(electrons, good, disks, probe)
        centre = np.stack([chosen.row, chosen.col], 1)
        middle = np.rint(centre).astype(int)
        windows = cut_windows(electrons, chosen.pattern, middle, half)
        windows -= chosen.background[:, None, None]
        probe = probe_of_windows(windows, centre - middle, chosen.intensity, shape, alone=alone)
    return probe


def _overlapping(
    electrons: NDArray[np.float32], good: NDArray[np.bool_], disks: Disks, probe: Probe
) -> Probe:
    """A round probe of the radius with which disks that overlap are fitted best together."""
    few = disks.select(disks.pattern < LOOKED_AT)
    shape = (good.shape[0], good.shape[1])
    if len(few) == 0:
        return Probe.synthetic(shape, probe.radius / WIDE)
    start = Candidates.at(few.pattern, few.row, few.col)
    probes = [Probe.synthetic(shape, r) for r in probe.radius * np.arange(0.76, 1.1, 0.04)]
    fits = (refine_disks(electrons, p, start, mask=good) for p in probes)
    misfit = [np.median(fit.chi2) for fit in fits]
    return probes[int(np.argmin(misfit))]


def _radius(electrons: NDArray[np.float32], good: NDArray[np.bool_]) -> float:
    """Radius in px of the circles at which the counts fall most."""
    step = max(1, len(electrons) // LOOKED_AT)
    block = torch.from_numpy(np.ascontiguousarray(electrons[::step][:LOOKED_AT]))
    seen = torch.from_numpy(good.astype(np.float32))[None]
    largest = min(good.shape) / 4
    tries = SMALLEST * STEP ** np.arange(1 + int(np.log(largest / SMALLEST) / np.log(STEP)))
    scores = np.zeros((len(tries), BRIGHTEST))
    for i, radius in enumerate(tries):
        # Larger circles are looked at in coarser pixels.
        side = max(1, int(radius / COARSE))
        scores[i] = _fall(_binned(block, side), _binned(seen, side), radius / side)
    best = int(scores.sum(1).argmax())
    if scores[best, 0] < SURE:
        raise DiskernError("the patterns show no disk; give an image of the beam in vacuum")
    return float(tries[best])


def _binned(block: torch.Tensor, side: int) -> torch.Tensor:
    """(B, H // side, W // side) sums over squares."""
    if side == 1:
        return block
    return torch.nn.functional.avg_pool2d(block[:, None], side)[:, 0] * side**2


def _fall(block: torch.Tensor, seen: torch.Tensor, radius: float) -> list[float]:
    """How surely and how far the counts fall across circles of a radius, a pattern's best ones.

    Of three sectors of a circle the least counts: a wide circle that touches a bright disk
    somewhere is none.
    """
    height, width = block.shape[1:]
    rows, cols = (torch.arange(n) - n // 2 for n in (height, width))
    r = torch.hypot(rows[:, None].float(), cols.float())
    sector = torch.atan2(rows[:, None].float(), cols.float()) / (2 * np.pi) * 3 + 1.5
    thick = min(max(1.0, 0.2 * radius), 2.0)
    reach = radius + thick
    inner = (r - radius + thick + 0.5).clamp(0, 1) * (radius - r + 0.5).clamp(0, 1)
    outer = (r - radius + 0.5).clamp(0, 1) * (reach - r + 0.5).clamp(0, 1)
    falls = [
        _sector_fall(block, seen, inner * part, outer * part)
        for part in (sector.floor().clamp(0, 2) == k for k in range(3))
    ]
    score = torch.stack(falls).amin(0)
    # What lies across the border would count twice.
    edge = int(np.ceil(reach))
    score[:, :edge] = score[:, height - edge :] = 0
    score[:, :, :edge] = score[:, :, width - edge :] = 0
    return [float(best.mean()) for best in _highest(score, int(np.ceil(radius)))]


def _sector_fall(
    block: torch.Tensor, seen: torch.Tensor, inner: torch.Tensor, outer: torch.Tensor
) -> torch.Tensor:
    """(B, H, W) normal deviate of a fall from inner to outer, times the square of the contrast.

    A cluster of disks, too, ends in a circle, but its counts fall to a half, not to nothing.
    """
    counts = [correlate(block, k).clamp(min=1e-6) for k in (inner, outer)]
    areas = [correlate(seen, k).clamp(min=1e-3) for k in (inner, outer)]
    rate = (counts[0] + counts[1]) / (areas[0] + areas[1])
    both = zip(counts, areas, strict=True)
    ratio = torch.stack([n * torch.log(n / (a * rate)) for n, a in both]).sum(0)
    contrast = (counts[0] / areas[0] - counts[1] / areas[1]) / (2 * rate)
    whole = (areas[0] > 0.7 * inner.sum() * seen.max()) & (
        areas[1] > 0.4 * outer.sum() * seen.max()
    )
    return torch.sqrt(2 * ratio.clamp(min=0)) * contrast.clamp(min=0) ** 2 * whole


def _highest(score: torch.Tensor, apart: int) -> Iterator[torch.Tensor]:
    """(B,) highest scores of every pattern, one after the other, each clearing its surroundings."""
    rows, cols = (torch.arange(n) for n in score.shape[1:])
    for _ in range(BRIGHTEST):
        best, place = score.flatten(1).max(1)
        yield best
        row, col = place // score.shape[2], place % score.shape[2]
        close = (rows - row[:, None]).abs()[:, :, None] <= apart
        score = score * ~(close & ((cols - col[:, None]).abs()[:, None, :] <= apart))


def _single(disks: Disks, probe: Probe, good: NDArray[np.bool_]) -> tuple[Disks, int, bool]:
    """Bright disks that stand alone, wholly on good pixels; half their windows; whether alone."""
    reach = probe.radius + 3 * probe.edge + 2
    place = np.stack([disks.row, disks.col], 1)
    strength = disks.intensity / disks.sigma_intensity
    bad = np.argwhere(~good)
    clear = cKDTree(bad).query(place)[0] if len(bad) and len(disks) else np.full(len(disks), np.inf)
    tree = cKDTree(np.column_stack([place, disks.pattern * 10.0 * sum(good.shape)]))
    near = np.full(len(disks), np.inf)
    if len(disks) > 1:
        near = np.asarray(tree.query(tree.data, k=2)[0])[:, 1]
    for room in (1.4, 1.2, 1.0, 0.85, 0.7):
        half = int(np.ceil(room * reach))
        on = (place >= half).all(1) & (place <= np.array(good.shape) - 1 - half).all(1)
        alone = (near > half + probe.radius) & (clear > reach)
        kept = np.flatnonzero(on & alone & (strength > STRONG))
        if len(kept):
            return disks.select(kept[np.argsort(-strength[kept])][:STACKED]), half, room >= 1
    return Disks.empty(), half, False
