"""`diskern models`: the trained networks that ship with the program."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from diskern.cli._output import console, write_json


def models(
    weights: Annotated[
        str | None,
        typer.Argument(
            metavar="[WEIGHTS]",
            help="A name, or a .safetensors file with its card beside it: its whole card.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="The cards as JSON; - for standard output.")
    ] = None,
) -> None:
    """Trained networks: what they are, how they were made, how good they are.

    Their weights are compared with the SHA-256 of their card.

    Example:  diskern models proposer
    """
    from diskern.nets.registry import load, model_names

    cards = [load(name).card for name in ((weights,) if weights else model_names())]
    if json is not None:
        write_json([asdict(c) for c in cards], json)
        if json == "-":
            return
    out = console()
    if not cards:
        out.print("No weights ship with this version.", markup=False)
    for card in cards:
        out.print(f"{card.name:12} {card.architecture:10} {card.summary}", markup=False)
        out.print(f"{'':12} SHA-256 {card.sha256}, {card.licence}", markup=False)
        if weights:
            for title, table in (("calibration", card.calibration), ("metrics", card.metrics)):
                out.print(f"{title}:", markup=False)
                for name, value in table.items():
                    out.print(f"  {name:26} {value:.6g}", markup=False)
            out.print(card.protocol, markup=False)
