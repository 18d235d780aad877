"""Rings of gold calibrate a camera length; what the other ring images can and cannot tell."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from spot_simulation import phase

from diskern.bragg.analyse import analyse
from diskern.bragg.analysis import Analysis
from diskern.crystal.common import common_phases
from diskern.patterns.read import read
from diskern.symmetry.ring_phases import calibrate_from_rings, search_ring_phases

BAR = 1 / 530.0
"""1/Å per px by the burnt-in bar of Au_Nano_1 (53.0 px per 1/nm)."""
ROCK_SALT = {"MgO", "NiO", "CoO", "FeO", "MnO", "TiN", "VN", "CrN", "TiC", "VC", "LiF"}


@cache
def rings_of(path: Path) -> Analysis:
    return analyse(read(path))


def test_gold_gives_the_camera_constant(experimental: Path) -> None:
    analysis = rings_of(experimental / "pyxem__pyxem-demos" / "au_xgrating_20cm.tif")
    result = calibrate_from_rings(analysis.rings, phase("Au"))
    assert 1 / result.pixel_size == pytest.approx(99.7, rel=0.01)
    # 3.5 % flattening; least squares on the pixels, ring by ring, gives 3.46 to 3.56 %.
    assert 1 - 1 / result.ellipse.ratio == pytest.approx(0.032, abs=0.003)
    assert result.ellipse.angle % 180 == pytest.approx(147, abs=1.5)


def test_the_cross_grating_is_a_face_centred_cubic_metal(experimental: Path) -> None:
    analysis = rings_of(experimental / "pyxem__pyxem-demos" / "au_xgrating_20cm.tif")
    matches = search_ring_phases([analysis], common_phases(["Au", "Al", "Fe", "O", "Mg", "Si"]))
    assert {m.name for m in matches[:2]} <= {"Au", "Al", "Fe (austenite)"}
    # Without a scale, rings of one lattice type are one answer.
    assert matches[0].score < 0.6


def test_the_file_named_gold_shows_rock_salt_heights_at_the_printed_scale(
    experimental: Path,
) -> None:
    """200 is the strongest ring and 311 is absent, which no thin gold shows; the printed bar fits
    a rock-salt cell near 4.22 Å to 1 %, and gold only with the bar 3.6 % off."""
    path = experimental / "edson-samaniego__Electron-Diffraction" / "Au_Nano_1.png"
    analysis = rings_of(path)
    matches = search_ring_phases(
        [analysis], common_phases(), pixel_size=BAR, pixel_size_error=0.03, limit=30
    )
    assert matches[0].name in ROCK_SALT
    assert matches[0].scale == pytest.approx(1.0, abs=0.025)
    gold = search_ring_phases(
        [analysis], common_phases(["Au", "Cu", "Pd"]), pixel_size=BAR, pixel_size_error=0.03
    )
    assert gold[0].name == "Au"
    assert gold[0].scale == pytest.approx(1.036, abs=0.008)
    assert any("too small" in note for note in gold[0].notes)


def test_zinc_oxide_is_first_of_the_phases_its_elements_allow(experimental: Path) -> None:
    """Among all common phases Tl, Sc and Zr fit its sparse inner rings as well."""
    path = experimental / "edson-samaniego__Electron-Diffraction" / "ZnO_Nano.png"
    candidates = common_phases(["Zn", "O", "C", "Cu", "Si", "Fe", "Au", "Al", "Mg"])
    assert len(candidates) > 30
    matches = search_ring_phases(
        [rings_of(path)], candidates, pixel_size=1 / 535, pixel_size_error=0.03
    )
    assert matches[0].name == "ZnO"
    # The printed bar is 1.4 % off.
    assert matches[0].scale == pytest.approx(1.014, abs=0.01)
    everything = search_ring_phases(
        [rings_of(path)], common_phases(), pixel_size=1 / 535, pixel_size_error=0.03, limit=10
    )
    assert "ZnO" in {m.name for m in everything}
