"""Counts per electron, and without any, from the noise."""

import numpy as np
import pytest
from disk_patterns import grid_places, simulate
from scipy.ndimage import gaussian_filter

from diskern.bragg.disk_gain import Response, estimate_response, suspected_bias

EVERYWHERE = np.ones((96, 96), bool)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    place = grid_places(8, 96, 26)
    return simulate(place, np.full((8, 9), 20_000.0), background=20.0, contrast=0.6).counts


def test_counted_electrons_have_gain_one(counts: np.ndarray) -> None:
    assert estimate_response(counts, EVERYWHERE) == Response(1.0, 0.0)


def test_single_counts_in_empty_places_are_electrons() -> None:
    """Though the disks, all there is to compare noise in, are rough."""
    number = 10 ** np.random.default_rng(3).uniform(3, 5, (8, 9))
    made = simulate(
        grid_places(8, 96, 26), number, radius=5.0, edge=0.4, background=0.004, contrast=0.3
    )
    assert estimate_response(made.counts, EVERYWHERE) == Response(1.0, 0.0)
    # What each of them makes of several pixels, or many counts, is no electron.
    scaled = estimate_response(300 * made.counts, EVERYWHERE)
    assert scaled.gain > 50


@pytest.mark.parametrize("gain", [0.013, 7.3, 410.5])
def test_any_other_gain_is_told(counts: np.ndarray, gain: float) -> None:
    scaled = (counts * gain).astype(np.float32)
    found = estimate_response(scaled, EVERYWHERE)
    assert found.gain == pytest.approx(gain, rel=0.25)
    assert found.dark == 0


@pytest.mark.parametrize("dark", [-400.0, -2000.0])
@pytest.mark.parametrize("gain", [0.2, 1.0, 7.3])
def test_counts_that_begin_below_zero_tell_the_dark_level(
    counts: np.ndarray, gain: float, dark: float
) -> None:
    found = estimate_response((counts * gain + dark).astype(np.float32), EVERYWHERE)
    # Fringes roughen bright tiles, so that some of the background is taken for dark.
    assert dark - 5 * gain < found.dark < dark + 20 * gain
    assert 0.7 * gain < found.gain < 2.5 * gain


@pytest.mark.parametrize("dark", [400.0, -3.0])
def test_a_dark_level_that_is_known_leaves_the_gain(counts: np.ndarray, dark: float) -> None:
    found = estimate_response((counts * 7.3 + dark).astype(np.float32), EVERYWHERE, dark)
    assert found.gain == pytest.approx(7.3, rel=0.25)
    assert found.electrons(np.full(1, dark + found.gain, np.float32)) == pytest.approx(1, rel=1e-3)


def test_noise_about_zero_is_no_dark_level() -> None:
    read = np.random.default_rng(0).normal(0, 5.0, (8, 96, 96)).astype(np.float32)
    assert estimate_response(read, EVERYWHERE).dark == 0


@pytest.mark.parametrize("gain", [1.0, 7.3])
def test_a_bias_is_suspected_where_there_is_one(counts: np.ndarray, gain: float) -> None:
    read = np.random.default_rng(1).normal(0, 3.0, counts.shape)
    assert suspected_bias((counts * gain).astype(np.float32), EVERYWHERE) is None
    assert suspected_bias(np.zeros((2, 96, 96), np.float32), EVERYWHERE) is None
    biased = (counts * gain + 900 + read).astype(np.float32)
    assert suspected_bias(biased, EVERYWHERE) == pytest.approx(900, rel=0.12)


def test_masked_pixels_do_not_count(counts: np.ndarray) -> None:
    mask = EVERYWHERE.copy()
    mask[10:14], mask[:, 70] = False, False
    spoilt = counts * np.float32(7.3)
    spoilt[:, ~mask] = 60_000 * np.random.default_rng(0).random((~mask).sum())
    assert estimate_response(spoilt, mask).gain == pytest.approx(7.3, rel=0.25)


@pytest.mark.parametrize("value", [0.0, 12.0])
def test_constant_patterns_say_nothing(value: float) -> None:
    assert estimate_response(np.full((3, 96, 96), value, np.float32), EVERYWHERE) == Response()


def test_tiny_patterns_say_nothing() -> None:
    tiny = np.random.default_rng(0).poisson(9.0, (4, 5, 5)).astype(np.float32)
    assert estimate_response(tiny, np.ones((5, 5), bool)) == Response()


@pytest.mark.parametrize("gain", [1.0, 40.0])
@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_read_out_noise_is_told_from_that_of_electrons(noise: float, gain: float) -> None:
    place = grid_places(8, 96, 26)
    seen = simulate(place, np.full((8, 9), 9000.0), background=0.3)
    rows, cols = np.indices((96, 96)) - 48
    diffuse = 40 * np.exp(-np.hypot(rows, cols) / 10)
    rng = np.random.default_rng(3)
    read = rng.normal(0, noise, seen.counts.shape) + rng.poisson(diffuse, seen.counts.shape)
    found = estimate_response((gain * (seen.counts + read)).astype(np.float32), EVERYWHERE)
    assert found.read_noise == pytest.approx(gain * np.hypot(noise, np.sqrt(0.3)), rel=0.25)
    assert gain / 2 < found.gain < 2 * gain
    assert found.dim_light == pytest.approx((found.read_noise / found.gain) ** 2)


@pytest.mark.parametrize("spread", [0.3, 0.5])
def test_light_spread_by_a_scintillator_hides_no_gain(spread: float, counts: np.ndarray) -> None:
    blurred = np.stack([gaussian_filter(7.3 * image, spread, mode="wrap") for image in counts])
    assert 7.3 / 2 < estimate_response(blurred, EVERYWHERE).gain < 7.3 * 2


def test_a_hot_pixel_that_is_no_whole_number_leaves_electrons_counted(counts: np.ndarray) -> None:
    hot = counts.copy()
    hot[:, 30, 40] = 1234.5
    assert estimate_response(hot, EVERYWHERE) == Response(1.0, 0.0)


def test_noise_alone_is_that_of_reading_out() -> None:
    read = np.random.default_rng(0).normal(0, 5.0, (8, 96, 96)).astype(np.float32)
    assert estimate_response(read, EVERYWHERE) == Response(1.0, 0.0, pytest.approx(5.0, rel=0.1))


@pytest.mark.parametrize("gain", [1.0, 7.3])
def test_flat_light_tells_the_gain(gain: float) -> None:
    flat = np.random.default_rng(0).poisson(40.0, (8, 96, 96)) * gain
    found = estimate_response(flat.astype(np.float32), EVERYWHERE)
    assert found.gain == (1.0 if gain == 1 else pytest.approx(gain, rel=0.1))
    assert found.read_noise == 0
