"""Scale bars, drawn here and on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import Canvas, hexagonal, jpeg

from diskern.errors import DiskernError
from diskern.patterns.geometry import Flaw
from diskern.patterns.overlay import find_overlays
from diskern.patterns.read import read
from diskern.patterns.scalebar import ScaleBar, find_scale_bar
from diskern.simulate.instrument import Labels
from diskern.simulate.instrument import ScaleBar as BurntIn


def _picture(seed: int = 0) -> np.ndarray:
    canvas = Canvas((400, 520), (190.0, 270.0), seed).background()
    return canvas.lattice(*hexagonal(canvas.centre, 50)).beam().picture(150.0)


@pytest.mark.parametrize("thickness", [1, 4, 10])
@pytest.mark.parametrize("quality", [None, 90])
def test_white_bar(thickness: int, quality: int | None) -> None:
    image = _picture(thickness)
    image[360 : 360 + thickness, 40:143] = 255
    bar = find_scale_bar(image if quality is None else jpeg(image, quality))
    assert bar is not None
    assert bar.length_px == pytest.approx(103, abs=2 if quality else 1)
    assert bar.col == pytest.approx(40, abs=2)
    assert bar.bright


def _noise(grey: float, noise: float, seed: int = 3) -> np.ndarray:
    levels = np.random.default_rng(seed).normal(grey, noise, (400, 520))
    return np.clip(np.round(levels), 0, 255).astype(np.float32)


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize(
    ("grey", "noise", "quality"),
    [(180, 30, None), (238, 5, None), (235, 4, 85), (120, 55, None), (200, 15, 75)],
)
def test_bar_and_letters_in_noise_and_on_a_negative(
    grey: float, noise: float, quality: int | None, bright: bool
) -> None:
    scene = Labels.of(np.zeros((400, 520), np.float32), pixel_size=5e-3)
    plain = _noise(grey, noise) if bright else 255 - _noise(grey, noise)
    plain[0, 0], plain[0, 1] = 0, 255
    legend = BurntIn(length=5.0, corner=0, height=0.05, bright=bright)
    image, labels = legend.apply(plain, scene, np.random.default_rng(0))
    ink = image != plain
    image = image if quality is None else jpeg(image.astype(np.uint8), quality)
    bar = find_scale_bar(image)
    assert bar is not None
    assert bar.bright == bright
    assert bar.length_px == pytest.approx(101, abs=3)
    # The letters, and little else, are drawn things.
    found = (find_overlays(image) & np.uint16(Flaw.OVERLAY)) > 0
    box = (labels.flaws & np.uint16(Flaw.OVERLAY)) > 0
    assert found[ink].mean() > 0.9
    assert found[~box].mean() < 0.02


def test_noise_alone_draws_nothing() -> None:
    for seed, (grey, noise) in enumerate([(180, 30), (250, 5), (5, 5), (120, 90)]):
        image = _noise(grey, noise, seed)
        assert find_scale_bar(image) is None
        assert find_scale_bar(jpeg(image.astype(np.uint8), 75)) is None


def test_line_with_end_ticks_is_measured_over_the_ticks() -> None:
    image = _picture(1)
    image[370:372, 300:420] = 255
    image[362:380, 300:303] = image[362:380, 417:420] = 255
    bar = find_scale_bar(image)
    assert bar is not None
    assert bar.length_px == pytest.approx(120, abs=2.5)


def test_black_bar_on_an_inverted_picture() -> None:
    image = 255 - _picture(2)
    image[370:376, 50:130] = 0
    bar = find_scale_bar(image)
    assert bar is not None
    assert not bar.bright
    assert bar.length_px == pytest.approx(80, abs=1)


@pytest.mark.parametrize("seed", range(4))
def test_no_bar_where_none_is(seed: int) -> None:
    canvas = Canvas((400, 520), (190.0, 270.0), seed).background().ring(90, 40)
    canvas.lattice(*hexagonal(canvas.centre, 50)).beam(1e6, 6)
    canvas.beam_stop(0.0, 20)
    assert find_scale_bar(canvas.picture(100.0)) is None
    assert find_scale_bar(np.zeros((50, 50))) is None


def test_pixel_size() -> None:
    bar = ScaleBar(10, 10, 106.0, 0.5, 12)
    assert bar.pixel_size(0.2) == pytest.approx(0.2 / 106)
    with pytest.raises(DiskernError, match="positive"):
        bar.pixel_size(0)


@pytest.mark.parametrize(
    ("name", "label", "px_per_inverse_nm"),
    [
        ("Au_Nano_1.png", 0.2, 53.0),
        ("Fe3O4_Nano1.png", 0.2, 53.0),
        ("ZnO_Nano.png", 0.2, 53.5),
        ("Ag_Nano2.png", 0.5, 31.2),
        ("twinsFault_crop.png", 0.5, 8.0),
    ],
)
def test_real_bars(experimental: Path, name: str, label: float, px_per_inverse_nm: float) -> None:
    bar = find_scale_bar(read(next(experimental.rglob(name))).image)
    assert bar is not None
    assert 0.1 / bar.pixel_size(label) == pytest.approx(px_per_inverse_nm, abs=0.25)


@pytest.mark.parametrize(
    "name",
    [
        "bismuth.dm4",
        "diff+1.8.png",
        "stackingFault_crop.png",
        "hotspots.tif",
        "moo3_20cm.tif",
        "01-on_zone_50-51nm.jpg",
    ],
)
def test_real_files_without_a_bar(experimental: Path, name: str) -> None:
    assert find_scale_bar(read(next(experimental.rglob(name))).image) is None
