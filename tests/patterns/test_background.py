"""The background is followed, spots and rings are left standing."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import Canvas, hexagonal

from diskern.patterns.background import clip_bumps, radial_background, radial_profile, with_rings
from diskern.patterns.geometry import Centre
from diskern.patterns.masks import find_flaws


def _scene() -> tuple[Canvas, np.ndarray, Centre]:
    canvas = Canvas((380, 360), (185.0, 170.0), 0).background(6, 120, 45)
    return canvas, canvas.mean.copy(), Centre(*canvas.centre, 0.1, "known")


def test_follows_a_falling_background_under_spots() -> None:
    canvas, truth, centre = _scene()
    canvas.lattice(*hexagonal(canvas.centre, 40.0), electrons=3000)
    image = canvas.counts()
    found = radial_background(image, centre, find_flaws(image))
    far = canvas.radius > 12
    assert np.median(np.abs(found - truth)[far] / truth[far]) < 0.08
    assert np.percentile(np.abs(found - truth)[far], 95) < 3


def test_rings_are_left_and_then_taken() -> None:
    canvas, _, centre = _scene()
    canvas.ring(90, 30, 3.0).ring(130, 15, 3.0)
    image = canvas.counts()
    flaws = find_flaws(image)
    smooth = radial_background(image, centre, flaws)
    on_ring = np.abs(canvas.radius - 90) < 1
    height = (image - smooth)[on_ring].mean()
    assert height == pytest.approx(29, abs=5)
    full = with_rings(smooth, image, centre, flaws)
    assert abs((image - full)[on_ring].mean()) < 2
    assert (full >= smooth).all()


def test_beside_a_beam_stop() -> None:
    canvas, truth, centre = _scene()
    covered = canvas.beam_stop(0)
    image = canvas.counts()
    found = radial_background(image, centre, find_flaws(image))
    beside = ~covered & (canvas.radius > 20) & (np.abs(canvas.y - 185) < 24)
    assert np.median(np.abs(found - truth)[beside] / truth[beside]) < 0.12


def test_clip_bumps_takes_rings_only() -> None:
    r = np.arange(200.0)
    smooth = 100 * np.exp(-r / 30) + 5
    bumpy = smooth + 20 * np.exp(-((r - 80) ** 2) / 18)
    clipped = clip_bumps(bumpy)
    assert np.abs(clipped - smooth)[20:].max() < 2.0


def test_profile_bounds_single_spots() -> None:
    canvas, truth, centre = _scene()
    canvas.spot(185 + 100, 170, 50_000, 2)
    image = canvas.counts()
    profile, sigma = radial_profile(image, centre, find_flaws(image))
    at = 100
    expected = truth[np.abs(canvas.radius - 100.5) < 0.5].mean()
    assert abs(profile[at] - expected) < 0.3 * expected
    assert np.isfinite(sigma[20:150]).all()
    assert np.isnan(profile[-1])
