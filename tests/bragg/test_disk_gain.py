"""Counts per electron from the noise."""

import numpy as np
import pytest
from disk_patterns import grid_places, simulate

from diskern.bragg.disk_gain import estimate_gain

EVERYWHERE = np.ones((96, 96), bool)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    place = grid_places(8, 96, 26)
    return simulate(place, np.full((8, 9), 20_000.0), background=20.0, contrast=0.6).counts


def test_counted_electrons_have_gain_one(counts: np.ndarray) -> None:
    assert estimate_gain(counts, EVERYWHERE) == 1.0


@pytest.mark.parametrize("gain", [0.013, 7.3, 410.5])
def test_any_other_gain_is_told(counts: np.ndarray, gain: float) -> None:
    scaled = (counts * gain).astype(np.float32)
    assert estimate_gain(scaled, EVERYWHERE) == pytest.approx(gain, rel=0.25)


def test_masked_pixels_do_not_count(counts: np.ndarray) -> None:
    mask = EVERYWHERE.copy()
    mask[10:14], mask[:, 70] = False, False
    spoilt = counts * np.float32(7.3)
    spoilt[:, ~mask] = 60_000 * np.random.default_rng(0).random((~mask).sum())
    assert estimate_gain(spoilt, mask) == pytest.approx(7.3, rel=0.25)


@pytest.mark.parametrize("value", [0.0, 12.0])
def test_constant_patterns_say_nothing(value: float) -> None:
    assert estimate_gain(np.full((3, 96, 96), value, np.float32), EVERYWHERE) == 1.0


def test_tiny_patterns_say_nothing() -> None:
    tiny = np.random.default_rng(0).poisson(9.0, (4, 5, 5)).astype(np.float32)
    assert estimate_gain(tiny, np.ones((5, 5), bool)) == 1.0
