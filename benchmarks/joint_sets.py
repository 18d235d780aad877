"""Rules and network together: how much each counts, and sets that hold the truth in 90 and 95 %.

python benchmarks/joint_sets.py --structures FILE.parquet [--crystals 140] [--weights spot_set]
    [--store runs/joint] [--weigh] [--write CARD.json]

Known structures of types that the network was neither trained nor calibrated on
(``structures_file.py``), every diffraction symbol equally likely and as often as they occur, all
patterns by Bloch waves.  Thresholds come from the validation side, the coverage that is shown
from the test side.  The rules take seconds a crystal: their answers are kept in the store, and a
run that was cut off goes on there.  --weigh tells on the validation side which
`diskern.symmetry.joined.Weights` give the truth most probability.  --write puts the thresholds
into the card of the weights.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from structures_file import held_out_structures

from diskern.nets.registry import load
from diskern.symmetry.calibrated import COVERAGES, threshold_key
from diskern.symmetry.joined import Weights, joined_evidence
from diskern.symmetry.labels import Level, label_tree
from diskern.symmetry.posterior import Prior, groups_from
from diskern.train.samples import Block, sides_of
from diskern.train.spot_sets_finish import set_thresholds
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.symmetry_answers import (
    DYNAMICAL,
    Answers,
    blocks_of,
    dynamical,
    even_prior,
    held_out,
    network_answers,
    reasoner_answers,
)
from diskern.train.symmetry_judges import Judge, judge_of
from diskern.train.symmetry_scores import scores, set_scores
from diskern.train.train_recipe import parse_train_recipe

KINDS: dict[str, dict[str, Any]] = {"dynamical": {}, "occurring": {"evenly": False}}
COUNTS = (1, 2, 3, 5, 10)
LEVELS: tuple[Level, ...] = ("system", "extinction_group", "space_group")
Floats = NDArray[np.float64]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(frozen=True, eq=False)
class Apart:
    """What rules and network say of the same crystals, by the number of patterns."""

    rules: dict[int, Answers]
    network: dict[int, Answers]

    def together(self, count: int, weights: Weights | None = None) -> Answers:
        """Both as one."""
        rules, network = self.rules[count], self.network[count]
        both = joined_evidence(rules.log_likelihood[count], network.log_likelihood[count], weights)
        return Answers(rules.truth, {count: both})


def answered(net: Judge, blocks: list[Block], file: Path) -> Apart:
    """What each says; the rules' answers are read from the file, as far as they are there."""
    truth = np.array([int(b["space_group"][0]) for b in blocks])
    learned = network_answers(net, blocks, COUNTS).log_likelihood
    rules: dict[int, list[Any]] = {k: [] for k in COUNTS}
    if file.exists():
        with np.load(file, allow_pickle=False) as kept:
            rules = {k: list(kept[str(k)]) for k in COUNTS}
    alone, network = {}, {}
    for k in COUNTS:
        most = (len(blocks) + 1) // 2 if k > 5 else len(blocks)
        while len(rules[k]) < most:
            row = len(rules[k])
            rules[k].append(reasoner_answers(blocks[row : row + 1], [k]).log_likelihood[k][0])
            if row % 5 == 4 or row == most - 1:
                symbols = learned[k].shape[1]
                every: dict[str, Any] = {
                    str(n): np.reshape(v, (len(v), symbols)) for n, v in rules.items()
                }
                half = file.with_name(f"{file.stem}-half.npz")
                np.savez(half, **every)
                half.replace(file)
                say(f"{file.stem}: {row + 1} of {most} crystals, {k} patterns each")
        alone[k] = Answers(truth[:most], {k: np.array(rules[k][:most])})
        network[k] = Answers(truth[:most], {k: learned[k][:most]})
    return Apart(alone, network)


