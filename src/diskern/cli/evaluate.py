"""`diskern evaluate`: how good trained networks are on patterns that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diskern.cli._output import console, progress, write_json
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from diskern.train.evaluation import Evaluation


def evaluate(
    weights: Annotated[
        list[str],
        typer.Argument(
            metavar="WEIGHTS...",
            help="Names of shipped weights, or .safetensors files with their cards beside them.",
            show_default=False,
        ),
    ],
    table: Annotated[
        bool,
        typer.Option("--table", help="One row for each network: accuracy, parameters, time."),
    ] = False,
    bands: Annotated[
        bool,
        typer.Option(
            "--bands",
            help="Learned symmetry band by band of thickness, tilt, dose and scale error too.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for tables (.md, .csv), evaluation.json and figures.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Samples of every side at most: a quick look.", min=1),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="All measures as JSON; - for standard output."),
    ] = None,
) -> None:
    """Measure networks on what their own recipes hold out: nothing that they were trained on.

    Example:  diskern evaluate runs/saed-resnet/saed-resnet.safetensors --table -o table
    """
    with progress("loading") as tell:
        from diskern.train.evaluation import comparison, evaluate_weights

        found = []
        for name in weights:
            tell(f"measuring {name}")
            found.append(evaluate_weights(name, limit=limit, bands=bands, tell=tell))
    facts = {"networks": [asdict(e) for e in found], "table": comparison(found)}
    if output is not None:
        _write(output, facts, found)
    if json is not None:
        write_json(facts, json)
    if json != "-":
        _show(facts, found, table)
        if output is not None:
            console().print(f"Written: {output}", markup=False)


def _show(facts: Mapping[str, Any], found: list[Evaluation], table: bool) -> None:
    from diskern.report.evaluation import markdown_table

    out = console()
    if table:
        out.print(markdown_table(facts["table"]), markup=False)
        return
    for one in found:
        out.print(f"{one.name} ({one.architecture})", markup=False)
        for name, rows in one.tables.items():
            out.print(f"\n{name}\n{markdown_table(rows)}", markup=False)
        out.print(one.protocol, markup=False)


def _write(folder: Path, facts: Mapping[str, Any], found: list[Evaluation]) -> None:
    """The comparison, each network's tables, and figures where there is something to draw."""
    from diskern.report.evaluation import FIGURES, csv_table, markdown_table
    from diskern.report.simulation_figure import save_simulation_figure

    tables = {"table": facts["table"]}
    for place, one in enumerate(found):
        # Two weights may carry one name.
        own = one.name if [e.name for e in found].count(one.name) == 1 else f"{one.name}-{place}"
        tables |= {f"{own}-{k}": rows for k, rows in one.tables.items() if k != "table"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            (folder / f"{name}.md").write_text(markdown_table(rows), encoding="utf-8")
            (folder / f"{name}.csv").write_text(csv_table(rows), encoding="utf-8")
    except OSError as error:
        raise DiskernError(f"cannot write {folder}: {error.strerror or error}") from error
    write_json(facts, str(folder / "evaluation.json"))
    for name, rows in tables.items():
        draw = FIGURES.get(name.rpartition("-")[2])
        if draw is not None and rows:
            save_simulation_figure(folder / f"{name}.png", draw(rows))
