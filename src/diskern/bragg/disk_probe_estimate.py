"""The probe from the patterns of a scan themselves: no vacuum region is needed.

The radius is that of the circle across whose line the counts fall most, in likelihood ratios of
Poisson counts just inside and just outside it.  With it disks are found and measured, and the
brightest that stand alone are stacked on each other; their common shape is the probe's.  Fringes
of dynamical diffraction differ from disk to disk and average out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diskern.bragg.disk_gain import estimate_response
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_probe_measure import cut_windows, probe_of_windows
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disk_search import find_disks
from diskern.bragg.disks import Candidates, DiskOptions, Disks
from diskern.errors import DiskernError
from diskern.nets.correlation import correlate

Floats = NDArray[np.float64]

SMALLEST, STEP = 1.5, 1.12
"""px of the smallest radius tried, and the ratio of one to the next."""
LOOKED_AT = 6
"""Patterns in which circles are tried."""
SPOTS = 0.995
"""Quantile of a pattern's level, over squares of 3 px, that tells how bright its disks are."""
COARSE = 4.0
"""Pixels are added in squares for circles beyond this radius, as long as they keep it."""
SURE = 1.7
"""Least deviate of a pattern's best circle, over most of its rim; noise alone makes about 1."""
WIDE = 1.13
"""Circles across which the counts fall most are wider than disks: length counts, too."""
BRIGHTEST = 6
"""Circles of a pattern whose likelihood ratios are added."""
STACKED = 150
"""Disks stacked, at most."""
ENOUGH = 40
"""Stacked disks from which fringes average out."""
FITTED, EDGES = 60, (0.4, 0.7, 1.2, 2.0)
"""Disks fitted with probes of many radii, and the widths of rims in px that are tried."""
STRONG = 8.0
"""Least signal-to-noise ratio of a disk that is stacked."""
ROUNDS = 2
"""Times that disks are measured with the last probe."""


def estimate_probe(
    patterns: NDArray[np.float32],
    mask: NDArray[np.bool_] | None = None,
    dark: float | None = None,
) -> Probe:
    """The probe that a sample of patterns was taken with.

    Parameters
    ----------
    patterns : (B, H, W) counts, a few dozen spread over the scan.
    mask : (H, W) True where a pixel may be used.
    dark : counts of a pixel that no electron meets, where they are known.

    Raises
    ------
    DiskernError
        Where no disk stands out.
    """
    shape = (patterns.shape[1], patterns.shape[2])
    good = np.ones(shape, bool) if mask is None else mask
    response = estimate_response(patterns, good, dark)
    usable = good.astype(np.float32)
    counted = response.electrons(patterns) * usable
    radius = _radius(np.maximum(counted, np.float32(0)), good)
    electrons = np.maximum(counted + np.float32(response.dim_light) * usable, np.float32(0))
    probe = _fitted_best(electrons, good, radius)
    for _ in range(ROUNDS):
        disks = find_disks(electrons, probe, mask=good, options=DiskOptions(gain=1.0))
        chosen, half = _single(disks, probe, good)
        if len(chosen) == 0:
            return probe
        centre = np.stack([chosen.row, chosen.col], 1)
        middle = np.rint(centre).astype(int)
        windows = cut_windows(electrons, chosen.pattern, middle, half)
        windows -= chosen.background[:, None, None]
        seen = probe_of_windows(windows, centre - middle, chosen.intensity, shape)
        # The rim of a few fringed disks is told better by the fit, which knows of fringes.
        if seen.round and len(chosen) < ENOUGH:
            return probe
        probe = seen
    return probe


def _fitted_best(electrons: NDArray[np.float32], good: NDArray[np.bool_], radius: float) -> Probe:
    """The round probe with which the brightest disks are fitted best, fringes and all."""
    shape = (good.shape[0], good.shape[1])
    start = Probe.synthetic(shape, radius / WIDE, min(0.7, radius / WIDE))
    disks = find_disks(electrons, start, mask=good, options=DiskOptions(gain=1.0))
    if len(disks) == 0:
        return start
    # Whole patterns, so that no neighbour is missing where disks overlap.
    last = np.sort(disks.pattern)[:FITTED][-1]
    disks = disks.select(disks.pattern <= last)
    strong = disks.intensity > STRONG * disks.sigma_intensity
    places = Candidates.at(disks.pattern, disks.row, disks.col)
    pixels = np.pi * radius**2

    def misfit(edge: float, size: float) -> float:
        if edge > 0.6 * size:
            return np.inf
        fit = refine_disks(electrons, Probe.synthetic(shape, size, edge), places, mask=good)
        # Fringes that the fit draws could make up for a wrong rim: each term has its price.
        terms = (fit.order + 1) * (fit.order + 2) / 2
        each = np.log(np.clip(fit.chi2, 1e-3, 1e6)) * pixels + terms * np.log(pixels)
        return float(np.mean(each[strong] if strong.any() else each))

    def best(edges: Sequence[float], sizes: Floats) -> tuple[float, float]:
        tried = [(edge, float(size)) for edge in edges for size in sizes]
        return min(tried, key=lambda at: misfit(*at))

    edge, size = best([start.edge], radius * np.arange(0.7, 1.16, 0.05))
    edge, size = best(EDGES, size * np.array([0.95, 1.0, 1.05]))
    edge, size = best([edge], size * np.array([0.97, 0.985, 1.0, 1.015, 1.03]))
    return Probe.synthetic(shape, size, edge)


