"""Reduction, sublattices and covariance of two-dimensional bases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from diskern.bragg.lattice_reduce import (
    handedness,
    reduced,
    reduction,
    sublattices,
    transform_covariance,
)
from diskern.errors import DiskernError

lengths = st.floats(-100, 100)


@given(st.lists(lengths, min_size=4, max_size=4))
def test_reduced_basis_of_any_lattice(values):
    basis = np.array(values).reshape(2, 2)
    size = np.linalg.norm(basis, axis=1).prod()
    assume(size > 1e-3 and abs(np.linalg.det(basis)) > 1e-3 * size)
    change = reduction(basis)
    assert abs(round(np.linalg.det(change))) == 1
    a, b = change @ basis
    assert np.linalg.norm(a) <= np.linalg.norm(b) * (1 + 1e-6)
    assert abs(a @ b) <= 0.5 * (a @ a) * (1 + 1e-6)
    assert handedness(np.array([a, b])) > 0
    assert a[1] >= 0


@pytest.mark.parametrize(
    "basis",
    [[[0, 1], [1, 0]], [[0, 1], [np.sqrt(3) / 2, 0.5]], [[0, 2], [2, 1]], [[1, 1], [1, -1]]],
)
def test_ties_are_stable(basis):
    basis = np.array(basis, dtype=float)
    first = reduced(basis)
    assert np.allclose(reduced(first), first)


def test_square_is_right_handed_with_the_beam():
    a, b = reduced(np.array([[1.0, 0.0], [0.0, 1.0]]))
    x, y = np.append(a[::-1], 0), np.append(b[::-1], 0)
    assert np.cross(x, y)[2] == pytest.approx(1)


def test_parallel_vectors_are_refused():
    with pytest.raises(DiskernError, match="spans no lattice"):
        reduced(np.array([[1.0, 2.0], [2.0, 4.0]]))
    with pytest.raises(DiskernError, match="spans no lattice"):
        reduced(np.array([[1.0, np.nan], [2.0, 4.0]]))


@pytest.mark.parametrize(("index", "count"), [(1, 1), (2, 3), (3, 4), (4, 7), (6, 12)])
def test_number_of_sublattices_is_the_divisor_sum(index, count):
    forms = sublattices(index)
    assert len(forms) == count
    assert np.allclose(np.linalg.det(forms), index)
    basis = np.array([[0, 10.0], [13.1, 3.7]])
    together = {tuple(np.round(reduced(form @ basis).ravel(), 6)) for form in forms}
    assert len(together) == count


def test_covariance_follows_the_basis():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    covariance, change = root @ root.T, np.array([[1, 1], [0, -1]])
    draws = rng.multivariate_normal(np.zeros(6), covariance, 200_000)
    moved = draws.copy()
    moved[:, 2:] = (change @ draws[:, 2:].reshape(-1, 2, 2)).reshape(-1, 4)
    assert np.allclose(np.cov(moved.T), transform_covariance(covariance, change), atol=0.15)
