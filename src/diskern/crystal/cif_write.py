"""Structures to CIF: all atoms in P 1, so nothing is lost to a choice of setting."""

from __future__ import annotations

import gemmi

from diskern.crystal.crystal import Crystal


def cif_text(crystal: Crystal, block: str = "") -> str:
    """A CIF of the crystal's own cell with every atom listed.

    Isotropic displacements and occupancies are kept; anisotropic ones become their mean.
    """
    document = gemmi.cif.Document()
    made = document.add_new_block((block or crystal.formula or "crystal").replace(" ", "_"))
    if crystal.name:
        made.set_pair("_chemical_name_common", gemmi.cif.quote(crystal.name))
    made.set_pair("_chemical_formula_sum", gemmi.cif.quote(crystal.formula))
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    for tag, value in zip(tags, crystal.parameters, strict=True):
        made.set_pair(f"_cell_{tag}", f"{value:.8f}")
    made.set_pair("_space_group_name_H-M_alt", "'P 1'")
    made.set_pair("_space_group_IT_number", "1")
    operators = made.init_loop("_space_group_symop_", ["operation_xyz"])
    operators.add_row(["x,y,z"])
    names = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy"]
    sites = made.init_loop("_atom_site_", [*names, "U_iso_or_equiv"])
    rows = zip(
        crystal.numbers.tolist(),
        crystal.fractional.tolist(),
        crystal.occupancy.tolist(),
        crystal.u_iso.tolist(),
        strict=True,
    )
    for i, (z, (x, y, w), occupancy, u) in enumerate(rows, start=1):
        symbol = gemmi.Element(z).name
        position = [f"{v:.9f}" for v in (x, y, w)]
        sites.add_row([f"{symbol}{i}", symbol, *position, f"{occupancy:.6g}", f"{u:.6g}"])
    return str(document.as_string())
