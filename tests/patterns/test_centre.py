"""The direct beam: seen, saturated, off the middle, behind a stop, outshone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import Canvas, hexagonal

from diskern.crystal.common import common_phases
from diskern.patterns.centre import find_centre
from diskern.patterns.geometry import Flaw
from diskern.patterns.masks import find_flaws
from diskern.patterns.read import read
from diskern.simulate.render import render_spots
from diskern.simulate.saed import simulate_saed


def _off(canvas: Canvas, image: np.ndarray) -> tuple[float, float, str]:
    found = find_centre(image, find_flaws(image))
    away = float(np.hypot(found.row - canvas.centre[0], found.col - canvas.centre[1]))
    return away, found.sigma, found.method


@pytest.mark.parametrize("centre", [(200.3, 210.8), (130.2, 300.6), (290.0, 120.5)])
def test_visible_beam_anywhere(centre: tuple[float, float]) -> None:
    canvas = Canvas((400, 420), centre, 1).background()
    canvas.lattice(*hexagonal(centre, 43.0), friedel=1.2).beam(1e5, 2)
    away, sigma, method = _off(canvas, canvas.counts())
    assert method == "direct beam"
    assert away < 0.15
    assert away < 4 * sigma


@pytest.mark.parametrize("seed", range(3))
def test_saturated_beam(seed: int) -> None:
    canvas = Canvas((400, 420), (190.4, 225.7), seed).background()
    canvas.lattice(*hexagonal(canvas.centre, 43.0)).beam(2e6, 4)
    away, sigma, _ = _off(canvas, canvas.camera(bits=12))
    assert away < max(0.25, 4 * sigma)


@pytest.mark.parametrize("angle", [0, 65, 130, 180, 250, 310])
def test_behind_a_beam_stop(angle: float) -> None:
    canvas = Canvas((400, 420), (190.4, 225.7), angle).background()
    canvas.lattice(*hexagonal(canvas.centre, 43.0, angle), friedel=0.7)
    canvas.beam_stop(angle)
    away, sigma, method = _off(canvas, canvas.counts())
    assert method == "Friedel symmetry"
    assert away < 0.3
    assert away < 4 * sigma


def test_a_stop_far_from_the_beam_hides_none() -> None:
    canvas = Canvas((400, 420), (190.4, 225.7), 2).background()
    canvas.lattice(*hexagonal(canvas.centre, 43.0)).beam(2e4, 2)
    image = canvas.counts()
    flaws = find_flaws(image)
    flaws[:25, 300:360] |= np.uint16(Flaw.BEAM_STOP)
    found = find_centre(image, flaws)
    assert found.method == "direct beam"
    assert np.hypot(found.row - 190.4, found.col - 225.7) < 0.3


def test_rings_behind_a_beam_stop() -> None:
    canvas = Canvas((400, 400), (215.3, 180.9), 3).background()
    for radius in (60, 98, 115):
        canvas.ring(radius, 60)
    canvas.beam_stop(20)
    away, _, _ = _off(canvas, canvas.counts())
    assert away < 0.3


def test_a_brighter_bragg_spot_does_not_take_over() -> None:
    canvas = Canvas((400, 420), (190.0, 220.0), 4).background(8, 300, 45)
    canvas.lattice(*hexagonal(canvas.centre, 60.0)).beam(3e4, 2.5)
    canvas.spot(190.0 + 60, 220.0 + 85, 9e4, 2.5)
    away, _, _ = _off(canvas, canvas.counts())
    assert away < 0.3


def test_only_diffuse_light_near_a_corner() -> None:
    canvas = Canvas((300, 300), (215.0, 60.0), 5).background(4, 200, 40)
    canvas.beam_stop(180, 22)
    away, sigma, _ = _off(canvas, canvas.counts())
    assert away < max(4 * sigma, 6)


@pytest.mark.parametrize(
    "image", [np.zeros((60, 80)), np.random.default_rng(0).poisson(2, (90, 70))]
)
def test_nothing_to_go_by(image: np.ndarray) -> None:
    found = find_centre(image, find_flaws(image))
    assert found.method == "image centre"
    assert found.sigma > 15


@pytest.mark.parametrize(
    ("name", "row", "col", "tolerance"),
    [
        ("00001.tiff", 233.17, 234.87, 1.8),  # drifts by 2 px over the series
        ("TIMEPIX_SU_512-stdgoni_0001.img", 240, 246, 1.0),
        ("al.img", 99.92, 99.92, 0.5),
        ("au_xgrating_20cm.tif", 127.9, 127.4, 0.8),
        ("moo3_20cm.tif", 128.6, 129.5, 0.8),
        ("Au_Nano_1.png", 519.9, 458.2, 1.0),
        ("bismuth.dm4", 141.7, 99.3, 0.4),
        ("Amorphous.hspy", 248.6, 304.9, 2.0),
        ("diff+1.8.png", 272.5, 352.0, 2.5),
        ("diff-2.png", 272.5, 352.0, 2.5),
        ("diff-26.6.png", 272.5, 352.0, 2.5),
        ("diff-34.8.png", 272.5, 352.0, 2.5),
    ],
)
def test_real_files(
    experimental: Path, name: str, row: float, col: float, tolerance: float
) -> None:
    image = read(next(experimental.rglob(name))).image
    found = find_centre(image, find_flaws(image))
    assert np.hypot(found.row - row, found.col - col) < tolerance


def test_the_outshone_beam_of_a_real_file_is_named_as_rival(experimental: Path) -> None:
    """A saturated Bragg spot beside the weaker beam, whose place the other tilts tell."""
    image = read(next(experimental.rglob("diff+21.5.png"))).image
    found = find_centre(image, find_flaws(image))
    candidates = [(found.row, found.col), *found.rivals]
    assert min(np.hypot(r - 272, c - 352) for r, c in candidates) < 4


@pytest.mark.parametrize("name", ["Al", "TiO2 (rutile)", "MoO3 (alpha)"])
@pytest.mark.parametrize("zone", [(0, 0, 1), (0, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("drawn", [False, True])
def test_a_pattern_drawn_without_its_direct_beam_is_centred_all_the_same(name, zone, drawn):
    crystal = next(c for c in common_phases() if c.name == name)
    pattern = simulate_saed(crystal, zone)
    beam = 3 * float(pattern.intensity.sum()) if drawn else None
    image = render_spots(pattern, (256, 256), 0.0094, centre=(124.0, 131.0), direct_beam=beam)
    counts = np.random.default_rng(0).poisson(image / image.max() * 3000 + 5)
    centre = find_centre(counts.astype(float), np.zeros(counts.shape, dtype=np.uint16))
    assert np.hypot(centre.row - 124, centre.col - 131) < 0.5
    assert centre.method == ("direct beam" if drawn else "Friedel symmetry")
