"""What dynamical patterns in training are worth, and what it is to look at spots, not at images.

python benchmarks/symmetry_ablation.py [--steps 1000] [--crystals 250] [--output DIR]
    [--arms ARM ...]

Short trainings of the shipped recipe, equal but for what their patterns are made by: kinematic
alone; kinematic with double diffraction in a quarter; and as the recipe has it, random potentials
and Bloch waves besides.  The last arm is a residual network on images of the spots of exactly the
patterns that the one before it sees, with the same attention among patterns, tree and losses.
Each is calibrated on the validation side's dynamical
patterns and asked about held-out crystals, random and known, by kinematic and by Bloch-wave
patterns.  A training that was cut off goes on where its folder stands.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from diskern.nets.registry import Card, Model
from diskern.train.loop import train
from diskern.train.spot_sets_finish import Held, calibration
from diskern.train.spot_sets_recipe import ImageNetTable, SpotSetTrainRecipe
from diskern.train.spot_sets_task import SpotSetTask
from diskern.train.symmetry_answers import (
    DYNAMICAL,
    blocks_of,
    held_out,
    is_random,
    is_real,
    network_answers,
)
from diskern.train.symmetry_evaluate import rows_of
from diskern.train.symmetry_judges import Judge, judge_of
from diskern.train.train_recipe import load_train_recipe

KINEMATIC: dict[str, Any] = {"wilson_share": 0.0, "bloch": 0.0}
IMAGES = "all, as images"
ARMS: dict[str, dict[str, Any]] = {
    "kinematic": {**KINEMATIC, "double_diffraction": 0.0},
    "double diffraction": {**KINEMATIC, "double_diffraction": 0.25},
    "all": {},
    IMAGES: {},
}
TESTS: dict[str, dict[str, Any]] = {
    "kinematic": {"bloch": 0.0, "double_diffraction": 0.0},
    "dynamical": dict(DYNAMICAL),
}
COUNTS = (1, 3, 10)


def say(words: str) -> None:
    sys.stderr.write(words + "\n")


def trained(recipe: SpotSetTrainRecipe, folder: Path, calibrated_on: list[Any]) -> Judge:
    """A network of one arm, with its temperature."""
    task = SpotSetTask(recipe)
    net = train(recipe, folder, resume=folder.exists(), tell=say).net.eval()
    own = recipe.model_dump(mode="json")
    card = Card(folder.name, recipe.net.architecture, task.arguments, "", own)
    values = calibration(Model(card, net), [Held(calibrated_on)])
    return judge_of(Model(replace(card, calibration=values), net))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--crystals", type=int, default=250)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    shipped = load_train_recipe("spot_set_cpu")
    if not isinstance(shipped, SpotSetTrainRecipe):
        raise TypeError("spot_set_cpu is no recipe for sets of spots")
    # A pool of crystals as large as the steps use up.
    blocks = given.steps * shipped.optimiser.batch // shipped.data.per_block
    window = blocks // shipped.data.repeats + shipped.data.sheet
    short = shipped.optimiser.model_copy(update={"steps": given.steps})
    own = held_out(shipped.data, "validation", **TESTS["dynamical"])
    validation = blocks_of(own, max(40, given.crystals // 2))
    asked = {}
    for who, keep in (("random", is_random), ("known", is_real)):
        for name, changes in TESTS.items():
            made = blocks_of(held_out(shipped.data, keep=keep, **changes), given.crystals)
            wanted = name == "dynamical"
            asked[f"{who}, {name}"] = [b for b in made if (b["dynamical"] == wanted).all()]
    for arm in given.arms:
        data = shipped.data.model_copy(update={**ARMS[arm], "window": window})
        changes = {"data": data, "optimiser": short}
        if arm == IMAGES:
            changes["net"] = ImageNetTable(architecture="image_set", width=16, size=64)
            # At the spots' rate it does not learn at all.
            changes["optimiser"] = short.model_copy(update={"rate": 1e-3})
        recipe = shipped.model_copy(update=changes)
        net = trained(recipe, given.output / arm.replace(",", "").replace(" ", "-"), validation)
        for test, made in asked.items():
            answers = network_answers(net, made, COUNTS)
            for row in rows_of(answers, net=net, levels=("system", "extinction_group")):
                sys.stdout.write(
                    f"trained on {arm:18} tested on {test:18} k={row['patterns']:<2} "
                    f"{row['level']:17} right {100 * row['top1']:3.0f} % of {row['crystals']}, "
                    f"-ln p {row['nll']:.2f}\n"
                )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
