"""What the units written in microscope files mean, in Å, 1/Å and mrad."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

Kind = Literal["inverse", "length", "angle", "energy", "none", "unknown"]

_LENGTHS = {
    1e10: ("m", "meter", "meters", "metre", "metres"),
    1e8: ("cm",),
    1e7: ("mm",),
    1e4: ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers"),
    1e1: ("nm", "nanometer", "nanometers", "nanometre"),
    1e0: ("å", "a", "aa", "ang", "angs", "angstrom", "angstroms", "ångström", "ångstrom"),
    1e-2: ("pm", "picometer", "picometers"),
}
_ANGLES = {1e3: ("rad", "radian", "radians"), 1.0: ("mrad",), 1e-3: ("urad", "µrad", "μrad")}
_ANGLES[17.453292519943295] = ("deg", "degree", "degrees", "°")
_ENERGIES = ("ev", "kev", "mev")
_NONE = ("", "px", "pix", "pixel", "pixels", "none", "unknown", "<undefined>", "undefined", "-")
_SHAPE = re.compile(r"(?P<prefix>1/|inverse|inv|reciprocal|per)?(?P<name>[^0-9/]*?)(?P<suffix>-1)?")


@dataclass(frozen=True)
class Unit:
    """One unit: what it measures, and how many Å, 1/Å or mrad it is."""

    kind: Kind
    factor: float = 1.0


def parse_unit(text: object) -> Unit:
    """The unit meant by the many spellings in use: ``1/nm``, ``nm^-1``, ``A⁻¹``, ``[n_m^-1]``, …

    >>> parse_unit("nm^-1")
    Unit(kind='inverse', factor=0.1)
    """
    plain = unicodedata.normalize("NFKC", str(text)).lower().replace("\u2212", "-")
    plain = re.sub(r"[\s\[\](){}_$\\*^·\x00]", "", plain)
    if plain in _NONE:
        return Unit("none")
    match = _SHAPE.fullmatch(plain)
    if match is None or (match["prefix"] and match["suffix"]):
        return Unit("unknown")
    inverse = bool(match["prefix"] or match["suffix"])
    for factor, names in _LENGTHS.items():
        if match["name"] in names:
            return Unit("inverse", 1 / factor) if inverse else Unit("length", factor)
    for factor, names in _ANGLES.items():
        if match["name"] in names and not inverse:
            return Unit("angle", factor)
    return Unit("energy") if match["name"] in _ENERGIES else Unit("unknown")
