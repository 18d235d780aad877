"""The crystal value, its CIF reader and its symmetry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diskern import Crystal, DiskernError
from diskern.crystal.crystal import lattice_from_parameters, parameters_from_lattice

SILICON = (
    "data_si\n_cell_length_a 5.431\n_cell_length_b 5.431\n_cell_length_c 5.431\n"
    "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
    "_symmetry_space_group_name_H-M '{symbol}'\nloop_\n_atom_site_label\n"
    "_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    "Si1 Si {x} {x} {x}\n"
)
RUTILE = """data_tio2
_cell_length_a 4.594
_cell_length_b 4.594
_cell_length_c 2.959
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 42/m n m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ti1 Ti 0 0 0 1
O1 O 0.305 0.305 0 {occupancy}
loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_12
_atom_site_aniso_U_13
_atom_site_aniso_U_23
Ti1 0.006 0.006 0.004 0.001 0 0
O1 0.005 0.005 0.004 -0.002 0 0
"""


def write(tmp_path, text, name="x.cif"):
    path = tmp_path / name
    path.write_text(text)
    return path


@given(
    st.floats(2, 20), st.floats(2, 20), st.floats(2, 20),
    st.floats(60, 119), st.floats(60, 119), st.floats(60, 119),
)  # fmt: skip
def test_cell_parameters_round_trip(a, b, c, alpha, beta, gamma):
    cosines = np.cos(np.radians([alpha, beta, gamma]))
    if 1 - (cosines**2).sum() + 2 * cosines.prod() < 0.02:
        return
    rows = lattice_from_parameters(a, b, c, alpha, beta, gamma)
    assert np.allclose(parameters_from_lattice(rows), (a, b, c, alpha, beta, gamma), atol=1e-7)
    assert np.linalg.det(rows) > 0


def test_reciprocal_is_dual():
    crystal = Crystal.from_arrays([4, 5, 6, 80, 95, 110], [[0, 0, 0]], [14])
    assert np.allclose(crystal.lattice @ crystal.reciprocal.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lattice": [[1, 0], [0, 1]]}, "shape"),
        ({"lattice": [4, 4, 4, 60, 60, 179]}, "close no cell"),
        ({"fractional": [[0, 0, np.nan]]}, "not finite"),
        ({"numbers": [0]}, "does not exist"),
        ({"occupancy": [0.0]}, "occupancy"),
        ({"u_iso": -1.0}, "negative"),
        ({"fractional": [[0, 0, 0], [0.5, 0.5, 0.5]]}, "need"),
    ],
)
def test_impossible_crystals_are_refused_in_one_line(change, words):
    good = {"lattice": [4, 4, 4, 90, 90, 90], "fractional": [[0, 0, 0]], "numbers": [14]}
    with pytest.raises(DiskernError, match=words) as error:
        Crystal.from_arrays(**(good | change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("x", [0.0, 0.125])
def test_origin_choice_is_found_where_the_file_names_none(tmp_path, x):
    crystal = Crystal.from_cif(write(tmp_path, SILICON.format(symbol="F d -3 m", x=x)))
    assert len(crystal) == 8
    assert crystal.symmetry().number == 227
    assert len(crystal.primitive()) == 2


def test_rounded_coordinates_fall_on_their_special_position(tmp_path):
    text = SILICON.format(symbol="P 63/m m c", x=0).replace("5.431", "3.2", 2)
    text = text.replace("gamma 90", "gamma 120").replace("Si1 Si 0 0 0", "Mg1 Mg 0.333 0.667 0.25")
    crystal = Crystal.from_cif(write(tmp_path, text))
    assert len(crystal) == 2
    assert crystal.symmetry(1e-4).number == 194


def test_anisotropic_displacements_turn_with_the_symmetry(tmp_path):
    crystal = Crystal.from_cif(write(tmp_path, RUTILE.format(occupancy=1)))
    assert (len(crystal), crystal.symmetry().number) == (6, 136)
    assert crystal.formula == "TiO2"
    ti = crystal.u_aniso[crystal.numbers == 22]
    # The 4₂ axis swaps x and y, so the two Ti tensors differ in the sign of U12.
    assert sorted(t[0, 1] for t in ti) == pytest.approx([-0.001, 0.001])
    assert np.allclose(np.trace(ti, axis1=1, axis2=2), 0.016)


def test_partial_occupancy_is_kept_and_overfull_sites_are_refused(tmp_path):
    crystal = Crystal.from_cif(write(tmp_path, RUTILE.format(occupancy=0.9)))
    assert crystal.formula.startswith("Ti2O3.6")
    mixed = SILICON.format(symbol="F d -3 m", x=0) + "Ge1 Ge 0 0 0\n"
    with pytest.raises(DiskernError, match=r"filled 2\.00 times"):
        Crystal.from_cif(write(tmp_path, mixed))


@pytest.mark.parametrize(
    "text",
    ["", "hello", "data_x\n", "data_x\n_cell_length_a ?\n", "\x00\xff" * 50,
     RUTILE.format(occupancy=7), RUTILE.replace("Ti1 Ti", "Ti1 Qq").format(occupancy=1),
     RUTILE.replace("0.305 0.305", "? ?").format(occupancy=1)],
)  # fmt: skip
def test_broken_cifs_give_one_line(tmp_path, text):
    with pytest.raises(DiskernError) as error:
        Crystal.from_cif(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_missing_file():
    with pytest.raises(DiskernError, match="cannot be read"):
        Crystal.from_cif("no/such.cif")


def test_primitive_cell_keeps_the_frame_and_conventional_idealises():
    nacl = Crystal.from_arrays(
        [5.64] * 3 + [90] * 3,
        [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
         [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]],
        [11] * 4 + [17] * 4, u_iso=0.01,
    )  # fmt: skip
    small = nacl.primitive()
    assert len(small) == 2
    assert small.volume == pytest.approx(nacl.volume / 4)
    # Every primitive translation is a lattice vector of the face-centred cell.
    assert np.allclose((small.lattice @ np.linalg.inv(nacl.lattice) * 2) % 1, 0, atol=1e-9)
    again = small.conventional()
    assert (len(again), again.symmetry().number) == (8, 225)
    assert np.allclose(again.u_iso, 0.01)


def test_mixed_sites_count_as_one_site():
    alloy = Crystal.from_arrays(
        [3.6] * 3 + [90] * 3, [[0, 0, 0], [0, 0, 0]], [29, 28], [0.6, 0.4], name="CuNi"
    )
    assert alloy.symmetry().number == 221
    assert len(alloy.primitive()) == 2


def test_real_cifs(experimental):
    gold = Crystal.from_cif(experimental / "edson-samaniego__Electron-Diffraction" / "Au.cif")
    assert (len(gold), gold.symmetry().number) == (4, 225)
    glycine = Crystal.from_cif(experimental / "ccp4__electron-diffraction" / "alpha_glycine.cif")
    assert len(glycine) == 40
    assert glycine.parameters[:3] == pytest.approx((4.92512, 11.433, 5.3776), abs=1e-4)
