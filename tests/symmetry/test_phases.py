"""The right phase is found among the common ones, and ties are said to be ties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from spot_simulation import PIXEL, near_zone, phase, random_turn, simulate, view_of

from diskern.bragg.analysis import Analysis
from diskern.bragg.spots import Spots
from diskern.crystal.common import common_phases
from diskern.errors import DiskernError
from diskern.patterns.geometry import Centre
from diskern.patterns.pattern import Pattern
from diskern.symmetry.indexing import misorientation
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import kinematic_table
from diskern.symmetry.phases import search_phases, search_views
from diskern.symmetry.phases_joint import Geometry
from diskern.symmetry.phases_unknown import unknown_evidence

SOME = common_phases()[::4]


def candidates(*names: str) -> list:
    """A sample of the table that holds the named phases."""
    return [*(phase(n) for n in names), *(c for c in SOME if c.name not in names)]


def analysis_of(p: np.ndarray, intensity: np.ndarray, pixel_size: float | None) -> Analysis:
    """An analysed pattern of 256 × 256 px that shows just these spots."""
    pattern = Pattern.from_array(np.zeros((256, 256)), pixel_size, 200e3)
    ones = np.ones(len(p))
    spots = Spots(p[:, ::-1] + 127.5, np.full((len(p), 2), 0.5), intensity, 0.1 * intensity, ones)
    return Analysis(
        pattern,
        np.zeros((256, 256), dtype=np.uint16),
        np.zeros((256, 256), dtype=np.float32),
        Centre(127.5, 127.5, 0.2, "stated"),
        spots,
        (),
        None,
        "spots",
        None,
    )


@pytest.mark.parametrize(
    ("name", "zone"), [("MoO3 (alpha)", (0, 1, 0)), ("ZrO2 (monoclinic)", (0, 0, 1))]
)
def test_a_low_symmetry_phase_comes_first(name: str, zone: tuple[int, int, int]) -> None:
    view = view_of(phase(name), near_zone(phase(name), zone, 12, 30), missing=0.1, stray=0.3)
    matches = search_views([view], [c for c in candidates(name) if c.name != "HfO2"])
    assert matches[0].name == name
    assert matches[0].score > 0.6
    assert matches[0].scale == pytest.approx(1 / 1.02, abs=0.01)
    assert matches[0].explained > 0.6
    assert sorted(map(abs, matches[0].zone_axes[0][0])) == sorted(zone)
    assert (matches[0].hkl[0][:3] != -999).any()


def test_phases_with_one_lattice_tie_and_say_so() -> None:
    view = view_of(phase("Al"), near_zone(phase("Al"), (1, 1, 0), 8, 30), limit=0.003, reach=140)
    matches = search_views([view], candidates("Al", "Au", "Ag"), limit=20)
    share = {m.name: m.score for m in matches}
    assert share["Al"] > 0.2 * matches[0].score
    assert share["Au"] > 0.2 * share["Al"]
    first = next(m for m in matches if m.name == "Al")
    assert any("nearly as probable" in note and "Au" in note for note in first.notes)


def test_two_patterns_of_one_crystal_decide_more_than_one() -> None:
    crystal = phase("SiO2 (quartz)")
    views = [
        view_of(crystal, near_zone(crystal, (0, 0, 1), 10, 0), limit=0.003),
        view_of(crystal, near_zone(crystal, (1, 0, 0), 10, 50), limit=0.003, seed=1),
    ]
    both = search_views(views, candidates("SiO2 (quartz)"))
    assert both[0].name == "SiO2 (quartz)"
    assert both[0].score > 0.95
    assert both[0].orientations.shape == (2, 3, 3)
    table = kinematic_table(crystal)
    for matrix in both[0].orientations:
        assert misorientation(table, matrix[None], matrix)[0] == pytest.approx(0.0, abs=1e-6)


def test_spots_of_a_phase_that_is_absent_leave_the_share_to_the_unknown() -> None:
    crystal = phase("SiO2 (quartz)")
    turn = near_zone(crystal, (1, 1, 0), 5, 0)
    p, intensity = simulate(crystal, turn, limit=0.002, reach=140)
    basis = np.array([[1, -1, 0], [0, 0, 1]]) @ crystal.reciprocal
    pairs = ((basis @ turn.T)[:, :2] / PIXEL)[None]
    view = SpotView.from_spots(p, intensity, 0.5, scale=PIXEL, scale_error=0.01, pairs=pairs)
    metals = [c for c in common_phases() if len(c) <= 4 and len(c.elements) == 1]
    matches = search_views([view], metals)
    assert unknown_evidence(view) > 20
    assert sum(m.score for m in matches) < 0.2


def test_stage_angles_resolve_what_rows_leave_open() -> None:
    crystal = phase("Al")
    table = kinematic_table(crystal)
    tilts = [-20.0, 3.0, 25.0]
    axis = np.array([np.cos(1.2), np.sin(1.2), 0.0])
    first = random_turn(5)
    truth = [
        Rotation.from_rotvec(np.radians(t - tilts[0]) * axis).as_matrix() @ first for t in tilts
    ]
    views = [
        view_of(crystal, m, limit=0.001, reach=190, seed=i, thickness=50)
        for i, m in enumerate(truth)
    ]
    found = search_views(
        views, [phase("Al"), phase("Si")], geometry=Geometry.from_stage(tilts, None)
    )
    best = found[0]
    assert best.name == "Al"
    for i in range(3):
        for j in range(i):
            angle = misorientation(table, best.orientations[i][None], best.orientations[j])[0]
            assert np.degrees(angle) == pytest.approx(tilts[i] - tilts[j], abs=1.0)


def test_search_takes_analyses_and_filters_elements() -> None:
    crystal = phase("TiO2 (rutile)")
    p, intensity = simulate(crystal, near_zone(crystal, (0, 0, 1), 8, 20), limit=0.003)
    analysis = analysis_of(p, intensity, PIXEL)
    matches = search_phases([analysis], candidates("TiO2 (rutile)"), elements=["ti", "O"])
    assert matches[0].name == "TiO2 (rutile)"
    assert matches[0].space_group == 136
    assert {"Ti", "O"} >= {e for m in matches for e in phase(m.name).elements}
    unknown_scale = search_phases(
        [analysis_of(p, intensity, None)], [phase("TiO2 (rutile)"), phase("Si")]
    )
    assert unknown_scale[0].name == "TiO2 (rutile)"
    assert unknown_scale[0].pixel_size == pytest.approx(PIXEL, rel=0.02)
    assert np.isnan(unknown_scale[0].scale)


def test_nothing_to_index_gives_nothing() -> None:
    empty = analysis_of(np.zeros((0, 2)), np.zeros(0), PIXEL)
    assert search_phases([empty], SOME) == []
    assert search_phases([], SOME) == []


def test_wrong_input_is_named() -> None:
    analysis = analysis_of(np.ones((3, 2)), np.ones(3), PIXEL)
    with pytest.raises(DiskernError, match="tilts holds 2"):
        search_phases([analysis], SOME, tilts=[0.0, 1.0])
    with pytest.raises(DiskernError, match="pixel_size=-1"):
        search_phases([analysis], SOME, pixel_size=-1.0)
    with pytest.raises(DiskernError, match="Qq"):
        search_phases([analysis], SOME, elements=["Qq"])
