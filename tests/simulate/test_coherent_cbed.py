"""A coherent probe by Bloch waves: interference of overlapping disks."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from simulate_crystals import SILICON, TRICLINIC, WURTZITE

from diskern.crystal.orientation import zone_axis_orientation
from diskern.errors import DiskernError
from diskern.simulate import bloch_cbed
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.bloch_cbed import cbed_disks, coherent_cbed
from diskern.simulate.cbed import simulate_cbed
from diskern.simulate.multislice_cbed import MultisliceOptions, cbed_multislice
from diskern.simulate.probe import Aberrations, Probe

WARM = SILICON.with_u_iso(0.08**2)
WIDE = Probe(200e3, 8.0)
PIXEL, SHAPE = 1 / 50, (128, 128)
FAST = BlochOptions(g_max=1.5, s_max=0.05, dtype="float32")
GENERAL = Rotation.from_euler("xyz", [20, 33, 51], degrees=True)


def apart(one, other):
    """Share of the intensity that lies elsewhere, apart from the edges of disks."""
    one, other = gaussian_filter(one, 1), gaussian_filter(other, 1)
    return np.abs(one - other).sum() / other.sum()


@pytest.mark.parametrize(
    ("crystal", "orientation", "centre", "probe"),
    [
        (WARM, zone_axis_orientation(WARM, (0, 1, 1)), (0.0, 0.0, 0.0), WIDE),
        (WURTZITE, zone_axis_orientation(WURTZITE, (1, 1, 0)), (0.2, 0.3, 0.1), WIDE),
        (TRICLINIC, zone_axis_orientation(TRICLINIC, (0, 0, 1)), (0.3, 0.1, 0.2), WIDE),
        (
            WARM,
            zone_axis_orientation(WARM, (0, 1, 1)),
            (0.1, 0.0, 0.05),
            replace(WIDE, aberrations=Aberrations(defocus=150.0, astigmatism=40.0)),
        ),
    ],
    ids=["Si", "ZnS", "triclinic", "out of focus"],
)
def test_overlapping_disks_interfere_as_in_multislice(crystal, orientation, centre, probe):
    kept = BlochOptions(g_max=2.5, s_max=0.1, dtype="float32")
    found = coherent_cbed(
        crystal, orientation, [probe], [80.0], SHAPE, PIXEL, options=kept, centre=centre
    )[0, 0]
    boxed = MultisliceOptions(route="box", box=50.0, k_max=2.6, centre=centre)
    expected = cbed_multislice(
        crystal, orientation, 200e3, 8.0, [80.0], SHAPE, PIXEL, probe=probe, options=boxed
    )[0]
    waves = BlochWaves(crystal, orientation, 200e3, kept, k_reach=probe.k_reach)
    sums = cbed_disks(waves, 8.0, [80.0], SHAPE, PIXEL)[0].numpy()
    assert apart(found, expected) < 0.06
    assert apart(sums, expected) > 0.2


def test_disks_that_do_not_overlap_add_as_intensities():
    probe, start = Probe(200e3, 4.0), zone_axis_orientation(WARM, (0, 0, 1))
    fine = replace(FAST, oversample=3)
    found = coherent_cbed(WARM, start, [probe], [60.0, 200.0], SHAPE, PIXEL, options=fine)[0]
    waves = BlochWaves(WARM, start, 200e3, fine, k_reach=probe.k_reach)
    expected = cbed_disks(waves, 4.0, [60.0, 200.0], SHAPE, PIXEL).numpy()
    assert found.sum((1, 2)) == pytest.approx([1, 1], abs=2e-3)
    assert np.abs(found - expected).sum((1, 2)).max() < 0.01


@pytest.mark.parametrize("orientation", [zone_axis_orientation(TRICLINIC, (0, 0, 1)), GENERAL])
@pytest.mark.parametrize("oversample", [None, 2])
def test_without_a_crystal_the_aperture_is_left(orientation, oversample):
    kept = replace(FAST, oversample=oversample)
    image = coherent_cbed(TRICLINIC, orientation, [WIDE], [1e-9], SHAPE, PIXEL, options=kept)[0, 0]
    radius = WIDE.k_semiangle / PIXEL
    rows, cols = np.indices(SHAPE)
    inside = np.hypot(rows - 64, cols - 64) < radius - 1.5
    flat = image[inside] * math.pi * radius**2
    assert flat == pytest.approx(np.ones(flat.size), abs=0.002)
    assert image[np.hypot(rows - 64, cols - 64) > radius + 2].max() < 1e-5


@pytest.mark.parametrize(
    ("crystal", "zone"), [(WARM, (0, 1, 1)), (TRICLINIC, (0, 0, 1)), (WURTZITE, (1, 1, 0))]
)
@pytest.mark.parametrize("semiangle", [2.0, 8.0])
def test_a_coarse_grid_of_directions_is_enough(crystal, zone, semiangle, monkeypatch):
    start, probe = zone_axis_orientation(crystal, zone), Probe(200e3, semiangle)
    known = (crystal, start, [probe], [100.0, 300.0], (96, 96), 0.03)
    coarse = coherent_cbed(*known, options=FAST)[0]
    monkeypatch.setattr(bloch_cbed, "WAVE_STEPS", 12)
    fine = coherent_cbed(*known, options=FAST)[0]
    moved = np.abs(coarse - fine).sum((1, 2))
    assert (moved > 0).all()
    assert moved.max() < 0.01


def test_probes_together_equal_each_alone():
    start = zone_axis_orientation(WURTZITE, (1, 1, 0))
    probes = [Probe(200e3, 2.0), Probe(200e3, 6.0, aberrations=Aberrations(defocus=80.0))]
    fine = replace(FAST, oversample=2)
    known = ([50.0, 150.0], (96, 96), 0.03)
    both = coherent_cbed(WURTZITE, start, probes, *known, options=fine)
    assert both.shape == (2, 2, 96, 96)
    for probe, found in zip(probes, both, strict=True):
        alone = coherent_cbed(WURTZITE, start, [probe], *known, options=fine)[0]
        # Beside a wider probe a few more beams take part.
        assert np.abs(found - alone).sum((1, 2)).max() < 0.01


def test_moving_the_probe_by_a_lattice_vector_changes_nothing():
    start = zone_axis_orientation(WARM, (0, 1, 1))
    here, along, between = (
        coherent_cbed(WARM, start, [WIDE], [100.0], SHAPE, PIXEL, options=FAST, centre=c)[0, 0]
        for c in ((0.1, 0.2, 0.0), (1.1, 0.7, -0.5), (0.3, 0.2, 0.0))
    )
    assert np.abs(here - along).max() < 1e-4 * here.max()
    assert apart(between, here) > 0.05


def test_simulate_cbed_takes_several_semiangles():
    known = {"thickness": [100.0, 200.0], "shape": SHAPE, "pixel_size": PIXEL, "options": FAST}
    both = simulate_cbed(WARM, (0, 1, 1), semiangle=(2.0, 8.0), **known)
    assert both.shape == (2, 2, *SHAPE)
    wide = simulate_cbed(WARM, (0, 1, 1), semiangle=8.0, **known)
    assert np.array_equal(both[1], wide)
    with pytest.raises(DiskernError, match="semiangle=0"):
        simulate_cbed(WARM, (0, 1, 1), semiangle=(2.0, 0.0), **known)
    with pytest.raises(DiskernError, match="semiangle"):
        simulate_cbed(WARM, (0, 1, 1), semiangle=[], **known)


def test_parallel_beam_and_bad_sampling_are_refused():
    start = zone_axis_orientation(WARM, (0, 0, 1))
    with pytest.raises(DiskernError, match="simulate_saed"):
        coherent_cbed(WARM, start, [Probe(200e3)], [100.0], SHAPE, PIXEL)
    with pytest.raises(DiskernError, match="must share one"):
        coherent_cbed(WARM, start, [WIDE, Probe(300e3, 2.0)], [100.0], SHAPE, PIXEL)
    with pytest.raises(DiskernError, match="oversample=9"):
        BlochOptions(oversample=9)
