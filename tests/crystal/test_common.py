"""The table of common phases says what it claims to say."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest
import spglib

from diskern.crystal.common import (
    _entries,
    check_elements,
    common_phases,
    find_phase,
    group_counts,
    load_candidates,
    stated_space_group,
)
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError

PAIRS = list(zip(_entries(), common_phases(), strict=True))
IDS = [entry["name"] for entry, _ in PAIRS]
MINIMUM = 0.85
"""Å, nearer than any two atoms of the table that are not alternatives to each other."""
WEIGHT_TO_DENSITY = 1.66053907
"""g/cm³ of one dalton per Å³ (CODATA 2018)."""


def shortest_contact(crystal: Crystal) -> tuple[float, float]:
    """Shortest distance in Å and over the sum of covalent radii; alternatives left out."""
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)
    offset = crystal.fractional[:, None, None] - crystal.fractional[None, :, None] + shifts
    distance = np.linalg.norm(offset @ crystal.lattice, axis=-1)
    distance[distance < 1e-6] = np.inf
    half = crystal.occupancy < 0.75
    distance[(half[:, None] & half[None])[:, :, None] & (distance < MINIMUM)] = np.inf
    radius = np.array([gemmi.Element(int(z)).covalent_r for z in crystal.numbers])
    relative = distance.min(-1) / (radius[:, None] + radius[None])
    return float(distance.min()), float(relative.min())


def test_there_are_enough_and_names_are_unique() -> None:
    assert len(common_phases()) >= 120
    assert len(set(IDS)) == len(IDS)
    assert common_phases() is common_phases()


@pytest.mark.parametrize(("entry", "crystal"), PAIRS, ids=IDS)
def test_the_structure_has_the_stated_space_group(entry: dict, crystal: Crystal) -> None:
    assert gemmi.find_spacegroup_by_name(entry["space_group"]).number == entry["number"]
    # Sites shared by two elements are one site to spglib; vacancies make a kind of their own.
    kinds = crystal.numbers * 100 + np.rint(crystal.occupancy * 50).astype(int)
    rounded = np.rint(crystal.fractional * 1e4).astype(int)
    _, first = np.unique(rounded, axis=0, return_index=True)
    found = spglib.get_symmetry_dataset(
        (crystal.lattice, crystal.fractional[first], kinds[first]), symprec=1e-3
    )
    assert found.number == entry["number"]


@pytest.mark.parametrize(("entry", "crystal"), PAIRS, ids=IDS)
def test_formula_units_density_and_contacts_are_physical(entry: dict, crystal: Crystal) -> None:
    stated: Counter[int] = Counter()
    for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", entry["formula"]):
        stated[gemmi.Element(symbol).atomic_number] += int(count or 1) * entry["z"]
    held: Counter[int] = Counter()
    for z, occupancy in zip(crystal.numbers.tolist(), crystal.occupancy.tolist(), strict=True):
        held[z] += occupancy
    assert held == pytest.approx(stated, abs=1e-4)
    mass = sum(gemmi.Element(z).weight * n for z, n in held.items())
    density = mass / crystal.volume * WEIGHT_TO_DENSITY
    assert 0.45 < density < 23.0  # lithium to osmium
    distance, relative = shortest_contact(crystal)
    assert distance > MINIMUM
    # Covalent radii of the actinides are too large for the metals; short V-O bonds reach 0.72.
    assert 0.68 < relative < 1.35


@pytest.mark.parametrize(("entry", "crystal"), PAIRS, ids=IDS)
def test_every_entry_names_its_source(entry: dict, crystal: Crystal) -> None:
    assert crystal.name == entry["name"]
    assert re.search(r"\d{4}", crystal.source)


@pytest.mark.parametrize(
    ("name", "density"),
    # Handbook densities at room temperature in g/cm³ (CRC Handbook), independent of the table.
    [
        ("Al", 2.70),
        ("Au", 19.3),
        ("Si", 2.329),
        ("NaCl", 2.17),
        ("MgO", 3.58),
        ("ZnO", 5.6),
        ("TiO2 (rutile)", 4.23),
        ("Al2O3 (corundum)", 3.97),
        ("SiO2 (quartz)", 2.65),
        ("CaCO3 (calcite)", 2.71),
        ("Fe2O3 (hematite)", 5.25),
        ("MoO3 (alpha)", 4.70),
        ("H2O (ice Ih)", 0.93),
        ("WC", 15.6),
    ],
)
def test_density_agrees_with_the_handbook(name: str, density: float) -> None:
    crystal = {c.name: c for c in common_phases()}[name]
    mass = sum(
        gemmi.Element(int(z)).weight * o
        for z, o in zip(crystal.numbers, crystal.occupancy, strict=True)
    )
    assert mass / crystal.volume * WEIGHT_TO_DENSITY == pytest.approx(density, rel=0.02)


def test_elements_filter_keeps_only_what_is_made_of_them() -> None:
    names = {c.name for c in common_phases(["Zn", "O"])}
    assert names == {"Zn", "ZnO"}


def test_an_unknown_element_is_named() -> None:
    with pytest.raises(DiskernError, match="'Xq'"):
        check_elements(["Al", "Xq"])
    with pytest.raises(DiskernError, match="empty"):
        check_elements([])


CIF = """data_test
_cell_length_a 3.9
_cell_length_b 3.9
_cell_length_c 3.9
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Po1 Po 0 0 0
"""


def test_a_folder_is_read_and_broken_files_are_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.cif").write_text(CIF)
    (tmp_path / "broken.cif").write_text("this is no CIF")
    (tmp_path / "notes.txt").write_text("nothing")
    with caplog.at_level(logging.WARNING):
        crystals = load_candidates(tmp_path)
    assert [len(c) for c in crystals] == [1]
    assert crystals[0].name
    assert "broken.cif" in caplog.text


def test_a_missing_path_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DiskernError, match="does not exist"):
        load_candidates(tmp_path / "nowhere")
    with pytest.raises(DiskernError, match="no readable CIF"):
        load_candidates(tmp_path)


def test_counts_of_groups_are_those_of_real_collections():
    counts = np.array(group_counts())
    assert counts.shape == (230,)
    assert counts.min() >= 0
    assert counts.sum() > 20_000
    # Pnma, P2_1/c, C2/m and Fm-3m are among the commonest of inorganic crystals.
    assert {62, 14, 12, 225} <= set((np.argsort(-counts)[:15] + 1).tolist())


def test_the_table_states_the_groups_of_its_own_crystals_alone():
    silicon = next(c for c in common_phases() if c.name == "Si")
    assert stated_space_group(silicon) == 227
    assert stated_space_group(silicon.with_u_iso(0.01)) is None


def test_phases_by_name_and_formula() -> None:
    assert find_phase("si").formula == "Si"
    assert find_phase("Fe (ferrite)").name == "Fe (ferrite)"


def test_a_formula_of_several_phases_names_them() -> None:
    with pytest.raises(DiskernError, match=r"TiO2 may be .*rutile"):
        find_phase("TiO2")
