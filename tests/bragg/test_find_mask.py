"""Dead, hot and hidden pixels of scans, and that disks are none of them."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.bragg.find_mask import find_mask


def scan(background: float, radius: float = 5.0, count: int = 49, seed: int = 0) -> np.ndarray:
    """(B, 96, 96) Poisson patterns of a square lattice of disks that come and go."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96].astype(float)
    expected = np.full((count, 96, 96), background)
    for row in range(12, 96, 18):
        for col in range(12, 96, 18):
            height = rng.lognormal(3, 0.7, count) * (rng.random(count) < 0.7)
            drift = rng.normal(0, 0.2, (2, count))
            r = np.hypot(
                y[None] - row - drift[0, :, None, None], x[None] - col - drift[1, :, None, None]
            )
            expected += height[:, None, None] * (0.5 - 0.5 * np.tanh((r - radius) / 0.6))
    return rng.poisson(expected).astype(np.float32)


@pytest.mark.parametrize("background", [0.0, 0.02, 1.0, 50.0])
@pytest.mark.parametrize("radius", [1.5, 5.0, 8.5])
def test_sound_detectors_lose_next_to_nothing(background: float, radius: float) -> None:
    assert (~find_mask(scan(background, radius))).sum() <= 3


@pytest.mark.parametrize("background", [1.0, 50.0])
def test_dead_and_hot_pixels_are_found(background: float) -> None:
    patterns = scan(background)
    dead, hot = (rng := np.random.default_rng(5)).integers(2, 94, (2, 8, 2))
    patterns[:, dead[:, 0], dead[:, 1]] = 0
    patterns[:, hot[:, 0], hot[:, 1]] = rng.poisson(500, (49, 8))
    good = find_mask(patterns)
    assert not good[hot[:, 0], hot[:, 1]].any()
    assert good[dead[:, 0], dead[:, 1]].sum() <= (2 if background < 10 else 0)
    assert (~good).sum() <= 20


def test_a_stop_before_a_background_is_hidden_and_the_dark_without_one_is_not() -> None:
    y, x = np.mgrid[:96, :96]
    stop = (np.abs(x - 48) < 4) & (y < 56)
    patterns = scan(2.0)
    patterns[:, stop] = 0
    good = find_mask(patterns)
    assert not good[stop].any()
    assert good[~stop].mean() > 0.99
    dark = scan(0.0)
    dark[:, stop] = 0
    assert find_mask(dark).mean() > 0.95


def test_the_cross_between_chips_is_found() -> None:
    patterns = scan(3.0)
    patterns[:, 47:49] = 0
    good = find_mask(patterns)
    assert not good[47:49].any()
    assert good[:46].all()


def test_constant_and_single_patterns_are_no_trouble() -> None:
    assert find_mask(np.zeros((5, 32, 32), np.float32)).all()
    assert find_mask(scan(2.0, count=1)).mean() > 0.99
