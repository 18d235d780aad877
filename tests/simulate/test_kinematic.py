"""Kinematic spot patterns: laws, limits, geometry, and an independent program."""

import math

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from simulate_crystals import (
    ALL,
    IRON,
    NAMES,
    SALT,
    SILICON,
    TRICLINIC,
    WURTZITE,
    ask,
    bare,
    by_index,
    supercell,
)

from diskern.crystal.orientation import excitation_error, tilted, zone_axis_orientation
from diskern.errors import DiskernError
from diskern.physics import interaction_parameter, wavelength
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.double_diffraction import second_order
from diskern.simulate.excitation import excitation_errors
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.saed import simulate_saed
from diskern.simulate.saed_options import SaedOptions
from diskern.simulate.scattering import reduced_potential
from diskern.simulate.shape_factors import SHAPE_FACTORS, shape_factor, thickness_of, width_of
from diskern.simulate.structure_factors import Reflections, structure_factors

ANY = Rotation.from_rotvec([0.3, -0.7, 1.1])


def test_excitation_error_is_the_shared_definition():
    g = np.random.default_rng(0).normal(size=(50, 3))
    lam = wavelength(200e3)
    assert excitation_errors(g, lam) == pytest.approx(excitation_error(g, lam), abs=1e-12)
    single = excitation_errors(torch.tensor(g, dtype=torch.float32), lam)
    assert single.numpy() == pytest.approx(excitation_error(g, lam), abs=2e-6)
    # Inside the sphere (towards the source) is positive.
    assert excitation_errors(np.array([0.0, 0.0, -0.1]), lam) > 0


@pytest.mark.parametrize("crystal", ALL, ids=NAMES)
@pytest.mark.parametrize("zone", [(0, 0, 1), (1, 1, 0), (1, -2, 3)])
def test_zone_axis_patterns_hold_the_zone(crystal, zone):
    pattern = simulate_saed(crystal, zone, g_max=1.5, max_excitation_error=0.02)
    in_zone = pattern.hkl @ zone == 0
    assert in_zone.sum() >= 4
    g = np.linalg.norm(pattern.hkl @ crystal.reciprocal, axis=1)
    length = np.linalg.norm(pattern.q, axis=1)
    assert length[in_zone] == pytest.approx(g[in_zone], abs=1e-9)
    assert not (pattern.hkl == 0).all(1).any()
    assert (np.diff(pattern.intensity) <= 0).all()
    assert pattern.intensity.max() == pytest.approx(1.0)


@pytest.mark.parametrize("crystal", ALL, ids=NAMES)
def test_friedel_pairs_at_the_zone_axis(crystal):
    found = by_index(simulate_saed(crystal, (1, 0, 1), thickness=60.0))
    for (h, k, m), value in found.items():
        if h + m == 0:
            assert found[-h, -k, -m] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("crystal", ALL, ids=NAMES)
def test_turning_the_crystal_turns_the_pattern(crystal):
    turn = Rotation.from_rotvec([0, 0, 0.7])
    one = simulate_saed(crystal, orientation=ANY, thickness=80.0)
    two = simulate_saed(crystal, orientation=turn * ANY, thickness=80.0)
    assert len(one) > 3
    assert by_index(two) == pytest.approx(by_index(one), rel=1e-9)
    where = {tuple(h): q for h, q in zip(two.hkl.tolist(), two.q, strict=True)}
    matrix = turn.as_matrix()[:2, :2]
    for h, q in zip(one.hkl.tolist(), one.q, strict=True):
        assert where[tuple(h)] == pytest.approx(matrix @ q, abs=1e-12)


def test_cell_choice_does_not_matter():
    double = supercell(TRICLINIC, (2, 1, 3))
    one = simulate_saed(TRICLINIC, orientation=ANY, thickness=70.0)
    two = simulate_saed(double, orientation=ANY, thickness=70.0)
    scaled = {(2 * h, k, 3 * m): v for (h, k, m), v in by_index(one).items()}
    assert by_index(two) == pytest.approx(scaled, rel=1e-8)
    cubic, primitive = (
        simulate_saed(c, orientation=ANY, thickness=70.0) for c in (SILICON, SILICON.primitive())
    )
    assert primitive.intensity == pytest.approx(cubic.intensity, rel=1e-8)


