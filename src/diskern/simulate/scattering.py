"""Electron scattering factors of free atoms and the constants that turn them into volts.

Three parametrisations, each a table of published numbers:

``peng``
    Five Gaussians, Peng, Ren, Dudarev & Whelan, Acta Cryst. A52 (1996) 257; International
    Tables C, table 4.3.2.2 (through gemmi); elements 1-98, fitted to g = 4 1/Å.
``lobato``
    Lobato & Van Dyck, Acta Cryst. A70 (2014) 636, doi:10.1107/S205327331401643X; elements
    1-103, correct at both ends of g.
``kirkland``
    Three Lorentzians and three Gaussians, Kirkland, Advanced Computing in Electron Microscopy
    (Springer, 2010), appendix C; elements 1-103.  Its numbers are read from the abTEM package
    (GPL) where that is installed; nothing of it is part of this one.
"""

from __future__ import annotations

import json
import math
import warnings
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError
from diskern.physics import (
    BOHR_RADIUS,
    ELECTRON_MASS,
    ELEMENTARY_CHARGE,
    PLANCK,
    lorentz_factor,
    wavelength,
)
from diskern.simulate.arrays import like, namespace

Parametrization = Literal["peng", "lobato", "kirkland"]
PARAMETRIZATIONS: tuple[Parametrization, ...] = ("peng", "lobato", "kirkland")

POTENTIAL_CONSTANT = PLANCK**2 / (2 * math.pi * ELECTRON_MASS * ELEMENTARY_CHARGE) * 1e20
"""h²/(2π m e) in V Å²: V_g = POTENTIAL_CONSTANT · F_g / V_cell, about 47.878."""

EXTINCT = 1e-9
"""|F| in Å below which a reflection is extinct: what rounding leaves of an exact zero."""

PENG_LIMIT = 4.0
"""g in 1/Å up to which the five-Gaussian table was fitted (sin θ/λ = 2 1/Å)."""


def electron_scattering_factor(
    Z: int | ArrayLike, g: Any, parametrization: Parametrization = "peng"
) -> Any:
    """Elastic electron scattering factor of the neutral atom in Å, for the rest mass.

    Parameters
    ----------
    Z : atomic number, or an array of them that broadcasts against ``g``.
    g : |g| = 2 sin θ/λ in 1/Å, an array or a tensor of any shape.
    parametrization : which table.  Beyond g = 4 1/Å ``peng`` is continued so that it joins the
        Mott-Bethe limit Z/(2π² a0 g²), because its Gaussians fall to zero there.

    Returns
    -------
    f_e in Å with the shape of ``Z`` and ``g`` broadcast.  Multiply by γ for a fast electron.

    Raises
    ------
    DiskernError
        For an element the table does not hold, an unknown table or one that is not installed.
    """
    kind = check_parametrization(parametrization)
    numbers = np.asarray(Z)
    unique, which = np.unique(numbers, return_inverse=True)
    xp = namespace(g)
    q = g if xp is not np else np.asarray(g, dtype=np.float64)
    rows = like(coefficients(tuple(int(z) for z in unique), kind), q)[which.reshape(numbers.shape)]
    g2 = (q * q)[..., None]
    if kind == "kirkland":
        a, b, c, d = (rows[..., i : i + 3] for i in (0, 3, 6, 9))
        return (a / (g2 + b) + c * xp.exp(-d * g2)).sum(-1)
    if kind == "lobato":
        a, b = rows[..., :5], rows[..., 5:]
        return (a * (2 + b * g2) / (1 + b * g2) ** 2).sum(-1)
    return _peng(rows, g2, like(numbers, q))


