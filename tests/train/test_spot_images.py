"""Spot lists as images: where spots come to lie, how bright, and at which camera length."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from diskern.bragg.spot_tokens import FLOOR
from diskern.train.samples import Block
from diskern.train.spot_images import images_of_blocks, spot_images
from diskern.train.spot_sets import SpotSets
from diskern.train.train_recipe import load_train_recipe


@cache
def block() -> Block:
    return SpotSets(load_train_recipe("spot_set_smoke").data).block(2)


def test_a_spot_lies_where_its_vector_points() -> None:
    image = spot_images(np.array([[[0.5, -0.25]]]), np.ones((1, 1)), 64)[0].astype(float)
    rows, columns = np.mgrid[:64, :64]
    centre = [(image * axis).sum() / image.sum() for axis in (rows, columns)]
    # The middle of the image lies between pixels 31 and 32; x runs along columns.
    np.testing.assert_allclose(centre, [31.5 - 8, 31.5 + 16], atol=0.01)


def test_brightness_is_logarithmic_and_the_brighter_spot_shows() -> None:
    place = np.array([[[-0.5, 0.0], [0.5, 0.0], [0.52, 0.0], [3.0, 0.0], [0.0, 0.0]]])
    image = spot_images(place, np.array([[1.0, FLOOR**0.5, FLOOR, 0.5, 0.0]]), 33)[0]
    assert image[16, 8] == pytest.approx(1, abs=0.1)
    assert image[16, 24] == pytest.approx(0.5, abs=0.05)
    assert image[16, 16] == 0
    assert image.max() <= 1


def test_patterns_of_a_crystal_have_one_camera_length() -> None:
    made = images_of_blocks([block()], 48)
    assert made.image.shape == (len(block()["q"]), 48, 48)
    assert len(set(made.log_scale)) == 1
    near = {**block(), "q": block()["q"] / 2}
    half = images_of_blocks([block(), near], 48)
    np.testing.assert_allclose(half.image[len(near["q"]) :], made.image, atol=1e-5)
    np.testing.assert_allclose(np.diff(half.log_scale[[0, -1]]), [-np.log(2)], atol=1e-6)


def test_no_spots_make_an_empty_image() -> None:
    dark = {**block(), "intensity": np.zeros_like(block()["intensity"])}
    made = images_of_blocks([dark], 32)
    assert not made.image.any()
    assert np.isfinite(made.log_scale).all()
