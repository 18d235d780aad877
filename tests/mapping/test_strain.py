"""Strain maps: the truth is found, with honest errors, whatever the reference."""

from __future__ import annotations

import numpy as np
import pytest
from mapping_scans import SQUARE, combine, deformations, rotated, scan, vectors

from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.mapping.index import index_vectors
from diskern.mapping.lattice_map import Reason
from diskern.mapping.strain import strain_map
from diskern.mapping.zone import zone_basis

SHAPE = (24, 24)
Y, X = np.indices(SHAPE) / 24 - 0.5
FIELDS = (0.01 * np.sin(5 * X), -0.01 * np.cos(6 * Y), 0.005 * X, 0.02 * Y)
SILICON = Crystal.from_arrays(
    [5.431, 5.431, 5.431, 90, 90, 90],
    [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0.25, 0.25, 0.25],
     [0.25, 0.75, 0.75], [0.75, 0.25, 0.75], [0.75, 0.75, 0.25]],
    [14] * 8,
    name="Si",
)  # fmt: skip


@pytest.fixture(scope="module")
def strained():
    return scan(
        SHAPE,
        deformation=deformations(SHAPE, *FIELDS),
        missing=0.3,
        spurious=0.15,
        descan=(0.1, 0.2),
    )


@pytest.fixture(scope="module")
def lattices(strained):
    return index_vectors(strained.points)


def standardised(strain):
    sigma = np.sqrt(np.diagonal(strain.covariance[0], axis1=-2, axis2=-1))
    return ((strain.values[0] - np.stack(FIELDS, axis=-1)) / sigma).reshape(-1, 4)


def test_strain_is_unbiased_and_its_sigma_calibrated(lattices):
    z = standardised(strain_map(lattices, SQUARE))
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(len(z))
    assert z.std(axis=0) == pytest.approx(1, abs=0.1)


def test_regions_and_medians_differ_by_a_constant(lattices):
    absolute = strain_map(lattices, SQUARE)
    region = (slice(0, 6), slice(18, 24))
    local = strain_map(lattices, region)
    assert np.median(local.e_xx[region]) == pytest.approx(0, abs=2e-4)
    offset = absolute.e_xx - local.e_xx
    assert offset.std() < 3e-4
    assert offset.mean() == pytest.approx(np.median(FIELDS[0][region]), abs=5e-4)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[region] = True
    assert np.array_equal(strain_map(lattices, mask).values, local.values, equal_nan=True)
    assert np.median(strain_map(lattices).rotation) == pytest.approx(0, abs=3e-4)


def test_reference_error_shrinks_with_its_region(lattices):
    small = strain_map(lattices, (slice(0, 2), slice(0, 2)))
    large = strain_map(lattices, (slice(0, 12), slice(0, 12)))
    assert small.reference_sigma[0, 0] == pytest.approx(6 * large.reference_sigma[0, 0], rel=0.3)
    typical = np.sqrt(np.pi / 2) * np.median(small.sigma_e_xx) / 2
    assert small.reference_sigma[0, 0] == pytest.approx(typical, rel=0.3)


def test_a_crystal_as_reference_gives_absolute_strain():
    zone = zone_basis(SILICON, [0, 1, 1])
    truth = scan(
        SHAPE, rotated(zone / 0.01, 17), deformations(SHAPE, *FIELDS[:3]), missing=0.2, reach=110
    )
    known = VectorCalibration(pixel_size=0.01)
    strain = strain_map(
        index_vectors(truth.points), SILICON, zone_axis=[0, 1, 1], calibration=known
    )
    sigma = np.sqrt(np.diagonal(strain.covariance[0], axis1=-2, axis2=-1))
    z = ((strain.values[0] - np.stack([*FIELDS[:3], np.zeros(SHAPE)], -1)) / sigma)[..., :3]
    assert np.abs(z.mean(axis=(0, 1))).max() < 0.3
    assert z.std(axis=(0, 1)) == pytest.approx(1, abs=0.12)
    assert "Si" in strain.reference.words


def test_ellipses_are_taken_off_before_strain_is_told():
    ellipse = np.array([[1.0, 0.0], [0.0, 0.98]])
    truth = scan(SHAPE, SQUARE @ np.linalg.inv(ellipse), missing=0.2)
    lattices = index_vectors(truth.points)
    known = VectorCalibration(ellipse=ellipse)
    distorted = SQUARE @ np.linalg.inv(ellipse)
    corrected = strain_map(lattices, distorted, calibration=known)
    assert np.abs(corrected.values[0, ..., :3].mean(axis=(0, 1))).max() < 1e-4


