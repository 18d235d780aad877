"""Refusals: what has no lattice is said to have none, and why."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import Canvas, decagonal, hexagonal

from diskern.bragg.noncrystal import forbidden_order, halo_radius, refusal
from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre

CENTRE = Centre(256.3, 250.1, 0.1, "known")
SHAPE = (512, 512)


def _as_spots(offset: np.ndarray, seed: int = 0, blur: float = 0.15) -> Spots:
    rng = np.random.default_rng(seed)
    place = offset + CENTRE.as_array() + rng.normal(0, blur, offset.shape)
    count = len(place)
    one = np.ones(count)
    return Spots(place, np.full((count, 2), blur), 1000 * one, 10 * one, 1.5 * one)


def _star(seed: int = 0) -> np.ndarray:
    star = decagonal(55.0, 230.0, 1.3)
    order = np.argsort(-star[:, 2] * (1 + 0.2 * np.random.default_rng(seed).random(len(star))))
    return star[order][:80, :2]


@pytest.mark.parametrize("seed", range(3))
def test_ten_fold(seed: int) -> None:
    found = forbidden_order(_as_spots(_star(seed), seed), CENTRE, SHAPE)
    assert found is not None
    assert found.order in (5, 10)


def test_ten_fold_with_a_tenth_of_the_spots_missing() -> None:
    star = _star(3)
    keep = np.random.default_rng(1).random(len(star)) > 0.08
    assert forbidden_order(_as_spots(star[keep]), CENTRE, SHAPE) is not None


@pytest.mark.parametrize("length", [22.0, 31.0, 47.0])
@pytest.mark.parametrize("angle", [60, 75, 90])
def test_lattices_are_none(length: float, angle: float) -> None:
    a = length * np.array([np.sin(0.2), np.cos(0.2)])
    t = 0.2 + np.radians(angle)
    b = length * np.array([np.sin(t), np.cos(t)])
    grid = np.array(
        [m * a + n * b for m in range(-9, 10) for n in range(-9, 10) if (m, n) != (0, 0)]
    )
    inside = np.linalg.norm(grid, axis=1) < 230
    assert forbidden_order(_as_spots(grid[inside]), CENTRE, SHAPE) is None


def test_random_spots_and_twins_are_none() -> None:
    rng = np.random.default_rng(2)
    assert forbidden_order(_as_spots(rng.uniform(-220, 220, (60, 2))), CENTRE, SHAPE) is None
    a, b = (np.array(v) for v in hexagonal((0, 0), 40.0))
    grid = np.array([m * a + n * b for m in range(-5, 6) for n in range(-5, 6) if (m, n) != (0, 0)])
    turn = np.radians(17)
    twin = grid @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    assert forbidden_order(_as_spots(np.concatenate([grid, twin])), CENTRE, SHAPE) is None


def test_sentences() -> None:
    none = Spots.empty()
    assert "no spots" in str(refusal(none, (), None, None, CENTRE, SHAPE))
    assert "amorphous" in str(refusal(none, (), None, 80.0, CENTRE, SHAPE))
    few = _as_spots(np.array([[40.0, 3.0]]))
    assert "too few" in str(refusal(few, (), None, None, CENTRE, SHAPE))
    star = refusal(_as_spots(_star()), (), None, None, CENTRE, SHAPE)
    assert "quasicrystal" in str(star)
    wide = Centre(250.0, 250.0, 0.2, "direct beam", radius=60.0)
    assert "convergent" in str(refusal(none, (), None, None, wide, SHAPE))


def test_halo_and_ring_profiles() -> None:
    r = np.arange(250.0)
    fall = 200 * np.exp(-r / 20) + 5
    sigma = np.full(250, 0.05)
    halo = fall + 12 * np.exp(-((r - 80) ** 2) / (2 * 9**2))
    assert halo_radius(halo, sigma) == pytest.approx(80, abs=6)
    ring = fall + 12 * np.exp(-((r - 80) ** 2) / (2 * 1.5**2))
    assert halo_radius(ring, sigma) is None
    assert halo_radius(fall, sigma) is None
    assert halo_radius(np.full(250, np.nan), sigma) is None


def test_a_simulated_quasicrystal_image() -> None:
    from diskern.bragg.analyse import analyse
    from diskern.patterns.pattern import Pattern

    canvas = Canvas((512, 512), (256.3, 250.1), 1).background().beam()
    star = decagonal(55.0, 240.0, 1.3)
    for row, col, weight in star[star[:, 2] > 0.08]:
        canvas.spot(256.3 + row, 250.1 + col, 8000 * weight, 1.6)
    result = analyse(Pattern.from_array(canvas.counts()))
    assert result.kind == "none"
    assert "quasicrystal" in str(result.refusal)
