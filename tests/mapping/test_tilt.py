"""Tilt without a crystal: from excitation errors, and roughly from Friedel pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mapping_scans import SQUARE, scan, vectors
from scipy.spatial.transform import Rotation

from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.crystal.orientation import excitation_error
from diskern.errors import DiskernError
from diskern.mapping.index import index_vectors
from diskern.mapping.tilt import friedel_pairs, tilt_map
from diskern.physics import wavelength

SHAPE = (20, 20)
PIXEL, ENERGY = 0.01, 200e3
KNOWN = VectorCalibration(pixel_size=PIXEL, energy=ENERGY, scan_step=(5.0, 5.0))
Y, X = np.indices(SHAPE) / 20 - 0.5


def tilted(tilt, thickness=100.0, sigma=1e-3, outliers=0.05, seed=0):
    """Disks with the excitation errors of a crystal turned by (Y, X, 2) mrad, exact geometry."""
    rng = np.random.default_rng(seed)
    truth = scan(SHAPE, missing=0.2, spurious=0.1, seed=seed)
    points = truth.points
    true = np.isfinite(truth.indices[:, 0])
    g = np.zeros((len(points), 3))
    g[true, :2] = (truth.indices[true] @ SQUARE)[:, ::-1] * PIXEL
    vector = np.concatenate([tilt.reshape(-1, 2) * 1e-3, np.zeros((points.patterns, 1))], axis=1)
    turned = Rotation.from_rotvec(vector[points.pattern]).apply(g)
    s_g = excitation_error(turned, wavelength(ENERGY))
    spread = sigma * rng.uniform(0.5, 2, len(s_g))
    q_z = s_g + spread * rng.normal(size=len(s_g))
    astray = (rng.random(len(s_g)) < outliers) | ~true
    q_z[astray] += rng.normal(0, 0.03, astray.sum())
    strength = np.exp(-(g**2).sum(axis=1)) * (1 + 0.3 * g[:, 0] ** 2)
    intensity = 1e5 * strength * np.sinc(thickness * s_g) ** 2 + 1
    intensity[(truth.indices == 0).all(axis=1)] = 1e6
    return replace(
        points, q_z=q_z, sigma_q_z=spread, intensity=intensity, sigma_intensity=np.sqrt(intensity)
    )


FIELD = np.stack([20 * Y, 10 * X + 5 * Y], axis=-1)


def test_tilt_is_found_with_calibrated_errors():
    found = tilt_map(index_vectors(tilted(FIELD)), calibration=KNOWN, shared=0.0)
    error = found.tilt - FIELD
    assert np.degrees(np.median(np.linalg.norm(error, axis=-1)) * 1e-3) < 0.05
    z = error / found.sigma
    assert z.std(axis=(0, 1)) == pytest.approx(1, abs=0.12)
    assert np.abs(z.mean(axis=(0, 1))).max() < 0.25
    assert not found.rough


def test_errors_that_disks_share_do_not_average_out():
    lattices = index_vectors(tilted(FIELD))
    alone = tilt_map(lattices, calibration=KNOWN, shared=0.0)
    together = tilt_map(lattices, calibration=KNOWN, shared=1.0)
    np.testing.assert_array_equal(together.tilt, alone.tilt)
    np.testing.assert_allclose(together.sigma**2, alone.sigma**2 * alone.count[..., None])
    usual = tilt_map(lattices, calibration=KNOWN).sigma ** 2
    # By default they share half of the variance.
    np.testing.assert_allclose(usual, (alone.sigma**2 + together.sigma**2) / 2)


def test_scatter_beyond_sigma_is_found_in_the_scan():
    points = tilted(FIELD, sigma=3e-3, outliers=0)
    boastful = replace(points, sigma_q_z=points.sigma_q_z / 10)
    found = tilt_map(index_vectors(boastful), calibration=KNOWN, shared=0.0)
    z = (found.tilt - FIELD) / found.sigma
    assert z.std() == pytest.approx(1, abs=0.15)
    assert found.excess > 2e-3


def test_signs_are_those_of_the_conventions():
    """A turn about +y carries the zone axis towards +x, about +x towards −y."""
    about_y = np.broadcast_to([0.0, 8.0], (*SHAPE, 2))
    found = tilt_map(index_vectors(tilted(about_y)), calibration=KNOWN)
    assert np.median(found.tilt, axis=(0, 1)) == pytest.approx([0, 8], abs=0.2)
    assert np.median(found.laue_centre, axis=(0, 1)) == pytest.approx([8, 0], abs=0.2)
    axis = Rotation.from_rotvec([0, 8e-3, 0]).apply([0, 0, 1])
    assert axis[0] > 0


def test_intensities_give_a_labelled_rough_estimate():
    field = FIELD * 0.3
    points = replace(tilted(field), q_z=np.full(len(tilted(field)), np.nan))
    found = tilt_map(index_vectors(points), calibration=KNOWN, thickness=100.0)
    assert found.rough
    assert found.method == "friedel"
    assert "rough" in repr(found)
    known = np.isfinite(found.magnitude)
    assert known.mean() > 0.9
    for axis in range(2):
        one, other = found.tilt[known][:, axis], field[known][:, axis]
        assert np.corrcoef(one, other)[0, 1] > 0.9
        assert 0.6 < np.polyfit(other, one, 1)[0] < 1.5


def test_thick_crystals_are_refused_a_tilt_from_intensities():
    lattices = index_vectors(scan((3, 3)).points)
    with pytest.raises(DiskernError, match="thickness=900"):
        tilt_map(lattices, calibration=KNOWN, thickness=900.0)


def test_friedel_pairs_are_opposite_and_counted_once():
    truth = scan((3, 3), missing=0.3, spurious=0.1)
    lattices = index_vectors(truth.points)
    disks = (lattices.slot == 0) & (lattices.indices != 0).any(axis=1)
    one, other = friedel_pairs(lattices.points, lattices.indices, disks)
    assert (lattices.indices[one] == -lattices.indices[other]).all()
    assert (lattices.points.pattern[one] == lattices.points.pattern[other]).all()
    assert len(np.unique(np.concatenate([one, other]))) == 2 * len(one)


def test_empty_rows_and_lone_disks_stay_unknown():
    points = tilted(FIELD)
    lone = points.select((points.pattern != 0) & (points.pattern != 7))
    found = tilt_map(index_vectors(lone), calibration=KNOWN)
    assert np.isnan(found.tilt[0, [0, 7]]).all()
    assert np.isfinite(found.magnitude).sum() == np.prod(SHAPE) - 2


def test_vectors_bring_their_own_calibration():
    points = tilted(FIELD)
    found = tilt_map(vectors(points, pixel_size=PIXEL, energy=ENERGY))
    assert np.median(np.linalg.norm(found.tilt - FIELD, axis=-1)) < 1


@pytest.mark.parametrize(
    ("known", "options", "words"),
    [
        (VectorCalibration(energy=ENERGY), {}, "pixel size"),
        (VectorCalibration(pixel_size=PIXEL), {}, "energy"),
        (KNOWN, {}, "thickness"),
        (KNOWN, {"method": "q_z"}, "no vector has a q_z"),
        (KNOWN, {"method": "guess"}, "unknown"),
        (KNOWN, {"shared": 1.5}, "shared=1.5"),
    ],
)
def test_what_is_lacking_is_said(known, options, words):
    lattices = index_vectors(scan((3, 3)).points)
    with pytest.raises(DiskernError, match=words):
        tilt_map(lattices, calibration=known, **options)
