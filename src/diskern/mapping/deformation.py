"""From two reciprocal bases to strain and rotation, with uncertainties.  Pure kernels.

Vectors are in (x, y): x along image columns, y along rows.  F carries a direct-space vector of
the reference into the pattern's lattice, r' = F r (r a column).  Reciprocal vectors shrink where
the crystal is stretched: rows of a basis follow g' = g F⁻¹, so F = B'⁻¹ B.  A positive rotation
turns the lattice from +x towards +y, clockwise on a screen whose rows run down.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Measure = Literal["finite", "infinitesimal"]
COMPONENTS = ("e_xx", "e_yy", "e_xy", "rotation")
"""Order of the four numbers: strain components without unit, rotation in radians."""


def deformation_gradient(basis: Floats, reference: Floats) -> Floats:
    """(…, 2, 2) F of lattices against a reference, both (…, 2, 2) reciprocal bases in (x, y)."""
    return np.asarray(np.linalg.inv(basis) @ reference)


def gradient_derivative(basis: Floats, gradient: Floats) -> Floats:
    """(…, 4, 2, 2) dF for a change of a_x, a_y, b_x, b_y of the basis: dF = −B⁻¹ dB F."""
    inverse = np.linalg.inv(basis)
    units = np.eye(4).reshape(4, 2, 2)
    return np.asarray(-inverse[..., None, :, :] @ units @ gradient[..., None, :, :])


def strain(gradient: Floats, measure: Measure = "finite") -> Floats:
    """(…, 4) e_xx, e_yy, e_xy and rotation of (…, 2, 2) deformation gradients F.

    ``finite`` is the polar decomposition F = V R: e = V − I, along the axes of the detector,
    exact for any rotation.  ``infinitesimal`` is the symmetric and antisymmetric part of F − I,
    which takes a rotation θ for a strain of −θ²/2.

    Raises
    ------
    DiskernError
        For an unknown measure.
    """
    check_measure(measure)
    if measure == "infinitesimal":
        return _linear(gradient - np.eye(2))
    theta = _angle(gradient)
    stretch = gradient @ _turn(-theta)
    e_xy = (stretch[..., 0, 1] + stretch[..., 1, 0]) / 2
    return np.stack([stretch[..., 0, 0] - 1, stretch[..., 1, 1] - 1, e_xy, theta], axis=-1)


def strain_covariance(
    gradient: Floats, derivative: Floats, covariance: Floats, measure: Measure = "finite"
) -> Floats:
    """(…, 4, 4) covariance of `strain`, by first-order propagation.

    Parameters
    ----------
    derivative : (…, 4, 2, 2) dF for each of four parameters.
    covariance : (…, 4, 4) of those parameters.
    """
    check_measure(measure)
    if measure == "infinitesimal":
        jacobian = _linear(derivative)
    else:
        jacobian = _polar_derivative(gradient, derivative)
    turned = np.swapaxes(jacobian, -1, -2)
    return np.asarray(turned @ covariance @ jacobian)


def rotate_components(values: Floats, angle: float) -> Floats:
    """(…, 4) the same strain along axes turned by ``angle`` radians from +x towards +y."""
    return np.asarray(values @ rotation_of_components(angle).T)


def rotation_of_components(angle: float) -> Floats:
    """(4, 4) matrix of `rotate_components`; the rotation of the lattice stays what it is."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array(
        [
            [c * c, s * s, 2 * s * c, 0],
            [s * s, c * c, -2 * s * c, 0],
            [-s * c, s * c, c * c - s * s, 0],
            [0, 0, 0, 1],
        ]
    )


def check_measure(measure: str) -> None:
    """Raise for a measure that is not known."""
    if measure not in get_args(Measure):
        raise DiskernError(f"measure={measure!r} is unknown; use finite or infinitesimal")


def _linear(gradient: Floats) -> Floats:
    """Symmetric part and rotation of a small displacement gradient."""
    off = gradient[..., 0, 1], gradient[..., 1, 0]
    parts = [gradient[..., 0, 0], gradient[..., 1, 1], (off[0] + off[1]) / 2, (off[1] - off[0]) / 2]
    return np.stack(parts, axis=-1)


def _angle(gradient: Floats) -> Floats:
    """Rotation of the polar decomposition in radians."""
    return np.asarray(
        np.arctan2(
            gradient[..., 1, 0] - gradient[..., 0, 1], gradient[..., 0, 0] + gradient[..., 1, 1]
        )
    )


def _turn(angle: Floats) -> Floats:
    """(…, 2, 2) rotation matrices acting on columns."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)


def _polar_derivative(gradient: Floats, derivative: Floats) -> Floats:
    """(…, 4 parameters, 4 components) derivative of the polar decomposition."""
    theta = _angle(gradient)
    odd = gradient[..., 1, 0] - gradient[..., 0, 1]
    even = gradient[..., 0, 0] + gradient[..., 1, 1]
    d_odd = derivative[..., 1, 0] - derivative[..., 0, 1]
    d_even = derivative[..., 0, 0] + derivative[..., 1, 1]
    norm = (odd**2 + even**2)[..., None]
    d_theta = (even[..., None] * d_odd - odd[..., None] * d_even) / norm
    back = _turn(-theta)[..., None, :, :]
    # d R(−θ) = −dθ R(−θ) J with J the quarter turn.
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    d_stretch = derivative @ back
    d_stretch = d_stretch - d_theta[..., None, None] * (gradient[..., None, :, :] @ back @ quarter)
    e_xy = (d_stretch[..., 0, 1] + d_stretch[..., 1, 0]) / 2
    return np.stack([d_stretch[..., 0, 0], d_stretch[..., 1, 1], e_xy, d_theta], axis=-1)
