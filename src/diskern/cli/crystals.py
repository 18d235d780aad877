"""`diskern crystals`: what structures there are, choosing among them, fetching more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diskern.cli._output import console, progress, write_json
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from diskern.crystal.sources.catalogue import Listed
    from diskern.crystal.sources.record import Record, Refusal

app = typer.Typer(
    no_args_is_help=True,
    help="Crystal structures: listing, choosing, fetching, counting.",
    rich_markup_mode="rich",
)


def _option(metavar: str, words: str, *names: str) -> Any:
    return typer.Option(*names, help=words, metavar=metavar)


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder of CIF files, common (shipped phases), or aflow (with pymatgen).",
    ),
]
Elements = Annotated[str | None, _option("A,B", "Consisting of these elements.")]
Groups = Annotated[str | None, _option("N,N", "Only these space groups.", "--space-group")]
System = Annotated[str | None, _option("NAME", "Only this crystal system.")]
Json = Annotated[str | None, _option("FILE", "As JSON; - for standard output.")]
Total = Annotated[int | None, _option("N", "About how many to choose in all.")]
Limit = Annotated[int | None, _option("N", "Stop after so many entries.")]


@app.command("list")
def list_(
    source: Source = "common",
    elements: Elements = None,
    space_group: Groups = None,
    system: System = None,
    json: Json = None,
) -> None:
    """Structures with space group, prototype and what speaks against them.

    Example:  diskern crystals list common --elements Ti,O
    """
    found = _catalogue(source, elements, space_group, system)
    if json is not None:
        write_json([_row(c) for c in found], json)
    if json != "-":
        _print(found)


@app.command()
def select(
    source: Source,
    output: Annotated[Path, _option("DIR", "Folder for the chosen CIF files.", "--output", "-o")],
    by: Annotated[str, _option("NAME", "prototype, space-group or system.")] = "prototype",
    total: Total = None,
    cap: Annotated[int | None, _option("N", "Most of one group.")] = None,
    elements: Elements = None,
    space_group: Groups = None,
    system: System = None,
    seed: Annotated[int, _option("N", "Decides the draw.")] = 0,
    json: Json = None,
) -> None:
    """Choose so that no kind drowns the others: of each as many as the root of its number.

    Crystals that are disordered, or whose group changes between 0.01 and 0.1 Å, are left out.

    Example:  diskern crystals select my-cifs --total 500 -o chosen
    """
    with progress("reading structures"):
        from diskern.crystal.selection import square_root_selection
        from diskern.crystal.sources.record import Record, keep_records

        keys = {"prototype": "prototype", "space-group": "number", "system": "system"}
        if by not in keys:
            raise DiskernError(f"--by {by} is unknown; use {', '.join(keys)}")
        usable = [c for c in _catalogue(source, elements, space_group, system) if not c.remark]
        groups = [str(getattr(c, keys[by])) for c in usable]
        picked = square_root_selection(groups, seed=seed, total=total, cap=cap)
        taken = [usable[i] for i in picked.chosen]
        keep_records(
            (Record(c.crystal, c.name, source, attribution=c.crystal.source) for c in taken),
            output,
        )
    if json is not None:
        write_json({"chosen": [_row(c) for c in taken], "taken": picked.taken}, json)
    if json != "-":
        console().print(repr(picked), markup=False)
        console().print(f"Written: {output}", markup=False)


@app.command()
def fetch(
    provider: Annotated[
        str,
        typer.Argument(
            metavar="PROVIDER",
            help="mp (Materials Project, key in MP_API_KEY), aflow (prototypes that ship with "
            "pymatgen), or the address of an OPTIMADE provider.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, _option("DIR", "Folder for CIF files.", "--output", "-o")],
    elements: Annotated[str | None, _option("A,B", "Elements that are present.")] = None,
    others: Annotated[
        bool, typer.Option("--others", help="Other elements may be present too.")
    ] = False,
    filter_text: Annotated[str | None, _option("TEXT", "OPTIMADE filter.", "--filter")] = None,
    hull: Annotated[
        float | None, _option("eV", "Most energy above the hull per atom (mp).")
    ] = 0.05,
    space_group: Annotated[
        str | None, _option("N,N", "Only these space groups (mp).", "--space-group")
    ] = None,
    limit: Limit = None,
    json: Json = None,
) -> None:
    """Fetch structures with their attribution; a fetch that was cut off goes on where it was.

    Example:  diskern crystals fetch mp --elements Al,Ni --hull 0.02 -o alni
    """
    with progress("asking") as tell:
        from diskern.crystal.sources.record import keep_records

        entries = _entries(
            provider, output, elements, others, filter_text, hull, space_group, limit
        )
        count, refused = keep_records(
            entries, output, progress=lambda n: tell(f"{n} structures fetched")
        )
    if json is not None:
        reasons = {r.identifier: r.reason for r in refused}
        write_json({"fetched": count, "refused": reasons, "folder": str(output)}, json)
    if json != "-":
        out = console()
        for refusal in refused[:5]:
            out.print(f"refused: {refusal.reason}", markup=False)
        more = f", {len(refused)} entries refused" if refused else ""
        out.print(f"Written: {output}  ({count} structures{more})", markup=False)


@app.command()
def report(
    source: Source = "common",
    output: Annotated[
        Path | None, _option("FILE", "Figure: .png, .pdf or .svg.", "--output", "-o")
    ] = None,
    elements: Elements = None,
    space_group: Groups = None,
    system: System = None,
    json: Json = None,
) -> None:
    """Count structures by system, space group and prototype; plot the counts.

    Example:  diskern crystals report my-cifs -o counts.png
    """
    from diskern.report.crystal_counts import count_crystals, counts_figure

    found = _catalogue(source, elements, space_group, system)
    counts = count_crystals(found)
    if json is not None:
        write_json(counts, json)
    if output is not None:
        from diskern.report.simulation_figure import save_simulation_figure

        save_simulation_figure(output, counts_figure(found, f"{len(found)} crystals of {source}"))
    if json == "-":
        return
    out = console()
    systems = ", ".join(f"{n} {s}" for s, n in counts["systems"].items() if n)
    out.print(f"{counts['crystals']} crystals: {systems}", markup=False)
    out.print(
        f"{len(counts['space_groups'])} space groups, {len(counts['prototypes'])} prototypes, "
        f"{counts['disordered']} disordered, {counts['unsteady']} with an unsteady group",
        markup=False,
    )
    if output is not None:
        out.print(f"Written: {output}", markup=False)


def _catalogue(
    source: str, elements: str | None, space_group: str | None, system: str | None
) -> tuple[Listed, ...]:
    with progress("reading structures"):
        from diskern.crystal.common import check_elements
        from diskern.crystal.sources.catalogue import (
            check_system,
            chosen,
            list_crystals,
            named_crystals,
        )

        groups, wanted = _numbers(space_group), check_system(system)
        allowed = None if elements is None else check_elements(elements.split(","))
        crystals, folder = named_crystals(source)
        # Elements first: symmetry takes far longer.
        some = (c for c in crystals if allowed is None or set(c[1].elements) <= allowed)
        listed, refused = list_crystals(some)
        found = chosen(listed, space_groups=groups, system=wanted)
    lost = list(refused)
    if folder is not None:
        lost += [r.reason for r in folder.refused]
        lost += [f"{copy} repeats {first}" for copy, first in folder.copies.items()]
    for words in lost:
        typer.echo(f"diskern: {words}", err=True)
    if not found:
        raise DiskernError(f"{source}: no structure fits; widen the choice")
    return found


def _numbers(words: str | None) -> list[int] | None:
    if words is None:
        return None
    try:
        numbers = [int(part) for part in words.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= n <= 230 for n in numbers):
        raise DiskernError(f"--space-group {words!r} must be numbers from 1 to 230, e.g. 225,227")
    return numbers


def _row(entry: Listed) -> dict[str, Any]:
    return {
        "name": entry.name,
        "formula": entry.crystal.formula,
        "space_group": entry.number,
        "space_group_at_0.1": entry.loose,
        "system": entry.system,
        "prototype": entry.prototype,
        "pearson": entry.pearson,
        "volume": entry.crystal.volume,
        "atoms": len(entry.crystal),
        "remark": entry.remark,
        "source": entry.crystal.source,
    }


def _print(found: Sequence[Listed]) -> None:
    out = console()
    width = min(40, max(len(c.name) for c in found))
    for c in found:
        kind = f"{c.pearson:6} {c.prototype:24.24}"
        line = f"{c.name:{width}.{width}} {c.number:3d} {kind} {c.crystal.volume:9.1f} Å³"
        out.print(f"{line}  {c.remark}".rstrip(), markup=False)
    out.print(f"{len(found)} structures", markup=False)


def _entries(
    provider: str,
    output: Path,
    elements: str | None,
    others: bool,
    filter_text: str | None,
    hull: float | None,
    space_group: str | None,
    limit: int | None,
) -> Iterable[Record | Refusal]:
    from diskern.crystal.sources.http import Client

    symbols = elements.split(",") if elements else []
    client = Client(cache=output / ".answers")
    if provider == "aflow":
        from itertools import islice

        from diskern.crystal.sources.aflow import aflow_prototypes

        return islice(aflow_prototypes(), limit)
    if provider == "mp":
        from diskern.crystal.sources.materials_project import Query, fetch_materials_project

        query = Query(symbols, hull=hull, space_groups=_numbers(space_group) or ())
        return fetch_materials_project(query, limit=limit, client=client)
    if "://" not in provider:
        raise DiskernError(f"{provider} is no provider; use mp, aflow or an http address")
    from diskern.crystal.sources.optimade import element_filter, fetch_optimade

    parts = [element_filter(symbols, only=not others)] if symbols else []
    parts += [f"({filter_text})"] if filter_text else []
    return fetch_optimade(provider, " AND ".join(parts), limit=limit, client=client)
