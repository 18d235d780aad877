"""`diskern dataset`: training sets from recipes, in shards; previews of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from diskern.cli._output import console, progress, write_json
from diskern.errors import DiskernError

app = typer.Typer(
    no_args_is_help=True,
    help="Training sets from recipes: written in shards, looked at, verified.",
    rich_markup_mode="rich",
)


def _option(metavar: str, words: str, *names: str) -> Any:
    return typer.Option(*names, help=words, metavar=metavar)


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A TOML file, or a shipped recipe by name.", show_default=False
    ),
]
Output = Annotated[Path, _option("DIR", "Folder for the shards.", "--output", "-o")]
ShardOption = Annotated[
    str, _option("I/N", "Write every N-th shard, beginning with the I-th: one call of N.")
]
SideOption = Annotated[str, _option("NAME", "train, validation or both.")]
Json = Annotated[str | None, _option("FILE", "What was done, as JSON; - for standard output.")]


@app.command()
def saed(
    recipe: RecipeName,
    output: Output,
    shard: ShardOption = "1/1",
    side: SideOption = "both",
    json: Json = None,
) -> None:
    """Zone-axis images of cubic crystals with look-alike labels.

    Example:  diskern dataset saed saed-2021 -o saed --shard 1/4
    """
    _write("saed", recipe, output, shard, side, json)


@app.command()
def quartets(
    recipe: RecipeName,
    output: Output,
    shard: ShardOption = "1/1",
    side: SideOption = "both",
    json: Json = None,
) -> None:
    """Probe and convergent-beam pattern to V_g and q_z.

    Example:  diskern dataset quartets quartets-2022 -o quartets --shard 1/16
    """
    _write("quartets", recipe, output, shard, side, json)


@app.command()
def spots(
    recipe: RecipeName,
    output: Output,
    shard: ShardOption = "1/1",
    side: SideOption = "both",
    json: Json = None,
) -> None:
    """Spot lists with everything that an instrument does to them.

    Example:  diskern dataset spots spots-all -o spots
    """
    _write("spots", recipe, output, shard, side, json)


@app.command()
def patterns(
    recipe: RecipeName,
    output: Output,
    shard: ShardOption = "1/1",
    side: SideOption = "both",
    json: Json = None,
) -> None:
    """Images as a camera records them, with the places of their reflections.

    Example:  diskern dataset patterns patterns-all -o patterns
    """
    _write("patterns", recipe, output, shard, side, json)


@app.command()
def preview(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|DIR",
            help="A recipe, or a folder of shards.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, _option("FILE", "Contact sheet: .png, .pdf or .svg.", "--output", "-o")
    ],
    count: Annotated[int, _option("N", "Number of samples.")] = 24,
    side: Annotated[str, _option("NAME", "train or validation.")] = "train",
    pictures: Annotated[Path | None, _option("DIR", "Write each sample as a PNG file too.")] = None,
    seed: Annotated[int, _option("N", "Which samples.")] = 0,
) -> None:
    """A contact sheet of a training set, each sample with its labels.

    Example:  diskern dataset preview saed-small -o sheet.png
    """
    with progress("making samples"):
        from diskern.report.dataset_sheet import preview_sheet
        from diskern.report.simulation_figure import save_simulation_figure

        made = _source(source, side)
        figure, written = preview_sheet(made, count=count, seed=seed, folder=pictures)
        save_simulation_figure(output, figure, dpi=130)
    out = console()
    if pictures is not None:
        out.print(f"Written: {len(written)} pictures in {pictures}", markup=False)
    out.print(f"Written: {output}", markup=False)


@app.command()
def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of shards.", show_default=False)
    ],
) -> None:
    """Compare every shard with its hash.

    Example:  diskern dataset verify saed
    """
    from diskern.train.shards import verify_shards

    with progress("verifying"):
        counts = {s: verify_shards(folder, s) for s in _written_sides(folder)}
    words = ", ".join(f"{n} of {side}" for side, n in counts.items())
    console().print(f"{folder}: all shards whole ({words})", markup=False)


@app.command()
def recipes() -> None:
    """Recipes that ship with the program.

    Example:  diskern dataset recipes
    """
    from diskern.train.recipe import load_recipe, recipe_names

    for name in recipe_names():
        recipe = load_recipe(name)
        sources = ", ".join(s.source for s in recipe.crystals)
        console().print(f"{name:18} {recipe.kind:9} {sources}", markup=False)


@app.command()
def atlas(
    output: Annotated[
        Path, _option("FILE", "The atlas: .html, .png, .pdf or .svg.", "--output", "-o")
    ],
) -> None:
    """The 61 look-alike classes of the zone-axis labels, drawn.

    Example:  diskern dataset atlas -o atlas.html
    """
    from diskern.report.lookalike_atlas import write_atlas

    with progress("drawing"):
        write_atlas(output)
    console().print(f"Written: {output}", markup=False)


def _write(kind: str, name: str, output: Path, shard: str, side: str, json: str | None) -> None:
    with progress("reading structures") as tell:
        from diskern.train.recipe import load_recipe
        from diskern.train.samples import split_of, training_set
        from diskern.train.shards import write_shards

        part = _part(shard)
        recipe = load_recipe(name)
        if recipe.kind != kind:
            raise DiskernError(
                f"{name} is a recipe for {recipe.kind}; diskern dataset {recipe.kind}"
            )
        split = split_of(recipe)
        wanted = ("train", "validation") if side == "both" else (side,)
        done = []
        for one in wanted:
            if side == "both" and not split.side(one):  # type: ignore[arg-type]  # checked there
                continue
            made = training_set(recipe, one, split)  # type: ignore[arg-type]  # checked there
            paths = write_shards(
                made,
                output,
                part=part,
                progress=lambda k, n, words=one: tell(f"{words}: shard {k} of {n}"),  # type: ignore[misc]
            )
            shards = [p.name for p in paths]
            done.append((one, len(made), len(made.materials), shards))
    facts = {"recipe": name, "configuration": recipe.configuration, "folder": str(output)}
    if json is not None:
        names = ("side", "samples", "crystals", "shards")
        sides = [dict(zip(names, entry, strict=True)) for entry in done]
        write_json({**facts, "dropped": len(split.dropped), "sides": sides}, json)
    if json != "-":
        for one, samples, crystals, shards in done:
            console().print(
                f"{one}: {samples} samples of {crystals} crystals, {len(shards)} shards",
                markup=False,
            )
        console().print(f"Written: {output}", markup=False)


def _part(words: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", words.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise DiskernError(f"--shard {words} must be I/N with I from 1 to N, e.g. 1/4")
    return int(match[1]), int(match[2])


def _source(words: str, side: str) -> Any:
    from diskern.train.recipe import load_recipe
    from diskern.train.samples import training_set
    from diskern.train.shards import ShardedSet
    from diskern.train.split import SIDES

    if side not in SIDES:
        raise DiskernError(f"--side {side} is unknown; use {' or '.join(SIDES)}")
    if Path(words).is_dir():
        return ShardedSet(words, side)
    return training_set(load_recipe(words), side)


def _written_sides(folder: Path) -> list[Any]:
    from diskern.train.shards import MANIFEST
    from diskern.train.split import SIDES

    found = [s for s in SIDES if (folder / f"{s}-{MANIFEST}").exists()]
    if not found:
        raise DiskernError(f"{folder} holds no training set; write one with diskern dataset")
    return found
