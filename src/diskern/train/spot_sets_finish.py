"""From a trained spot-set network to weights with a card: temperature, sets, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from diskern.errors import DiskernError
from diskern.nets.registry import Card, Model, save
from diskern.symmetry.calibrated import COVERAGES, SET_LEVELS, threshold_key
from diskern.symmetry.labels import label_tree
from diskern.symmetry.posterior import Prior, groups_from
from diskern.train.samples import Block
from diskern.train.spot_sets_recipe import SpotSetsRecipe, SpotSetTrainRecipe
from diskern.train.symmetry_answers import (
    DYNAMICAL,
    Answers,
    blocks_of,
    dynamical,
    even_prior,
    held_out,
    is_random,
    is_real,
    kept,
    network_answers,
)
from diskern.train.symmetry_evaluate import refusal_row, rows_of
from diskern.train.symmetry_judges import judge_of
from diskern.train.symmetry_scores import conformal_threshold, fit_temperature

Floats = NDArray[np.float64]

PROTOCOL = (
    "Simulated spot lists with all effects of the instrument, scale known within 2 %, of crystals "
    "whose structure types were held out of training.  Kinds: random crystals; known structures, "
    "also by Bloch waves (dynamical); every diffraction symbol equally likely; and as often as "
    "they occur (occurring, by Bloch waves, with the prior of usual frequencies).  Temperature (of "
    "known structures) and sets (split conformal, each threshold the most cautious of all kinds') "
    "from the validation side, metrics from the test side, whose structure types are in neither. "
    "Names: kind, level, score, number of patterns of one crystal."
)


@dataclass(frozen=True, eq=False)
class Held:
    """Crystals of one kind that a network is calibrated on, or measured by.

    Attributes
    ----------
    blocks : their patterns.
    prior : (230,) with which their symmetry is told.
    fits : whether the temperature is to suit them; all kinds, where it is to suit none.
    """

    blocks: Sequence[Block]
    prior: Floats = field(default_factory=even_prior)
    fits: bool = True


Kinds = Callable[[str, int], Mapping[str, Held]]
"""The kinds of crystals that a side holds out, so many of each."""


def own_kinds(data: SpotSetsRecipe, side: str, count: int) -> dict[str, Held]:
    """Random crystals and known structures that a side of a recipe holds out, where it has any.

    Raises
    ------
    DiskernError
        Where it holds out neither.
    """
    found: dict[str, Held] = {}
    if kept(data, side, is_random):
        found["random"] = Held(blocks_of(held_out(data, side, is_random), count), fits=False)
    if kept(data, side, is_real):
        solved = [
            dynamical(blocks_of(held_out(data, side, is_real, evenly=evenly, **DYNAMICAL), count))
            for evenly in (True, False)
        ]
        natural = Prior.natural().of_groups()
        found["known"] = Held(blocks_of(held_out(data, side, is_real), count))
        found["dynamical"] = Held(solved[0])
        found["occurring"] = Held(solved[1], natural, fits=False)
    found = {who: part for who, part in found.items() if part.blocks}
    if not found:
        raise DiskernError(
            f"{data.name}: no crystals are left to calibrate and to measure on; raise "
            "split.validation or give more sources"
        )
    return found


def finish(
    recipe: SpotSetTrainRecipe,
    arguments: Mapping[str, Any],
    net: nn.Module,
    folder: Path,
    *,
    name: str = "spot_set",
    blocks: int | None = None,
    note: str = "",
    kinds: Kinds | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Calibrate a spot-set network on the validation side, measure it on the test side, write it.

    Parameters
    ----------
    arguments : that the network was built with.
    blocks : crystals of each kind that it is measured on; by default what the recipe says.
    note : put before the card's summary.
    kinds : by default those of the recipe.
    """
    say = tell or (lambda words: None)
    card = Card(
        name=name,
        architecture=recipe.net.architecture,
        arguments=dict(arguments),
        sha256="",
        recipe=recipe.model_dump(mode="json"),
    )
    net = net.to("cpu").eval()
    blocks = blocks or recipe.checkpoint.card_blocks
    kinds = partial(own_kinds, recipe.data) if kinds is None else kinds
    say("calibrating on the validation side")
    held = list(kinds("validation", blocks).values())
    card = replace(card, calibration=calibration(Model(card, net), held))
    say("measuring on the test side")
    asked = judge_of(Model(card, net))
    metrics: dict[str, float] = {}
    for who, part in kinds("test", blocks).items():
        answers = network_answers(asked, part.blocks)
        for row in rows_of(answers, net=asked, prior=part.prior):
            for score in ("top1", "top3", "nll", "ece", "set90", "coverage90"):
                metrics[f"{who} {row['level']} {score} {row['patterns']}"] = row[score]
    refusal = refusal_row(asked, recipe.data, max(2, blocks // 10))
    metrics |= {k: refusal[k] for k in ("refused_negatives", "refused_crystals")}
    card = replace(
        card,
        metrics={k: round(v, 4) for k, v in metrics.items()},
        protocol=PROTOCOL,
        summary=(note + " " if note else "")
        + "Symmetry of a crystal from spots of 1 to 10 patterns.",
    )
    return save(net, card, folder)


def calibration(model: Model, held: Sequence[Held]) -> dict[str, float]:
    """Temperature for all numbers of patterns, and thresholds of sets at every level.

    Parameters
    ----------
    held : of each kind of crystals; a set is to hold the truth often enough in each.
    """
    asked = judge_of(Model(replace(model.card, calibration={}), model.net))
    answers = [network_answers(asked, part.blocks) for part in held]
    fitted = [a for a, part in zip(answers, held, strict=True) if part.fits] or answers
    symbols = partial(label_tree().index, "diffraction_symbol")
    temperature, slope = fit_temperature(
        [values for one in fitted for values in one.log_likelihood.values()],
        [symbols(one.truth) for one in fitted for _ in one.log_likelihood],
        [k for one in fitted for k in one.log_likelihood],
    )
    out = {"temperature": temperature, "temperature_slope": slope}
    cooled = [
        Answers(a.truth, {k: v / (temperature * k**slope) for k, v in a.log_likelihood.items()})
        for a in answers
    ]
    cases = [(one, part.prior) for one, part in zip(cooled, held, strict=True)]
    return out | set_thresholds("set", cases)


def set_thresholds(answer: str, cases: Sequence[tuple[Answers, Floats]]) -> dict[str, float]:
    """Probabilities that classes must reach so that sets hold the truth, for a card.

    Parameters
    ----------
    answer : ``"set"`` of the network, ``"joint"`` of rules and network together.
    cases : answers of each kind of crystals and the (230,) prior they are told with; the most
        cautious threshold of all kinds is taken.
    """
    tree, out = label_tree(), {}
    for k in cases[0][0].log_likelihood:
        for level in SET_LEVELS:
            own = []
            for answers, prior in cases:
                p = tree.marginal(level, groups_from(answers.log_likelihood[k], prior))
                own.append(p[np.arange(len(p)), tree.index(level, answers.truth)])
            for coverage in COVERAGES:
                least = min(conformal_threshold(p, coverage / 100) for p in own)
                out[threshold_key(answer, level, coverage, k)] = round(least, 6)
    return out
