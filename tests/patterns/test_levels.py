"""Noise and polarity read off images that hold spots too."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import Canvas, hexagonal

from diskern.patterns.levels import block_mean, estimate_noise, upright


def _canvas(seed: int) -> Canvas:
    canvas = Canvas((300, 340), (140.0, 180.0), seed).background()
    return canvas.lattice(*hexagonal(canvas.centre, 41.0)).beam()


def test_gain_of_counts_is_one() -> None:
    image = _canvas(1).counts().astype(np.float32)
    assert estimate_noise(image, np.ones(image.shape, bool)).gain == pytest.approx(1, abs=0.2)


def test_gain_and_readout_of_a_camera() -> None:
    image = _canvas(2).camera(gain=6.0, read=3.0).astype(np.float32)
    noise = estimate_noise(image, np.ones(image.shape, bool))
    assert noise.gain == pytest.approx(6, rel=0.2)
    level = np.float32(image.min() + 600.0)
    assert float(noise.variance(level)) == pytest.approx(6 * 600, rel=0.3)


def test_blank_corners_are_not_taken_for_the_quiet_part_of_a_camera() -> None:
    canvas = _canvas(4)
    image = canvas.camera(gain=6.0, read=3.0).astype(np.float32)
    rows, cols = np.indices(image.shape)
    image[np.hypot(rows - 150, cols - 170) > 165] = image.min()
    noise = estimate_noise(image, np.ones(image.shape, bool))
    assert noise.gain == pytest.approx(6, rel=0.2)
    assert noise.floor > 3


def test_enlarged_picture_is_not_taken_for_noiseless() -> None:
    image = np.repeat(np.repeat(_canvas(3).counts(), 2, 0), 2, 1).astype(np.float32)
    assert estimate_noise(image, np.ones(image.shape, bool)).gain == pytest.approx(1, abs=0.2)


def test_negatives_are_turned_and_positives_left() -> None:
    picture = _canvas(4).picture(60.0)
    turned, inverted = upright(255 - picture)
    assert inverted
    assert np.array_equal(turned, picture.astype(np.float32) - picture.min())
    assert not upright(picture)[1]
    assert not upright(np.zeros((20, 20)))[1]


def test_noisy_negatives_are_turned() -> None:
    rng = np.random.default_rng(2)
    canvas = _canvas(5)
    picture = np.clip(canvas.picture(60.0) + rng.normal(0, 40, canvas.shape), 0, 255)
    assert upright(255 - picture)[1]
    assert not upright(picture)[1]


def test_a_dark_frame_makes_no_negative() -> None:
    rng = np.random.default_rng(3)
    picture = 200 + rng.normal(0, 15, (400, 400))
    y, x = np.indices(picture.shape)
    away = np.hypot(y - 200, x - 200)
    picture += 50 * np.exp(-away / 30)
    picture[away > 195] = 0
    assert not upright(picture)[1]


def test_block_mean_leaves_out_bad_pixels() -> None:
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    good = np.ones((8, 8), bool)
    good[0, 0] = False
    mean, share = block_mean(image, good, 4)
    assert mean[1, 1] == image[4:, 4:].mean()
    assert mean[0, 0] == pytest.approx(image[:4, :4].sum() / 15)
    assert share[0, 0] == pytest.approx(15 / 16)


def test_an_image_without_noise_has_none() -> None:
    image = np.full((64, 64), 0.5, np.float32)
    image[30:34, 30:34] = 7.25
    noise = estimate_noise(image, np.ones(image.shape, bool))
    assert noise.gain == 0
    assert np.isfinite(noise.floor)


def test_a_frame_that_is_all_but_empty_has_no_gain_that_overflows() -> None:
    image = np.random.default_rng(1).poisson(0.002, (200, 200)).astype(np.float32)
    assert estimate_noise(image, np.ones(image.shape, bool)).gain == 0
