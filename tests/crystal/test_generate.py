"""Random symmetric crystals and substituted prototypes."""

import numpy as np
import pytest

from diskern import Crystal, DiskernError
from diskern.crystal.extinction_groups import symbol_of
from diskern.crystal.generate import (
    LOOSE,
    TIGHT,
    GenerateOptions,
    _place,
    accidental_symbols,
    random_crystal,
    random_lattice,
    substituted,
)
from diskern.crystal.phase_sums import phase_sums
from diskern.crystal.spacegroups import SYSTEMS
from diskern.crystal.symmetry import find_symmetry

ROCK_SALT = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
             [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]]  # fmt: skip


@pytest.mark.parametrize("number", [1, 4, 14, 19, 62, 76, 92, 122, 146, 161, 176, 198, 212, 220])
def test_random_crystals_have_their_space_group(number):
    rng = np.random.default_rng(number)
    for _ in range(2):
        crystal = random_crystal(number, rng)
        assert {find_symmetry(crystal, t).number for t in (TIGHT, LOOSE)} == {number}
        assert not accidental_symbols(crystal, number)


@pytest.mark.parametrize("start", range(1, 231, 46))
def test_every_group_can_be_made(start):
    rng = np.random.default_rng(start)
    for number in range(start, min(start + 46, 231)):
        crystal = random_crystal(number, rng)
        assert {find_symmetry(crystal, t).number for t in (TIGHT, LOOSE)} == {number}


def test_same_seed_same_crystal():
    one, two = (random_crystal(62, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.fractional, two.fractional)
    assert np.array_equal(one.lattice, two.lattice)
    assert not np.array_equal(one.lattice, random_crystal(62, np.random.default_rng(6)).lattice)


def test_atoms_keep_their_distance():
    rng = np.random.default_rng(0)
    crystal = random_crystal(200, rng, GenerateOptions(elements=(14,), closeness=0.9))
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)
    apart = crystal.fractional[:, None, None] - crystal.fractional[None, :, None] + shifts
    distance = np.linalg.norm(apart @ crystal.lattice, axis=-1)
    assert distance[distance > 1e-6].min() > 0.9 * 2 * 1.1


def test_an_atom_never_lies_on_another() -> None:
    """A special position that is taken is no place for a second orbit."""
    lattice = np.diag([8.0, 8.0, 8.0])
    alone = np.eye(3, dtype=np.int64)[None], np.zeros((1, 3))
    taken, free = np.array([0.25, 0.25, 0.25]), np.array([0.75, 0.75, 0.75])
    orbits = [(11, taken[None])]
    options = GenerateOptions()
    assert _place(17, taken[None], orbits, alone, lattice, options) is None
    placed = _place(17, np.array([taken, free]), orbits, alone, lattice, options)
    np.testing.assert_allclose(placed, [free])


def test_an_accidental_absence_is_seen():
    # Two Si atoms half a body diagonal apart in P1 look body-centred along with every I symbol.
    pair = Crystal.from_arrays([5, 6, 7, 90, 90, 90], [[0, 0, 0], [0.5, 0.5, 0.5]], [14, 14])
    names = {s.name for s in accidental_symbols(pair, 47)}
    assert symbol_of(71).name in names
    lone = Crystal.from_arrays([5, 6, 7, 90, 90, 90], [[0, 0, 0]], [14])
    assert not accidental_symbols(lone, 47)


@pytest.mark.parametrize("system", SYSTEMS)
def test_random_lattices_have_their_system_and_volume(system):
    lattice = random_lattice(system, 120.0, np.random.default_rng(2))
    assert np.linalg.det(lattice) == pytest.approx(120)
    group = {"triclinic": 2, "monoclinic": 10, "orthorhombic": 47, "tetragonal": 123,
             "trigonal": 191, "hexagonal": 191, "cubic": 221}[system]  # fmt: skip
    assert Crystal.from_arrays(lattice, [[0, 0, 0]], [14]).symmetry().number == group


def test_substitution_scales_the_cell_and_keeps_the_group():
    salt = Crystal.from_arrays([5.64] * 3 + [90] * 3, ROCK_SALT, [11] * 4 + [17] * 4)
    made = substituted(salt, {11: 12, 17: 8})
    assert made.formula == "MgO"
    assert made.symmetry().number == 225
    assert made.parameters[0] < 5.64
    with pytest.raises(DiskernError, match="summed radii"):
        substituted(salt, {11: 55}, closeness=2.0)


def test_impossible_demands():
    with pytest.raises(DiskernError, match=r"space group 0|number"):
        random_crystal(0, np.random.default_rng(0))
    with pytest.raises(DiskernError, match="no random crystal"):
        random_crystal(227, np.random.default_rng(0), GenerateOptions(packing=(5, 6), attempts=3))


def test_phase_sums_are_the_plain_sum(monkeypatch):
    rng = np.random.default_rng(3)
    positions, weights = rng.random((7, 3)), rng.random(7)
    axes = (np.arange(-2, 4), np.arange(5), np.arange(-3, 1))
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    plain = np.exp(-2j * np.pi * (hkl @ positions.T)) @ weights
    assert phase_sums(positions, weights, axes) == pytest.approx(plain, abs=1e-12)
    monkeypatch.setattr("diskern.crystal.phase_sums.CHUNK", 40)
    assert phase_sums(positions, weights, axes) == pytest.approx(plain, abs=1e-12)
