"""Zone axes, reciprocal vectors, excitation errors."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diskern import Crystal, DiskernError
from diskern.crystal.orientation import (
    excitation_error,
    reciprocal_vectors,
    tilted,
    zone_axis_orientation,
)
from diskern.physics import wavelength

TRICLINIC = Crystal.from_arrays([4, 5, 6, 80, 95, 110], [[0, 0, 0]], [14])


@pytest.mark.parametrize("uvw", [(0, 0, 1), (1, -2, 3), (1, 1, 0)])
def test_zone_axis_points_along_the_beam(uvw):
    rotation = zone_axis_orientation(TRICLINIC, uvw)
    assert np.linalg.det(rotation.as_matrix()) == pytest.approx(1)
    along = rotation.apply(np.array(uvw) @ TRICLINIC.lattice)
    assert along[:2] == pytest.approx([0, 0], abs=1e-12)
    assert along[2] > 0
    hkl, g = reciprocal_vectors(TRICLINIC, 1.0)
    in_zone = hkl @ np.array(uvw) == 0
    assert np.allclose(rotation.apply(g[in_zone])[:, 2], 0, atol=1e-12)


def test_along_x():
    rotation = zone_axis_orientation(TRICLINIC, (0, 0, 1), along_x=(0, 1, 0))
    g = rotation.apply(np.array([0, 1, 0]) @ TRICLINIC.reciprocal)
    assert g[0] > 0
    assert g[1:] == pytest.approx([0, 0], abs=1e-12)


def test_reciprocal_vectors_are_complete():
    hkl, g = reciprocal_vectors(TRICLINIC, 0.9)
    everything = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3), -1).reshape(-1, 3)
    lengths = np.linalg.norm(everything @ TRICLINIC.reciprocal, axis=1)
    assert len(hkl) == ((lengths <= 0.9) & (lengths > 0)).sum()
    assert np.allclose(hkl @ TRICLINIC.reciprocal, g)


def test_excitation_error_is_positive_inside_the_sphere():
    lam = wavelength(200e3)
    assert excitation_error([1.0, 0, 0], lam) == pytest.approx(-lam / 2, rel=1e-3)
    assert excitation_error([0.5, 0, -0.02], lam) > 0
    g = Rotation.random(50, random_state=1).apply([1.0, 0, 0])
    s = excitation_error(g, lam)
    k = np.array([0, 0, 1 / lam])
    inside = np.linalg.norm(k + g, axis=1) < 1 / lam
    assert np.array_equal(s > 0, inside)


def test_tilt_is_in_mrad_about_the_azimuth():
    start = Rotation.identity()
    assert tilted(start, 10.0, 90.0).as_rotvec() == pytest.approx([0, 0.01, 0], abs=1e-15)


@pytest.mark.parametrize("bad", [(0, 0, 0), (1, 2), (np.nan, 0, 1)])
def test_impossible_zone_axes(bad):
    with pytest.raises(DiskernError, match="zone_axis"):
        zone_axis_orientation(TRICLINIC, bad)
