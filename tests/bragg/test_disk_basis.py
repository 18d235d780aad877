"""Polynomials on the unit disk: orthonormal, graded, closed under products."""

import numpy as np
import pytest

from diskern.bragg.disk_basis import count, disk_basis


def unit_disk(points: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Points of a fine even grid inside the unit disk."""
    n = int(np.sqrt(points))
    axis = (np.arange(n) + 0.5) / n * 2 - 1
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    inside = x * x + y * y <= 1
    return x[inside], y[inside]


@pytest.mark.parametrize("order", [1, 2, 4])
def test_orthonormal_over_the_unit_disk(order: int) -> None:
    values = disk_basis(order).evaluate(*unit_disk())[:, : count(order)]
    assert values.T @ values / len(values) == pytest.approx(np.eye(count(order)), abs=0.02)


def test_the_first_polynomial_is_one_and_degrees_ascend() -> None:
    basis = disk_basis(3)
    x, y = np.array([0.3, -2.0]), np.array([0.1, 1.5])
    assert basis.evaluate(x, y)[:, 0] == pytest.approx([1, 1])
    assert basis.degree.tolist() == sorted(basis.degree)
    assert [int((basis.degree <= n).sum()) for n in range(4)] == [count(n) for n in range(4)]


@pytest.mark.parametrize("order", [1, 3, 6])
def test_products_are_sums_of_polynomials(order: int) -> None:
    basis = disk_basis(order)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1.3, 1.3, (2, 50))
    values = basis.evaluate(x, y)
    low = values[:, : count(order)]
    direct = low[:, :, None] * low[:, None, :]
    by_table = np.einsum("nk,kij->nij", values[:, : len(basis.product)], basis.product)
    assert by_table == pytest.approx(direct, rel=1e-6, abs=1e-6 * np.abs(direct).max())


def test_a_moved_polynomial_is_one_of_the_same_degree() -> None:
    basis = disk_basis(2)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-1, 1, (2, 60))
    here = basis.evaluate(x, y)[:, : count(2)]
    moved = basis.evaluate(x - 0.2, y + 0.35)[:, : count(2)]
    fitted = here @ np.linalg.lstsq(here, moved, rcond=None)[0]
    assert fitted == pytest.approx(moved, abs=1e-9)
