"""Symmetry from whole images of one crystal, beside spot lists of the same crystals.

python benchmarks/identify_sets.py --structures FILE.parquet [--crystals 60] [--patterns 3]
    [--side test] [--size 512]

Known structures of types that the network was neither trained nor calibrated on
(``structures_file.py``), as often as they occur, by Bloch waves.  The images of a crystal share a
camera length, known to 2 %; everything else is drawn anew for each: beam stop, dose, saturation,
diffuse light, distortion.  Spot lists go through the same instrument without ever being images.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from identify_images import exposed
from numpy.typing import NDArray
from structures_file import held_out_structures

from diskern.errors import DiskernError
from diskern.nets.registry import load
from diskern.patterns.pattern import Pattern
from diskern.simulate.instrument import Instrument, ScaleError
from diskern.symmetry.identify import IdentifyOptions, identify
from diskern.symmetry.joined import joined_evidence
from diskern.symmetry.labels import Level, label_tree
from diskern.symmetry.posterior import Prior, groups_from
from diskern.train.samples import sides_of
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.symmetry_answers import (
    DYNAMICAL,
    FIRST,
    held_out,
    network_answers,
    reasoner_answers,
)
from diskern.train.symmetry_judges import judge_of
from diskern.train.symmetry_scores import scores
from diskern.train.train_recipe import parse_train_recipe

Floats = NDArray[np.float64]
LEVELS: tuple[Level, ...] = ("system", "extinction_group", "space_group")
SCALE_ERROR = 0.02


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def images_of(
    q: list[Floats], intensity: list[Floats], energy: float, size: int, seed: int
) -> list[Pattern]:
    """An image of each list of spots, all at one camera length."""
    pixel_size = float(np.random.default_rng([seed, 11]).uniform(1.2, 2.2)) / (size / 2)
    shape, images, length = (size, size), [], None
    for number, (place, bright) in enumerate(zip(q, intensity, strict=True)):
        drawn = Instrument.draw(100 * seed + number, shape, pixel_size)
        if length is None:
            length = next(t for t in drawn.transforms if isinstance(t, ScaleError))
        steps = (length if isinstance(t, ScaleError) else t for t in drawn.transforms)
        instrument = Instrument(tuple(steps), 100 * seed + number)
        rng = np.random.default_rng([seed, number, 7])
        sigma = float(rng.uniform(1.2, 2.5)) * size / 512
        image, _ = exposed((place, bright), instrument, size, pixel_size, sigma)
        pattern = Pattern.from_array(image, pixel_size, energy)
        images.append(replace(pattern, pixel_size_error=SCALE_ERROR))
    return images


def groups_of_images(images: list[Pattern], prior: Prior) -> Floats:
    """(230,) what `identify` makes of them; the prior where it finds no symmetry."""
    try:
        answer = identify(images, candidates=[], options=IdentifyOptions(prior=prior))
    except DiskernError:
        return prior.of_groups()
    out = np.full(230, 1e-9)
    for ranked in answer.space_group:
        for number in ranked.space_groups:
            out[number - 1] += ranked.probability / len(ranked.space_groups)
    return out / out.sum() if answer.space_group else prior.of_groups()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path)
    parser.add_argument("--crystals", type=int, default=60)
    parser.add_argument("--patterns", type=int, default=3)
    parser.add_argument("--side", choices=("validation", "test"), default="test")
    parser.add_argument("--size", type=int, default=512)
    given = parser.parse_args()
    if given.structures is None:
        say("nothing is measured without a file of known structures (--structures)")
        return
    model = load("spot_set")
    recipe = parse_train_recipe(model.card.recipe)
    if not isinstance(recipe, SpotSetTrainRecipe):
        parser.error("the shipped network was not trained on sets of spots")
    materials = held_out_structures(given.structures, given.side, sides_of(recipe.data)[0])
    source = held_out(recipe.data, given.side, materials=materials, **DYNAMICAL, evenly=False)
    net, prior, k = judge_of(model), Prior.natural(), given.patterns
    truth, images, lists = [], [], []
    number = FIRST
    while len(truth) < given.crystals:
        beams, facts = source.exposed(number)
        if facts["dynamical"].all():
            there = [beams.intensity[i] > 0 for i in range(k)]
            q = [beams.q[i][some] for i, some in enumerate(there)]
            bright = [beams.intensity[i][some] for i, some in enumerate(there)]
            seed = number - FIRST
            made = images_of(q, bright, float(facts["energy"][0]), given.size, seed)
            images.append(groups_of_images(made, prior))
            block = source.block(number)
            both = joined_evidence(
                reasoner_answers([block], [k]).log_likelihood[k],
                network_answers(net, [block], [k]).log_likelihood[k],
            )
            lists.append(groups_from(both, prior.of_groups())[0])
            truth.append(int(facts["group"][0]))
            if len(truth) % 10 == 0:
                say(f"{len(truth)} of {given.crystals} crystals")
        number += 1
    tree = label_tree()
    for name, groups in (("images", images), ("spot lists", lists)):
        words = []
        for level in LEVELS:
            place = tree.index(level, np.array(truth))
            row = scores(tree.marginal(level, np.array(groups)), place)
            words.append(f"{level} {100 * row['top1']:.0f} %, -ln p {row['nll']:.2f}")
        say(f"{name}, {k} of each of {len(truth)} crystals: {'; '.join(words)}")


if __name__ == "__main__":
    main()
