"""Structures from the Materials Project, with a key from the environment.

Jain et al., APL Mater. 1, 011002 (2013), doi:10.1063/1.4812323; data under CC BY 4.0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import gemmi
import numpy as np

from diskern.crystal.common import check_elements
from diskern.crystal.crystal import Crystal
from diskern.crystal.sources.http import Client
from diskern.crystal.sources.optimade import check_distances
from diskern.crystal.sources.record import Record, Refusal
from diskern.errors import DiskernError

ADDRESS = "https://api.materialsproject.org"
KEY = "MP_API_KEY"
FIELDS = "material_id,formula_pretty,structure,symmetry,energy_above_hull"


@dataclass(frozen=True)
class Query:
    """Which materials.

    Attributes
    ----------
    elements : all of which are present.
    excluded : none of which is.
    hull : most energy above the convex hull in eV per atom.
    space_groups : numbers; all by default.
    """

    elements: Sequence[str] = ()
    excluded: Sequence[str] = ()
    hull: float | None = 0.05
    space_groups: Sequence[int] = ()

    def parameters(self) -> list[dict[str, str]]:
        """The parameters of each request: one for each space group."""
        common: dict[str, str] = {"_fields": FIELDS, "deprecated": "false"}
        if self.elements:
            common["elements"] = ",".join(sorted(check_elements(self.elements)))
        if self.excluded:
            common["exclude_elements"] = ",".join(sorted(check_elements(self.excluded)))
        if self.hull is not None:
            if not 0 <= self.hull < 100:
                raise DiskernError(f"hull={self.hull} eV per atom must not be negative")
            common["energy_above_hull_max"] = f"{self.hull:g}"
        for number in self.space_groups:
            if not 1 <= number <= 230:
                raise DiskernError(f"space group {number} does not exist; give 1 to 230")
        groups = sorted(set(self.space_groups))
        return [{**common, "spacegroup_number": str(n)} for n in groups] or [common]


def fetch_materials_project(
    query: Query,
    *,
    limit: int | None = None,
    page: int = 200,
    client: Client | None = None,
    address: str = ADDRESS,
) -> Iterator[Record | Refusal]:
    """Materials of the Materials Project, page by page.

    Raises
    ------
    DiskernError
        Where the environment holds no key, or the server refuses.
    """
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise DiskernError(f"the Materials Project needs a key; put yours into {KEY}")
    if page < 1 or (limit is not None and limit < 1):
        raise DiskernError(f"page={page} and limit={limit} must be 1 or more")
    client = client or Client()
    client = replace(client, headers={**client.headers, "X-API-KEY": key})
    count = 0
    for parameters in query.parameters():
        for entry in _pages(client, address, parameters, page):
            yield _record(entry)
            count += 1
            if limit is not None and count >= limit:
                return


def _pages(client: Client, address: str, parameters: Mapping[str, str], page: int) -> Iterator[Any]:
    skip = 0
    while True:
        # A fixed order, so that pages fit together when a fetch goes on later.
        words = {**parameters, "_sort_fields": "material_id", "_limit": page, "_skip": skip}
        answer = client.get(f"{address.rstrip('/')}/materials/summary/?{urlencode(words)}")
        entries = answer.get("data")
        if not isinstance(entries, list):
            raise DiskernError("the Materials Project answers with no data")
        yield from entries
        if len(entries) < page:
            return
        skip += page


def _record(entry: Any) -> Record | Refusal:
    name = str(entry.get("material_id", "?")) if isinstance(entry, dict) else "?"
    try:
        crystal = crystal_from_dict(entry["structure"])
    except (DiskernError, TypeError, ValueError, KeyError) as error:
        words = str(error) if isinstance(error, DiskernError) else "its structure has another form"
        return Refusal(name, f"{name}: {words}")
    symmetry = entry.get("symmetry")
    facts = {
        "energy_above_hull": entry.get("energy_above_hull"),
        "space_group": symmetry.get("number") if isinstance(symmetry, dict) else None,
    }
    return Record(
        crystal,
        name,
        "mp",
        url=f"https://materialsproject.org/materials/{name}",
        attribution=f"Materials Project {name}, CC BY 4.0, doi:10.1063/1.4812323",
        facts={k: v for k, v in facts.items() if v is not None},
    )


def crystal_from_dict(structure: Mapping[str, Any]) -> Crystal:
    """A crystal from the dictionary form of a pymatgen ``Structure``, without pymatgen.

    Raises
    ------
    DiskernError
        For species that are no elements, or atoms on top of each other.
    """
    lattice = np.array(structure["lattice"]["matrix"], dtype=float)
    places, numbers, occupancy = [], [], []
    for site in structure["sites"]:
        for kind in site["species"]:
            symbol = str(kind["element"]).rstrip("0123456789+-.")
            z = gemmi.Element(symbol).atomic_number
            if z == 0:
                raise DiskernError(f"species {symbol!r} is no element")
            places.append(site["abc"])
            numbers.append(z)
            occupancy.append(float(kind["occu"]))
    sites = np.array([s["abc"] for s in structure["sites"]], dtype=float) @ lattice
    check_distances(lattice, sites)
    made = Crystal.from_arrays(lattice, np.array(places, dtype=float), numbers, occupancy)
    return replace(made, name=made.formula)
