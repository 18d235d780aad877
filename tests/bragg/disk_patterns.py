"""Poisson patterns of disks whose every number is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_probe import Probe, rim
from diskern.bragg.disks import Disks

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Simulated:
    """(B, H, W) counts; (B, K, 2) places, (B, K) electrons and bounds in px of B × K disks."""

    counts: NDArray[np.float32]
    place: Floats
    electrons: Floats
    bound: Floats


def simulate(
    place: Floats,
    electrons: Floats,
    *,
    size: int = 96,
    radius: float = 6.0,
    edge: float = 0.6,
    background: float = 2.0,
    contrast: float = 0.0,
    seed: int = 0,
) -> Simulated:
    """Disks at (B, K, 2) places with (B, K) electrons, fringes of some contrast in each."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((size, size), dtype=float)
    counts = np.zeros((len(place), size, size), np.float32)
    bound = np.zeros(electrons.shape)
    for n, (centres, numbers) in enumerate(zip(place, electrons, strict=True)):
        expected = np.full((size, size), background)
        slopes = []
        for (row, col), number in zip(centres, numbers, strict=True):
            down, across = rows - row, cols - col
            r = np.hypot(down, across) + 1e-9
            disk = rim(r, radius, edge)
            falling = 0.5 / edge / np.cosh((r - radius) / edge) ** 2
            slopes.append(number / disk.sum() * falling * down / r)
            if contrast:
                angle, phase = rng.uniform(0, 2 * np.pi, 2)
                along = down * np.cos(angle) + across * np.sin(angle)
                waves = rng.uniform(0.15, 0.6)
                disk = disk * (1 + contrast * np.cos(2 * np.pi * waves * along / radius + phase))
            expected += number * disk / disk.sum()
        bound[n] = [1 / np.sqrt(max((s**2 / expected).sum(), 1e-12)) for s in slopes]
        counts[n] = rng.poisson(expected)
    return Simulated(counts, place, electrons, bound)


def grid_places(count: int, size: int, pitch: float, seed: int = 0) -> Floats:
    """(count, 9, 2) places of three by three disks, each shifted by itself within a pixel."""
    rng = np.random.default_rng(seed)
    steps = pitch * np.arange(-1.0, 2)
    nodes = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2) + size / 2
    return nodes + rng.uniform(-0.5, 0.5, (count, 9, 2))


def paired(simulated: Simulated, disks: Disks, within: float = 3.0) -> tuple[Floats, Floats, int]:
    """(B, K, 2) error and sigma of every true disk, NaN where not found; and false disks."""
    error = np.full(simulated.place.shape, np.nan)
    sigma = np.full(simulated.place.shape, np.nan)
    false = 0
    for n, truth in enumerate(simulated.place):
        here = np.flatnonzero(disks.pattern == n)
        if not len(here):
            continue
        found = np.stack([disks.row, disks.col], 1)[here]
        distance = np.linalg.norm(found[:, None] - truth, axis=2)
        false += int((distance.min(1) >= within).sum())
        hit = distance.min(0) < within
        nearest = distance.argmin(0)[hit]
        error[n, hit] = found[nearest] - truth[hit]
        sigma[n, hit] = np.stack([disks.sigma_row, disks.sigma_col], 1)[here[nearest]]
    return error, sigma, false


def probe_of(size: int = 96, radius: float = 6.0) -> Probe:
    """The probe of `simulate`."""
    return Probe.synthetic((size, size), radius)
