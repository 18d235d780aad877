"""Origin, descan, pixel size and ellipse; and what is said not to be known."""

from __future__ import annotations

import numpy as np
import pytest
from mapping_scans import SQUARE, combine, rotated, scan, vectors
from test_strain import SILICON

from diskern.errors import DiskernError
from diskern.mapping.calibration import OriginSource, calibrate
from diskern.mapping.calibration_crystal import scale_matrix, scale_parameters
from diskern.mapping.descan import fit_descan
from diskern.mapping.zone import zone_basis

SHAPE = (18, 18)
TRUE = np.array([np.log(0.0101), 0.01, -0.006])
SCALE = scale_matrix(TRUE)


def distorted(basis):
    """A lattice in 1/Å as the detector shows it, in px."""
    return basis @ np.linalg.inv(SCALE)


def nine_grains(**options):
    y, x = np.indices(SHAPE) // 6
    zone = zone_basis(SILICON, [0, 1, 1])
    return combine(
        [
            (scan(SHAPE, distorted(rotated(zone, 17 * k)), seed=k, reach=110, **options), g)
            for k in range(9)
            for g in [x + 3 * y == k]
        ]
    )


def test_scale_parameters_round_trip():
    assert scale_parameters(SCALE) == pytest.approx(TRUE)
    assert np.allclose(SCALE, SCALE.T)


def test_origins_are_measured_with_their_error():
    truth = scan(SHAPE, missing=0.3, spurious=0.1, descan=(0.3, -0.2))
    known = calibrate(vectors(truth.points))
    z = (known.origin - truth.origin) / known.origin_sigma
    assert z.std() == pytest.approx(1, abs=0.1)
    assert (known.origin_source == OriginSource.LATTICE).all()
    assert known.descan is not None
    assert np.abs(known.descan.at(SHAPE) - truth.origin).max() < 0.02
    assert known.descan.chi2 == pytest.approx(1, abs=0.2)


def test_origin_of_unindexed_patterns_is_the_beam_or_unknown():
    truth = scan(SHAPE, missing=0.2)
    points = truth.points
    beam = (truth.indices == 0).all(axis=1)
    keep = (points.pattern > 1) | ((points.pattern == 1) & beam)
    known = calibrate(vectors(points.select(keep)))
    assert known.origin_source[0, :2].tolist() == [OriginSource.NONE, OriginSource.BEAM]
    assert np.isnan(known.origin[0, 0]).all()
    assert np.abs(known.origin[0, 1] - truth.origin[0, 1]).max() < 0.3
    plain, smooth = known.vector_calibration(), known.vector_calibration(smooth_origin=True)
    assert np.isnan(plain.origin[0, 0]).all()
    assert np.isfinite(smooth.origin).all()


def test_hidden_beams_are_found_by_symmetry_and_said_to_be():
    truth = scan(SHAPE, missing=0.3, spurious=0.05, direct=False, descan=(0.3, 0.1))
    known = calibrate(vectors(truth.points))
    assert not known.direct_beam
    assert np.median(np.abs(known.origin - truth.origin)) < 0.05
    assert any("hidden" in note for note in known.notes)


def test_bright_diffracted_beams_do_not_pass_for_the_direct_one():
    truth = scan(SHAPE, missing=0.2)
    points = truth.points
    rng = np.random.default_rng(0)
    bright = (rng.random(points.patterns) < 0.3)[points.pattern]
    outshines = bright & (truth.indices == [1, 0]).all(axis=1)
    points.intensity[outshines] = 1e6
    known = calibrate(vectors(points))
    assert np.abs(known.origin - truth.origin).max() < 0.3


def test_a_beam_that_outshines_the_direct_one_everywhere_is_told_by_its_place():
    truth = scan(SHAPE, missing=0.2)
    points = truth.points
    points.intensity[(truth.indices == [2, 1]).all(axis=1)] = 3e5
    known = calibrate(vectors(points))
    assert known.direct_beam
    assert np.abs(known.origin - truth.origin).max() < 0.3


def test_a_bright_beam_far_off_the_middle_is_still_the_direct_one():
    truth = scan(SHAPE, missing=0.2)
    away = 0.2 * min(truth.points.pattern_shape)
    truth.points.position[:] += away
    known = calibrate(vectors(truth.points))
    assert known.direct_beam
    assert np.abs(known.origin - truth.origin - away).max() < 0.3


