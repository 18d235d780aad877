"""Common phases that ship with the package, and candidates from a folder of CIF files."""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError

Floats = NDArray[np.float64]

logger = logging.getLogger(__name__)

SAME_SITE = 1e-3
"""Fractional distance below which two symmetry copies are one atom."""


def common_phases(elements: Iterable[str] | None = None) -> tuple[Crystal, ...]:
    """Elements, oxides, nitrides, semiconductors, intermetallics … met under the microscope.

    Read once and kept.  Each has a ``name`` ("TiO2 (rutile)") and a ``source``, the publication
    its cell and positions come from.  Displacements are left at zero.

    Parameters
    ----------
    elements : element symbols; only phases made of nothing else are returned.  All by default.
    """
    if elements is None:
        return _all_phases()
    allowed = check_elements(elements)
    return tuple(c for c in _all_phases() if set(c.elements) <= allowed)


def find_phase(name: str) -> Crystal:
    """A CIF file, or a common phase by its name, formula or the first word of its name.

    Raises
    ------
    DiskernError
        Where the name is unknown, or fits several phases.
    """
    if Path(name).suffix.lower() == ".cif" or Path(name).is_file():
        return Crystal.from_cif(name)
    wanted = name.strip().casefold()
    exact = [c for c in common_phases() if c.name.casefold() == wanted]
    found = exact or [c for c in common_phases() if c.formula.casefold() == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"'{c.name}'" for c in found)
        raise DiskernError(f"{name} may be {names}; give one of these names, or a CIF file")
    raise DiskernError(
        f"{name} is neither a CIF file nor a common phase; give a file ending in .cif"
    )


@cache
def common_space_groups() -> tuple[int, ...]:
    """The space group of each common phase, in the order of `common_phases`."""
    import gemmi

    return tuple(gemmi.find_spacegroup_by_name(e["space_group"]).number for e in _entries())


def stated_space_group(crystal: Crystal) -> int | None:
    """The space group that the table of common phases gives for one of its crystals."""
    return _stated().get(crystal)


@cache
def _stated() -> dict[Crystal, int]:
    return dict(zip(_all_phases(), common_space_groups(), strict=True))


@cache
def group_counts() -> tuple[int, ...]:
    """How many of some 29,000 known and computed structures each of the 230 space groups has.

    Counted in the Materials Project (doi:10.1063/1.4812323), the WBM set
    (doi:10.1038/s41524-020-00481-6) and the Crystallography Open Database
    (doi:10.1107/S0021889809016690).
    """
    text = files("diskern.crystal").joinpath("data/group_counts.json").read_text("utf-8")
    return tuple(json.loads(text)["counts"])


def load_candidates(source: str | Path | Sequence[str | Path]) -> list[Crystal]:
    """Crystals from CIF files.

    Parameters
    ----------
    source : a folder (its ``*.cif`` files, not searched deeper), one file, or several of either.

    Files that cannot be read are skipped with a warning in the log; crystals without a name take
    the file's.

    Raises
    ------
    DiskernError
        Where a path does not exist or no file at all could be read.
    """
    roots = [source] if isinstance(source, str | Path) else list(source)
    paths = [path for root in roots for path in _cif_files(Path(root))]
    crystals = [c for c in map(_read_or_skip, paths) if c is not None]
    if not crystals:
        text = ", ".join(map(str, roots)) or "an empty list"
        raise DiskernError(f"no readable CIF file in {text}; give a folder or files ending in .cif")
    return crystals


def check_elements(elements: Iterable[str]) -> set[str]:
    """The symbols as a set, in their usual spelling.

    Raises
    ------
    DiskernError
        For a symbol that is no element, or an empty list.
    """
    import gemmi

    symbols = {str(e).strip().capitalize() for e in elements}
    unknown = sorted(s for s in symbols if gemmi.Element(s).atomic_number == 0)
    if unknown or not symbols:
        named = ", ".join(repr(s) for s in unknown) or "an empty list"
        raise DiskernError(f"elements holds {named}; give symbols such as Al,Mg")
    return symbols


def _cif_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix.lower() == ".cif" and p.is_file())
    if not path.exists():
        raise DiskernError(f"{path} does not exist; give a CIF file or a folder of them")
    return [path]


def _read_or_skip(path: Path) -> Crystal | None:
    try:
        crystal = Crystal.from_cif(path)
    except (DiskernError, OSError, UnicodeDecodeError) as error:
        logger.warning("skipped %s: %s", path.name, error)
        return None
    if crystal.name and crystal.source:
        return crystal
    return Crystal.from_arrays(
        crystal.lattice,
        crystal.fractional,
        crystal.numbers,
        crystal.occupancy,
        crystal.u_iso,
        u_aniso=crystal.u_aniso,
        name=crystal.name or path.stem,
        source=crystal.source or path.name,
    )


@cache
def _entries() -> tuple[dict[str, Any], ...]:
    text = (files("diskern.crystal") / "data" / "common_phases.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)["phase"])


@cache
def _all_phases() -> tuple[Crystal, ...]:
    return tuple(_crystal(entry) for entry in _entries())


def _crystal(entry: Mapping[str, Any]) -> Crystal:
    """Expand one entry of the table by its space group."""
    import gemmi

    rotations, translations = _operations(entry["space_group"])
    positions, numbers, occupancy = [], [], []
    for line in entry["sites"]:
        symbol, *values = line.split()
        site = np.array([float(Fraction(v)) for v in values[:3]])
        copies = _orbit(rotations @ site + translations)
        positions.append(copies)
        numbers += [gemmi.Element(symbol).atomic_number] * len(copies)
        occupancy += [float(values[3]) if len(values) > 3 else 1.0] * len(copies)
    return Crystal.from_arrays(
        entry["cell"],
        np.concatenate(positions),
        numbers,
        occupancy,
        name=entry["name"],
        source=entry["source"],
    )


@cache
def _operations(space_group: str) -> tuple[Floats, Floats]:
    """(M, 3, 3) rotations and (M, 3) translations of a space group by its gemmi name."""
    import gemmi

    operations = list(gemmi.find_spacegroup_by_name(space_group).operations())
    rotations = np.array([op.rot for op in operations], dtype=float) / gemmi.Op.DEN
    translations = np.array([op.tran for op in operations], dtype=float) / gemmi.Op.DEN
    return rotations, translations


def _orbit(copies: Floats) -> Floats:
    """(M, 3) the different ones among symmetry copies of one position, in [0, 1)."""
    copies = copies - np.floor(copies + SAME_SITE)
    _, first = np.unique(np.round(copies / SAME_SITE).astype(int), axis=0, return_index=True)
    kept = copies[np.sort(first)]
    offset = kept[:, None] - kept[None]
    same = np.abs(offset - np.round(offset)).max(-1) < SAME_SITE
    return np.asarray(kept[np.argmax(same, axis=1) == np.arange(len(kept))])