def _peng(rows: Any, g2: Any, numbers: Any) -> Any:
    xp = namespace(g2)
    a, b = rows[..., :5], rows[..., 5:]
    limit = PENG_LIMIT**2
    inside = (a * xp.exp(-b * xp.where(g2 < limit, g2, limit * xp.ones_like(g2)) / 4)).sum(-1)
    # Beyond the fit: f = C/g² (1 - x (g_0/g)²), x the share still screened at g_0.
    bare = numbers / (2 * math.pi**2 * BOHR_RADIUS)
    ratio = limit / xp.where(g2 > limit, g2, limit * xp.ones_like(g2))[..., 0]
    outside = bare / limit * ratio * (1 - (1 - inside * limit / bare) * ratio)
    return xp.where(g2[..., 0] > limit, outside, inside)


def coefficients(numbers: tuple[int, ...], parametrization: Parametrization) -> NDArray[np.float64]:
    """(N, 10) rows of one table: five amplitudes in Å, then five widths in Å².

    Of ``kirkland`` (N, 12): a in 1/Å, b in 1/Å², c in Å, d in Å², three of each.
    """
    table = _table(parametrization)
    missing = [z for z in numbers if z not in table]
    if missing:
        raise DiskernError(
            f"no {parametrization} scattering factor for atomic number {missing[0]}; "
            f"the table holds 1 to {max(table)}"
        )
    if parametrization == "lobato" and 77 in numbers:
        _warn_iridium()
    return np.array([table[z] for z in numbers])


@cache
def _warn_iridium() -> None:
    warnings.warn(
        "the Lobato-Van Dyck factor of Ir is 7 to 10 % below other tables for g < 0.2 1/Å; "
        "use parametrization='peng' for crystals with iridium",
        stacklevel=4,
    )


@cache
def _table(parametrization: Parametrization) -> dict[int, tuple[float, ...]]:
    if parametrization == "peng":
        import gemmi

        known = ((z, gemmi.Element(z).c4322) for z in range(1, 99))
        # gemmi stores float32; the printed table has four decimals.
        return {z: tuple(round(v, 4) for v in c.get_coefs()) for z, c in known if c is not None}
    if parametrization == "kirkland":
        return _kirkland()
    data = files("diskern.simulate").joinpath("data", "lobato_vandyck_2014.json")
    text = data.read_text("utf-8")
    return {int(z): tuple(row) for z, row in json.loads(text)["elements"].items()}


def _kirkland() -> dict[int, tuple[float, ...]]:
    import gemmi

    # The specification tells where the package lies without running it.
    found = find_spec("abtem")
    places = list(found.submodule_search_locations or []) if found else []
    paths = [Path(place, "parametrizations", "data", "kirkland.json") for place in places]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise DiskernError(
            "parametrization='kirkland' reads its table from the abTEM package, which is not "
            "installed here; pip install abtem, or use 'lobato'"
        )
    rows = json.loads(path.read_text("utf-8"))
    return {
        gemmi.Element(name).atomic_number: tuple(chain.from_iterable(row))
        for name, row in rows.items()
    }


def check_parametrization(name: str) -> Parametrization:
    """Return ``name`` where it is a known table, else raise."""
    if name not in PARAMETRIZATIONS:
        raise DiskernError(
            f"parametrization={name!r} is unknown; use {', '.join(PARAMETRIZATIONS)}"
        )
    return name


def potential(structure_factor: Any, volume: float) -> Any:
    """V_g in V from F_g in Å and the cell volume in Å³."""
    return structure_factor * (POTENTIAL_CONSTANT / volume)


def reduced_potential(structure_factor: Any, volume: float, energy: float) -> Any:
    """U_g = γ F_g/(π V) in 1/Å² from F_g in Å, the cell volume in Å³ and the energy in eV."""
    return structure_factor * (lorentz_factor(energy) / (math.pi * volume))


def extinction_distance(
    structure_factor: ArrayLike, volume: float, energy: float
) -> NDArray[np.float64]:
    """ξ_g = 1/(λ |U_g|) in Å (two-beam, Bragg angles small); infinite where F_g vanishes."""
    size = np.abs(np.asarray(structure_factor))
    u = np.where(size < EXTINCT, 0.0, reduced_potential(size, volume, energy))
    with np.errstate(divide="ignore"):
        return 1.0 / (wavelength(energy) * u)