def _radius(electrons: NDArray[np.float32], good: NDArray[np.bool_]) -> float:
    """Radius in px of the circles at which the counts fall most."""
    block = torch.from_numpy(_brightest(electrons))
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
        # One disk that is plain says more than many that are not.
        best = int(scores[:, 0].argmax())
    if scores[best, 0] < SURE:
        raise DiskernError("the patterns show no disk; give an image of the beam in vacuum")
    return float(tries[best])


def _brightest(electrons: NDArray[np.float32]) -> NDArray[np.float32]:
    """The patterns with the brightest spots: others of a scan may show a hole or no crystal."""
    smooth = _binned(torch.from_numpy(electrons), 3).flatten(1)
    # Not the very brightest spot, which may be a few hot pixels.
    level = smooth.kthvalue(max(1, int(SPOTS * smooth.shape[1])), dim=1).values
    return electrons[np.sort(np.argsort(-level.numpy(), kind="stable")[:LOOKED_AT])]


def _binned(block: torch.Tensor, side: int) -> torch.Tensor:
    """(B, H // side, W // side) sums over squares."""
    if side == 1:
        return block
    return torch.nn.functional.avg_pool2d(block[:, None], side)[:, 0] * side**2


def _fall(block: torch.Tensor, seen: torch.Tensor, radius: float) -> list[float]:
    """How surely and how far the counts fall across circles of a radius, a pattern's best ones.

    They must fall in three of four sectors of the circle: a wide one that touches a bright disk
    somewhere is none, and fringes may darken a part of a disk's rim.
    """
    height, width = block.shape[1:]
    rows, cols = (torch.arange(n) - n // 2 for n in (height, width))
    r = torch.hypot(rows[:, None].float(), cols.float())
    sectors = 6 if radius < COARSE else 12
    turn = torch.atan2(rows[:, None].float(), cols.float()) / (2 * np.pi) + 0.5
    sector = (turn * sectors).floor().clamp(0, sectors - 1)
    thick = min(max(1.0, 0.2 * radius), 2.0)
    reach = radius + thick
    inner = (r - radius + thick + 0.5).clamp(0, 1) * (radius - r + 0.5).clamp(0, 1)
    outer = (r - radius + 0.5).clamp(0, 1) * (reach - r + 0.5).clamp(0, 1)
    falls = [
        _sector_fall(block, seen, inner * part, outer * part)
        for part in (sector == k for k in range(sectors))
    ]
    score = torch.stack(falls).kthvalue(sectors // 4 + 1, dim=0).values
    # What lies across the border would count twice.
    edge = int(np.ceil(reach))
    score[:, :edge] = score[:, height - edge :] = 0
    score[:, :, :edge] = score[:, :, width - edge :] = 0
    return [float(best.mean()) for best in _highest(score, int(np.ceil(radius)))]


def _sector_fall(
    block: torch.Tensor, seen: torch.Tensor, inner: torch.Tensor, outer: torch.Tensor
) -> torch.Tensor:
    """(B, H, W) normal deviate of a fall from inner to outer, times the contrast."""
    counts = [correlate(block, k).clamp(min=1e-6) for k in (inner, outer)]
    areas = [correlate(seen, k).clamp(min=1e-3) for k in (inner, outer)]
    rate = (counts[0] + counts[1]) / (areas[0] + areas[1])
    both = zip(counts, areas, strict=True)
    ratio = torch.stack([n * torch.log(n / (a * rate)) for n, a in both]).sum(0)
    contrast = (counts[0] / areas[0] - counts[1] / areas[1]) / (2 * rate)
    whole = (areas[0] > 0.7 * inner.sum() * seen.max()) & (
        areas[1] > 0.4 * outer.sum() * seen.max()
    )
    return torch.sqrt(2 * ratio.clamp(min=0)) * contrast.clamp(min=0) * whole


def _highest(score: torch.Tensor, apart: int) -> Iterator[torch.Tensor]:
    """(B,) highest scores of every pattern, one after the other, each clearing its surroundings."""
    rows, cols = (torch.arange(n) for n in score.shape[1:])
    for _ in range(BRIGHTEST):
        best, place = score.flatten(1).max(1)
        yield best
        row, col = place // score.shape[2], place % score.shape[2]
        close = (rows - row[:, None]).abs()[:, :, None] <= apart
        score = score * ~(close & ((cols - col[:, None]).abs()[:, None, :] <= apart))


def _single(disks: Disks, probe: Probe, good: NDArray[np.bool_]) -> tuple[Disks, int]:
    """Bright disks that stand alone, wholly on good pixels; and half their windows."""
    reach = probe.radius + 3 * probe.edge + 2
    place = np.stack([disks.row, disks.col], 1)
    strength = disks.intensity / disks.sigma_intensity
    bad = np.argwhere(~good)
    clear = cKDTree(bad).query(place)[0] if len(bad) and len(disks) else np.full(len(disks), np.inf)
    tree = cKDTree(np.column_stack([place, disks.pattern * 10.0 * sum(good.shape)]))
    near = np.full(len(disks), np.inf)
    if len(disks) > 1:
        near = np.asarray(tree.query(tree.data, k=2)[0])[:, 1]
    for room in (1.4, 1.2, 1.0):
        half = int(np.ceil(room * reach))
        on = (place >= half).all(1) & (place <= np.array(good.shape) - 1 - half).all(1)
        alone = (near > half + probe.radius) & (clear > reach)
        kept = np.flatnonzero(on & alone & (strength > STRONG))
        if len(kept):
            return disks.select(kept[np.argsort(-strength[kept])][:STACKED]), half
    return Disks.empty(), half
