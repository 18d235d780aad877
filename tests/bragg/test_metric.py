"""Lengths, ratio and angle with propagated uncertainty, undistorted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice_patterns import turn

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.lattice_reduce import reduced
from diskern.bragg.metric import metric, undistortion
from diskern.errors import DiskernError
from diskern.patterns.geometry import Ellipse

BASIS = np.array([[0.0, 40.0], [51.0, 13.0]])


def lattice(basis, sigma=0.05, rank=2):
    none = np.zeros(0, dtype=np.int64)
    covariance = sigma**2 * np.eye(6)
    return Lattice2D(
        np.zeros(2), np.asarray(basis, float), covariance, none, none.reshape(0, 2), 0.1, 50.0, rank
    )


def test_plain_lengths_and_angle():
    found = metric(lattice(BASIS))
    assert found.unit == "px"
    assert (found.length_a, found.length_b) == pytest.approx(np.linalg.norm(BASIS, axis=1))
    assert found.angle == pytest.approx(np.degrees(np.arctan2(51, 13)))
    assert found.ratio == pytest.approx(found.length_b / found.length_a)
    assert found.sigma_a == pytest.approx(0.05, rel=1e-3)
    assert found.deviation(found.ratio, found.angle + 3 * found.sigma_angle) > 8.99


@settings(max_examples=30)
@given(st.floats(1.001, 1.2), st.floats(0, 180), st.floats(0, 360))
def test_ellipse_is_taken_out(ratio, direction, start):
    true = reduced(BASIS @ turn(start))
    along = turn(direction)
    stretch = along.T @ np.diag([ratio**-0.5, ratio**0.5]) @ along
    seen = true @ stretch
    assert np.allclose(stretch @ undistortion(Ellipse(ratio, direction)), np.eye(2), atol=1e-9)
    found = metric(lattice(seen), ellipse=Ellipse(ratio, direction))
    assert found.ratio == pytest.approx(np.linalg.norm(BASIS[1]) / 40, rel=1e-6)
    assert found.angle == pytest.approx(np.degrees(np.arctan2(51, 13)), abs=1e-5)
    assert np.allclose(
        found.transform @ seen @ undistortion(Ellipse(ratio, direction)), found.basis
    )


def test_pixel_size_scales_lengths_and_leaves_the_shape():
    plain, scaled = metric(lattice(BASIS)), metric(lattice(BASIS), 0.01, pixel_size_error=0.03)
    assert scaled.unit == "1/Å"
    assert scaled.length_a == pytest.approx(0.4)
    assert np.allclose(scaled.shape_covariance, plain.shape_covariance)
    assert scaled.sigma_b / scaled.length_b == pytest.approx(0.03, rel=0.01)
    assert scaled.covariance[0, 1] > 0


def test_uncertain_ellipse_widens_ratio_and_angle():
    sharp, vague = (
        metric(lattice(BASIS, 1e-6)),
        metric(lattice(BASIS, 1e-6), ellipse=Ellipse(sigma=0.01)),
    )
    assert sharp.sigma_angle < 1e-4
    assert 0.1 < vague.sigma_angle < 1.0
    assert 0.002 < vague.sigma_ratio / vague.ratio < 0.02


def test_covariance_against_drawn_lattices():
    rng = np.random.default_rng(0)
    draws = [
        metric(lattice(BASIS + rng.normal(0, 0.2, (2, 2))), ellipse=Ellipse(1.02, 30))
        for _ in range(600)
    ]
    shape = np.cov(np.array([(m.ratio, m.angle) for m in draws]).T)
    said = metric(lattice(BASIS, 0.2), ellipse=Ellipse(1.02, 30)).shape_covariance
    assert np.allclose(shape, said, rtol=0.15, atol=0.1 * np.sqrt(np.prod(np.diag(said))))


def test_row():
    found = metric(lattice([[3.0, 4.0], [np.nan, np.nan]], rank=1), 0.01)
    assert found.length_a == pytest.approx(0.05)
    assert np.isfinite(found.sigma_a)
    assert np.isnan(found.angle)


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan])
def test_impossible_pixel_size(size):
    with pytest.raises(DiskernError, match="pixel_size"):
        metric(lattice(BASIS), size)


def test_impossible_ellipse():
    with pytest.raises(DiskernError, match="ellipse"):
        metric(lattice(BASIS), ellipse=Ellipse(ratio=-1.0))
