"""Labels: exact values, signs, and their images."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from simulate_crystals import ALL, NAMES, SILICON, TRICLINIC

from diskern.crystal.orientation import excitation_error, tilted, zone_axis_orientation
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.labels import bragg_labels, render_labels
from diskern.simulate.structure_factors import Reflections

ANY = Rotation.from_rotvec([0.3, -0.7, 1.1])


@pytest.mark.parametrize("crystal", ALL, ids=NAMES)
def test_labels_are_the_reflections_own_values(crystal):
    labels = bragg_labels(crystal, ANY, 200e3, depth=0.02, g_max=1.5)
    table = Reflections.of(crystal, 1.5)
    known = {tuple(h): v for h, v in zip(table.hkl.tolist(), np.abs(table.V()), strict=True)}
    assert len(labels) > 5
    lab = ANY.apply(labels.hkl @ crystal.reciprocal)
    assert labels.q == pytest.approx(lab[:, :2], abs=1e-12)
    assert labels.q_z == pytest.approx(excitation_error(lab, wavelength(200e3)), abs=1e-12)
    assert labels.v_g == pytest.approx([known[tuple(h)] for h in labels.hkl.tolist()])
    assert (np.diff(labels.visibility) <= 0).all()
    assert labels.visibility.max() <= 1


def test_v_111_of_silicon_in_volts():
    start = zone_axis_orientation(SILICON, (0, 1, 1))
    labels = bragg_labels(SILICON, start, parametrization="lobato")
    values = {tuple(h): v for h, v in zip(labels.hkl.tolist(), labels.v_g, strict=True)}
    assert values[1, 1, -1] == pytest.approx(5.510, abs=1e-3)


def test_tilt_changes_the_sign_of_q_z():
    start = zone_axis_orientation(SILICON, (0, 0, 1), along_x=(1, 0, 0))
    signs = []
    for angle in (-20.0, 20.0):
        labels = bragg_labels(SILICON, tilted(start, angle, 90.0), depth=0.03)
        values = {tuple(h): s for h, s in zip(labels.hkl.tolist(), labels.q_z, strict=True)}
        signs.append((values[4, 0, 0], values[-4, 0, 0]))
    # A turn about y by +20 mrad lifts -x towards +z, out of the sphere.
    assert signs[1][0] > 0 > signs[1][1]
    assert signs[0][0] < 0 < signs[0][1]


def test_images_hold_the_values():
    labels = bragg_labels(SILICON, zone_axis_orientation(SILICON, (0, 0, 1)), depth=0.02)
    images = render_labels(labels, (256, 256), 0.015, 6.0)
    brightest = labels.hkl.tolist().index([2, 2, 0])
    row, col = (128 + np.rint(labels.q[brightest][::-1] / 0.015)).astype(int)
    damping = np.exp(-0.5 * (labels.q_z[brightest] / 0.02) ** 2)
    assert images.v_g[row, col] == pytest.approx(labels.v_g[brightest] * damping, rel=1e-5)
    assert images.q_z[row, col] == pytest.approx(labels.q_z[brightest], rel=1e-4)
    assert images.visibility[row, col] == pytest.approx(labels.visibility[brightest], rel=1e-5)
    assert images.v_g[128, 128] == 0
    assert images.q_z[128, 128] == 0
    soft = render_labels(labels, (256, 256), 0.015, 3.0, profile="gaussian")
    assert soft.v_g.max() == pytest.approx(images.v_g.max(), rel=0.05)


def test_overlapping_reflections_share_a_pixel():
    labels = bragg_labels(TRICLINIC, ANY, depth=0.05)
    images = render_labels(labels, (128, 128), 0.03, 9.0)
    assert images.visibility.max() <= 1
    inside = images.v_g > 0.1
    assert images.q_z[inside].min() >= labels.q_z.min() - 1e-6
    assert images.q_z[inside].max() <= labels.q_z.max() + 1e-6


@pytest.mark.parametrize("bad", [{"radius": 0.0}, {"radius": 3.0, "profile": "star"}])
def test_impossible_drawings(bad):
    labels = bragg_labels(SILICON, ANY)
    with pytest.raises(DiskernError):
        render_labels(labels, (64, 64), 0.03, **bad)
    with pytest.raises(DiskernError, match="depth"):
        bragg_labels(SILICON, ANY, depth=0.0)
