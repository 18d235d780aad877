"""Orientations are found from spots: on and off zones, with stray and missing spots."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from scipy.spatial.transform import Rotation
from spot_simulation import PIXEL, near_zone, phase, random_turn, simulate, view_of

from diskern.crystal.common import common_phases
from diskern.physics import wavelength
from diskern.symmetry.indexing import index_pattern, misorientation
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import kinematic_table
from diskern.symmetry.orientation_fit import expected_counts, refine
from diskern.symmetry.zone_names import nearest_zone


def least_error(name: str, found: list, matrix: np.ndarray, within: float = 3.0) -> float:
    """Degrees to the nearest of the solutions that are as good as the best."""
    table = kinematic_table(phase(name))
    good = [f.matrix for f in found if f.evidence > found[0].evidence - within]
    return float(np.degrees(misorientation(table, np.array(good), matrix)).min())


def test_tables_know_the_rotations_of_every_phase() -> None:
    for crystal in common_phases()[::7]:
        found = spglib.get_symmetry_dataset(
            (crystal.lattice, crystal.fractional, crystal.numbers), symprec=1e-3
        )
        signed = found.rotations * np.linalg.det(found.rotations)[:, None, None]
        proper = np.unique(np.rint(signed).astype(int), axis=0)
        assert len(kinematic_table(crystal).rotations) == len(proper), crystal.name


def test_structure_factors_agree_with_published_ratios() -> None:
    # reference |F| of Si (Lobato): 111 18.44, 220 14.91, 311 8.47, 400 9.16 Å; 200 = 222 = 0.
    table = kinematic_table(phase("Si").with_u_iso(1e-9))
    amplitude = {tuple(h): np.sqrt(s) for h, s in zip(table.hkl, table.strength, strict=True)}
    reference = {(2, 2, 0): 14.9136, (3, 1, 1): 8.4673, (4, 0, 0): 9.1647, (3, 3, 1): 5.7302}
    for hkl, value in reference.items():
        assert amplitude[hkl] / amplitude[1, 1, 1] == pytest.approx(value / 18.4356, rel=0.02)
    assert amplitude[2, 0, 0] == 0.0  # forbidden by the glide, kept for multiple scattering
    assert (1, 0, 0) not in amplitude  # removed by centring


def test_nearest_returns_the_reflection_itself() -> None:
    table = kinematic_table(phase("MoO3 (alpha)"))
    rng = np.random.default_rng(0)
    row, node = table.nearest(table.g + rng.normal(0, 0.005, table.g.shape))
    assert (row == np.arange(len(table))).all()
    assert np.allclose(node, table.g)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Al", (0, 0, 1)),
        ("Si", (1, 1, 0)),
        ("TiO2 (rutile)", (0, 0, 1)),
        ("MoO3 (alpha)", (0, 1, 0)),
        ("SiO2 (quartz)", (1, 0, 0)),
        ("ZrO2 (monoclinic)", (0, 1, 0)),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_tilted_zone_with_stray_and_missing_spots(
    name: str, zone: tuple[int, int, int], known: bool
) -> None:
    matrix = near_zone(phase(name), zone, 12.0, 35.0)
    view = view_of(
        phase(name), matrix, known=known, missing=0.15, stray=0.3, ellipse=0.02, limit=0.003
    )
    found = index_pattern(kinematic_table(phase(name)), view)
    assert least_error(name, found, matrix) < 1.0
    assert found[0].scale == pytest.approx(PIXEL, rel=0.01)
    assert found[0].explained > 0.6


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["MoO3 (alpha)", "ZrO2 (monoclinic)", "Y2O3"])
def test_a_slice_far_from_any_zone(name: str, seed: int) -> None:
    matrix = random_turn(seed)
    view = view_of(phase(name), matrix, limit=0.0005, stray=0.2, seed=seed, reach=140)
    assert len(view) > 8
    found = index_pattern(kinematic_table(phase(name)), view)
    assert least_error(name, found, matrix) < 1.2


def test_excitation_errors_fix_the_tilt() -> None:
    crystal = phase("Au")
    for tilt in (0.0, 10.0, 20.0):
        matrix = near_zone(crystal, (0, 0, 1), tilt, 60.0)
        view = view_of(crystal, matrix, thickness=60.0, limit=0.002, reach=140)
        best = index_pattern(kinematic_table(crystal), view)[0]
        zone, angle = nearest_zone(crystal.lattice, best.matrix)
        assert sorted(map(abs, zone)) == [0, 0, 1]
        assert angle == pytest.approx(np.degrees(tilt * 1e-3), abs=0.35)


def test_a_row_of_spots_is_flagged_as_free_to_turn() -> None:
    p = np.array([[50.0, 0.0], [-50.0, 0.3], [100.0, -0.2]])
    view = SpotView.from_spots(p, np.array([3.0, 2.0, 1.0]), 0.5, scale=0.4938 / 50)
    best = index_pattern(kinematic_table(phase("Al")), view)[0]
    assert best.hkl[0].tolist() in (
        [2, 0, 0],
        [0, 2, 0],
        [0, 0, 2],
        [-2, 0, 0],
        [0, -2, 0],
        [0, 0, -2],
    )
    assert np.degrees(np.sqrt(best.covariance[0, 0])) > 0.5
    if best.degenerate:
        assert abs(best.free_axis[0]) > 0.9


def test_stray_spots_alone_gain_no_evidence_from_a_dense_lattice() -> None:
    rng = np.random.default_rng(3)
    for _ in range(3):
        view = SpotView.from_spots(
            rng.uniform(-100, 100, (20, 2)), rng.random(20) + 0.1, 0.5, scale=PIXEL
        )
        for name in ("Al", "ZrO2 (monoclinic)", "Y2O3", "hydroxylapatite"):
            found = index_pattern(kinematic_table(phase(name)), view)
            assert not found or found[0].evidence < 8.0


def test_turning_the_pattern_turns_the_crystal() -> None:
    crystal = phase("TiO2 (rutile)")
    p, intensity = simulate(
        crystal, near_zone(crystal, (1, 1, 1), 8.0, 10.0), reach=140, limit=0.002
    )
    c, s = np.cos(0.7), np.sin(0.7)
    table = kinematic_table(crystal)
    first = index_pattern(table, SpotView.from_spots(p, intensity, 0.5, scale=PIXEL))[0]
    turned = p @ np.array([[c, s], [-s, c]])
    second = index_pattern(table, SpotView.from_spots(turned, intensity, 0.5, scale=PIXEL))
    about = Rotation.from_rotvec([0, 0, 0.7]).as_matrix()
    assert second[0].evidence == pytest.approx(first.evidence, abs=3.0)
    assert least_error("TiO2 (rutile)", second, about @ first.matrix) < 0.5


def test_refinement_recovers_rotation_scale_and_ellipse() -> None:
    crystal = phase("MoO3 (alpha)")
    matrix = near_zone(crystal, (0, 1, 0), 5.0, 0.0)
    p, intensity = simulate(crystal, matrix, noise=0.05, ellipse=0.02, reach=140)
    view = SpotView.from_spots(p, intensity, 0.3, scale=PIXEL, distortion=0.012)
    start = Rotation.from_rotvec([0.01, -0.01, 0.015]).as_matrix() @ matrix
    fit = refine(kinematic_table(crystal), view, start[None], np.array([1.01 * PIXEL]))
    # The spots were stretched by +1 % in x and -1 % in y; the fit undoes it.
    assert fit.strain[0, 0] == pytest.approx(-0.01, abs=0.002)
    assert fit.strain[0, 1] == pytest.approx(0.0, abs=0.002)
    assert fit.scale[0] == pytest.approx(PIXEL, rel=2e-3)


def test_expected_count_is_the_sum_over_reflections() -> None:
    crystal = phase("Au")
    table = kinematic_table(crystal)
    matrix = near_zone(crystal, (0, 0, 1), 0.0, 0.0)
    view = SpotView.from_spots(np.array([[60.0, 0.0], [0.0, 100.0]]), None, 0.5, scale=PIXEL)
    counted = expected_counts(table, view, matrix[None], np.array([PIXEL]), rods=(0.004,))
    lab = table.g @ matrix.T
    s_g = -lab[:, 2] - wavelength(200e3) * table.length**2 / 2
    width = 0.004**2 + (3e-3 * table.length) ** 2
    intensity = table.visibility * width / (width + s_g**2) * (np.abs(s_g) < 0.06)
    intensity[~view.sees(lab[:, 0] / PIXEL, lab[:, 1] / PIXEL)] = 0.0
    assert counted[0, 0, 0] == pytest.approx((intensity / (intensity + 0.4)).sum(), rel=1e-9)


def test_no_spots_give_no_orientation() -> None:
    assert index_pattern(kinematic_table(phase("Al")), SpotView.from_spots(np.zeros((0, 2)))) == []
