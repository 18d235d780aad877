"""Strain kernels against closed forms and numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping_scans import SQUARE, deformations

from diskern.errors import DiskernError
from diskern.mapping.deformation import (
    deformation_gradient,
    gradient_derivative,
    rotate_components,
    strain,
    strain_covariance,
)

SMALL = st.floats(-0.05, 0.05)
REFERENCE = SQUARE[:, ::-1] + np.array([[0.0, 3.0], [-5.0, 0.0]])


@given(SMALL, SMALL, SMALL, st.floats(-3.0, 3.0))
def test_finite_strain_is_exact_under_any_rotation(e_xx, e_yy, e_xy, turn):
    gradient = deformations((1,), e_xx, e_yy, e_xy, turn)[0]
    basis = REFERENCE @ np.linalg.inv(gradient)
    found = strain(deformation_gradient(basis, REFERENCE))
    assert found == pytest.approx([e_xx, e_yy, e_xy, turn], abs=1e-9)


def test_stretched_crystals_have_smaller_reciprocal_lattices():
    gradient = deformation_gradient(REFERENCE / 1.01, REFERENCE)
    assert strain(gradient)[:3] == pytest.approx([0.01, 0.01, 0])


def test_positive_rotation_turns_x_towards_y():
    turn = np.radians(10)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * 30
    assert strain(deformation_gradient(turned, np.eye(2) * 30))[3] == pytest.approx(turn)


def test_infinitesimal_takes_rotation_for_strain():
    turn = 0.02
    gradient = deformations((1,), rotation=turn)[0]
    assert strain(gradient, "infinitesimal")[0] == pytest.approx(-(turn**2) / 2, rel=1e-3)
    assert strain(gradient)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("measure", ["finite", "infinitesimal"])
def test_covariance_is_the_numerical_one(measure):
    gradient = deformations((1,), 0.02, -0.01, 0.007, 0.4)[0]
    basis = REFERENCE @ np.linalg.inv(gradient)
    spread = np.diag([1.0, 2.0, 3.0, 4.0]) + 0.5

    def of(change):
        return strain(deformation_gradient(basis + change, REFERENCE), measure)

    steps = 1e-4 * np.eye(4).reshape(4, 2, 2)
    jacobian = np.array([(of(d) - of(-d)) / 2e-4 for d in steps]).T
    here = deformation_gradient(basis, REFERENCE)
    found = strain_covariance(here, gradient_derivative(basis, here), spread, measure)
    assert found == pytest.approx(jacobian @ spread @ jacobian.T, rel=1e-4)


def test_components_along_turned_axes():
    values = np.array([0.02, -0.01, 0.005, 0.1])
    angle = 0.3
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    tensor = axes @ np.array([[0.02, 0.005], [0.005, -0.01]]) @ axes.T
    found = rotate_components(values, angle)
    assert found == pytest.approx([tensor[0, 0], tensor[1, 1], tensor[0, 1], 0.1])
    assert rotate_components(found, -angle) == pytest.approx(values)


def test_unknown_measures_are_refused():
    with pytest.raises(DiskernError, match="finite or infinitesimal"):
        strain(np.eye(2), "engineering")