def test_axes(lattices):
    detector, turned = strain_map(lattices, SQUARE), strain_map(lattices, SQUARE, axes=90.0)
    assert np.allclose(turned.e_xx, detector.e_yy)
    assert np.allclose(turned.sigma_e_xx, detector.sigma_e_yy)
    assert np.allclose(turned.e_xy, -detector.e_xy)
    assert np.allclose(turned.rotation, detector.rotation)
    known = VectorCalibration(rotation=np.radians(-90))
    assert np.allclose(
        strain_map(lattices, SQUARE, axes="scan", calibration=known).values[0], turned.values[0]
    )


def test_mirrored_detectors_swap_axes(lattices):
    known = VectorCalibration(rotation=0.0, flip=True)
    there = strain_map(lattices, SQUARE, axes="scan", calibration=known)
    here = strain_map(lattices, SQUARE)
    assert np.allclose(there.e_xx, here.e_yy)
    assert np.allclose(there.rotation, -here.rotation)


def test_each_grain_has_its_own_reference():
    f = deformations(SHAPE, e_xx=0.01 * Y)
    left = scan(SHAPE, SQUARE, f, missing=0.2, seed=1)
    right = scan(SHAPE, rotated(SQUARE * 1.1, 20), f, missing=0.2, seed=2)
    strain = strain_map(index_vectors(combine([(left, X < 0), (right, X >= 0)])))
    error = strain.e_xx - 0.01 * (Y - np.median(Y))
    assert np.abs(error[:, 2:10]).mean() < 4e-4
    assert np.abs(error[:, 14:22]).mean() < 4e-4


def test_tiny_grains_are_flagged_not_invented():
    big = scan(SHAPE, missing=0.2, seed=1)
    tiny = scan(SHAPE, rotated(SQUARE * 1.2, 30), missing=0.2, seed=2)
    spot = (np.abs(X - 0.2) < 0.05) & (np.abs(Y) < 0.03)
    lattices = index_vectors(combine([(big, ~spot), (tiny, spot)]))
    strain = strain_map(lattices)
    assert lattices.indexed[spot].all()
    assert (strain.reason[spot] == Reason.SMALL).all()
    assert np.isnan(strain.e_xx[spot]).all()
    assert np.isfinite(strain.e_xx[~spot]).all()


def test_unindexed_positions_stay_unknown(strained):
    points = strained.points
    lattices = index_vectors(points.select(points.pattern != 5))
    strain = strain_map(lattices, SQUARE)
    assert np.isnan(strain.values[0, 0, 5]).all()
    assert strain.reason[0, 5] == Reason.EMPTY
    assert np.isfinite(strain.e_xx).sum() == np.prod(SHAPE) - 1


def test_vectors_are_taken_as_they_come(strained, lattices):
    direct = strain_map(vectors(strained.points), SQUARE)
    assert np.allclose(direct.e_xx, strain_map(lattices, SQUARE).e_xx, atol=1e-5)


def test_principal_strains(lattices):
    strain = strain_map(lattices, SQUARE)
    large, small, angle = strain.principal
    turn = np.radians(angle)
    again = large * np.cos(turn) ** 2 + small * np.sin(turn) ** 2
    assert np.allclose(again, strain.e_xx)


@pytest.mark.parametrize(
    ("reference", "options", "words"),
    [
        ("mean", {}, "median"),
        (np.zeros((3, 3), dtype=bool), {}, "shape"),
        (np.zeros(SHAPE, dtype=bool), {}, "no position"),
        (SILICON, {}, "zone_axis"),
        (SILICON, {"zone_axis": [0, 1, 1]}, "pixel size"),
        ("median", {"axes": "scan"}, "rotation"),
        ("median", {"axes": "lab"}, "unknown"),
        ("median", {"measure": "true"}, "measure"),
    ],
)
def test_impossible_requests_are_refused(lattices, reference, options, words):
    with pytest.raises(DiskernError, match=words):
        strain_map(lattices, reference, **options)


def test_unknown_components_are_refused(lattices):
    with pytest.raises(DiskernError, match="e_zz"):
        strain_map(lattices).component("e_zz")
