"""From a trained spot-set network to weights with a card: temperature, sets, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from diskern.errors import DiskernError
from diskern.nets.registry import Card, Model, save
from diskern.symmetry.calibrated import COVERAGES, SET_LEVELS, SIZES
from diskern.symmetry.labels import label_tree
from diskern.symmetry.posterior import groups_from
from diskern.train.samples import Block
from diskern.train.spot_sets import SpotSets
from diskern.train.spot_sets_recipe import SpotSetsRecipe, SpotSetTrainRecipe
from diskern.train.symmetry_evaluate import (
    blocks_of,
    even_prior,
    held_out,
    is_random,
    is_real,
    kept,
    network_answers,
    refusal_row,
    rows_of,
)
from diskern.train.symmetry_judges import judge_of
from diskern.train.symmetry_scores import conformal_threshold, fit_temperature

PROTOCOL = (
    "Simulated spot lists with all effects of the instrument, scale known within 2 %, of crystals "
    "whose structure types were held out of training; every diffraction symbol equally likely. "
    "Temperature (of known structures) and sets (split conformal, each threshold the more cautious "
    "of those of random crystals and of known structures) from the validation side, metrics from "
    "the test side, whose structure types are in neither. Names: who (random crystals or known "
    "structures), level, score, number of patterns of one crystal."
)

KNOWN = "known"
"""The kind of known structures."""
Kinds = Mapping[str, Callable[[str], SpotSets]]
"""Crystals that a network is calibrated on and measured by: patterns of a side, by kind."""


def own_kinds(data: SpotSetsRecipe) -> dict[str, Callable[[str], SpotSets]]:
    """Random crystals and known structures that a recipe holds out, where it has any.

    Raises
    ------
    DiskernError
        Where it holds out neither on both sides.
    """
    every = {"random": is_random, KNOWN: is_real}
    found: dict[str, Callable[[str], SpotSets]] = {
        who: partial(held_out, data, keep=keep)
        for who, keep in every.items()
        if all(kept(data, side, keep) for side in ("validation", "test"))
    }
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
    kinds = own_kinds(recipe.data) if kinds is None else kinds
    say("calibrating on the validation side")
    held = {who: blocks_of(source("validation"), blocks) for who, source in kinds.items()}
    card = replace(card, calibration=calibration(Model(card, net), held))
    say("measuring on the test side")
    asked = judge_of(Model(card, net))
    metrics: dict[str, float] = {}
    for who, source in kinds.items():
        made = blocks_of(source("test"), blocks)
        for row in rows_of(network_answers(asked, made), net=asked):
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


def calibration(model: Model, held: Mapping[str, Sequence[Block]]) -> dict[str, float]:
    """Temperature for all numbers of patterns, and thresholds of sets at every level.

    Parameters
    ----------
    held : blocks of each kind of crystals.  The temperature suits those called "known", since
        known structures are what people have, or all where none are; a set is to hold the truth
        often enough in each of the kinds.
    """
    asked = judge_of(Model(replace(model.card, calibration={}), model.net))
    tree = label_tree()
    answers = {who: network_answers(asked, part) for who, part in held.items()}
    raw = list(answers.values())
    fitted = [answers[KNOWN]] if KNOWN in answers else raw
    temperature, slope = fit_temperature(
        [values for one in fitted for values in one.log_likelihood.values()],
        [tree.index("diffraction_symbol", one.truth) for one in fitted for _ in one.log_likelihood],
        [k for one in fitted for k in one.log_likelihood],
    )
    out = {"temperature": temperature, "temperature_slope": slope}
    for k in SIZES:
        cooled = [one.log_likelihood[k] / (temperature * k**slope) for one in raw]
        groups = [groups_from(values, even_prior()) for values in cooled]
        for level in SET_LEVELS:
            own = []
            for one, posterior in zip(raw, groups, strict=True):
                p = tree.marginal(level, posterior)
                own.append(p[np.arange(len(p)), tree.index(level, one.truth)])
            for coverage in COVERAGES:
                least = min(conformal_threshold(p, coverage / 100) for p in own)
                out[f"set_{level}_{coverage}_{k}"] = round(least, 6)
    return out
