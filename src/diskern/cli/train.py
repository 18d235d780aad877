"""`diskern train`: networks from recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diskern.cli._output import console, progress, write_json


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A TOML file, or a shipped recipe by name, e.g. disks_cpu or spot_set_cpu.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for checkpoints and weights; runs/NAME."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the latest checkpoint in the folder.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Leave after N steps in all; --resume goes on later.", min=1
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What was done, as JSON; - for standard output."),
    ] = None,
) -> None:
    """Train a network; an interrupted training goes on with --resume exactly where it was.

    Several processes:  torchrun --nproc-per-node 2 -m diskern.cli train RECIPE

    Example:  diskern train disks_cpu -o runs/disks
    """
    with progress("reading the recipe") as tell:
        from diskern.train.loop import train as run
        from diskern.train.task import task_of
        from diskern.train.train_recipe import load_train_recipe

        made = load_train_recipe(recipe)
        folder = output or Path("runs") / made.name
        trained = run(made, folder, resume=resume, tell=tell, stop_after=steps)
        weights = None
        if trained.leads and trained.step == made.optimiser.steps:
            weights = task_of(made).finish(trained.net, folder, tell)
    if not trained.leads:
        return
    if json is not None:
        facts = {"recipe": recipe, "step": trained.step, "steps": made.optimiser.steps}
        write_json(
            {
                **facts,
                "folder": str(folder),
                "weights": None if weights is None else str(weights),
                "history": trained.history,
            },
            json,
        )
    if json != "-":
        words = f"step {trained.step} of {made.optimiser.steps}"
        console().print(f"{made.name}: {words}, checkpoints in {folder}", markup=False)
        if weights is not None:
            console().print(f"Written: {weights}, with its card beside it", markup=False)
