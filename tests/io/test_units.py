"""The spellings of units found in files."""

from __future__ import annotations

import pytest

from diskern.io.units import parse_unit


@pytest.mark.parametrize(
    ("text", "kind", "factor"),
    [
        *((t, "inverse", 0.1) for t in ("1/nm", "1 / nm", "nm^-1", "nm-1", "nm⁻¹", "[n_m^-1]",
                                        "$nm^{-1}$", "nm**-1", "1/(nm)", "inverse nm", "invnm")),
        *((t, "inverse", 1.0) for t in ("1/Å", "A^-1", "1/A", "Å⁻¹", "$\\AA^{-1}$", "1/angstrom",
                                        "\u212b^-1", "reciprocal Å")),
        *((t, "inverse", 1e-4) for t in ("1/µm", "1/um", "μm^-1", "1/micron")),
        ("1/m", "inverse", 1e-10),
        ("1/meters", "inverse", 1e-10),
        *((t, "length", 10.0) for t in ("nm", "[n_m]", " nm\0")),
        ("meters", "length", 1e10),
        ("Å", "length", 1.0),
        ("pm", "length", 0.01),
        ("mrad", "angle", 1.0),
        ("rad", "angle", 1000.0),
        ("eV", "energy", 1.0),
        *((t, "none", 1.0) for t in ("", "px", "pixels", "<undefined>", " ")),
        *((t, "unknown", 1.0) for t in ("furlong", "1/nm^-1", "nm2", "counts", "1/mrad", "1/1/nm")),
    ],
)  # fmt: skip
def test_spellings(text: str, kind: str, factor: float) -> None:
    unit = parse_unit(text)
    assert unit.kind == kind
    assert unit.factor == pytest.approx(factor)


@pytest.mark.parametrize("text", [None, 3, b"nm", "x" * 10000, "\ud800"])
def test_anything_else_is_unknown(text: object) -> None:
    assert parse_unit(text).kind in ("unknown", "none")
