"""Rocking curves without units, against Bloch waves in volts and ångströms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diskern.crystal.common import common_phases
from diskern.crystal.orientation import excitation_error, zone_axis_orientation
from diskern.nets.disk_units import unit_of
from diskern.physics import wavelength
from diskern.simulate.bloch import BlochWaves
from diskern.train.disks_rocking import axis, two_beam


def test_two_beams_agree_with_bloch_waves() -> None:
    silicon = next(c for c in common_phases(["Si"]) if c.formula == "Si")
    energy, aperture, thickness = 200e3, 0.08, 700.0
    zone = zone_axis_orientation(silicon, (0, 0, 1))
    x, y, _ = zone.apply(np.array([2, 2, 0]) @ silicon.reciprocal)
    # A little off the Bragg angle λg/2, so that the dark and the bright line are off the middle.
    lean = 0.4 * wavelength(energy) * np.array([-y, x, 0])
    turn = Rotation.from_rotvec(lean) * zone
    waves = BlochWaves(silicon, turn, energy, hkl=[[2, 2, 0]])
    unit, k = unit_of(energy, aperture), axis(15)
    rows, cols = np.meshgrid(k, k, indexing="ij")
    directions = np.stack([cols.ravel(), rows.ravel()], 1) * aperture
    solved = waves.intensities([thickness], directions).numpy()[:, 0]
    g = waves.beams.g[1:]
    made = two_beam(
        np.zeros(1, dtype=np.int64),
        g[:, 1::-1] / aperture,
        excitation_error(g, wavelength(energy)) / unit,
        np.abs(waves.beams.U[1:, 0]) / aperture**2,
        np.array([thickness * unit]),
        15,
    )
    assert made.curves[0].max() > 0.5
    assert made.curves[0].ravel() == pytest.approx(solved[:, 1], abs=0.02)
    assert made.direct[0].ravel() == pytest.approx(solved[:, 0], abs=0.07)


def test_no_direction_gives_more_than_it_has() -> None:
    rng = np.random.default_rng(1)
    frame = np.repeat([0, 2], 20)
    made = two_beam(
        frame,
        rng.normal(0, 5, (40, 2)),
        rng.normal(0, 3, 40),
        rng.uniform(1, 5, 40),
        np.array([0.5, 0.5, 0.5]),
        11,
    )
    total = made.direct.copy()
    np.add.at(total, frame, made.curves)
    assert total.max() <= 1 + 1e-5
    assert made.direct.min() >= 0.05 - 1e-5
    assert (made.direct[1] == 1).all()
