"""Rings of few grains: spots at one distance in many directions."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.bragg.ring_grains import grain_rings, single_spots
from diskern.patterns.geometry import Centre, Ellipse

CENTRE = Centre(128.0, 131.0, 0.1, "peak")


def frame(rng, places, height=60.0):
    """A 256 × 256 Poisson image with a falling background and a spot at each place."""
    row, col = np.indices((256, 256))
    mean = 20 + 400 * np.exp(-np.hypot(row - 128, col - 131) / 20)
    for r, c in places:
        mean = mean + height * np.exp(-((row - r) ** 2 + (col - c) ** 2) / 4)
    return rng.poisson(mean).astype(float)


def on_circle(rng, radius, count):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 0.3, count)
    return np.stack([128 + radius * np.sin(angle), 131 + radius * np.cos(angle)], 1)


GOOD = np.ones((256, 256), bool)


def test_spots_are_found_where_they_are():
    rng = np.random.default_rng(1)
    radius, azimuth = single_spots(frame(rng, on_circle(rng, 70, 9)), GOOD, CENTRE, Ellipse())
    near = np.abs(radius - 70) < 1.5
    assert near.sum() == 9
    assert (~near).sum() <= 2
    assert len(np.unique((azimuth[near] / (2 * np.pi) * 9).astype(int))) >= 8


@pytest.mark.parametrize("count", [8, 14])
def test_grains_at_two_distances_are_two_rings(count):
    rng = np.random.default_rng(count)
    places = np.concatenate([on_circle(rng, 60, count), on_circle(rng, 84.8, count)])
    places = np.concatenate([places, rng.uniform(20, 236, (10, 2))])  # and some anywhere
    found = grain_rings(frame(rng, places), GOOD, CENTRE, Ellipse(), np.zeros(0))
    radii = sorted(r.radius for r in found[:2])
    assert radii == pytest.approx([60, 84.8], abs=0.7)
    assert all(r.grains >= count - 2 for r in found[:2])
    assert all(abs(r.radius - t) < 4 * max(r.sigma, 0.2) for r, t in zip(
        sorted(found[:2]), (60, 84.8), strict=True))  # fmt: skip


def test_rings_that_are_known_are_not_found_again():
    rng = np.random.default_rng(5)
    image = frame(rng, on_circle(rng, 60, 12))
    assert grain_rings(image, GOOD, CENTRE, Ellipse(), np.array([60.4])) == []


def test_spots_anywhere_and_one_row_are_no_ring():
    rng = np.random.default_rng(6)
    for _ in range(5):
        places = np.stack([rng.uniform(15, 241, 20), rng.uniform(15, 241, 20)], 1)
        assert grain_rings(frame(rng, places), GOOD, CENTRE, Ellipse(), np.zeros(0)) == []
    row = np.stack(
        [np.full(9, 128.0), 131 + np.array([-96, -72, -48, -24, 24, 48, 72, 96, 108])], 1
    )
    assert grain_rings(frame(rng, row), GOOD, CENTRE, Ellipse(), np.zeros(0)) == []


def test_masked_spots_do_not_count():
    rng = np.random.default_rng(7)
    places = on_circle(rng, 60, 8)
    good = GOOD.copy()
    for r, c in places[:4].astype(int):
        good[r - 6 : r + 7, c - 6 : c + 7] = False
    assert grain_rings(frame(rng, places), good, CENTRE, Ellipse(), np.zeros(0)) == []
