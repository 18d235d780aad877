"""Crystals with what one wants to know before choosing: symmetry, prototype, disorder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.generate import LOOSE, TIGHT
from diskern.crystal.prototype import prototype
from diskern.crystal.sources.aflow import aflow_prototypes
from diskern.crystal.sources.folder import Folder, disorder_of, read_folder
from diskern.crystal.sources.record import records_of
from diskern.crystal.spacegroups import SYSTEMS, space_group
from diskern.crystal.symmetry import find_symmetry
from diskern.errors import DiskernError


@dataclass(frozen=True, eq=False)
class Listed:
    """A crystal with its labels.

    Attributes
    ----------
    number, loose : space group at 0.01 and at 0.1 Å; where they differ the label is not to be
        trusted.
    prototype, pearson : ``""`` for disordered crystals.
    disorder : in words, ``""`` for none.
    """

    crystal: Crystal
    name: str
    number: int
    loose: int
    prototype: str
    pearson: str
    disorder: str

    @property
    def system(self) -> str:
        """Crystal system."""
        return space_group(self.number).system

    @property
    def steady(self) -> bool:
        """Whether the space group is the same at both tolerances."""
        return self.number == self.loose

    @property
    def remark(self) -> str:
        """What speaks against using it, in words."""
        words = [self.disorder] if self.disorder else []
        if not self.steady:
            words.append(f"group {self.loose} at {LOOSE} Å")
        return "; ".join(words)


def list_crystals(
    crystals: Iterable[tuple[str, Crystal]],
) -> tuple[tuple[Listed, ...], tuple[str, ...]]:
    """Label named crystals; the second answer names those that have no symmetry at all."""
    found, refused = [], []
    for name, crystal in crystals:
        try:
            disorder = disorder_of(crystal)
            kind = None if disorder else prototype(crystal, TIGHT)
            number = kind.number if kind else find_symmetry(crystal, TIGHT).number
            loose = find_symmetry(crystal, LOOSE).number
        except DiskernError as error:
            refused.append(f"{name}: {error}")
            continue
        found.append(
            Listed(
                crystal,
                name,
                number,
                loose,
                kind.label if kind else "",
                kind.pearson if kind else "",
                disorder,
            )
        )
    return tuple(found), tuple(refused)


def named_crystals(source: str) -> tuple[list[tuple[str, Crystal]], Folder | None]:
    """Names and crystals of ``"common"``, ``"aflow"`` or a folder of CIF files.

    For a folder the answer of `read_folder` comes with them.
    """
    if source == "common":
        return [(c.name, c) for c in common_phases()], None
    if source == "aflow":
        records = records_of(aflow_prototypes())
        return [(f"{r.crystal.name} {r.identifier}", r.crystal) for r in records], None
    if not Path(source).is_dir():
        raise DiskernError(f"{source} is no folder of CIF files; give one, or common, or aflow")
    found = read_folder(source)
    return [(r.identifier, r.crystal) for r in found.records], found


def chosen(
    listed: Iterable[Listed],
    *,
    space_groups: Iterable[int] | None = None,
    system: str | None = None,
) -> tuple[Listed, ...]:
    """Those of the named groups and of one crystal system."""
    groups = None if space_groups is None else set(space_groups)
    return tuple(
        c
        for c in listed
        if (groups is None or c.number in groups) and (system is None or c.system == system)
    )


def check_system(name: str | None) -> str | None:
    """Return the name of a crystal system, or None, or raise."""
    if name is not None and name not in SYSTEMS:
        raise DiskernError(f"system {name!r} is unknown; use {', '.join(SYSTEMS)}")
    return name
