"""Rotations, mirrors and twins between two lattices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_patterns import turn

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.lattice_relation import relation
from diskern.errors import DiskernError

OBLIQUE = np.array([[0.0, 40.0], [51.0, 13.0]])


def lattice(basis, rank=2):
    none = np.zeros(0, dtype=np.int64)
    return Lattice2D(
        np.array([256.0, 256.0]),
        np.asarray(basis, dtype=float),
        0.01 * np.eye(6),
        none,
        none.reshape(0, 2),
        0.1,
        50.0,
        rank,
    )


@given(st.floats(3, 87), st.floats(0, 360))
def test_rotation_angle_has_its_sign(angle, start):
    basis = OBLIQUE @ turn(start)
    found = relation(lattice(basis), lattice(basis @ turn(angle)))
    assert found.angle == pytest.approx(angle, abs=1e-6)
    assert relation(lattice(basis @ turn(angle)), lattice(basis)).angle == pytest.approx(-angle)


def test_same_and_unrelated():
    assert relation(lattice(OBLIQUE), lattice(OBLIQUE @ turn(0.3))).kind == "same"
    strained = OBLIQUE @ np.diag([1.1, 0.9])
    assert relation(lattice(OBLIQUE), lattice(strained)).kind == "unrelated"


def test_mirror_image_of_an_oblique_net_is_no_rotation():
    mirror = turn(20).T @ np.diag([-1.0, 1.0]) @ turn(20)
    found = relation(lattice(OBLIQUE), lattice(OBLIQUE @ mirror))
    assert found.kind == "mirror"
    assert np.isnan(found.angle)
    assert np.sin(2 * np.radians(found.axis - 20)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("start", [0.0, 33.0, 140.0])
def test_fcc_twin_along_110_is_sigma_three(start):
    lean = np.arccos(1 / 3)
    basis = 50 * np.array([[0, 1], [np.sin(lean), np.cos(lean)]]) @ turn(start)
    row = basis[0] / 50
    twin = basis @ (2 * np.outer(row, row) - np.eye(2))
    found = relation(lattice(basis), lattice(twin))
    assert found.kind == "twin"
    assert found.sigma == 3
    along = np.degrees(np.arctan2(row[0], row[1]))
    assert np.sin(2 * np.radians(found.axis - along)) == pytest.approx(0, abs=1e-6)


def test_rows_cannot_be_compared():
    with pytest.raises(DiskernError, match="row"):
        relation(lattice(OBLIQUE, rank=1), lattice(OBLIQUE))