def test_thin_slab_intensity_is_the_weak_phase_object():
    t = 10.0
    found = by_index(
        simulate_saed(SALT, (0, 0, 1), thickness=t, shape_factor="sinc2", parametrization="lobato")
    )
    F = structure_factors(SALT, [(2, 0, 0)], "lobato")[0]
    volts = 47.877645 * F / SALT.volume
    s = excitation_error(np.array([2 / 5.6402, 0, 0]), wavelength(200e3))
    expected = (interaction_parameter(200e3) * abs(volts) * t) ** 2 * np.sinc(s * t) ** 2
    assert found[2, 0, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("crystal", [SILICON, WURTZITE, TRICLINIC], ids=["Si", "ZnS", "triclinic"])
def test_dynamical_intensities_become_kinematic_in_a_thin_foil(crystal):
    t = 0.2
    kinematic = by_index(
        simulate_saed(
            crystal, orientation=ANY, thickness=t, shape_factor="sinc2",
            max_excitation_error=0.06, min_intensity=0.0,
        )
    )  # fmt: skip
    waves = BlochWaves(crystal, ANY, 200e3, BlochOptions(g_max=2.0, s_max=0.06))
    dynamical = by_index(waves.spots(t)[0])
    strong = [h for h, v in kinematic.items() if v > 0.02 * max(kinematic.values())]
    assert len(strong) >= 4
    for h in strong:
        assert dynamical[h] == pytest.approx(kinematic[h], rel=0.01)


@pytest.mark.parametrize("kind", SHAPE_FACTORS)
def test_shape_factors_keep_the_rocking_integral(kind):
    t = 120.0
    s = np.linspace(-20, 20, 4_000_001)
    area = np.trapezoid(shape_factor(kind, s, width_of(t)), s)
    assert area == pytest.approx(1 / t, rel=2e-3)
    assert shape_factor(kind, np.zeros(1), 0.01)[0] == pytest.approx(1.0)
    assert thickness_of(width_of(t)) == pytest.approx(t)


def test_bent_foil_keeps_the_integrated_intensity():
    rocking = np.arange(-60, 60.1, 0.5)
    flat, bent = (
        sum(
            by_index(
                simulate_saed(
                    IRON, orientation=tilted(zone_axis_orientation(IRON, (0, 0, 1)), a, 90.0),
                    thickness=100.0, width=width, min_intensity=0.0, g_max=0.8,
                    max_excitation_error=0.1,
                )
            ).get((2, 0, 0), 0.0)
            for a in rocking
        )
        for width in (None, 0.008)
    )  # fmt: skip
    assert bent == pytest.approx(flat, rel=0.01)


def test_precession_fills_the_pattern_and_vanishes_with_its_angle():
    plain = simulate_saed(SILICON, (0, 0, 1), thickness=150.0)
    hardly = simulate_saed(SILICON, (0, 0, 1), thickness=150.0, precession_angle=1e-3)
    assert by_index(hardly) == pytest.approx(by_index(plain), rel=1e-3)
    wide = simulate_saed(SILICON, (0, 0, 1), thickness=150.0, precession_angle=25.0)
    assert len(wide) > 2 * len(plain)


def test_precession_average_against_brute_force():
    tilt, count = 15.0, 720
    total = dict.fromkeys([(2, 2, 0), (4, 0, 0), (4, 4, 0)], 0.0)
    for azimuth in np.arange(count) * 360 / count:
        turned = tilted(zone_axis_orientation(SILICON, (0, 0, 1)), tilt, azimuth)
        found = by_index(
            simulate_saed(
                SILICON, orientation=turned, thickness=80.0, g_max=1.2,
                max_excitation_error=0.1, min_intensity=0.0,
            )
        )  # fmt: skip
        total = {h: v + found[h] / count for h, v in total.items()}
    averaged = by_index(
        simulate_saed(SILICON, (0, 0, 1), thickness=80.0, precession_angle=tilt, g_max=1.2)
    )
    for h, value in total.items():
        assert averaged[h] == pytest.approx(value, rel=2e-3)


def test_double_diffraction_is_the_plain_double_sum():
    """All beams to all beams, the integrals on a fine grid."""
    turn = zone_axis_orientation(SILICON, (0, 1, 1)).as_matrix()
    table, lam, thickness = Reflections.of(SILICON, 1.2), wavelength(200e3), 60.0
    s = excitation_errors(table.g @ turn.T, lam)
    hkl, s = table.hkl[np.abs(s) < 0.05], s[np.abs(s) < 0.05]
    found = second_order(
        SILICON, np.pad(hkl, ((0, 2), (0, 0)))[None], np.pad(s, (0, 2))[None], 200e3, thickness
    )[0]
    assert found[-2:].max() == 0

    def potentials(indices):
        F = structure_factors(SILICON, indices.astype(float))
        return reduced_potential(F, SILICON.volume, 200e3) * indices.any(-1)

    z = (np.arange(400) + 0.5) * thickness / 400
    inner = z * np.sinc(np.outer(s, z)) * np.exp(1j * np.pi * np.outer(s, z))
    between = potentials(hkl[:, None] - hkl)
    leaving = np.exp(2j * np.pi * np.outer(s, thickness - z))
    waves = (leaving * (between @ (potentials(hkl)[:, None] * inner))).sum(1) * thickness / 400
    extinct = np.abs(potentials(hkl)) < 1e-9
    plain = np.where(extinct, np.abs((np.pi * lam) ** 2 * waves) ** 2, 0)
    assert found[:-2] == pytest.approx(plain, rel=1e-3, abs=1e-12)
    assert (plain > 1e-6).sum() >= 2


def test_double_diffraction_lights_up_what_symmetry_allows():
    known = {
        "thickness": 10.0,
        "g_max": 2.2,
        "max_excitation_error": 0.06,
        "shape_factor": "sinc2",
        "min_intensity": 0.0,
        "parametrization": "lobato",
    }
    single = by_index(simulate_saed(SILICON, (0, 1, 1), **known))
    double = by_index(simulate_saed(SILICON, (0, 1, 1), double_diffraction=True, **known))
    assert (2, 0, 0) not in single
    assert double[2, 0, 0] == pytest.approx(1.7e-7, rel=0.05)
    assert double[2, 2, -2] == pytest.approx(5.9e-8, rel=0.05)
    for h, value in single.items():
        assert double[h] == value
    # At [001] no pair of allowed reflections of the zone adds up to 200.
    zone = by_index(simulate_saed(SILICON, (0, 0, 1), double_diffraction=True, **known))
    assert zone.get((2, 0, 0), 0.0) < 1e-12
    with pytest.raises(DiskernError, match="thickness"):
        simulate_saed(SILICON, (0, 1, 1), double_diffraction=True)


@pytest.mark.parametrize("options", [{}, {"precession_angle": 10.0}, {"double_diffraction": True}])
def test_a_batch_equals_its_members_in_numpy_and_torch(options):
    turns = Rotation.random(7, random_state=3)
    batch = simulate_saed_batch(WURTZITE, turns, thickness=60.0, **options)
    tensors = simulate_saed_batch(
        WURTZITE, torch.tensor(turns.as_matrix()), thickness=60.0, **options
    )
    single = simulate_saed_batch(WURTZITE, turns, thickness=60.0, device="cpu", **options)
    assert len(batch) == 7
    assert torch.is_tensor(tensors.intensity)
    for i in range(7):
        alone = simulate_saed(WURTZITE, orientation=turns[i], thickness=60.0, **options)
        for other in (batch[i], tensors[i], single[i]):
            assert by_index(other) == pytest.approx(by_index(alone), rel=1e-9)
        assert not np.asarray(batch.intensity[i, int(batch.count[i]) :]).any()


def test_float32_tensors_stay_float32():
    turns = torch.tensor(Rotation.random(5, random_state=1).as_matrix(), dtype=torch.float32)
    batch = simulate_saed_batch(SILICON, turns)
    assert batch.intensity.dtype == torch.float32
    exact = simulate_saed_batch(SILICON, turns.double())
    assert batch[2].intensity[:5] == pytest.approx(exact[2].intensity[:5], rel=2e-3)


def test_chunks_do_not_show(monkeypatch):
    turns = Rotation.random(9, random_state=5)
    whole = simulate_saed_batch(SILICON, turns)
    monkeypatch.setattr("diskern.simulate.kinematic.CHUNK", 1)
    parts = simulate_saed_batch(SILICON, turns)
    assert np.array_equal(whole.hkl, parts.hkl)
    np.testing.assert_allclose(whole.intensity, parts.intensity, rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "zone_axis"),
        ({"zone_axis": (0, 0, 1), "orientation": ANY}, "one of them"),
        ({"zone_axis": (0, 0, 0)}, "no direction"),
        ({"zone_axis": (0, 0, 1), "energy": 200}, "energy"),
        ({"zone_axis": (0, 0, 1), "thickness": -3}, "thickness"),
        ({"zone_axis": (0, 0, 1), "thickness": float("nan")}, "thickness"),
        ({"zone_axis": (0, 0, 1), "g_max": 0}, "g_max"),
        ({"zone_axis": (0, 0, 1), "method": "magic"}, "method"),
        ({"zone_axis": (0, 0, 1), "method": "bloch"}, "thickness"),
        ({"zone_axis": (0, 0, 1), "shape_factor": "box"}, "shape_factor"),
        ({"zone_axis": (0, 0, 1), "precession_angle": 500}, "precession"),
        ({"zone_axis": (0, 0, 1), "colour": "red"}, "colour"),
        ({"orientation": np.eye(3)}, "Rotation"),
        ({"orientation": Rotation.random(3, random_state=0)}, "batch"),
    ],
)
def test_impossible_input_is_one_clear_line(settings, word):
    with pytest.raises(DiskernError, match=word) as caught:
        simulate_saed(SILICON, **settings)
    assert "\n" not in str(caught.value)


