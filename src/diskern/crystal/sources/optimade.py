"""Structures from any OPTIMADE provider (COD, AFLOW, OQMD, Materials Project, Alexandria …).

Andersen et al., Sci. Data 8, 217 (2021), doi:10.1038/s41597-021-00974-z.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import gemmi
import numpy as np

from diskern.crystal.common import check_elements
from diskern.crystal.crystal import Crystal
from diskern.crystal.sources.http import Client
from diskern.crystal.sources.record import Record, Refusal
from diskern.errors import DiskernError

FIELDS = (
    "lattice_vectors",
    "cartesian_site_positions",
    "species",
    "species_at_sites",
    "nperiodic_dimensions",
    "dimension_types",
    "structure_features",
    "chemical_formula_reduced",
    "last_modified",
)
CLOSEST = 0.4
"""Å: atoms of different sites that are nearer than this make no structure."""


def fetch_optimade(
    provider: str,
    filter_text: str = "",
    *,
    limit: int | None = None,
    page: int = 50,
    client: Client | None = None,
) -> Iterator[Record | Refusal]:
    """Structures of a provider, page by page.

    Parameters
    ----------
    provider : base address, with or without ``/v1``.
    filter_text : in OPTIMADE's language; see `element_filter`.
    limit : most entries to ask for.

    Yields
    ------
    A record, or why an entry is none (not periodic in three directions, atoms on top of each
    other, unknown species …).

    Raises
    ------
    DiskernError
        Where the provider refuses or speaks something else.
    """
    if page < 1 or (limit is not None and limit < 1):
        raise DiskernError(f"page={page} and limit={limit} must be 1 or more")
    client = client or Client()
    base = provider.rstrip("/")
    base = base if re.search(r"/v\d+(\.\d+)*$", base) else f"{base}/v1"
    query = {"page_limit": str(min(page, limit or page)), "response_fields": ",".join(FIELDS)}
    if filter_text:
        query["filter"] = filter_text
    url: str | None = f"{base}/structures?{urlencode(query)}"
    seen, count = set(), 0
    while url is not None and url not in seen:
        seen.add(url)
        answer = client.get(url)
        entries = answer.get("data")
        if not isinstance(entries, list):
            raise DiskernError(f"{urlsplit(url).netloc} answers with no OPTIMADE data")
        name = _provider_name(answer, base)
        for entry in entries:
            count += 1
            yield _record(entry, count, name, base)
            if limit is not None and count >= limit:
                return
        url = _next(answer, url)


def element_filter(elements: Iterable[str], *, only: bool = True) -> str:
    """Filter for structures that hold all these elements, and by default no other."""
    symbols = sorted(check_elements(elements))
    words = ",".join(f'"{s}"' for s in symbols)
    return f"elements HAS ALL {words}" + (f" AND nelements={len(symbols)}" if only else "")


def _next(answer: Mapping[str, Any], url: str) -> str | None:
    links = answer.get("links")
    following = links.get("next") if isinstance(links, dict) else None
    if isinstance(following, dict):
        following = following.get("href")
    return urljoin(url, following) if isinstance(following, str) and following else None


def _provider_name(answer: Mapping[str, Any], base: str) -> str:
    meta = answer.get("meta")
    provider = meta.get("provider") if isinstance(meta, dict) else None
    prefix = provider.get("prefix") if isinstance(provider, dict) else None
    return prefix if isinstance(prefix, str) and prefix else urlsplit(base).netloc


def _record(entry: Any, place: int, provider: str, base: str) -> Record | Refusal:
    if not isinstance(entry, dict) or not isinstance(entry.get("attributes"), dict):
        return Refusal(f"entry-{place}", "the entry has no attributes")
    attributes = entry["attributes"]
    # Some servers leave out the identifier where the fields of the answer are listed.
    name = str(entry.get("id") or attributes.get("immutable_id") or f"entry-{place}")
    try:
        crystal = _crystal(attributes)
    except (DiskernError, TypeError, ValueError, KeyError) as error:
        return Refusal(name, f"{provider} {name}: {_words(error)}")
    return Record(
        crystal,
        name,
        provider,
        url=f"{base}/structures/{name}",
        attribution=f"{provider} {name}, by OPTIMADE from {base}",
        facts={k: v for k, v in attributes.items() if k == "last_modified" and isinstance(v, str)},
    )


def _words(error: Exception) -> str:
    if isinstance(error, DiskernError):
        return str(error)
    return f"a field is missing or of the wrong form ({error})"[:200]


def _crystal(attributes: Mapping[str, Any]) -> Crystal:
    dimensions = attributes.get("nperiodic_dimensions")
    if dimensions not in (None, 3):
        raise DiskernError(f"periodic in {dimensions} directions only")
    features = attributes.get("structure_features") or []
    if "assemblies" in features or "unknown_positions" in features:
        raise DiskernError(f"{', '.join(features)}: correlated or unknown positions")
    kinds = {s["name"]: s for s in attributes["species"]}
    lattice = np.array(attributes["lattice_vectors"], dtype=float)
    sites = np.array(attributes["cartesian_site_positions"], dtype=float).reshape(-1, 3)
    check_distances(lattice, sites)
    places, numbers, occupancy = [], [], []
    for place, species in zip(sites, attributes["species_at_sites"], strict=True):
        kind = kinds[species]
        for symbol, share in zip(kind["chemical_symbols"], kind["concentration"], strict=True):
            if symbol == "vacancy" or share <= 0:
                continue
            z = gemmi.Element(symbol).atomic_number
            if z == 0:
                raise DiskernError(f"species {symbol!r} is no element")
            places.append(place)
            numbers.append(z)
            occupancy.append(float(share))
    fractional = np.array(places).reshape(-1, 3) @ np.linalg.inv(lattice)
    made = Crystal.from_arrays(lattice, fractional, numbers, occupancy)
    return Crystal.from_arrays(lattice, fractional, numbers, occupancy, name=made.formula)


def check_distances(lattice: Any, sites: Any) -> None:
    """Raise where the (N, 3) cartesian sites of a (3, 3) cell stand on top of each other."""
    if not (np.isfinite(lattice).all() and np.isfinite(sites).all()) or lattice.shape != (3, 3):
        raise DiskernError("cell or positions are missing or not finite")
    if abs(np.linalg.det(lattice)) < 1.0:
        raise DiskernError(f"the cell volume is {abs(np.linalg.det(lattice)):.2g} Å³")
    if len(sites) > 3000:
        raise DiskernError(f"{len(sites)} atoms are more than 3000")
    fractional = sites @ np.linalg.inv(lattice)
    apart = fractional[:, None] - fractional[None]
    apart -= np.round(apart)
    distance = np.linalg.norm(apart @ lattice, axis=-1)
    np.fill_diagonal(distance, np.inf)
    if len(sites) > 1 and distance.min() < CLOSEST:
        raise DiskernError(f"atoms stand {distance.min():.2f} Å apart")
