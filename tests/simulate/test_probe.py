"""The probe is normalised, has the radius it should, and defocuses where it should."""

import math

import numpy as np
import pytest
import torch

from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.multislice import propagator
from diskern.simulate.multislice_grid import Grid
from diskern.simulate.probe import Aberrations, Probe, aperture_coverage, probe_wave

GRID = Grid((256, 256), (50.0, 50.0))
ALL = ["round", "annular", "bullseye", "square"]


def intensity(probe, grid=GRID):
    return (probe_wave(probe, grid)[0].abs() ** 2).numpy()


@pytest.mark.parametrize("shape", ALL)
@pytest.mark.parametrize("semiangle", [0.0, 1.0, 3.3, 20.0])
def test_sums_to_one(shape, semiangle):
    assert intensity(Probe(200e3, semiangle, shape)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("energy", [80e3, 200e3, 300e3])
@pytest.mark.parametrize("semiangle", [1.5, 2.0, 3.7, 10.0])
def test_vacuum_disk_radius_is_semiangle_over_wavelength(energy, semiangle):
    """The area of the disk gives its radius; a factor of 1000 in the angle would be seen."""
    image = intensity(Probe(energy, semiangle))
    expected = semiangle * 1e-3 / (wavelength(energy) / GRID.extent[0])
    radius = math.sqrt(1 / (image.max() * math.pi))
    assert radius == pytest.approx(expected, rel=0.01)


def test_rectangular_box_still_gives_a_round_disk():
    grid = Grid((192, 384), (40.0, 80.0))
    image = np.fft.fftshift(intensity(Probe(200e3, 6.0), grid))
    rows, cols = np.nonzero(image > image.max() / 2)
    height, width = (np.ptp(rows) + 1) / 40.0, (np.ptp(cols) + 1) / 80.0
    assert height == pytest.approx(width, rel=0.05)


def test_position_moves_the_probe():
    place = torch.tensor([[13.0, 31.0]], dtype=torch.float64)
    wave = torch.fft.ifft2(probe_wave(Probe(200e3, 10.0), GRID, place))[0].abs()
    row, col = np.unravel_index(int(wave.argmax()), GRID.shape)
    assert row * GRID.pixel[0] == pytest.approx(13.0, abs=0.2)
    assert col * GRID.pixel[1] == pytest.approx(31.0, abs=0.2)


def test_underfocused_probe_comes_to_its_focus_below_the_entrance():
    probe = Probe(200e3, 10.0, aberrations=Aberrations(defocus=300.0))
    wave = probe_wave(probe, GRID)
    peaks = [
        float(
            torch.fft.ifft2(wave * propagator(GRID, 200e3, z, dtype=torch.complex128)).abs().max()
        )
        for z in (0.0, 150.0, 300.0, 450.0)
    ]
    assert np.argmax(peaks) == 2


def test_aberration_phase_has_the_textbook_value():
    lam = wavelength(200e3)
    k = torch.tensor(0.010 / lam, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    chi = Aberrations(c3=1e7).phase(zero, k, lam)
    assert float(chi) == pytest.approx(2 * math.pi / lam * 1e7 * 0.010**4 / 4, rel=1e-12)
    twofold = Aberrations(astigmatism=50.0, astigmatism_angle=0.0)
    along_x, along_y = twofold.phase(zero, k, lam), twofold.phase(k, zero, lam)
    assert float(along_x) == pytest.approx(-float(along_y), rel=1e-9)
    coma = Aberrations(coma=1e4)
    assert float(coma.phase(zero, k, lam)) == pytest.approx(-float(coma.phase(zero, -k, lam)))


def test_apertures_differ_as_drawn():
    k = torch.linspace(-0.5, 0.5, 401, dtype=torch.float64)
    k_y, k_x = torch.meshgrid(k, k, indexing="ij")
    step = (0.0025, 0.0025)
    area = {}
    for shape in ALL:
        probe = Probe(200e3, 10.0, shape, inner=0.5)
        open_part = aperture_coverage(probe, k_y, k_x, step)
        assert float(open_part.min()) >= 0
        assert float(open_part.max()) <= 1
        area[shape] = float(open_part.sum()) * 0.0025**2 / (math.pi * probe.k_semiangle**2)
    assert area["round"] == pytest.approx(1, rel=1e-3)
    assert area["annular"] == pytest.approx(0.75, rel=2e-3)
    assert area["square"] == pytest.approx(4 / math.pi, rel=1e-3)
    assert 0.4 < area["bullseye"] < 0.7


def test_errors_name_the_value():
    with pytest.raises(DiskernError, match="semiangle=-1"):
        Probe(200e3, -1.0)
    with pytest.raises(DiskernError, match="triangle"):
        Probe(200e3, 2.0, "triangle")
    with pytest.raises(DiskernError, match="200"):
        Probe(200.0, 2.0)
    with pytest.raises(DiskernError, match="finer pixels"):
        probe_wave(Probe(200e3, 100.0), Grid((32, 32), (50.0, 50.0)))
