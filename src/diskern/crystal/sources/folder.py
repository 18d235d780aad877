"""A folder of CIF files: what is in it, what was refused and why, what is there twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from diskern.crystal.crystal import Crystal
from diskern.crystal.sources.duplicates import unique_crystals
from diskern.crystal.sources.record import Record, Refusal
from diskern.errors import DiskernError

SHARED_SITE = 0.05
"""Å: atoms of a mixed site stand this close."""
OVERLAP = 0.5
"""Å: alternatives of a split site, of which only one can be there, stand closer than this."""


@dataclass(frozen=True, eq=False)
class Folder:
    """The crystals of a folder.

    Attributes
    ----------
    records : one for each different crystal, by file name.
    refused : files that gave none.
    copies : file name of each duplicate, and of the one it repeats.
    """

    records: tuple[Record, ...]
    refused: tuple[Refusal, ...]
    copies: dict[str, str]


def read_folder(
    folder: str | Path,
    *,
    disorder: Literal["keep", "refuse"] = "keep",
    merge: bool = True,
    deep: bool = True,
) -> Folder:
    """Read all CIF files of a folder.

    Parameters
    ----------
    disorder : "keep" takes mixed and partially filled sites with their occupancies, as average
        structures diffract, but refuses split sites with more than one atom in a place;
        "refuse" takes fully ordered crystals only.
    merge : leave out crystals that repeat another in whatever cell.
    deep : look into folders below too.

    Raises
    ------
    DiskernError
        Where the folder does not exist or holds no CIF file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DiskernError(f"{root} is no folder; give one that holds CIF files")
    found = root.rglob("*") if deep else root.iterdir()
    paths = sorted(p for p in found if p.suffix.lower() == ".cif" and p.is_file())
    if not paths:
        raise DiskernError(f"no file in {root} ends in .cif")
    entries = [_read(p, root, disorder) for p in paths]
    records = [e for e in entries if isinstance(e, Record)]
    refused = tuple(e for e in entries if isinstance(e, Refusal))
    copies: dict[str, str] = {}
    if merge:
        kept, twins = unique_crystals([r.crystal for r in records])
        copies = {records[i].identifier: records[j].identifier for i, j in twins.items()}
        records = [records[i] for i in kept]
    return Folder(tuple(records), refused, copies)


def _read(path: Path, root: Path, disorder: Literal["keep", "refuse"]) -> Record | Refusal:
    name = str(path.relative_to(root))
    try:
        crystal = Crystal.from_cif(path)
    except DiskernError as error:
        return Refusal(name, str(error))
    reason = disorder_of(crystal)
    if reason and (disorder == "refuse" or reason.startswith("split")):
        return Refusal(name, f"{path.name}: {reason}")
    return Record(crystal, name, "folder", facts={"disorder": reason} if reason else {})


def disorder_of(crystal: Crystal) -> str:
    """What kind of disorder a crystal has, in words; ``""`` for none."""
    partial = crystal.occupancy < 1 - 1e-3
    if not partial.any():
        return ""
    some = np.flatnonzero(partial)
    apart = crystal.fractional[some, None] - crystal.fractional[None]
    apart -= np.round(apart)
    distance = np.linalg.norm(apart @ crystal.lattice, axis=-1)
    split = (distance > SHARED_SITE) & (distance < OVERLAP)
    if split.any():
        nearest = float(distance[split].min())
        return f"split sites {nearest:.2f} Å apart, of which only one can be filled"
    mixed = ((distance < SHARED_SITE).sum(1) > 1).any()
    return f"{'mixed' if mixed else 'partially filled'} sites ({int(partial.sum())} atoms)"
