"""How well symmetry is told from spots by the network, by the rules, and by both.

python benchmarks/symmetry_net.py [--weights spot_set] [--crystals 200] [--reasoner 0]
    [--cif FOLDER] [--structures FILE.parquet [--bands 0]] [--csv FILE] [--speed]

Simulated spot lists with all effects of the instrument, of crystals whose structure types were
in neither training nor calibration: random symmetric ones, and known structures with their
substitutions, kinematic and by Bloch waves.  --cif adds the crystals of a folder of CIF files
whose structure types were not trained on, --structures those of the test side of a file of known
structures (``structures_file.py``), and --bands N measures N of these in each band of thickness,
tilt, dose and scale error, drawn beside the CSV file.  --reasoner N asks the rules alone on N
crystals of each kind too (seconds to a minute each).  Speed is that of one process with
OMP_NUM_THREADS threads (1 by default), from the spots of one pattern to its probabilities;
--speed measures nothing else.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from structures_file import held_out_structures, parted_by_material

from diskern.nets.registry import load
from diskern.report.evaluation import bands_figure
from diskern.report.simulation_figure import save_simulation_figure
from diskern.symmetry.posterior import Prior
from diskern.train.materials import Material, materials_of
from diskern.train.recipe import FolderSource, Range
from diskern.train.samples import sides_of
from diskern.train.split import prototype_family
from diskern.train.spot_sets_recipe import SpotSetsRecipe, SpotSetTrainRecipe
from diskern.train.symmetry_answers import (
    DYNAMICAL,
    blocks_of,
    dynamical,
    held_out,
    network_answers,
)
from diskern.train.symmetry_bands import band_rows
from diskern.train.symmetry_evaluate import (
    beside_reasoner,
    cubic_rows,
    evaluate_symmetry,
    rows_of,
    speed_row,
)
from diskern.train.symmetry_judges import Judge, SpotJudge, judge_of
from diskern.train.train_recipe import parse_train_recipe

SHOWN = (
    "top1",
    "top3",
    "macro_f1",
    "nll",
    "ece",
    "ece_honest",
    "set90",
    "coverage90",
    "of_ceiling",
)

THIN: dict[str, Any] = {"thickness": Range(low=20, high=200)}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "": {},
    ", 2 to 20 nm": THIN,
    ", 2 to 20 nm, no instrument": {**THIN, "clean": True},
}
"""Nearer and nearer to the published ones: perfect patterns of thin crystals."""


def say(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def folder_materials(recipe: SpotSetsRecipe, folder: Path) -> list[Material]:
    """The crystals of CIF files, without the structure types and formulas of the training side."""
    trained = sides_of(recipe)[0]
    families, formulas = {prototype_family(m) for m in trained}, {m.formula for m in trained}
    source = FolderSource(source="folder", path=str(folder), max_volume=2000.0)
    found = materials_of(recipe.model_copy(update={"crystals": (source,)}))
    fresh = [m for m in found if prototype_family(m) not in families and m.formula not in formulas]
    say(f"{len(fresh)} of {len(found)} crystals of {folder.name} are of other structure types")
    return fresh


def other_rows(
    net: Judge,
    recipe: SpotSetsRecipe,
    name: str,
    materials: Sequence[Material],
    crystals: int,
    reasoner: int,
) -> list[dict[str, Any]]:
    """Crystals from elsewhere: every symbol equally often, and each as often as it occurs."""
    facts = {"source": "network", "crystals_are": name, "scale": "known"}
    rows = []
    cases: tuple[tuple[str, Mapping[str, Any]], ...] = (("", {}), (", dynamical", DYNAMICAL))
    for words, changes in cases:
        made = blocks_of(held_out(recipe, materials=materials, **changes), crystals)
        if words:
            made = dynamical(made)
        own = {**facts, "crystals_are": name + words}
        answers = network_answers(net, made)
        rows += rows_of(answers, net=net, facts=own) + cubic_rows(answers, own)
        if not words:
            unknown = network_answers(net, made, told=False)
            rows += rows_of(unknown, net=net, facts={**own, "scale": "unknown"})
        elif reasoner:
            rows += beside_reasoner(made[:reasoner], answers, own, say)
    return rows + occurring_rows(net, recipe, name, materials, crystals, reasoner)


def occurring_rows(
    net: Judge,
    recipe: SpotSetsRecipe,
    name: str,
    materials: Sequence[Material],
    crystals: int,
    reasoner: int,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Crystals drawn as often as they occur among ``materials``, all patterns by Bloch waves."""
    source = held_out(recipe, materials=materials, evenly=False, **DYNAMICAL, **changes)
    made = dynamical(blocks_of(source, crystals))
    facts = {
        "source": "network",
        "crystals_are": f"{name}, dynamical, as often as they occur",
        "scale": "known",
    }
    natural = Prior.natural().of_groups()
    answers = network_answers(net, made)
    rows = rows_of(answers, net=net, prior=natural, facts=facts)
    if reasoner:
        rows += beside_reasoner(made[:reasoner], answers, facts, say, natural)
    return rows


