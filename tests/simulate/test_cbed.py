"""Convergent-beam patterns: geometry, flux, and the two engines against each other."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from simulate_crystals import SILICON, TRICLINIC, WURTZITE

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.bloch_cbed import cbed_disks
from diskern.simulate.cbed import choose_method, simulate_cbed

LAM = wavelength(200e3)
WARM = SILICON.with_u_iso(0.08**2)
FAST = BlochOptions(g_max=1.2, s_max=0.04, dtype="float32")


def disk(image, pixel, q, radius):
    """Summed intensity within ``radius`` 1/Å of q."""
    rows, cols = np.indices(image.shape)
    h, w = image.shape
    return image[np.hypot((cols - w // 2) * pixel - q[0], (rows - h // 2) * pixel - q[1]) <= radius]


def test_vacuum_like_disk_has_the_radius_of_the_aperture():
    semiangle, pixel = 3.0, 0.004
    image = simulate_cbed(
        WARM, (0, 0, 1), semiangle=semiangle, thickness=0.0, pixel_size=pixel, options=FAST
    )[0]
    radius = semiangle * 1e-3 / LAM / pixel
    assert image.sum() == pytest.approx(1, rel=1e-4)
    assert image[128, 128] == pytest.approx(1 / (math.pi * radius**2), rel=0.01)
    assert (image > image.max() / 2).sum() == pytest.approx(math.pi * radius**2, rel=0.02)


@pytest.mark.parametrize(
    ("crystal", "zone"), [(WARM, (0, 1, 1)), (WURTZITE, (1, 0, 1)), (TRICLINIC, (0, 0, 1))]
)
def test_all_flux_is_in_the_frame(crystal, zone):
    images = simulate_cbed(
        crystal, zone, semiangle=1.5, thickness=[60.0, 250.0], pixel_size=0.012,
        options=FAST, method="bloch",
    )  # fmt: skip
    assert images.shape == (2, 256, 256)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.sum((1, 2)) == pytest.approx([1, 1], abs=3e-3)


def test_disk_integrals_are_mean_rocking_intensities():
    semiangle, pixel = 2.0, 0.008
    reach = semiangle * 1e-3 / LAM
    orientation = zone_axis_orientation(WARM, (0, 0, 1))
    waves = BlochWaves(WARM, orientation, 200e3, FAST, k_reach=reach)
    image = cbed_disks(waves, semiangle, 180.0, (256, 256), pixel)[0].numpy()
    side = np.linspace(-reach, reach, 41)
    k = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    k = k[np.hypot(*k.T) <= reach]
    mean = waves.intensities([180.0], k).mean(0)[0].numpy()
    for i in range(6):
        found = disk(image, pixel, waves.beams.g[i, :2], 1.2 * reach).sum()
        assert found == pytest.approx(mean[i], rel=0.01, abs=1e-4)


def test_position_in_the_disk_is_the_incident_direction():
    """Pixel q of disk g shows the rocking curve at k_t = q - g."""
    semiangle, pixel = 4.0, 0.006
    reach = semiangle * 1e-3 / LAM
    waves = BlochWaves(WARM, zone_axis_orientation(WARM, (0, 0, 1)), 200e3, FAST, k_reach=reach)
    image = cbed_disks(waves, semiangle, 300.0, (256, 256), pixel)[0].numpy()
    i = waves.beams.hkl.tolist().index([2, 2, 0])
    g = waves.beams.g[i, :2]
    rows, cols = (128 + np.rint(g[::-1] / pixel)).astype(int)
    for dr, dc in ((0, 0), (12, -7), (-15, 9), (3, 17)):
        q = np.array([cols + dc - 128, rows + dr - 128]) * pixel
        expected = float(waves.intensities([300.0], (q - g)[None])[0, 0, i])
        share = pixel**2 / (math.pi * reach**2)
        assert image[rows + dr, cols + dc] == pytest.approx(expected * share, rel=0.03, abs=1e-7)


def test_oversampling_converges():
    start = zone_axis_orientation(WARM, (1, 1, 1))
    coarse, fine = (
        cbed_disks(
            BlochWaves(WARM, start, 200e3, replace(FAST, oversample=m), k_reach=3e-3 / LAM),
            *(3.0, [400.0], (200, 200), 0.012),
        )[0]
        for m in (None, 8)
    )
    assert float((coarse - fine).abs().sum()) < 0.01


def test_turning_the_crystal_turns_the_disks():
    quarter = Rotation.from_rotvec([0, 0, np.pi / 2])
    start = tilted(zone_axis_orientation(WARM, (0, 0, 1)), 8.0, 20.0)
    one, two = (
        simulate_cbed(
            WARM, orientation=o, semiangle=2.0, thickness=200.0, shape=(201, 201),
            pixel_size=0.012, options=FAST,
        )[0]
        for o in (start, quarter * start)
    )  # fmt: skip
    # +90° about z takes +x (columns) to +y (rows).
    assert np.abs(np.rot90(one, -1) - two).max() < 2e-3 * one.max()


@pytest.mark.parametrize("crystal", [WARM, WURTZITE], ids=["Si", "ZnS"])
def test_bloch_agrees_with_multislice(crystal):
    semiangle, pixel = 1.2, 0.01
    known = {"semiangle": semiangle, "thickness": [100.0], "pixel_size": pixel}
    # With beams to 2 1/Å only, the direct disk of ZnS is 4 % below its value with beams to 3.
    kept = BlochOptions(g_max=3.0, s_max=0.12, dtype="float32")
    bloch = simulate_cbed(crystal, (0, 0, 1), method="bloch", options=kept, **known)[0]
    other = simulate_cbed(crystal, (0, 0, 1), method="multislice", **known)[0]
    orientation = zone_axis_orientation(crystal, (0, 0, 1))
    reach = 1.25 * semiangle * 1e-3 / LAM
    waves = BlochWaves(crystal, orientation, 200e3, BlochOptions())
    for g in waves.beams.g[:9]:
        one, two = (float(disk(i, pixel, g[:2], reach).sum()) for i in (bloch, other))
        assert one == pytest.approx(two, rel=0.02, abs=0.003)


def test_aperture_shapes_and_precession():
    waves = BlochWaves(
        WARM, zone_axis_orientation(WARM, (0, 0, 1)), 200e3, FAST, k_reach=25e-3 / LAM
    )
    ring = cbed_disks(waves, 3.0, [100.0], (128, 128), 0.02, aperture="annular")[0]
    full = cbed_disks(waves, 3.0, [100.0], (128, 128), 0.02)[0]
    assert float(ring[64, 64]) == 0 < float(full[64, 64])
    rocked = cbed_disks(waves, 1.0, [100.0], (128, 128), 0.02, precession_angle=15.0)[0]
    assert float(rocked.sum()) == pytest.approx(1, abs=5e-3)


def test_engine_is_chosen_by_size():
    assert choose_method(WARM, 200e3, 8.0) == "bloch"
    large = Crystal.from_arrays(np.diag([18.0, 18.0, 18.0]), [[0.0, 0.0, 0.0]], [14])
    assert choose_method(large, 200e3, 2.0) == "multislice"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"semiangle": 0.0}, "semiangle"),
        ({"semiangle": float("nan")}, "semiangle"),
        ({"thickness": -5.0}, "thickness"),
        ({"pixel_size": 0.0}, "pixel_size"),
        ({"shape": (0, 10)}, "shape"),
        ({"method": "guess"}, "method"),
        ({"method": "multislice", "options": FAST}, "multislice"),
        ({"zone_axis": None}, "zone_axis"),
    ],
)
def test_impossible_input_is_one_clear_line(changes, word):
    given = {"zone_axis": (0, 0, 1), "semiangle": 2.0, "thickness": 100.0, **changes}
    with pytest.raises(DiskernError, match=word) as caught:
        simulate_cbed(WARM, **given)
    assert "\n" not in str(caught.value)
