import numpy as np
import pytest

from diskern.bragg.lattice import Lattice2D
from diskern.patterns.geometry import Flaw
from diskern.report.measures import lattice_measure, masked_shares


def lattice(basis, covariance, rank=2):
    return Lattice2D(
        np.zeros(2), np.asarray(basis, float), covariance, np.arange(0), np.zeros((0, 2), int),
        0.1, 1.0, rank,
    )  # fmt: skip


def test_propagated_uncertainties_agree_with_sampling():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)) * 0.05
    covariance = root @ root.T
    basis = np.array([[30.0, 4.0], [-11.0, 37.5]])
    measure = lattice_measure(lattice(basis, covariance), None)
    drawn = rng.multivariate_normal(np.r_[0, 0, basis.ravel()], covariance, 20000)[:, 2:]
    a, b = drawn[:, :2], drawn[:, 2:]
    length_a, length_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    angle = np.degrees(np.arccos((a * b).sum(1) / length_a / length_b))
    assert measure.sigma_a == pytest.approx(length_a.std(), rel=0.03)
    assert measure.sigma_b == pytest.approx(length_b.std(), rel=0.03)
    assert measure.sigma_angle == pytest.approx(angle.std(), rel=0.03)
    assert measure.unit == "px"


def test_a_calibrated_square_lattice():
    measure = lattice_measure(lattice([[40, 0], [0, 40]], np.eye(6) * 0.01), 0.0125)
    assert (measure.a, measure.b, measure.angle) == pytest.approx((0.5, 0.5, 90.0))
    assert measure.spacings == pytest.approx((2.0, 2.0))
    assert measure.sigma_a == pytest.approx(0.1 * 0.0125)


def test_a_single_row_keeps_its_one_length():
    measure = lattice_measure(lattice([[3, 4], [np.nan, np.nan]], np.eye(6), rank=1), None)
    assert measure.a == pytest.approx(5.0)
    assert measure.sigma_a == pytest.approx(1.0)
    assert np.isnan(measure.b)
    assert np.isnan(measure.angle)


def test_masked_shares_count_overlapping_reasons():
    flaws = np.zeros((10, 10), np.uint16)
    flaws[:, :3] = Flaw.BEAM_STOP
    flaws[:, 2] |= int(Flaw.SATURATED)
    assert masked_shares(flaws) == {"beam stop": 0.3, "saturated": 0.1}