def test_one_grain_of_a_known_crystal_gives_size_and_ellipse():
    basis = distorted(rotated(zone_basis(SILICON, [0, 1, 1]), 17))
    truth = scan(SHAPE, basis, missing=0.2, spurious=0.1, reach=110)
    known = calibrate(vectors(truth.points), crystal=SILICON, zone_axis=[0, 1, 1])
    z = (known.scale.parameters - TRUE) / np.sqrt(np.diag(known.scale.covariance))
    assert np.abs(z).max() < 4
    assert known.pixel_size == pytest.approx(np.linalg.eigvalsh(SCALE).max(), rel=1e-4)
    assert known.ellipse * known.pixel_size == pytest.approx(SCALE, rel=1e-3)
    assert np.linalg.eigvalsh(known.ellipse).max() == pytest.approx(1)
    assert any("strain" in note for note in known.notes)


def test_grains_give_the_ellipse_without_a_crystal():
    known = calibrate(vectors(nine_grains(missing=0.3, spurious=0.1)))
    z = (known.scale.parameters - TRUE)[1:] / np.sqrt(np.diag(known.scale.covariance))[1:]
    assert np.abs(z).max() < 4
    assert known.pixel_size is None
    assert known.ellipse_ratio == pytest.approx(np.linalg.cond(SCALE), abs=4 * known.sigma_ellipse)


def test_one_unknown_lattice_does_not_give_an_ellipse():
    known = calibrate(vectors(scan(SHAPE, missing=0.2).points))
    assert known.ellipse is None
    assert any("cannot be told" in note for note in known.notes)
    assert any("rotation" in note for note in known.notes)


def test_calibrated_vectors_are_in_reciprocal_angstrom():
    basis = distorted(rotated(zone_basis(SILICON, [0, 0, 1]), 5))
    truth = scan(SHAPE, basis, reach=110)
    found = vectors(truth.points)
    known = calibrate(found, crystal=SILICON, zone_axis=[0, 0, 1])
    table = known.apply(found).table()
    length = np.hypot(table["q_y"], table["q_x"])
    node = np.abs(truth.indices).sum(axis=1) == 1
    assert np.median(length[node]) == pytest.approx(np.sqrt(8) / 5.431, rel=2e-4)


def test_descan_ignores_outliers_and_gaps():
    rng = np.random.default_rng(0)
    y, x = np.indices((20, 30))
    true = np.stack([100 + 0.2 * y + 0.01 * x**2, 90 - 0.1 * x], axis=-1)
    origin = true + rng.normal(0, 0.05, true.shape)
    origin[rng.random(y.shape) < 0.15] += 12
    origin[3, 4] = np.nan
    model = fit_descan(origin, np.full(origin.shape, 0.05), 2)
    assert np.abs(model.at((20, 30)) - true).max() < 0.05
    assert model.residual == pytest.approx([0.05, 0.05], rel=0.35)


def test_descan_of_one_row():
    origin = np.stack([np.full((1, 9), 5.0), np.linspace(0, 1, 9)[None]], axis=-1)
    assert np.abs(fit_descan(origin, np.ones((1, 9, 2)), 1).at((1, 9)) - origin).max() < 1e-4


@pytest.mark.parametrize("order", [-1, 4])
def test_impossible_descan_orders_are_refused(order):
    with pytest.raises(DiskernError, match="order"):
        calibrate(vectors(scan((3, 3)).points), descan_order=order)


def test_crystals_need_their_zone():
    with pytest.raises(DiskernError, match="zone_axis"):
        calibrate(vectors(scan((3, 3)).points), crystal=SILICON)


def test_zone_lattices_leave_absent_reflections_out():
    first = 5.431 / np.linalg.norm(zone_basis(SILICON, [0, 0, 1]), axis=1) / 5.431
    assert first == pytest.approx(5.431 / np.sqrt(8), rel=1e-6)  # {220}: {200} is absent
    both = 1 / np.linalg.norm(zone_basis(SILICON, [0, 1, 1]), axis=1)
    assert both == pytest.approx(5.431 / np.sqrt(3), rel=1e-6)  # {111}
    with pytest.raises(DiskernError, match="zone"):
        zone_basis(SILICON, [17, 5, 31.3])


def test_square_reference_is_kept_in_its_setting():
    known = calibrate(vectors(scan((6, 6), SQUARE).points))
    assert known.origin.shape == (6, 6, 2)
    assert "ScanCalibration" in repr(known)
