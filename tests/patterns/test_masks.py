"""Flaws planted in simulated images are found, and sound pixels are let be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import Canvas, hexagonal, jpeg

from diskern.patterns.geometry import Flaw
from diskern.patterns.masks import find_flaws, usable
from diskern.patterns.read import read


def _canvas(seed: int = 0, shape: tuple[int, int] = (384, 420)) -> Canvas:
    canvas = Canvas(shape, (0.48 * shape[0], 0.53 * shape[1]), seed).background()
    return canvas.lattice(*hexagonal(canvas.centre, 47.0), electrons=1500, sigma=1.2)


def _has(flaws: np.ndarray, flaw: Flaw) -> np.ndarray:
    return (flaws & np.uint16(flaw)) != 0


@pytest.mark.parametrize("sigma", [0.8, 1.2, 3.0])
def test_sharp_spots_are_not_hot(sigma: float) -> None:
    canvas = Canvas((300, 300), (150.0, 140.0), 5).background()
    canvas.lattice(*hexagonal(canvas.centre, 37.0), electrons=900, sigma=sigma)
    flaws = find_flaws(canvas.counts())
    near = np.zeros(flaws.shape, bool)
    for row, col, _ in canvas.spots:
        near[round(row) - 2 : round(row) + 3, round(col) - 2 : round(col) + 3] = True
    assert _has(flaws, Flaw.HOT)[near].mean() < 0.003
    assert (flaws != 0).mean() < 0.001


def test_hot_and_dead_pixels() -> None:
    canvas = _canvas(1)
    image = canvas.counts() + canvas.rng.poisson(60, canvas.shape)
    rows, cols = canvas.rng.integers(5, 370, (2, 150))
    image[rows[:100], cols[:100]] += canvas.rng.uniform(200, 5000, 100)
    image[rows[100:], cols[100:]] = 0
    flaws = find_flaws(image)
    assert _has(flaws, Flaw.HOT)[rows[:100], cols[:100]].mean() > 0.93
    assert _has(flaws, Flaw.DEAD)[rows[100:], cols[100:]].mean() > 0.9
    assert (flaws != 0).sum() < 175


def test_hot_pixels_among_few_counts() -> None:
    """Ten counts where one is usual are an accident; three are not."""
    rng = np.random.default_rng(2)
    image = rng.poisson(1.0, (400, 400)).astype(float)
    image[50, 60], image[200, 300] = 40, 25
    flaws = find_flaws(image)
    assert _has(flaws, Flaw.HOT)[50, 60]
    assert _has(flaws, Flaw.HOT)[200, 300]
    assert (flaws != 0).sum() <= 4


@pytest.mark.parametrize("angle", [0, 40, 90, 135, 200, 290])
def test_beam_stop_from_any_side(angle: float) -> None:
    canvas = _canvas(angle)
    covered = canvas.beam_stop(angle, 16)
    flaws = find_flaws(canvas.counts())
    found = _has(flaws, Flaw.BEAM_STOP) | _has(flaws, Flaw.MISSING)
    assert found[covered].mean() > 0.9
    # Its penumbra of two or three pixels is taken with it, not much more.
    assert found[~covered].sum() < 0.45 * covered.sum()


def test_fading_background_is_no_beam_stop() -> None:
    canvas = Canvas((400, 400), (200.0, 200.0), 3).background(level=0.0, peak=500, decay=45).beam()
    assert not _has(find_flaws(canvas.counts()), Flaw.BEAM_STOP).any()


@pytest.mark.parametrize("angle", [15, 100, 250])
def test_a_beam_stop_whose_shaft_is_lost_in_the_dark(angle: float) -> None:
    canvas = Canvas((400, 400), (200.0, 210.0), 5).background(level=0.0, peak=400, decay=28)
    canvas.lattice(*hexagonal(canvas.centre, 40.0))
    covered = canvas.beam_stop(angle, 10)
    found = _has(find_flaws(canvas.counts()), Flaw.BEAM_STOP)
    near = canvas.radius < 60
    assert found[covered & near].mean() > 0.8
    assert found[~covered].mean() < 0.02


def test_round_detector() -> None:
    canvas = _canvas(4)
    outside = np.hypot(canvas.y - 192, canvas.x - 210) > 185
    canvas.mean = np.where(outside, 0.0, canvas.mean + 20)
    flaws = find_flaws(canvas.camera())
    assert _has(flaws, Flaw.MISSING)[outside].mean() > 0.95
    assert not usable(flaws)[outside].all()
    assert (flaws != 0)[~outside].mean() < 0.08


def test_saturation_and_blooming() -> None:
    canvas = _canvas(6)
    canvas.beam(3e6, 4.0)
    image = canvas.camera(bits=12)
    row, col = (round(c) for c in canvas.centre)
    plateau = image == 4095
    image[row - 120 : row + 110, col - 4 : col + 5] += 900
    image = np.minimum(image, 4095)
    flaws = find_flaws(image)
    assert _has(flaws, Flaw.SATURATED)[plateau].mean() > 0.95
    assert _has(flaws, Flaw.BLOOMING)[row - 100 : row - 40, col].mean() > 0.9
    assert _has(flaws, Flaw.BLOOMING).sum() < 6000


def test_halo_of_a_bright_beam_is_not_blooming() -> None:
    canvas = Canvas((256, 256), (127.0, 126.0), 7).background(1, 4000, 12).beam(4e6, 4)
    assert not _has(find_flaws(canvas.camera(bits=14)), Flaw.BLOOMING).any()


def test_title_bar_frame_and_cross() -> None:
    canvas = _canvas(8)
    image = canvas.picture(80.0)
    image[:18] = 35
    image[[0, 17]] = 206
    image[5:12, 20:24] = 250
    image[-30:] = 0
    flaws = find_flaws(jpeg(image, 95))
    assert _has(flaws, Flaw.OVERLAY)[:17].mean() > 0.95
    assert (flaws != 0)[40:340, 20:-20].mean() < 0.02
    counts = Canvas((512, 512), (240.0, 250.0), 9).background().counts()
    counts[255:257] = np.random.default_rng(0).poisson(3 * (2 + counts[250:252]))
    counts[:, 255:257] = np.random.default_rng(1).poisson(3 * (2 + counts[:, 250:252]))
    cross = _has(find_flaws(counts), Flaw.CROSS)
    assert cross[255:257].all()
    assert cross[:, 255:257].all()
    assert cross.sum() == 2 * 2 * 512 - 4


@pytest.mark.parametrize("factor", [0.0, 2.5])
def test_cross_on_sparse_counts(factor: float) -> None:
    rows, cols = np.indices((512, 512))
    mean = 6 * np.exp(-np.hypot(rows - 230, cols - 270) / 60) + 0.1
    mean[np.hypot(rows - 150, cols - 300) < 4] += 200
    counts = np.random.default_rng(4).poisson(mean).astype(np.float32)
    assert np.median(counts) == 0
    assert not _has(find_flaws(counts), Flaw.CROSS).any()
    counts[255:257] = np.round(factor * counts[255:257])
    counts[:, 255:257] = np.round(factor * counts[:, 255:257])
    cross = _has(find_flaws(counts), Flaw.CROSS)
    assert cross[255:257].mean() > 0.95
    assert cross[:, 255:257].mean() > 0.95
    assert cross.sum() < 2 * 2 * 512


@pytest.mark.parametrize("level", [0.1, 1.0, 20.0])
def test_rows_of_spots_along_the_detector_are_no_cross(level: float) -> None:
    canvas = Canvas((256, 256), (128.0, 128.0), 3).background(level, 0).beam(1e5)
    for step in (-84, -56, -28, 28, 56, 84):
        canvas.spot(128 + step, 128, 3000, 1.5).spot(128, 128 + step, 3000, 1.5)
    assert not _has(find_flaws(canvas.counts()), Flaw.CROSS).any()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 60)),
        np.full((32, 32), 7, np.uint16),
        np.full((30, 30), np.nan),
        np.eye(20),
        np.random.default_rng(0).normal(0, 1, (16, 300)),
        np.where(np.arange(10000).reshape(100, 100) % 7 == 0, np.nan, 3.0),
    ],
)
def test_odd_images_do_no_harm(image: np.ndarray) -> None:
    flaws = find_flaws(image)
    assert flaws.shape == image.shape
    assert _has(flaws, Flaw.MISSING)[~np.isfinite(image)].all()


def test_inverted_contrast_gives_the_same_flaws() -> None:
    canvas = _canvas(11)
    canvas.beam_stop(10, 18)
    picture = canvas.picture(90.0)
    a, b = find_flaws(picture), find_flaws(255 - picture)
    assert ((a != 0) != (b != 0)).mean() < 0.01


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("Au_Nano_1.png", 0.09, 0.14),
        ("Ag_Nano2.png", 0.08, 0.14),
        ("ZnO_Nano.png", 0.06, 0.12),
        ("bismuth.dm4", 0.03, 0.08),
        ("stackingFault_crop.png", 0.08, 0.20),
        ("00001.tiff", 0, 0),
        ("TIMEPIX_SU_512-stdgoni_0001.img", 0, 0),
        ("twinsFault_crop.png", 0, 0),
    ],
)
def test_beam_stops_of_real_files(experimental: Path, name: str, low: float, high: float) -> None:
    pattern = read(next(experimental.rglob(name)))
    assert low <= _has(find_flaws(pattern.image), Flaw.BEAM_STOP).mean() <= high
