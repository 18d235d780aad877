"""Scattering factors and structure factors against published and independent numbers."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from simulate_crystals import (
    ALL,
    IRON,
    MONOCLINIC,
    NAMES,
    SALT,
    SILICON,
    TRICLINIC,
    ask,
    bare,
    described,
    supercell,
)

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import BOHR_RADIUS
from diskern.simulate.scattering import (
    POTENTIAL_CONSTANT,
    electron_scattering_factor,
)
from diskern.simulate.structure_factors import (
    Reflections,
    extinction_distances,
    mean_inner_potential,
    structure_factors,
)

LARGEST = {"peng": 98, "lobato": 103}


def indices(text):
    return [tuple(int(c) for c in word) for word in text.split()]


@pytest.mark.parametrize(
    ("crystal", "hkl", "expected"),
    [
        (SILICON, "111 220 311 400 331 422", [18.4356, 14.9136, 8.4673, 9.1647, 5.7302, 6.8660]),
        (SALT, "111 200 220 311 222 400", [6.1572, 20.3098, 14.8877, 3.6311, 11.9418, 10.0334]),
        (IRON, "110 200 211 220 310", [5.9671, 4.2536, 3.3882, 2.8284, 2.4291]),
    ],
    ids=["Si", "NaCl", "Fe"],
)
def test_structure_factors_of_the_reference_table(crystal, hkl, expected):
    found = np.abs(structure_factors(crystal, indices(hkl), "lobato"))
    assert found == pytest.approx(expected, abs=1.1e-4)
    # The two tables differ by about one per cent.
    assert np.abs(structure_factors(crystal, indices(hkl))) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("crystal", "hkl"), [(SILICON, "200 222 420 442"), (IRON, "100 111 210"), (SALT, "100 110")]
)
def test_absences_are_exact(crystal, hkl):
    assert np.abs(structure_factors(crystal, indices(hkl))).max() < 1e-12


@pytest.mark.parametrize(("crystal", "expected"), [(SILICON, 13.95), (SALT, 10.34), (IRON, 29.12)])
def test_mean_inner_potential(crystal, expected):
    assert mean_inner_potential(crystal) == pytest.approx(expected, abs=0.006)


def test_potentials_in_volts():
    F = structure_factors(SILICON, indices("111 220"), "lobato")
    assert np.abs(F) * POTENTIAL_CONSTANT / SILICON.volume == pytest.approx(
        [5.510, 4.457], abs=6e-4
    )


@pytest.mark.parametrize(
    ("crystal", "hkl", "expected"),
    [(SILICON, "111 220 311 400", [782, 967, 1703, 1574]), (SALT, "200", [795]),
     (IRON, "110 200", [355, 499])],
)  # fmt: skip
def test_extinction_distances_at_200_kv(crystal, hkl, expected):
    found = extinction_distances(crystal, indices(hkl), 200e3, "lobato")
    assert found == pytest.approx(expected, abs=0.51)
    assert np.isinf(extinction_distances(SILICON, [(2, 0, 0)], 200e3)).all()


@pytest.mark.parametrize("table", LARGEST)
def test_factors_fall_with_g_and_stay_positive(table):
    # A wrong branch of a piecewise fit shows as a step (Weickenmeier-Kohl at small g, say).
    g = np.linspace(0, 12, 2401)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f = electron_scattering_factor(np.arange(1, LARGEST[table] + 1)[:, None], g, table)
    assert (f > 0).all()
    assert (np.diff(f, axis=1) < 0).all()


def test_tables_agree_within_a_few_per_cent():
    numbers = np.setdiff1d(np.arange(2, 99), [77])[:, None]
    g = np.linspace(0.1, 2, 200)
    ratio = electron_scattering_factor(numbers, g) / electron_scattering_factor(
        numbers, g, "lobato"
    )
    worst = np.abs(ratio - 1).max(1)
    assert np.median(worst) < 0.012
    assert np.percentile(worst, 90) < 0.04


def test_peng_continues_to_the_mott_bethe_limit():
    g = np.array([4.0 - 1e-9, 4.0 + 1e-9, 60.0])
    f = electron_scattering_factor(14, g)
    assert f[0] == pytest.approx(f[1], rel=1e-6)
    assert f[2] * g[2] ** 2 == pytest.approx(14 / (2 * np.pi**2 * BOHR_RADIUS), rel=0.01)


def test_iridium_of_one_table_is_flagged():
    from diskern.simulate import scattering

    scattering._warn_iridium.cache_clear()
    with pytest.warns(UserWarning, match="Ir is 7 to 10 % below"):
        low = electron_scattering_factor(77, np.array([0.05]), "lobato")
    assert low[0] < 0.93 * electron_scattering_factor(77, np.array([0.05]))[0]


@pytest.fixture
def no_cached_tables():
    from diskern.simulate import scattering

    scattering._table.cache_clear()
    yield
    scattering._table.cache_clear()


def test_kirkland_table_is_read_from_another_package(tmp_path, monkeypatch, no_cached_tables):
    """Hydrogen's row, whose forward factor is the Bohr radius; the package is never imported."""
    folder = tmp_path / "abtem" / "parametrizations" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "abtem" / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    row = [
        [0.0042029832, 0.0627762505, 0.0300907347], [0.225350888, 0.22536695, 0.225331756],
        [0.0677756695, 0.0035660924, 0.0276135815], [4.38854001, 0.403884823, 1.44490166],
    ]  # fmt: skip
    (folder / "kirkland.json").write_text(json.dumps({"H": row}), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    g = np.array([0.0, 0.5, 1.0])
    found = electron_scattering_factor(1, g, "kirkland")
    assert found[0] == pytest.approx(BOHR_RADIUS, rel=0.002)
    np.testing.assert_allclose(found, electron_scattering_factor(1, g, "lobato"), rtol=0.03)
    with pytest.raises(DiskernError, match="atomic number 14"):
        electron_scattering_factor(14, g, "kirkland")


def test_kirkland_without_its_package_says_what_to_install(monkeypatch, no_cached_tables):
    monkeypatch.setattr("diskern.simulate.scattering.find_spec", lambda name: None)
    with pytest.raises(DiskernError, match="pip install abtem"):
        electron_scattering_factor(14, np.array([0.1]), "kirkland")


def test_kirkland_of_the_independent_program(monkeypatch, no_cached_tables):
    """The real table, where DISKERN_ABTEM_PYTHON names an interpreter that has it."""
    python = os.environ.get("DISKERN_ABTEM_PYTHON")
    if not python:
        pytest.skip("set DISKERN_ABTEM_PYTHON to a python that imports abtem")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    monkeypatch.setattr(sys, "path", [*sys.path, folder.stdout.strip()])
    numbers, g = np.array([6, 14, 29, 79])[:, None], np.linspace(0.2, 3, 40)
    ratio = electron_scattering_factor(numbers, g, "kirkland") / electron_scattering_factor(
        numbers, g, "lobato"
    )
    assert np.abs(ratio - 1).max() < 0.03


@pytest.mark.parametrize(("number", "table"), [(99, "peng"), (104, "lobato"), (14, "nonsense")])
def test_what_no_table_holds_is_refused(number, table):
    with pytest.raises(DiskernError, match=r"table|unknown"):
        electron_scattering_factor(number, np.array([0.1]), table)


@pytest.mark.parametrize("crystal", ALL, ids=NAMES)
def test_whole_sphere_equals_the_direct_sum(crystal):
    table = Reflections.of(crystal, 1.5)
    # Indices that are no integers by type go to the plain sum.
    direct = structure_factors(crystal, table.hkl.astype(float))
    assert np.abs(table.F - direct).max() < 1e-11 * np.abs(direct).max()
    opposite = structure_factors(crystal, -table.hkl)
    assert np.abs(opposite - direct.conj()).max() < 1e-11 * np.abs(direct).max()


def test_supercell_repeats_the_structure_factors():
    doubled = structure_factors(supercell(MONOCLINIC, (2, 1, 1)), [(4, 1, -2), (3, 1, -2)])
    single = structure_factors(MONOCLINIC, [(2, 1, -2)])
    assert doubled[0] == pytest.approx(2 * single[0], rel=1e-10)
    assert abs(doubled[1]) < 1e-10


def test_debye_waller_factors():
    still = structure_factors(SILICON, [(2, 2, 0)])
    warm = structure_factors(SILICON.with_u_iso(0.01), [(2, 2, 0)])
    g2 = 8 / 5.431**2
    assert warm / still == pytest.approx(np.exp(-2 * np.pi**2 * 0.01 * g2))
    # An isotropic tensor is the scalar; an anisotropic one damps along its own axis only.
    tensor = np.zeros((8, 3, 3))
    tensor[:, 0, 0] = 0.02
    flat = Crystal.from_arrays(SILICON.lattice, SILICON.fractional, SILICON.numbers, u_aniso=tensor)
    ratio = structure_factors(flat, [(4, 0, 0), (0, 4, 0)]) / structure_factors(
        SILICON, [(4, 0, 0), (0, 4, 0)]
    )
    assert ratio == pytest.approx([np.exp(-2 * np.pi**2 * 0.02 * 16 / 5.431**2), 1.0])


def test_occupancy_scales_an_atom():
    one = Crystal.from_arrays(np.eye(3) * 4, [[0.1, 0.2, 0.3]], [26], occupancy=[0.25])
    full = Crystal.from_arrays(np.eye(3) * 4, [[0.1, 0.2, 0.3]], [26])
    hkl = [(1, 2, 3)]
    assert structure_factors(one, hkl) == pytest.approx(0.25 * structure_factors(full, hkl))


def test_gradients_reach_positions_displacements_and_cell():
    positions = torch.tensor(TRICLINIC.fractional, requires_grad=True)
    u = torch.tensor(TRICLINIC.u_iso, requires_grad=True)
    cell = torch.tensor(TRICLINIC.lattice, requires_grad=True)
    hkl = torch.tensor([[1, 2, -1], [0, 3, 2]], dtype=torch.float64)

    def intensity(x, v, c):
        F = structure_factors(TRICLINIC, hkl, fractional=x, u_iso=v, lattice=c)
        return F.abs() ** 2

    assert torch.autograd.gradcheck(intensity, (positions, u, cell))


def test_torch_and_numpy_agree():
    hkl = np.array([[1, 1, 0], [2, -1, 3]])
    found = structure_factors(TRICLINIC, torch.tensor(hkl))
    assert found.dtype == torch.complex128
    assert found.numpy() == pytest.approx(structure_factors(TRICLINIC, hkl), rel=1e-12)


def test_bad_g_max_is_refused():
    for g_max in (0, -1, float("nan"), 1e4, 0.01):
        with pytest.raises(DiskernError, match="g_max"):
            Reflections.of(SILICON, g_max)


@pytest.mark.parametrize("crystal", [SILICON, TRICLINIC], ids=["Si", "triclinic"])
def test_structure_factors_of_an_independent_program(crystal):
    whole = bare(crystal)
    answer = ask("abtem", task="factors", g_max=2.0, **described(whole))
    hkl, theirs = np.array(answer["hkl"]), np.array(answer["F"])
    ours = np.abs(structure_factors(whole, hkl, "lobato")) / whole.volume
    strong = ours > 1e-6 * ours.max()
    assert theirs[strong] ** 2 == pytest.approx(ours[strong] ** 2, rel=1e-5)
    assert theirs[~strong].max(initial=0.0) < 1e-6 * ours.max()