def loss(found: dict[str, Apart], priors: dict[str, Floats], weights: Weights) -> float:
    """Mean -ln p of the system and half that of the extinction symbol, sets of all sizes."""
    tree, out = label_tree(), []
    for kind, apart in found.items():
        for k in COUNTS:
            answers = apart.together(k, weights)
            groups = groups_from(answers.log_likelihood[k], priors[kind])
            for level, share in (("system", 1.0), ("extinction_group", 0.5)):
                p, truth = tree.marginal(level, groups), tree.index(level, answers.truth)
                out.append(share * scores(p, truth)["nll"])
    return float(np.mean(out))


def weigh(found: dict[str, Apart], priors: dict[str, Floats]) -> None:
    """The weights under which the truth is most probable, and the project's own."""
    grid = product((0.4, 0.5, 0.6, 0.8, 1.0), (0.3, 0.4, 0.5, 0.65, 0.8), (0.01, 0.05, 0.1, 0.2))
    tried = [Weights(*values) for values in grid]
    ranked = sorted(((loss(found, priors, w), w) for w in tried), key=lambda pair: pair[0])
    for value, weights in [*ranked[:8], (loss(found, priors, Weights()), Weights())]:
        say(f"{value:.4f} {weights}")


def say_of(
    name: str, k: int, answers: Answers, prior: Floats, own: dict[str, float] | None = None
) -> None:
    """A line for each level; sets as well where their thresholds are given."""
    tree = label_tree()
    groups = groups_from(answers.log_likelihood[k], prior)
    for level in LEVELS:
        p, truth = tree.marginal(level, groups), tree.index(level, answers.truth)
        row = scores(p, truth)
        words = f"right {100 * row['top1']:.0f} %, -ln p {row['nll']:.2f}, "
        words += f"ece {row['ece']:.3f} ({row['ece_honest']:.3f} if honest)"
        for coverage in COVERAGES:
            least = (own or {}).get(threshold_key("joint", level, coverage, k))
            if least is None:
                continue
            size, held = set_scores(p, truth, least)
            words += f", {coverage} %: {size:.1f} hold {100 * held:.0f}"
        say(f"{name} {level} k={k} of {len(truth)}: {words}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path)
    parser.add_argument("--crystals", type=int, default=140)
    parser.add_argument("--weights", default="spot_set")
    parser.add_argument("--store", type=Path, default=Path("runs/joint"))
    parser.add_argument("--weigh", action="store_true")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.structures is None:
        say("nothing is measured without a file of known structures (--structures)")
        return
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    given.store.mkdir(parents=True, exist_ok=True)
    model = load(given.weights)
    recipe = parse_train_recipe(model.card.recipe)
    if not isinstance(recipe, SpotSetTrainRecipe):
        parser.error(f"{given.weights} was not trained on sets of spots")
    net, priors = (
        judge_of(model),
        {"dynamical": even_prior(), "occurring": Prior.natural().of_groups()},
    )
    found: dict[str, dict[str, Apart]] = {}
    for side in ("validation", "test"):
        materials = held_out_structures(given.structures, side, sides_of(recipe.data)[0])
        found[side] = {}
        for kind, changes in KINDS.items():
            source = held_out(recipe.data, side, materials=materials, **DYNAMICAL, **changes)
            blocks = dynamical(blocks_of(source, given.crystals))
            file = given.store / f"{kind}-{side}.npz"
            found[side][kind] = answered(net, blocks, file)
    if given.weigh:
        weigh(found["validation"], priors)
    own: dict[str, float] = {}
    for k in COUNTS:
        cases = [(found["validation"][kind].together(k), priors[kind]) for kind in KINDS]
        own |= set_thresholds("joint", cases)
    for kind, apart in found["test"].items():
        for k in COUNTS:
            say_of(f"{kind} rules", k, apart.rules[k], priors[kind])
            say_of(f"{kind} network", k, apart.network[k], priors[kind])
            say_of(f"{kind} both", k, apart.together(k), priors[kind], own)
    if given.write is not None:
        card = replace(model.card, calibration={**model.card.calibration, **own})
        given.write.write_text(card.to_json(), "utf-8")


if __name__ == "__main__":
    main()
