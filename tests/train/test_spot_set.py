"""Spot lists and images on the fly: physics of the patterns, and what the instrument does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_sets import changed, small_set

from diskern.crystal.orientation import zone_axis_orientation
from diskern.crystal.spacegroups import systematically_absent
from diskern.physics import wavelength
from diskern.simulate.excitation import excitation_errors
from diskern.simulate.saed import simulate_saed
from diskern.simulate.structure_factors import Reflections
from diskern.train.camera import SpotLists, _run_together, record
from diskern.train.exposures import TAILS, expose, orientations_about, zone_list
from diskern.train.samples import training_set


def clean(**changes: Any) -> Any:
    return training_set(changed("spots", clean=True, double_diffraction=0.0, **changes), "train")


def test_clean_spots_are_reflections_of_the_crystal() -> None:
    made = clean(max_spots=256)
    for number in range(6):
        block = made.block(number)
        crystal = made.materials[int(block["crystal"][0])].crystal(0.08)
        for q, hkl, turn, n in zip(
            block["q"], block["hkl"], block["orientation"], block["count"], strict=True
        ):
            g = hkl[:n] @ crystal.reciprocal @ turn.T
            np.testing.assert_allclose(q[:n], g[:, :2], atol=2e-5)
            assert not systematically_absent(int(block["space_group"][0]), hkl[:n]).any()
            assert (q[n:] == 0).all()


def test_spots_are_sorted_and_relative() -> None:
    block = small_set("spots").block(1)
    assert (np.diff(block["intensity"], axis=1) <= 0).all()
    seen = block["count"] > 0
    np.testing.assert_allclose(block["intensity"][seen, 0], 1)
    assert ((block["intensity"] > 0).sum(1) == block["count"]).all()


def test_orientations_are_near_their_zone() -> None:
    made = clean(zone_share=1.0, tilt=0.5)
    for number in range(4):
        block = made.block(number)
        crystal = made.materials[int(block["crystal"][0])].crystal(0.08)
        axis = block["zone"] @ crystal.lattice
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        along = np.einsum("bij,bj->bi", block["orientation"], axis)[:, 2]
        angle = np.degrees(np.arccos(np.clip(along, -1, 1)))
        assert angle.max() < 0.5 * 2.1 * np.sqrt(2) + 0.01
        assert 0.2 < angle.mean() < 1.1
        turns = block["orientation"]
        np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-5)


def test_the_cone_loses_no_reflection() -> None:
    """The preselection of reflections gives what the whole list gives."""
    recipe = changed("spots", double_diffraction=0.0, tilt=1.0)
    crystal = small_set("spots").materials[0].crystal(0.08)
    table = Reflections.of(crystal, recipe.g_max)
    table = table.select(table.allowed)
    for exposure in expose(recipe, crystal, np.random.default_rng(5)):
        lam = wavelength(float(exposure.spots.energy or 0))
        for index, turn in enumerate(exposure.orientations):
            n = int(exposure.spots.count[index])
            listed = {tuple(h) for h in exposure.spots.hkl[index, :n].tolist()}
            whole = simulate_saed(
                crystal,
                orientation=Rotation.from_matrix(turn),
                energy=exposure.spots.energy or 0.0,
                g_max=recipe.g_max,
                thickness=exposure.spots.thickness,
                max_excitation_error=1e-3,
                min_intensity=1e-2,
            )
            assert {tuple(h) for h in whole.hkl.tolist()} <= listed | _just_outside(
                table, turn, lam
            )


def _just_outside(table: Reflections, turn: np.ndarray, lam: float) -> set[tuple[int, ...]]:
    """Reflections beyond the tails of the narrowest rel-rod that a recipe may draw."""
    s = excitation_errors(table.g @ turn.T, lam)
    narrowest = TAILS / (600 * np.sqrt(2 * np.pi))
    return {tuple(h) for h in table.hkl[np.abs(s) > narrowest].tolist()}


def test_a_tilt_free_zone_pattern_is_that_of_the_simulator() -> None:
    made = clean(zone_share=1.0, tilt=0.0, max_spots=512)
    block = made.block(3)
    crystal = made.materials[int(block["crystal"][0])].crystal(0.08)
    rotation = zone_axis_orientation(crystal, block["zone"][0])
    expected = simulate_saed(crystal, orientation=rotation, energy=float(block["energy"][0]))
    strongest = {tuple(h) for h in expected.hkl[:4].tolist()}
    assert strongest & {tuple(h) for h in block["hkl"][0].tolist()}


def test_double_diffraction_lights_extinct_reflections_only_where_asked() -> None:
    lit = 0
    for share in (0.0, 1.0):
        recipe = changed(
            "spots", clean=True, double_diffraction=share, zone_share=1.0, max_spots=256
        )
        made = training_set(recipe, "train")
        for number in range(12):
            block = made.block(number)
            hkl = block["hkl"][block["intensity"] > 0]
            lit += int(systematically_absent(int(block["space_group"][0]), hkl).sum())
        assert (lit > 0) == (share == 1.0)


def test_zone_list_has_no_zero_and_no_multiple() -> None:
    zones = zone_list(3)
    assert (np.gcd.reduce(zones, axis=1) == 1).all()
    assert len(zones) == len(np.unique(zones, axis=0))


# --- the camera -------------------------------------------------------------------------------
def grid_lists(b: int = 400) -> SpotLists:
    ij = np.array([(i, j) for i in range(-5, 6) for j in range(-5, 6) if i or j])
    q = np.broadcast_to(ij * 0.2, (b, *ij.shape)).copy()
    intensity = np.broadcast_to(np.exp(-((ij * 0.2) ** 2).sum(1)), q.shape[:2]).copy()
    hkl = np.broadcast_to(np.c_[ij, 0 * ij[:, 0]], (*q.shape[:2], 3)).copy()
    return SpotLists(q, intensity, hkl)


def test_the_camera_stays_within_its_documented_ranges() -> None:
    seen = record(grid_lists(), np.random.default_rng(1))
    real = (seen.intensity > 0) & seen.hkl.any(-1)
    ideal = seen.hkl[..., :2] * 0.2
    radius = np.linalg.norm(ideal, axis=-1)
    error = np.linalg.norm(seen.q - ideal, axis=-1)
    # 5 % of scale, 2 % of ellipse either way, the centre, and noise of position.
    assert (error[real] < 0.075 * radius[real] + 0.03).all()
    assert np.median(error[real] / radius[real]) < 0.035
    share = real.sum(1) / 120
    assert 0.05 < share.mean() < 0.9
    false = (seen.intensity > 0) & ~seen.hkl.any(-1)
    assert 0 < false.sum(1).mean() < 8


def test_beam_stops_hide_whole_rows_in_a_third_of_the_patterns() -> None:
    lists = grid_lists(2000)
    lists.intensity[:] = 1.0
    seen = record(lists, np.random.default_rng(2))
    axis = (seen.hkl[..., 0] != 0) & (seen.hkl[..., 1] == 0) & (np.abs(seen.hkl[..., 0]) == 1)
    both = (seen.intensity > 0) & axis
    lost = both.sum(1) < 2
    assert 0.02 < lost.mean() < 0.6


def test_neighbours_run_together() -> None:
    q = np.array([[[0.3, 0.0], [0.3004, 0.0], [-0.4, 0.1]]])
    lists = SpotLists(
        np.repeat(q, 300, 0), np.tile([1.0, 0.9, 0.8], (300, 1)), np.ones((300, 3, 3), int)
    )
    seen = record(lists, np.random.default_rng(3))
    near = (np.abs(seen.q[..., 0] - 0.3) < 0.05) & (seen.intensity > 0) & seen.hkl.any(-1)
    assert near.sum(1).max() == 1


def test_the_weaker_of_two_neighbours_is_lost_and_no_other() -> None:
    rng = np.random.default_rng(8)
    shape = (20, 60)
    intensity = np.where(rng.random(shape) < 0.8, rng.random(shape), 0.0)
    lists = SpotLists(rng.normal(0, 0.3, (*shape, 2)), intensity, np.ones((*shape, 3), int))
    distance = rng.uniform(0.01, 0.1, len(intensity))
    seen = _run_together(lists, distance)
    for q, size, limit, got in zip(lists.q, intensity, distance, seen.intensity, strict=True):
        near = np.linalg.norm(q[:, None] - q, axis=-1) < limit
        lost = (near & (size[:, None] < size)).any(1)
        assert np.array_equal(np.sort(np.where(lost, 0, size)), np.sort(got))


def test_tilts_and_turns_are_those_of_rotation_vectors() -> None:
    axis = np.array([0.36, -0.48, 0.8])
    turns = orientations_about(axis, 0.3, 50, np.random.default_rng(6))
    rng = np.random.default_rng(6)
    tilt = np.clip(rng.normal(0, 0.3, (50, 2)), -0.63, 0.63)
    angle = rng.uniform(0, 2 * np.pi, 50)
    lean = Rotation.from_rotvec(np.c_[tilt, np.zeros(50)])
    spin = Rotation.from_rotvec(np.c_[np.zeros((50, 2)), angle])
    np.testing.assert_allclose(turns @ axis, (spin * lean).apply([0, 0, 1]), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    still = orientations_about(axis, 0.0, 3, np.random.default_rng(6))
    np.testing.assert_allclose(still @ axis, np.tile([0, 0, 1], (3, 1)), atol=1e-12)


def test_dim_spots_are_lost_first() -> None:
    lists = grid_lists(500)
    dim = np.linalg.norm(lists.hkl[..., :2], axis=-1) > 3
    lists.intensity[dim] = 1e-6
    seen = record(lists, np.random.default_rng(4))
    kept = (seen.intensity > 0) & seen.hkl.any(-1)
    weak = np.linalg.norm(seen.hkl[..., :2], axis=-1) > 3
    assert (kept & weak).sum() < 0.05 * (kept & ~weak).sum()


# --- images ------------------------------------------------------------------------------------
def test_image_labels_stand_on_their_spots() -> None:
    made = small_set("patterns")
    on, off = [], []
    rng = np.random.default_rng(0)
    for number in range(made.blocks):
        block = made.block(number)
        for image, points, visible, flux in zip(
            block["image"], block["points"], block["visible"], block["flux"], strict=True
        ):
            bright = points[visible & (flux > 0.5)]
            if not len(bright):
                continue
            contrast = np.abs(image - np.median(image))
            rows, cols = np.round(bright).astype(int).T.clip(0, made.recipe.size - 1)
            on.append(np.median(contrast[rows, cols]))
            some = rng.integers(0, made.recipe.size, (20, 2)).T
            off.append(np.median(contrast[some[0], some[1]]))
    assert np.mean(np.array(on) > 3 * np.array(off)) > 0.9


def test_images_are_scaled_and_finite() -> None:
    block = small_set("patterns").block(0)
    assert np.isfinite(block["image"]).all()
    np.testing.assert_allclose(np.abs(block["image"].mean((1, 2))), 1, atol=1e-3)
    assert ((block["points"] >= -1) & (block["points"] < 96)).all()


def test_one_camera_is_shared_by_as_many_as_told() -> None:
    block = small_set("patterns").block(0)
    sizes = block["pixel_size"].reshape(-1, 4)
    assert (sizes == sizes[:, :1]).all()
    assert len(np.unique(sizes[:, 0])) == len(sizes)


@pytest.mark.parametrize("empty", [True, False])
def test_a_direction_without_reflections_is_no_error(empty: bool) -> None:
    recipe = changed("spots", g_max=0.6 if empty else 1.6, zone_share=0.0, per_crystal=16)
    made = training_set(recipe, "train")
    counts = np.concatenate([made.block(i)["count"] for i in range(6)])
    assert (counts <= 6).any()