def test_options_object_and_names_are_the_same():
    options = SaedOptions(shape_factor="lorentzian", width=0.02)
    one = simulate_saed(IRON, (0, 0, 1), options=options)
    two = simulate_saed(IRON, (0, 0, 1), shape_factor="lorentzian", width=0.02)
    assert by_index(one) == by_index(two)


def test_reflections_can_be_reused():
    table = Reflections.of(SILICON, 1.2)
    again = simulate_saed_batch(table, ANY)[0]
    assert by_index(again) == by_index(simulate_saed(SILICON, orientation=ANY, g_max=1.2))


@pytest.mark.parametrize("crystal", [SILICON, WURTZITE, TRICLINIC], ids=["Si", "ZnS", "triclinic"])
def test_intensities_and_positions_of_an_independent_program(crystal):
    whole = bare(crystal)
    orientation = zone_axis_orientation(whole, (0, 1, 1))
    answer = ask(
        "diffsims",
        lattice=list(whole.parameters),
        symbols=[gemmi.Element(int(z)).name for z in whole.numbers],
        positions=whole.fractional.tolist(),
        energy=200e3,
        g_max=1.5,
        orientation=orientation.as_matrix().tolist(),
    )
    hkl, theirs = np.array(answer["hkl"]), np.array(answer["intensity"])
    ours = np.abs(structure_factors(whole, hkl, "lobato")) ** 2
    strong = ours > 1e-3 * ours.max()
    assert strong.sum() > 10
    scale = theirs[strong].max() / ours[strong].max()
    assert theirs[strong] / scale == pytest.approx(ours[strong], rel=1e-5)
    q = orientation.apply(hkl @ whole.reciprocal)[:, :2]
    # Both frames are right-handed; only the turn about the beam is a matter of taste.
    x, y = q @ [1, 1j], np.array(answer["q"]) @ [1, 1j]
    turn = y[strong] / x[strong]
    assert np.abs(turn) == pytest.approx(np.ones(strong.sum()), abs=1e-4)
    assert math.isclose(abs(turn.mean()), 1.0, abs_tol=1e-4)
