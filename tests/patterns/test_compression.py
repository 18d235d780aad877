"""What JPEG compression leaves is told from the images themselves."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import Canvas, jpeg

from diskern.patterns.compression import compression_variance
from diskern.patterns.levels import estimate_noise


def _grainy(seed: int = 0, level: float = 30.0) -> np.ndarray:
    rows, cols = np.indices((256, 240))
    mean = level + 120 * np.exp(-np.hypot(rows - 120, cols - 130) / 40)
    return np.random.default_rng(seed).poisson(mean).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [45, 60, 75])
@pytest.mark.parametrize("crop", [(0, 0), (3, 5)])
def test_variance_is_that_of_the_coefficients_that_were_rounded(quality: int, crop) -> None:
    image = _grainy()
    decoded = jpeg(image, quality).astype(np.float32)
    # Less than Δ²/12 is lost where noise is too weak to reach the first step.
    lost = float(np.var(decoded - image.astype(float)))
    told = compression_variance(decoded[crop[0] :, crop[1] :])
    assert 0.2 * lost < told < 2 * lost


@pytest.mark.parametrize("level", [0.05, 1.0, 40.0])
def test_counts_are_not_compressed(level: float) -> None:
    canvas = Canvas((320, 300), (150.0, 160.0), 2).background(level, 0).beam(1e5)
    canvas.lattice((0.0, 31.0), (28.0, 3.0), 900, 1.4)
    assert compression_variance(canvas.counts().astype(np.float32)) == 0


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64)), np.eye(20), np.ones((5, 300)), np.ones((9, 9))]
)
def test_images_without_blocks_tell_nothing(image: np.ndarray) -> None:
    assert compression_variance(image.astype(np.float32)) == 0


def test_noise_of_a_compressed_image_is_at_least_what_compression_made() -> None:
    decoded = jpeg(_grainy(level=2.0), 50).astype(np.float32)
    everywhere = np.ones(decoded.shape, dtype=bool)
    noise = estimate_noise(decoded, everywhere)
    assert noise.floor >= compression_variance(decoded) > 3
