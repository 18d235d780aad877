"""A structure with its origin, as every source delivers it, and the folder that keeps it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diskern.crystal.cif_write import cif_text
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError

ATTRIBUTION = "attribution.json"


@dataclass(frozen=True, eq=False)
class Record:
    """A crystal of a source.

    Attributes
    ----------
    identifier : the source's own, e.g. ``"mp-149"``.
    attribution : whom to cite and under which licence, as far as the source says.
    facts : anything else the source states that JSON can hold.
    """

    crystal: Crystal
    identifier: str
    provider: str
    url: str = ""
    attribution: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Refusal:
    """An entry that gave no crystal, and why in a line."""

    identifier: str
    reason: str


def keep_records(
    entries: Iterable[Record | Refusal],
    folder: str | Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, tuple[Refusal, ...]]:
    """Write a CIF for each record and the attribution of all.

    Files that are there already are left alone, so a fetch that was cut off is repeated as it
    was.

    Returns
    -------
    Number of records, and the refusals among the entries.

    Raises
    ------
    DiskernError
        Where the folder cannot be written.
    """
    target = Path(folder)
    known, refused, count = _attributions(target), [], 0
    try:
        target.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            if isinstance(entry, Refusal):
                refused.append(entry)
                continue
            path = target / f"{_file_name(entry)}.cif"
            if not path.exists():
                path.write_text(cif_text(entry.crystal, _file_name(entry)), encoding="utf-8")
            words = ("identifier", "provider", "url", "attribution", "facts")
            known[path.name] = {w: v for w in words if (v := getattr(entry, w))}
            count += 1
            if progress is not None:
                progress(count)
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        # What was fetched before an interruption keeps its attribution too.
        if known and target.is_dir():
            text = json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False)
            (target / ATTRIBUTION).write_text(text + "\n", encoding="utf-8")
    return count, tuple(refused)


def _attributions(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / ATTRIBUTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file_name(record: Record) -> str:
    words = f"{record.crystal.formula}_{record.provider}_{record.identifier}"
    return re.sub(r"[^\w.-]+", "_", words)[:150].strip("._")


def records_of(entries: Iterable[Record | Refusal]) -> Iterator[Record]:
    """The records alone."""
    return (e for e in entries if isinstance(e, Record))
