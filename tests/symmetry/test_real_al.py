"""Five frames of one aluminium grain on a tilt stage, measured and solved by their authors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from spot_simulation import phase

from diskern.bragg.analyse import analyse
from diskern.bragg.analysis import Analysis
from diskern.bragg.recentre import agreed
from diskern.crystal.common import common_phases
from diskern.patterns.read import read
from diskern.symmetry.indexing import misorientation
from diskern.symmetry.kinematic_table import kinematic_table
from diskern.symmetry.phases import search_phases

pytestmark = pytest.mark.slow

TILTS = {"+1.8": 1.8, "+21.5": 21.5, "-2": -2.0, "-26.6": -26.6, "-34.8": -34.8}
CAMERA_CONSTANT = 158.344
MEASURED = {
    "+1.8": (67.15, 220),
    "+21.5": (98.16, 111),
    "-2": (127.68, 220),
    "-26.6": (40.5, 111),
    "-34.8": (93.95, 200),
}
"""The authors' azimuth of one g in each frame and its family.  Their azimuth is that from the
column axis towards the row axis plus 90°, and leaves the sign of g open."""
FCC_LIKE = {"Al", "Au", "Ag", "Pt", "Pd", "LiF", "TiAl", "VN", "CrN", "NiO", "VC"}
"""Phases whose spots lie where aluminium's do within the error of the camera constant."""


@cache
def analysed(folder: Path, frame: str) -> Analysis:
    pattern = read(folder / "mompiou__pycotem" / f"diff{frame}.png")
    return analyse(
        pattern.with_calibration(
            pixel_size=1 / CAMERA_CONSTANT, energy=180e3, pixel_size_error=0.01
        )
    )


@pytest.mark.parametrize("frame", ["+1.8", "+21.5", "-2"])
def test_frames_with_enough_spots_index_as_aluminium_or_its_doubles(
    experimental: Path, frame: str
) -> None:
    matches = search_phases([analysed(experimental, frame)], common_phases())
    names = [m.name for m in matches]
    assert "Al" in names[:4]
    assert set(names[:3]) <= FCC_LIKE
    al = matches[names.index("Al")]
    assert al.score > 0.5 * matches[0].score
    assert al.scale == pytest.approx(1.0, abs=0.02)


def test_the_series_is_aluminium_and_turns_as_the_stage_does(experimental: Path) -> None:
    # The frame at +21.5° has a Bragg spot brighter than the beam; the others tell which is which.
    series = agreed([analysed(experimental, frame) for frame in TILTS])
    tilts = list(TILTS.values())
    matches = search_phases(series, common_phases(), tilts=tilts)
    # Al, Pt, Au and Ag differ by less than the camera constant's error: near-ties, in any order.
    assert {m.name for m in matches[:3]} <= FCC_LIKE
    al = next(m for m in matches if m.name == "Al")
    assert al.score > 0.5 * matches[0].score
    table = kinematic_table(phase("Al"))
    turned = al.orientations
    for i in range(5):
        for j in range(i):
            angle = np.degrees(misorientation(table, turned[i][None], turned[j])[0])
            assert abs(angle - abs(tilts[i] - tilts[j])) < 1.5
    for analysis, hkl, (azimuth, family) in zip(series, al.hkl, MEASURED.values(), strict=True):
        p = (analysis.spots.position - analysis.centre.as_array())[:, ::-1][: len(hkl)]
        ours = np.degrees(np.arctan2(p[:, 1], p[:, 0])) + 90
        off = np.abs((ours - azimuth + 90) % 180 - 90)
        members = np.sort(np.abs(hkl), axis=1)[:, ::-1]
        wanted = [int(c) for c in str(family)]
        assert ((off < 2.0) & (members == wanted).all(1)).any()
