"""Spot lists that show no crystal, or not one alone: what a network must learn to refuse."""

from __future__ import annotations

from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NoCrystal = Literal["random", "rings", "quasicrystal"]
KINDS: tuple[NoCrystal, ...] = get_args(NoCrystal)


def no_crystal(
    kind: NoCrystal, count: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """(N, 2) places in 1/Å, (N,) intensities and a (2, 2) basis that a fit may claim, or NaN.

    Parameters
    ----------
    kind : of `KINDS`.
    count : most spots.
    """
    place, intensity = _MAKERS[kind](count, rng)
    basis = np.full((2, 2), np.nan)
    if len(place) > 2 and rng.random() < 0.6:
        basis = _claimed(place, intensity, rng)
    return place, intensity, basis


def _claimed(place: Floats, intensity: Floats, rng: np.random.Generator) -> Floats:
    """Two short vectors between strong spots, as a lattice fit led astray would take."""
    strong = place[np.argsort(-intensity)[:12]]
    vectors = np.concatenate([strong, (strong[:, None] - strong).reshape(-1, 2)])
    length = np.linalg.norm(vectors, axis=1)
    vectors = vectors[(length > 0.05) & (length < 0.8)]
    for _ in range(20):
        if len(vectors) < 2:
            break
        a, b = vectors[rng.choice(len(vectors), 2, replace=False)]
        area = abs(a[0] * b[1] - a[1] * b[0])
        if area > 0.3 * np.linalg.norm(a) * np.linalg.norm(b):
            return np.array([a, b])
    return np.full((2, 2), np.nan)


def _random(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Places without any order."""
    n = int(rng.integers(3, count))
    place = rng.uniform(-1, 1, (n, 2)) * rng.uniform(0.6, 1.6)
    if rng.random() < 0.4:
        # Friedel's law alone makes no crystal.
        place = np.concatenate([place[: n // 2 + 1], -place[: n // 2 + 1]])[:n]
    return place, np.exp(rng.normal(0, rng.uniform(0.3, 1.5), len(place)))


def _rings(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Spots of many grains on a few rings."""
    radius = np.sort(rng.uniform(0.25, 1.3, int(rng.integers(2, 7))))
    per_ring = rng.integers(3, max(4, count // len(radius)), len(radius))
    which = np.repeat(np.arange(len(radius)), per_ring)[:count]
    angle = rng.uniform(0, 2 * np.pi, len(which))
    r = radius[which] * (1 + rng.normal(0, 0.004, len(which)))
    place = np.stack([r * np.cos(angle), r * np.sin(angle)], 1)
    strength = np.exp(rng.normal(0, 1, len(radius)))[which]
    return place, strength * np.exp(rng.normal(0, 0.8, len(which)))


def _quasicrystal(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Spots of eight-, ten- or twelvefold sets: sums of star vectors, those faint whose partner
    in perpendicular space is long."""
    order = int(rng.choice([8, 10, 12], p=[0.2, 0.6, 0.2]))
    rank = {8: 4, 10: 4, 12: 4}[order]
    conjugate = {8: 3, 10: 3, 12: 5}[order]
    reach = range(-3, 4)
    n = np.array(list(product(reach, repeat=rank)))
    angles = 2 * np.pi * np.arange(rank) / order
    if order == 10:
        angles = 2 * np.pi * np.arange(rank) / 5
        conjugate = 2
    star, perp = (np.stack([np.cos(m * angles), np.sin(m * angles)], 1) for m in (1, conjugate))
    place, away = n @ star, np.linalg.norm(n @ perp, axis=1)
    radius = np.linalg.norm(place, axis=1)
    intensity = np.exp(-((away / rng.uniform(0.5, 0.9)) ** 2) - (radius / 4) ** 2)
    keep = (radius > 0.3) & (radius < rng.uniform(2.5, 4.5))
    place, intensity = place[keep], intensity[keep] * np.exp(rng.normal(0, 0.15, int(keep.sum())))
    turn = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(turn), np.sin(turn)
    order_ = np.argsort(-intensity)[:count]
    return place[order_] @ np.array([[c, -s], [s, c]]) * rng.uniform(0.2, 0.45), intensity[order_]


_MAKERS = {"random": _random, "rings": _rings, "quasicrystal": _quasicrystal}
