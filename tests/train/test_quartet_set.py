"""Quartets: probe and pattern agree with V_g and q_z, for crystals of any lattice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_sets import changed, small_set

from diskern.crystal.crystal import Crystal
from diskern.physics import wavelength
from diskern.simulate.excitation import excitation_errors
from diskern.simulate.structure_factors import Reflections
from diskern.train.quartets import orient, vacuum_probe
from diskern.train.samples import training_set


def test_probe_is_a_disk_of_the_semiangle() -> None:
    made = small_set("quartets")
    block = made.block(0)
    radius = 1.5e-3 / wavelength(300e3) / float(block["pixel_size"][0])
    probe = block["probe"][0]
    assert probe.sum() == pytest.approx(1, abs=1e-5)
    area = (probe > probe.max() / 2).sum()
    assert area == pytest.approx(np.pi * radius**2, rel=0.25)
    wide = vacuum_probe((200, 200), 40.0)
    assert (wide > wide.max() / 2).sum() == pytest.approx(np.pi * 1600, rel=0.01)


def test_patterns_are_fractions_of_the_beam() -> None:
    for number in range(4):
        cbed = small_set("quartets").block(number)["cbed"]
        total = cbed.sum((2, 3))
        assert (cbed >= 0).all()
        assert ((total > 0.5) & (total < 1.01)).all()


def test_disks_of_the_pattern_lie_where_v_g_says() -> None:
    """All that is bright in a pattern is a disk of the labels or the direct beam."""
    made = small_set("quartets")
    for number in range(0, made.blocks, 4):
        block = made.block(number)
        labelled = (block["v_g"][0] > 0) | (block["probe"][0] > 0)
        outside = block["cbed"][0, -1][~labelled].sum()
        assert outside < 0.03 * block["cbed"][0, -1].sum()


def test_q_z_is_the_excitation_error_of_a_reflection_there() -> None:
    made = small_set("quartets")
    block = made.block(2)
    crystal = made.materials[int(block["crystal"][0])].crystal(0.08)
    turn = block["orientation"][0].astype(float)
    table = Reflections.of(crystal, 1.7)
    table = table.select(table.allowed)
    lab = table.g @ turn.T
    s = excitation_errors(lab, wavelength(300e3))
    scale = float(block["pixel_size"][0])
    rows, cols = np.nonzero(block["v_g"][0] > 0.05 * block["v_g"][0].max())
    q = np.stack([cols - 32, rows - 32], 1) * scale
    radius = 1.5e-3 / wavelength(300e3) + 1.5 * scale
    for place, value in zip(q[::7], block["q_z"][0][rows, cols][::7], strict=True):
        near = (np.linalg.norm(lab[:, :2] - place, axis=1) < radius) & (np.abs(s) < 0.08)
        assert s[near].min() - 1e-5 <= value <= s[near].max() + 1e-5


@pytest.mark.parametrize(
    "cell",
    [
        (3.0, 3.0, 4.8, 90, 90, 120),
        (4.0, 5.0, 6.0, 80, 95, 103),
        (3.9, 3.9, 3.9, 60, 60, 60),
        (5.1, 5.2, 5.3, 90, 99, 90),
    ],
)
def test_orientations_hold_for_any_lattice(cell: tuple[float, ...]) -> None:
    """Rotations only, nothing strained; the zone axis stands as far off the beam as stated."""
    crystal = Crystal.from_arrays(cell, [[0, 0, 0], [0.3, 0.4, 0.2]], [26, 8], u_iso=0.006)
    recipe = changed("quartets")
    for place in range(4):
        zone, rotation, tilt = orient(crystal, place, recipe, np.random.default_rng(place))
        matrix = rotation.as_matrix()
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        if zone.any():
            along = rotation.apply(zone @ crystal.lattice)
            angle = np.arccos(np.clip(along[2] / np.linalg.norm(along), -1, 1))
            assert angle * 1e3 == pytest.approx(tilt[0], abs=1e-4)


def test_kinds_of_orientation_take_turns() -> None:
    crystal = Crystal.from_arrays((4, 4, 4, 90, 90, 90), [[0, 0, 0]], [13])
    recipe = changed("quartets")
    made = [orient(crystal, i, recipe, np.random.default_rng(i)) for i in range(21)]
    assert made[0][0].tolist() == [0, 0, 1]
    general = [i for i, (zone, _, _) in enumerate(made) if not zone.any()]
    tilted = [i for i, (_, _, tilt) in enumerate(made) if tilt[0] > 0]
    assert general == [3, 6, 9, 12, 15, 18]
    assert tilted == [2, 5, 8, 11, 14, 17, 20]
    assert all(isinstance(r, Rotation) for _, r, _ in made)


def test_semiangles_share_one_orientation() -> None:
    recipe = changed("quartets", semiangles=(1.0, 2.0))
    block = training_set(recipe, "train").block(1)
    assert (block["orientation"][0] == block["orientation"][1]).all()
    wide, narrow = (block["probe"][i] > 0 for i in (1, 0))
    assert wide.sum() > 2.5 * narrow.sum()
    assert block["semiangle"].tolist() == [1.0, 2.0]