def table(rows: list[dict[str, Any]]) -> None:
    """Rows under headings, one for each kind of crystals, source and level."""
    last = None
    for row in rows:
        head = [row.get(k, "") for k in ("crystals_are", "source", "scale", "level")]
        if head != last:
            say("\n" + ", ".join(map(str, head)))
            last = head
        values = {k: v for k, v in row.items() if isinstance(v, float) and k in SHOWN}
        others = {k: v for k, v in row.items() if isinstance(v, float | int) and k not in SHOWN}
        shown = {**others, **values} if "top1" not in row else values
        words = "  ".join(f"{k} {v:.3f}" for k, v in shown.items())
        say(f"  k={row['patterns']:<2} n={row.get('crystals', '-'):<4} {words}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="spot_set")
    parser.add_argument("--crystals", type=int, default=200)
    parser.add_argument("--reasoner", type=int, default=0)
    parser.add_argument("--cif", type=Path)
    parser.add_argument("--structures", type=Path)
    parser.add_argument("--bands", type=int, default=0)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--speed", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = load(given.weights)
    recipe = parse_train_recipe(model.card.recipe)
    if not isinstance(recipe, SpotSetTrainRecipe):
        parser.error(f"{given.weights} was not trained on sets of spots")
    say(f"{model.card.name} {model.card.sha256[:12]}, {platform.machine()}, numpy {np.__version__}")
    net = judge_of(model)
    if given.speed:
        if not isinstance(net, SpotJudge):
            parser.error(f"the speed of {given.weights} is not measured")
        table([speed_row(net, blocks_of(held_out(recipe.data), 40), repeat=1000)])
        return
    rows = evaluate_symmetry(
        net, recipe.data, blocks=given.crystals, reasoner=given.reasoner, tell=say
    )
    if given.cif is not None:
        found = folder_materials(recipe.data, given.cif)
        rows += other_rows(net, recipe.data, given.cif.name, found, given.crystals, 0)
    if given.structures is not None:
        found = held_out_structures(given.structures, "test", sides_of(recipe.data)[0])
        say(f"{len(found)} structures of {given.structures.name} are of other types and formulas")
        name = given.structures.stem
        rows += other_rows(net, recipe.data, name, found, given.crystals, given.reasoner)
        others = parted_by_material(given.structures, sides_of(recipe.data))[1]
        say(f"{len(others)} are of types that the shipped network knows, new materials")
        known = f"{name}, types trained on"
        for words, changes in PROTOCOLS.items():
            rows += occurring_rows(
                net, recipe.data, known + words, others, given.crystals, given.reasoner, **changes
            )
        if given.bands:
            bands = band_rows(net, recipe.data, blocks=given.bands, materials=found, tell=say)
            rows += [{**r, "crystals_are": r["of"], "scale": r["band"]} for r in bands]
            if given.csv is not None:
                figure = given.csv.with_suffix(".png")
                save_simulation_figure(figure, bands_figure(bands))
    table(rows)
    if given.csv is not None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
