"""Bloch waves: reference numbers, conservation laws, invariances, another program."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from simulate_crystals import (
    ALL,
    IRON,
    MONOCLINIC,
    NAMES,
    RHOMBOHEDRAL,
    SILICON,
    TRICLINIC,
    WURTZITE,
    ask,
    bare,
    by_index,
    described,
    supercell,
)

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.bloch_solvers import Dynamics, propagate
from diskern.simulate.saed import simulate_saed
from diskern.simulate.structure_factors import extinction_distances

REFERENCE = BlochOptions(g_max=2.2, s_max=0.06, parametrization="lobato")
QUICK = BlochOptions(g_max=1.2, s_max=0.04)
ANY = Rotation.from_rotvec([0.3, -0.7, 1.1])
SOLVERS = ("eigen", "chebyshev")


def silicon(zone, **changes):
    return BlochWaves(
        SILICON, zone_axis_orientation(SILICON, zone), 200e3, replace(REFERENCE, **changes)
    )


def fluxes(waves, thicknesses, k_transverse=None):
    """{hkl: (T,) fluxes} for one direction."""
    found = waves.intensities(thicknesses, k_transverse)[0].double().numpy()
    return {tuple(h): found[:, i] for i, h in enumerate(waves.beams.hkl.tolist())}


@pytest.mark.parametrize("solver", SOLVERS)
def test_silicon_001_agrees_with_four_other_programs(solver):
    found = fluxes(silicon((0, 0, 1), solver=solver), 200.0)
    for hkl, value in {(0, 0, 0): 0.41391, (2, 2, 0): 0.11502, (4, 0, 0): 0.02405}.items():
        assert found[hkl][0] == pytest.approx(value, abs=1e-5)
    assert found[2, 0, 0][0] < 1e-25 if (2, 0, 0) in found else True


def test_zero_order_zone_absences_stay_absent():
    # 200 of Si [001] belongs to the primitive reciprocal lattice but has no path in the zone.
    waves = silicon((0, 0, 1))
    zone = waves.beams.hkl[waves.beams.hkl[:, 2] == 0]
    flat = BlochWaves(
        SILICON, zone_axis_orientation(SILICON, (0, 0, 1)), 200e3, REFERENCE, hkl=zone
    )
    assert fluxes(flat, 200.0)[2, 0, 0][0] < 1e-25


@pytest.mark.parametrize("solver", SOLVERS)
def test_silicon_011_double_diffraction(solver):
    found = fluxes(silicon((0, 1, 1), solver=solver), [10.0, 50.0, 200.0])
    assert found[2, 0, 0] == pytest.approx([1.7e-7, 9.1e-5, 1.67e-2], rel=0.03)
    assert found[2, 2, -2] == pytest.approx([5.9e-8, 3.1e-5, 1.3e-3], rel=0.04)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("deviation", [0.0, 0.001, 0.003])
def test_two_beam_formula(solver, deviation):
    lam = wavelength(200e3)
    g = np.array([2, 2, 0]) / 5.4310
    orientation = Rotation.identity()
    # The direction in which s_g = deviation for 220, in the plane of g.
    K, length = 1 / lam, np.linalg.norm(g)
    along = -(length / 2) * (1 + 2 * deviation * K / length**2)
    k_t = (along * g[:2] / length)[None]
    waves = BlochWaves(
        SILICON, orientation, 200e3, replace(REFERENCE, solver=solver), hkl=[(2, 2, 0)]
    )
    t = np.array([50.0, 123.0, 380.0, 761.0])
    K_n = math.sqrt(K * K - along * along)
    s = -(2 * along * length + length**2) / (2 * K_n)
    xi = extinction_distances(SILICON, [(2, 2, 0)], 200e3, "lobato")[0] * K_n / K
    effective = math.sqrt(s**2 + 1 / xi**2)
    expected = (np.sin(math.pi * t * effective) / (xi * effective)) ** 2
    found = fluxes(waves, t, k_t)
    assert found[2, 2, 0] == pytest.approx(expected, abs=1e-12)
    assert found[0, 0, 0] == pytest.approx(1 - expected, abs=1e-12)


@pytest.mark.parametrize("crystal", ALL, ids=NAMES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_fluxes_sum_to_one(crystal, solver):
    waves = BlochWaves(crystal, ANY, 200e3, replace(QUICK, solver=solver), k_reach=0.1)
    k_t = np.random.default_rng(0).uniform(-0.07, 0.07, (9, 2))
    total = waves.intensities([0.0, 50.0, 700.0], k_t).sum(-1)
    assert (total - 1).abs().max() < 1e-10
    assert (waves.intensities([0.0], k_t)[:, 0, 0] - 1).abs().max() < 1e-10


@pytest.mark.parametrize("crystal", ALL, ids=NAMES)
@pytest.mark.parametrize("absorption", [None, 0.08])
def test_solvers_agree(crystal, absorption):
    k_t = np.random.default_rng(1).uniform(-0.05, 0.05, (5, 2))
    t = [30.0, 111.0, 640.0]
    eigen, series = (
        BlochWaves(
            crystal, ANY, 120e3, replace(QUICK, solver=s, absorption=absorption), k_reach=0.07
        ).amplitudes(t, k_t)
        for s in SOLVERS
    )
    assert (eigen - series).abs().max() < 1e-10


def test_float32_is_good_to_1e_5():
    k_t = np.random.default_rng(1).uniform(-0.05, 0.05, (5, 2))
    exact = silicon((0, 1, 1)).intensities([100.0, 800.0], k_t)
    for solver in SOLVERS:
        single = silicon((0, 1, 1), dtype="float32", solver=solver)
        assert (single.intensities([100.0, 800.0], k_t) - exact).abs().max() < 5e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-5)])
@pytest.mark.parametrize("s_max", [1e-4, 0.012])
def test_thick_heavy_crystals_that_absorb(dtype, tolerance, s_max):
    """Amplitudes of some waves fall by exp(-16) on the way: terms of the series must not grow."""
    crystal = Crystal.from_arrays(np.eye(3) * 4.2, [[0, 0, 0], [0.5, 0.5, 0.5]], [80, 9])
    crystal = crystal.with_u_iso(0.006)
    options = BlochOptions(g_max=1.0, s_max=s_max, absorption=0.05)
    t, k_t = [2000.0, 0.0, 140.0, 800.0], np.random.default_rng(2).uniform(-0.05, 0.05, (9, 2))

    def solved(**changes):
        waves = BlochWaves(
            crystal,
            zone_axis_orientation(crystal, (1, 0, 0)),
            120e3,
            replace(options, **changes),
            k_reach=0.1,
        )
        return waves.intensities(t, k_t).double()

    exact, found = solved(solver="eigen"), solved(solver="chebyshev", dtype=dtype)
    assert 1e-6 < float(exact[:, 0].sum(-1).max()) < 0.3
    assert (found - exact).abs().max() < tolerance


def test_one_beam_alone_is_only_absorbed():
    crystal = Crystal.from_arrays(np.eye(3) * 1.2, [[0, 0, 0]], [7]).with_u_iso(0.006)
    options = BlochOptions(g_max=0.5, absorption=0.1, solver="chebyshev")
    waves = BlochWaves(crystal, ANY, 200e3, options)
    assert len(waves) == 1
    flux = waves.intensities([100.0, 900.0])[0, :, 0].log().numpy()
    assert flux[1] == pytest.approx(9 * flux[0])
    assert flux[0] < -0.01


def test_absorption_takes_flux_away_steadily():
    waves = silicon((0, 1, 1), absorption=0.1)
    total = waves.intensities(np.arange(0, 900, 100.0)).sum(-1)[0].numpy()
    assert total[0] == pytest.approx(1)
    assert (np.diff(total) < 0).all()
    # Averaged over beams the loss is that of U'_0: exp(-2 σ V'_0 t) with V'_0 = 0.1 · 13.95 V.
    thin = 1 - float(waves.intensities([1.0]).sum())
    assert thin == pytest.approx(2 * 7.288e-4 * 1.395, rel=0.02)


@pytest.mark.parametrize("zone", [(0, 0, 1), (0, 1, 1), (1, 2, 3)])
def test_primitive_and_conventional_and_supercell_agree(zone):
    orientation = zone_axis_orientation(SILICON, zone)
    kept = replace(QUICK, s_max=0.031)
    cells = (SILICON, SILICON.primitive(), supercell(SILICON, (2, 1, 1)))
    found = []
    for cell in cells:
        pattern = BlochWaves(cell, orientation, 200e3, kept).spots(300.0)[0]
        found.append(np.concatenate([[pattern.direct], np.sort(pattern.intensity)[::-1][:40]]))
    # The primitive cell keeps only reflections that a centring allows.
    assert found[1] == pytest.approx(found[0], abs=1e-9)
    assert found[2] == pytest.approx(found[0], abs=1e-9)


def test_all_reflections_of_the_centred_cell_change_nothing():
    orientation = zone_axis_orientation(SILICON, (0, 1, 1))
    grid = np.stack(np.meshgrid(*[np.arange(-7, 8)] * 3), -1).reshape(-1, 3)
    waves = BlochWaves(SILICON, orientation, 200e3, QUICK)
    lab = orientation.apply(grid @ SILICON.reciprocal)
    flat = grid[(np.abs(lab[:, 2]) < 1e-9) & (np.linalg.norm(lab, axis=1) <= 1.2)]
    zone = waves.beams.hkl[np.abs(waves.beams.g[:, 2]) < 1e-9]
    assert len(flat) > 2 * len(zone) > 10
    every, few = (
        fluxes(BlochWaves(SILICON, orientation, 200e3, QUICK, hkl=h), 150.0) for h in (flat, zone)
    )
    for hkl, value in few.items():
        assert every[hkl] == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize(
    "crystal", [WURTZITE, RHOMBOHEDRAL, MONOCLINIC, TRICLINIC], ids=["hex", "rh", "mono", "tri"]
)
def test_supercells_of_every_system(crystal):
    one = BlochWaves(crystal, ANY, 200e3, QUICK).spots(200.0)[0]
    two = BlochWaves(supercell(crystal, (1, 2, 1)), ANY, 200e3, QUICK).spots(200.0)[0]
    assert two.direct == pytest.approx(one.direct, abs=1e-8)
    scaled = {(h, 2 * k, m): v for (h, k, m), v in by_index(one).items()}
    assert by_index(two) == pytest.approx(scaled, abs=1e-8)


@pytest.mark.parametrize("crystal", [SILICON, WURTZITE, TRICLINIC], ids=["Si", "ZnS", "triclinic"])
@pytest.mark.parametrize("angle", [2.0, 10.0, 30.0])
def test_beam_tilt_is_crystal_tilt(crystal, angle):
    """To the accuracy with which a foil normal matters: its surfaces tilt with the crystal."""
    azimuth = 35.0
    start = zone_axis_orientation(crystal, (0, 0, 1))
    wide = replace(QUICK, s_max=0.2)
    turned = tilted(start, angle, azimuth)
    lam = wavelength(200e3)
    # The beam's direction in the frame in which the crystal has not been tilted.
    beam = (turned * start.inv()).inv().apply([0.0, 0.0, 1.0]) / lam
    by_crystal = BlochWaves(crystal, turned, 200e3, wide)
    hkl = by_crystal.beams.hkl
    by_beam = BlochWaves(crystal, start, 200e3, wide, hkl=hkl)
    one = fluxes(BlochWaves(crystal, turned, 200e3, wide, hkl=hkl), 200.0)
    path = 200.0 * math.cos(angle * 1e-3)
    two = fluxes(by_beam, path, beam[None, :2])
    for h, value in one.items():
        assert two[h] == pytest.approx(value, abs=2e-4 + 6e-6 * angle**2)


@pytest.mark.parametrize("crystal", [SILICON, WURTZITE, TRICLINIC], ids=["Si", "ZnS", "triclinic"])
def test_turning_the_crystal_about_the_beam(crystal):
    turn = Rotation.from_rotvec([0, 0, 1.234])
    one = fluxes(BlochWaves(crystal, ANY, 200e3, QUICK), 250.0)
    two = fluxes(BlochWaves(crystal, turn * ANY, 200e3, QUICK), 250.0)
    assert two.keys() == one.keys()
    for h, value in one.items():
        assert two[h] == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize("crystal", [SILICON, MONOCLINIC], ids=["Si", "monoclinic"])
def test_friedel_pairs_of_a_centrosymmetric_crystal(crystal):
    zone = (1, 0, 1)
    waves = BlochWaves(crystal, zone_axis_orientation(crystal, zone), 200e3, QUICK)
    assert not np.iscomplexobj(waves.beams.U)
    flat = waves.beams.hkl[np.abs(waves.beams.g[:, 2]) < 1e-9]
    found = fluxes(
        BlochWaves(crystal, zone_axis_orientation(crystal, zone), 200e3, QUICK, hkl=flat), 300.0
    )
    for (h, k, m), value in found.items():
        assert found[-h, -k, -m] == pytest.approx(value, abs=1e-10)


def test_dynamical_diffraction_sees_the_missing_centre():
    assert np.iscomplexobj(BlochWaves(WURTZITE, ANY, 200e3, QUICK).beams.U)
    # Along [100] the polar axis c lies in the zone: 00l and 00-l differ beyond first order.
    # An exact mirror in the projection would make them equal.
    found = fluxes(
        BlochWaves(WURTZITE, zone_axis_orientation(WURTZITE, (1, 0, 0)), 200e3, QUICK), 300.0
    )
    assert abs(found[0, 0, 2][0] - found[0, 0, -2][0]) > 1e-4
    kinematic = by_index(simulate_saed(WURTZITE, (1, 0, 0), g_max=1.2))
    assert kinematic[0, 0, 2] == pytest.approx(kinematic[0, 0, -2], rel=1e-9)


def test_reciprocity():
    """From direction k into beam g, or the path reversed (Pogany & Turner 1968)."""
    g = np.array([2, 2, 0])
    kept = replace(QUICK, g_max=1.5)
    waves = BlochWaves(SILICON, Rotation.identity(), 200e3, kept)
    flat = waves.beams.hkl[waves.beams.hkl[:, 2] == 0]
    # A set of beams that is the same seen from 000 and from g.
    both = np.unique(np.concatenate([flat, g - flat]), axis=0)
    waves = BlochWaves(SILICON, Rotation.identity(), 200e3, kept, hkl=both)
    k = np.array([[0.03, -0.11]])
    one = fluxes(waves, 180.0, k)[2, 2, 0]
    two = fluxes(waves, 180.0, -(k + g[:2] / 5.4310))[2, 2, 0]
    other = fluxes(waves, 180.0, k + 0.02)[2, 2, 0]
    assert two == pytest.approx(one, rel=3e-5)
    assert other != pytest.approx(one, rel=1e-2)


def test_precession_averages_single_directions():
    waves = BlochWaves(SILICON, zone_axis_orientation(SILICON, (0, 0, 1)), 200e3, QUICK, k_reach=1)
    ring = np.radians(np.arange(180) * 2.0 + 1.0)
    radius = math.sin(20e-3) / wavelength(200e3)
    k_t = radius * np.stack([np.cos(ring), np.sin(ring)], 1)
    direct = waves.intensities([250.0], k_t).mean(0)[0].numpy()
    pattern = waves.spots(250.0, precession_angle=20.0)[0]
    assert pattern.direct == pytest.approx(direct[0], abs=1e-5)
    assert pattern.intensity.sum() + pattern.direct == pytest.approx(1, abs=1e-10)


def test_public_function_takes_the_same_path():
    pattern = simulate_saed(
        SILICON, (0, 0, 1), method="bloch", thickness=200.0, g_max=2.2, parametrization="lobato"
    )
    assert by_index(pattern)[2, 2, 0] == pytest.approx(0.11502, abs=1e-5)
    assert pattern.direct == pytest.approx(0.41391, abs=1e-5)


def test_chunks_of_directions_do_not_show(monkeypatch):
    k_t = np.random.default_rng(2).uniform(-0.05, 0.05, (30, 2))
    waves = BlochWaves(IRON, ANY, 200e3, QUICK, k_reach=0.07)
    whole = waves.intensities([100.0], k_t)
    monkeypatch.setattr("diskern.simulate.bloch.MEMORY", 1)
    assert (waves.intensities([100.0], k_t) - whole).abs().max() < 1e-9


def test_chebyshev_series_against_the_matrix_exponential():
    rng = np.random.default_rng(5)
    A = rng.normal(size=(12, 12)) + 1j * rng.normal(size=(12, 12))
    A = torch.tensor(0.02 * (A + A.conj().T))
    diagonal = A.diagonal().real
    system = Dynamics(diagonal[None], A - torch.diag(A.diagonal()), torch.ones(1).double())
    t = torch.tensor([0.0, 17.0, 300.0], dtype=torch.float64)
    found = propagate(system, t, "chebyshev")[0]
    for i, depth in enumerate(t.tolist()):
        exact = torch.matrix_exp(2j * math.pi * depth * A)[:, 0]
        assert (found[i] - exact).abs().max() < 1e-11


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"g_max": 0}, "g_max"),
        ({"s_max": float("nan")}, "s_max"),
        ({"absorption": -0.1}, "absorption"),
        ({"dtype": "float16"}, "dtype"),
        ({"solver": "guess"}, "solver"),
    ],
)
def test_impossible_options(changes, word):
    with pytest.raises(DiskernError, match=word):
        BlochOptions(**changes)


def test_impossible_thickness_and_direction():
    waves = BlochWaves(IRON, ANY, 200e3, QUICK)
    for bad in (-1.0, float("nan"), [], "thick"):
        with pytest.raises((DiskernError, ValueError)):
            waves.intensities(bad)
    with pytest.raises(DiskernError, match="30°"):
        waves.intensities([10.0], [[30.0, 0.0]])
    with pytest.raises(DiskernError, match="beams take part"):
        BlochWaves(TRICLINIC, ANY, 200e3, BlochOptions(g_max=6.0, s_max=2.0))


@pytest.mark.parametrize("crystal", [SILICON, TRICLINIC], ids=["Si", "triclinic"])
@pytest.mark.parametrize("zone", [(0, 1, 1), (1, 2, 3)])
def test_intensities_of_an_independent_program(crystal, zone):
    whole = bare(crystal)
    orientation = zone_axis_orientation(whole, zone)
    t = [100.0, 500.0]
    answer = ask(
        "abtem",
        task="bloch",
        g_max=1.5,
        s_max=0.05,
        energy=200e3,
        orientation=orientation.as_matrix().tolist(),
        thicknesses=t,
        **described(whole),
    )
    hkl, theirs = np.array(answer["hkl"]), np.array(answer["intensity"])
    kept = BlochOptions(g_max=1.5, s_max=0.05, parametrization="lobato")
    found = fluxes(BlochWaves(whole, orientation, 200e3, kept, hkl=hkl), t)
    for h, value in zip(hkl.tolist(), theirs.T, strict=True):
        assert found[tuple(h)] == pytest.approx(value, abs=1e-4)
