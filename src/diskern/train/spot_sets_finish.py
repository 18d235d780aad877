"""From a trained spot-set network to weights with a card: temperature, sets, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from diskern.nets.registry import Card, Model, save
from diskern.symmetry.labels import label_tree
from diskern.symmetry.learned import COVERAGES, SET_LEVELS, SIZES, SymmetryNet, groups_from
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.symmetry_evaluate import (
    Answers,
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
from diskern.train.symmetry_scores import conformal_threshold, fit_temperature

PROTOCOL = (
    "Simulated spot lists with all effects of the instrument, scale known within 2 %, of crystals "
    "whose structure types were held out of training; every diffraction symbol equally likely. "
    "Temperature and sets (split conformal) from the validation side, metrics from the test side, "
    "whose structure types are in neither. Names: who (random crystals or known structures), "
    "level, score, number of patterns of one crystal."
)


def finish(
    recipe: SpotSetTrainRecipe,
    arguments: Mapping[str, Any],
    net: nn.Module,
    folder: Path,
    *,
    name: str = "spot_set",
    blocks: int | None = None,
    note: str = "",
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Calibrate a spot-set network on the validation side, measure it on the test side, write it.

    Parameters
    ----------
    arguments : that the network was built with.
    blocks : crystals of each kind that it is measured on; by default what the recipe says.
    note : put before the card's summary.
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
    say("calibrating on the validation side")
    held = blocks_of(held_out(recipe.data, "validation"), blocks)
    card = replace(card, calibration=calibration(Model(card, net), held))
    say("measuring on the test side")
    asked = SymmetryNet.of(Model(card, net))
    metrics: dict[str, float] = {}
    for who, keep in (("random", is_random), ("known", is_real)):
        if not kept(recipe.data, "test", keep):
            continue
        made = blocks_of(held_out(recipe.data, "test", keep), blocks)
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


def calibration(model: Model, held: list[dict[str, Any]]) -> dict[str, float]:
    """Temperature for all numbers of patterns, and thresholds of sets at every level."""
    raw = network_answers(SymmetryNet.of(model), held)
    tree = label_tree()
    truth = tree.index("diffraction_symbol", raw.truth)
    counts = list(raw.log_likelihood)
    temperature, slope = fit_temperature(
        list(raw.log_likelihood.values()), [truth] * len(counts), counts
    )
    out = {"temperature": temperature, "temperature_slope": slope}
    cooled = Answers(
        raw.truth, {k: v / (temperature * k**slope) for k, v in raw.log_likelihood.items()}
    )
    for k in SIZES:
        groups = groups_from(cooled.log_likelihood[k], even_prior())
        for level in SET_LEVELS:
            p = tree.marginal(level, groups)
            own = p[np.arange(len(p)), tree.index(level, raw.truth)]
            for coverage in COVERAGES:
                key = f"set_{level}_{coverage}_{k}"
                out[key] = round(conformal_threshold(own, coverage / 100), 6)
    return out
