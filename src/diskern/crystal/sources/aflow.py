"""The prototypes of the AFLOW library that ship with pymatgen (288 of them).

Mehl et al., Comput. Mater. Sci. 136, S1 (2017), doi:10.1016/j.commatsci.2017.01.017.  The table
is read from the installed package; nothing of pymatgen is imported.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from diskern.crystal.sources.materials_project import crystal_from_dict
from diskern.crystal.sources.record import Record, Refusal
from diskern.errors import DiskernError


def aflow_prototypes(table: Path | None = None) -> Iterator[Record | Refusal]:
    """All prototypes, each with the elements of its type specimen.

    Parameters
    ----------
    table : the file to read; that of the installed pymatgen by default.

    Raises
    ------
    DiskernError
        Where pymatgen is not installed or holds no such table.
    """
    path = table or _installed_table()
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            entries = json.load(file)
    except (OSError, ValueError) as error:
        raise DiskernError(f"{path} is no table of AFLOW prototypes ({error})") from error
    for entry in entries:
        yield _record(entry)


def _record(entry: dict[str, dict[str, object]]) -> Record | Refusal:
    tags = {k: v for k, v in entry.get("tags", {}).items() if isinstance(v, str)}
    label = tags.get("aflow", "?")
    try:
        crystal = crystal_from_dict(entry["snl"])
    except (DiskernError, KeyError, TypeError, ValueError) as error:
        return Refusal(label, f"{label}: {error}")
    mineral = tags.get("mineral")
    name = f"{crystal.formula} ({mineral})" if mineral else crystal.formula
    return Record(
        replace(crystal, name=name, source=f"AFLOW {label}"),
        label,
        "aflow",
        attribution="AFLOW prototypes, doi:10.1016/j.commatsci.2017.01.017, through pymatgen (MIT)",
        facts=tags,
    )


def _installed_table() -> Path:
    spec = find_spec("pymatgen")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(root).glob("analysis/**/aflow_prototypes.json*")):
            return path
    raise DiskernError("AFLOW prototypes come with pymatgen; pip install 'diskern[mp]'")
