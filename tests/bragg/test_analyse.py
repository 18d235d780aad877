"""The whole reading of one image, on simulated scenes and on every real file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import Canvas, hexagonal

from diskern.bragg.analyse import analyse
from diskern.patterns.geometry import Ellipse, Flaw
from diskern.patterns.pattern import Pattern, Scan
from diskern.patterns.read import read


def _crystal(seed: int = 0) -> Canvas:
    canvas = Canvas((400, 420), (190.2, 222.6), seed).background()
    return canvas.lattice(*hexagonal(canvas.centre, 42.0)).beam()


def test_a_crystal() -> None:
    canvas = _crystal()
    result = analyse(Pattern.from_array(canvas.counts()))
    assert result.kind == "spots"
    assert result.refusal is None
    assert len(result.lattices) == 1
    assert result.lattices[0].lengths[0] == pytest.approx(42, rel=0.003)
    assert len(result.lattices[0].members) > 0.9 * len(result.spots)
    assert result.background.shape == result.flaws.shape == (400, 420)
    assert any("Centre" in note for note in result.notes)


def test_a_negative_is_inverted() -> None:
    picture = _crystal(1).picture(120.0, 0.7)
    result = analyse(Pattern.from_array(255 - picture))
    assert result.kind == "spots"
    assert len(result.lattices) == 1
    assert any("inverted" in note for note in result.notes)


def test_turned_image_gives_turned_spots() -> None:
    image = _crystal(2).counts()
    a, b = analyse(Pattern.from_array(image)), analyse(Pattern.from_array(np.rot90(image)))
    turned = np.column_stack([419 - a.spots.position[:, 1], a.spots.position[:, 0]])
    away = np.linalg.norm(turned[:, None] - b.spots.position[None], axis=2).min(1)
    assert (away < 0.3).mean() > 0.97
    assert b.centre.row == pytest.approx(419 - a.centre.col, abs=0.15)


def test_brightness_scale_does_not_matter() -> None:
    image = _crystal(3).counts()
    a = analyse(Pattern.from_array(image))
    b = analyse(Pattern.from_array(image * 0.0137))
    assert len(a.spots) == pytest.approx(len(b.spots), rel=0.05)
    assert b.lattices[0].lengths == pytest.approx(a.lattices[0].lengths, rel=1e-3)


def test_polycrystal_and_known_ellipse() -> None:
    canvas = Canvas((400, 400), (200.0, 190.0), 4).background(8, 300, 30).beam(1e6, 3)
    for radius in (70, 80.8, 114.3, 134):
        canvas.ring(radius, 60, 2.0, 1.02, 40)
    result = analyse(Pattern.from_array(canvas.counts()))
    assert result.kind == "rings"
    assert result.ellipse.ratio == pytest.approx(1.02, abs=0.003)
    known = Ellipse(1.02, 40.0, 0.001)
    assert analyse(Pattern.from_array(canvas.counts()), ellipse=known).ellipse == known


@pytest.mark.parametrize("seed", range(2))
def test_amorphous_and_empty(seed: int) -> None:
    canvas = Canvas((400, 400), (200.0, 190.0), seed).background(3, 300, 25).beam(1e6, 3)
    canvas.ring(75, 60, 9.0).ring(130, 15, 13.0)
    result = analyse(Pattern.from_array(canvas.counts()))
    assert result.kind == "none"
    assert "amorphous" in str(result.refusal)
    noise = np.random.default_rng(seed).poisson(3.0, (256, 300))
    assert analyse(Pattern.from_array(noise)).kind == "none"


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64)),
        np.full((16, 16), 9),
        np.where(np.indices((50, 60)).sum(0) % 3 == 0, np.nan, 1.0),
        np.eye(40),
        np.linspace(0, 1, 3000).reshape(50, 60),
        -np.random.default_rng(0).random((40, 200)),
        np.random.default_rng(1).random((20, 20)) * 1e30,
    ],
)
def test_odd_images_are_refused(image: np.ndarray) -> None:
    result = analyse(Pattern.from_array(image))
    assert result.kind == "none"
    assert result.refusal


KINDS = {
    "twinsFault_crop.png": "spots",
    "stackingFault_crop.png": "spots",
    "bismuth.dm4": "rings",
    "hotspots.tif": "spots",
    "test.mib": "spots",
    "dd020.dm3": "spots",
    "00001.tiff": "spots",
    "TIMEPIX_SU_512-stdgoni_0001.img": "spots",
    "Ag_Nano2.png": "spots",
    "Au_Nano_1.png": "rings",
    "Au_Nano_2.png": "rings",
    "Fe3O4_Nano1.png": "rings",
    "ZnO_Nano.png": "rings",
    "al.img": "spots",
    "diff+1.8.png": "spots",
    "diff+21.5.png": "spots",
    "diff-2.png": "spots",
    "diff-26.6.png": "spots",
    "diff-34.8.png": "spots",
    "Amorphous.hspy": "none",
    "au_xgrating_20cm.tif": "rings",
    "moo3_20cm.tif": "spots",
    "test1.blo": "spots",
    "03-on_zone_52-53nm.jpg": "none",
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_kind_of_real_files(experimental: Path, name: str, kind: str) -> None:
    pattern = read(next(experimental.rglob(name)))
    if isinstance(pattern, Scan):
        pattern = pattern.pattern(0, 0)
    result = analyse(pattern)
    assert result.kind == kind
    assert (result.refusal is None) == (kind != "none")


def test_lattices_of_real_files(experimental: Path) -> None:
    found = analyse(read(next(experimental.rglob("00001.tiff"))))
    assert len(found.lattices) == 1
    assert len(found.lattices[0].members) > 0.9 * len(found.spots)
    hexagonal_net = analyse(read(next(experimental.rglob("Ag_Nano2.png"))))
    net = hexagonal_net.lattices[0]
    assert len(net.members) > 0.8 * len(hexagonal_net.spots)
    assert net.lengths[0] == pytest.approx(net.lengths[1], rel=0.01)
    assert net.angle % 60 == pytest.approx(60, abs=1.5) or net.angle % 60 < 1.5
    assert hexagonal_net.scale_bar == pytest.approx(156, abs=1)
    assert ((hexagonal_net.flaws & np.uint16(Flaw.OVERLAY)) != 0).mean() < 0.02
