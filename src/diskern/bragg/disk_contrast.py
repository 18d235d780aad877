"""What is told of each disk of a pattern to the network that reads excitation errors.

Everything is told along and across the disk's own direction ĝ from the direct beam and in
aperture radii, so that no camera length and no turn of the pattern matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_basis import disk_basis
from diskern.bragg.disks import CONTRAST, Disks, directness
from diskern.nets.disk_units import unit_of
from diskern.physics import wavelength

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

ALONG = np.linspace(-0.85, 0.85, 9)
ACROSS = np.array([-0.5, 0.0, 0.5])
PROFILE = len(ALONG) * len(ACROSS)
FIELDS = 2 * PROFILE + 20
MOST = 48
"""Disks of a pattern that are looked at, the strongest."""
FEWEST = 3
MATE = 0.25
"""Aperture radii within which a Friedel mate is looked for."""


@dataclass(frozen=True, eq=False)
class DiskFacts:
    """Of the N disks of a pattern, without the direct beam, strongest first.

    Attributes
    ----------
    facts : (N, `FIELDS`).
    G : (N, 2) row and column from the direct beam in aperture radii.
    source : (N,) rows of the disks they are of.
    direct : row of the direct beam.
    """

    facts: Singles
    G: Singles
    source: Ints
    direct: int


def pattern_facts(
    disks: Disks,
    patterns: NDArray[np.float32],
    *,
    radius: float,
    energy: float,
    pixel_size: float,
) -> list[DiskFacts]:
    """Facts of every pattern of a block (B, H, W) that shows more than `FEWEST` disks.

    The other arguments are those of `disk_facts`.
    """
    told = []
    for pattern, direct in direct_beams(disks, patterns.shape[1:], radius).items():
        rows = np.flatnonzero(disks.pattern == pattern)
        if len(rows) <= FEWEST:
            continue
        found = disk_facts(
            disks.select(rows),
            int(np.searchsorted(rows, direct)),
            radius=radius,
            energy=energy,
            pixel_size=pixel_size,
            total=float(patterns[pattern].sum(dtype=np.float64)),
        )
        told.append(replace(found, source=rows[found.source], direct=direct))
    return told


def disk_facts(
    disks: Disks, direct: int, *, radius: float, energy: float, pixel_size: float, total: float
) -> DiskFacts:
    """Facts of the disks of one pattern.

    Parameters
    ----------
    direct : row of the direct beam.
    radius : of the probe in px; energy in eV; pixel_size in 1/Å per px.
    total : intensity of the whole pattern.
    """
    intensity = np.clip(np.nan_to_num(disks.intensity), 1e-3, 1e15)
    source = np.argsort(-intensity, kind="stable")
    source = source[source != direct][:MOST]
    own, place = intensity[source], np.stack([disks.row, disks.col], 1)
    G = (place[source] - place[direct]) / radius
    length = np.maximum(np.linalg.norm(G, axis=1), 1e-3)
    along = G / length[:, None]
    inner, outer = profiles(disks.contrast[source], disks.contrast[direct], along)
    # Two rough tilts: the pattern's centres of gravity lie about the Laue circle's middle.
    heavy = along @ -(own[:, None] * G).sum(0) / own.sum()
    light = along @ -(np.sqrt(own)[:, None] * G).sum(0) / np.sqrt(own).sum()
    apart = np.abs(G[:, None] + G).max(-1)
    mate = apart.argmin(1)
    paired = apart[np.arange(len(G)), mate] < MATE
    aperture = radius * pixel_size
    scatter = np.clip(disks.sigma_intensity[source] / own, 1e-6, 1)
    one = np.ones(len(source))
    parts = [
        np.log(own / own.max()) / 3,
        np.log(own / intensity[direct]) / 3,
        np.log(min(intensity[direct] / max(total, 1e-3), 1.0)) * one,
        np.log(scatter) / 2,
        np.log(length),
        length / 20,
        np.where(paired, np.log(own / own[mate]), 0) / 2,
        paired.astype(float),
        light / 5,
        heavy / 5,
        light / length,
        heavy / length,
        np.log(aperture / 0.06) * one,
        np.log(500 * aperture * wavelength(energy)) * one,
        np.log(5000 * unit_of(energy, aperture)) * one,
        np.log(np.clip(disks.chi2[source], 0.1, 1e6)) / 2,
        np.log(radius / 6) * one,
        np.log(len(source) / 20) * one,
        np.arcsinh(-light - length / 2),
        np.arcsinh(-heavy - length / 2),
    ]
    facts = np.concatenate([inner, outer, np.stack(parts, 1)], 1)
    return DiskFacts(facts.astype(np.float32), G.astype(np.float32), source, direct)


def profiles(contrast: Floats, direct: Floats, along: Floats) -> tuple[Floats, Floats]:
    """(N, `PROFILE`) contrast on a grid along and across directions (N, 2).

    Of the disks themselves, (N, K), and of the direct beam, (K,).
    """
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    grid = _grid()
    places = grid[:, :1] * along[:, None] + grid[:, 1:] * across[:, None]
    x, y = places.reshape(-1, 2).T
    values = disk_basis(6).evaluate(x, y, CONTRAST + 1)[:, 1:]
    values = values.reshape(len(along), PROFILE, CONTRAST)
    own, beam = (values @ contrast[:, :, None])[..., 0], values @ direct
    return np.clip(own, -3, 5), np.clip(beam, -3, 5)


@cache
def _grid() -> Floats:
    return np.stack(np.meshgrid(ALONG, ACROSS, indexing="ij"), -1).reshape(-1, 2)


def mirrored(facts: Singles) -> Singles:
    """The facts of the mirrored pattern: the same along, the other way round across."""
    out = facts.copy()
    for start in (0, PROFILE):
        part = facts[..., start : start + PROFILE]
        grid = part.reshape(*facts.shape[:-1], len(ALONG), len(ACROSS))[..., ::-1]
        out[..., start : start + PROFILE] = grid.reshape(part.shape)
    return out


def direct_beams(disks: Disks, shape: tuple[int, int], radius: float) -> dict[int, int]:
    """Row of the direct beam of each pattern of a block.

    It is bright and near the middle; in one scan it hardly moves, so that a pattern whose
    brightest disk is another takes the disk where the others have theirs.
    """
    place = np.stack([disks.row, disks.col], 1)
    order = np.lexsort((-directness(place, disks.intensity, shape), disks.pattern))
    patterns, first = np.unique(disks.pattern[order], return_index=True)
    best = order[first]
    usual = np.median(place[best], axis=0)
    miss = np.linalg.norm(place - usual, axis=1)
    near = np.lexsort((miss, disks.pattern))[first]
    chosen = np.where(miss[near] < radius, near, best)
    return dict(zip(patterns.tolist(), chosen.tolist(), strict=True))
