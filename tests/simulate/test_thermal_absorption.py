"""Absorption by thermal diffuse scattering: the integral, published values, frozen phonons."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from simulate_crystals import FCC, MONOCLINIC, SILICON, cubic

from diskern.crystal.orientation import reciprocal_vectors, zone_axis_orientation
from diskern.crystal.supercell import Atoms
from diskern.errors import DiskernError
from diskern.physics import lorentz_factor, wavelength
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.multislice import multislice, propagator, transmission
from diskern.simulate.multislice_grid import Grid
from diskern.simulate.potential import Slicing, slice_potentials, thermal_displacements
from diskern.simulate.probe import Probe, probe_wave
from diskern.simulate.saed import simulate_saed
from diskern.simulate.scattering import electron_scattering_factor
from diskern.simulate.thermal_absorption import absorptive_factor

ENERGY = 200e3


def test_forward_factor_is_the_diffuse_cross_section():
    """Optical theorem: γ f'(0) = σ/2λ with σ the whole thermal diffuse cross-section."""
    lam, gamma, u = wavelength(ENERGY), lorentz_factor(ENERGY), 0.006

    def ring(q):
        f = gamma * electron_scattering_factor(29, np.array([q]), "lobato")[0]
        return 2 * math.pi * q * f**2 * -math.expm1(-4 * math.pi**2 * u * q * q)

    sigma = lam**2 * (quad(ring, 0, 2, epsabs=1e-9)[0] + quad(ring, 2, 400, limit=400)[0])
    found = gamma * absorptive_factor(29, np.zeros(1), u, ENERGY, "lobato")[0]
    assert found == pytest.approx(sigma / (2 * lam), rel=1e-4)


def test_integral_on_a_plain_grid():
    """g = 1 1/Å, summed over squares of 0.05 1/Å."""
    u, line = 0.01, np.arange(-30, 30, 0.05) + 0.025
    y, x = np.meshgrid(line, line, indexing="ij")
    one, two = np.hypot(x, y), np.hypot(1 - x, y)
    f = [electron_scattering_factor(14, q, "lobato") for q in (one, two)]
    thermal = 2 * math.pi**2 * u
    left = math.exp(-thermal) - np.exp(-thermal * (one**2 + two**2))
    expected = (f[0] * f[1] * left).sum() * 0.05**2
    scale = lorentz_factor(ENERGY) * wavelength(ENERGY) / 2
    found = absorptive_factor(14, np.ones(1), u, ENERGY, "lobato")[0]
    # Beyond 30 1/Å lies another 0.3 %.
    assert found == pytest.approx(scale * expected, rel=5e-3)


@pytest.mark.parametrize(
    ("Z", "u", "expected"),
    [
        (6, 0.06, [0.00886, 0.00779, 0.00587, 0.00298]),
        (14, 0.08, [0.05416, 0.04760, 0.03594, 0.01517]),
        (79, 0.08, [1.0379, 0.9578, 0.7703, 0.3646]),
    ],
)
def test_values_of_the_closed_form(Z, u, expected):
    """γ f' in Å at 200 kV from the closed form of Weickenmeier & Kohl (1991) with their own f."""
    g = np.array([0.0, 0.5, 1.0, 2.0])
    found = lorentz_factor(ENERGY) * absorptive_factor(Z, g, u * u, ENERGY, "lobato")
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_atoms_at_rest_absorb_nothing():
    assert (absorptive_factor(14, np.linspace(0, 3, 5), 0.0, ENERGY) == 0).all()
    orientation = zone_axis_orientation(SILICON, (0, 1, 1))
    with pytest.raises(DiskernError, match="with_u_iso"):
        BlochWaves(SILICON, orientation, ENERGY, BlochOptions(absorption="thermal"))


@pytest.mark.parametrize("zone", [(0, 1, 0), (1, 1, 2)])
def test_solvers_and_cells_agree(zone):
    orientation = zone_axis_orientation(MONOCLINIC, zone)
    found = [
        BlochWaves(
            MONOCLINIC, orientation, ENERGY,
            BlochOptions(g_max=1.2, s_max=0.03, absorption="thermal", solver=solver),
        ).intensities([150.0, 400.0])
        for solver in ("eigen", "chebyshev")
    ]  # fmt: skip
    torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=1e-8)
    total = found[0].sum(-1)[0]
    assert 0.5 < float(total[1]) < float(total[0]) < 1


def test_elastic_part_of_frozen_phonons():
    """Gold [001], u = 0.08 Å: what frozen phonons leave in the mean wave, to 2 % of the beam.

    Without absorption the direct beam at 20 Å is 0.63 instead of 0.70, and nothing is lost.
    """
    a, cells, repeats, runs = 4.078, 10, 2, 40
    gold = cubic(a, FCC, [79] * 4, u_iso=0.08**2)
    steps = np.stack(np.meshgrid(*map(np.arange, (repeats, repeats, cells)), indexing="ij"), -1)
    positions = (gold.cartesian[None] + steps.reshape(-1, 1, 3) * a).reshape(-1, 3)
    n = len(positions)
    atoms = Atoms(positions, np.full(n, 79), np.ones(n), np.full(n, 0.08**2))
    grid, slicing = Grid.covering((repeats * a,) * 2, 5.0), Slicing(a / 2, 2 * cells)
    step = propagator(grid, ENERGY, slicing.thickness)
    start = probe_wave(Probe(ENERGY), grid).to(torch.complex64)
    mean = square = 0
    for seed in range(runs):
        moved = slice_potentials(thermal_displacements(atoms, seed), grid, slicing)
        out = multislice(start, transmission(moved, grid, ENERGY), step, [10, 20])[:, 0]
        mean, square = mean + out / runs, square + out.abs() ** 2 / runs
    # The square of a mean over few runs still holds some of the diffuse part.
    elastic = (runs * mean.abs() ** 2 - square) / (runs - 1)

    primitive = gold.primitive()
    orientation = zone_axis_orientation(gold, (0, 0, 1))
    hkl, g = reciprocal_vectors(primitive, 3.0)
    zero_order = hkl[np.abs(orientation.apply(g)[:, 2]) < 0.01]
    kept = BlochOptions(absorption="thermal")
    waves = BlochWaves(primitive, orientation, ENERGY, kept, hkl=zero_order)
    flux = waves.intensities([5 * a, 10 * a])[0]
    np.testing.assert_allclose(elastic.sum((1, 2)).numpy(), flux.sum(-1).numpy(), atol=0.02)
    np.testing.assert_allclose(elastic[:, 0, 0].numpy(), flux[:, 0].numpy(), atol=0.02)


def test_spot_patterns_take_it_too():
    warm = SILICON.with_u_iso(0.006)
    known = {"thickness": 400.0, "method": "bloch", "g_max": 1.2}
    free = simulate_saed(warm, (0, 1, 1), **known)
    lossy = simulate_saed(warm, (0, 1, 1), absorption="thermal", **known)
    assert lossy.direct + lossy.intensity.sum() < free.direct + free.intensity.sum() - 0.01
    with pytest.raises(DiskernError, match="absorption=wk"):
        simulate_saed(warm, (0, 1, 1), absorption="wk", **known)
