"""The scan rotation from the compatibility of strain."""

from __future__ import annotations

import numpy as np
import pytest
from mapping_scans import SQUARE, scan

from diskern.errors import DiskernError
from diskern.mapping.index import index_vectors
from diskern.mapping.rotation import scan_rotation
from diskern.mapping.strain import strain_map

SHAPE = (30, 30)
Y, X = np.indices(SHAPE) / 30 - 0.5


def bent(angle):
    """A displacement field in scan axes, seen by a detector turned by ``angle`` radians."""
    size = 0.004
    gradient = np.empty((*SHAPE, 2, 2))  # of u_x = sin 6x cos 4y / 6, u_y = sin(3x + 2y) / 4
    gradient[..., 0, 0] = np.cos(6 * X) * np.cos(4 * Y)
    gradient[..., 0, 1] = -4 / 6 * np.sin(6 * X) * np.sin(4 * Y)
    gradient[..., 1, 0] = 3 / 4 * np.cos(3 * X + 2 * Y)
    gradient[..., 1, 1] = 2 / 4 * np.cos(3 * X + 2 * Y)
    c, s = np.cos(angle), np.sin(angle)
    to_detector = np.array([[c, s], [-s, c]])
    return to_detector @ (np.eye(2) + size * gradient) @ to_detector.T


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.9, 1.2])
def test_angle_is_found_with_its_error(angle):
    truth = scan(SHAPE, deformation=bent(angle), missing=0.2)
    found = scan_rotation(strain_map(index_vectors(truth.points), SQUARE))
    assert abs(found.angle - angle) < 4 * found.sigma
    assert found.sigma < 0.05


def test_uniform_crystals_do_not_tell():
    strain = strain_map(index_vectors(scan((16, 16), missing=0.2).points))
    with pytest.raises(DiskernError, match="too uniform"):
        scan_rotation(strain)


def test_only_detector_axes_will_do():
    strain = strain_map(index_vectors(scan((6, 6)).points), axes=20.0)
    with pytest.raises(DiskernError, match="detector axes"):
        scan_rotation(strain)
