"""From a trained network to weights with a card: threshold, temperatures, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from diskern.nets.disk_support import fit_support, support_features
from diskern.nets.proposer import LEAST, Proposals, Proposer
from diskern.nets.registry import Card, Model, save
from diskern.train.disks import DiskSet
from diskern.train.disks_batch import probe_image
from diskern.train.disks_evaluate import (
    EXCUSED,
    NEAR,
    best_threshold,
    evaluate,
    match,
    summary,
    temperatures,
)
from diskern.train.disks_verdict import learned_verdict
from diskern.train.samples import Block
from diskern.train.train_recipe import TrainRecipe

LOWEST = 0.05
"""Probability above which candidates are looked at when the threshold is chosen."""

PROTOCOL = (
    "Simulated patterns of crystals whose structure types were held out of training. Threshold "
    "(largest F1), weights of the support by other disks and of the fit, and temperatures (68 % "
    "of errors within one sigma) from the validation side; "
    "metrics from the test side, whose structure types are in neither. A disk is found by a "
    "candidate within half a radius; recall is of disks of visibility 0.5 and above, a candidate "
    "without a disk of visibility 0.05 or above is false. Errors are medians over disks that "
    "were found: of place in px, of |ln V_g|, of q_z in 1/A; 'sure' means sigma below a quarter "
    "of V_g, 'sharp' sigma of q_z below 0.002 1/A. z are the 68 % quantiles of |error|/sigma."
)


def finder_of(model: Model, threshold: float | None = None) -> Callable[..., Proposals]:
    """A network as `diskern.train.disks_evaluate.Finder`: told each block's energy and scale."""

    def finder(block: Block, probe: NDArray[np.float32]) -> Proposals:
        proposer = Proposer(
            model,
            energy=float(block["energy"][0]),
            pixel_size=float(block["pixel_size"][0]),
            threshold=threshold,
        )
        return proposer(block["image"], probe)

    return finder


def finish(
    recipe: TrainRecipe,
    net: nn.Module,
    folder: Path,
    *,
    name: str = "proposer",
    blocks: int = 100,
    note: str = "",
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Calibrate a proposer on the validation side, measure it on the test side, write it.

    The published architecture is written as it is: it gives images, of which
    `diskern.train.disks_fourier.image_peaks` makes disks where the two are compared.

    Parameters
    ----------
    blocks : of either side.
    note : put before the card's summary.
    """
    say = tell or (lambda words: None)
    card = Card(
        name=name,
        architecture=recipe.net.architecture,
        arguments={"width": recipe.net.width},
        sha256="",
        recipe=recipe.model_dump(mode="json"),
    )
    net = net.to("cpu").eval()
    if recipe.net.architecture == "fourier":
        words = "V_g and q_z images by the published architecture; for comparison only."
        return save(net, replace(card, name="fourier", summary=words), folder)
    say("calibrating on the validation side")
    held = _blocks(recipe, "validation", blocks)
    support = learned_support(Model(card, net), held)
    card = replace(card, calibration=support)
    seen = evaluate(finder_of(Model(card, net), LOWEST), held)
    threshold = best_threshold(seen)
    constants = {"threshold": threshold, **temperatures(seen, threshold), **support}
    card = replace(card, calibration=constants)
    verdict = learned_verdict(Model(card, net), held)
    card = replace(card, calibration={**constants, **verdict})
    say("measuring on the test side")
    model = Model(card, net)
    numbers = summary(evaluate(finder_of(model), _blocks(recipe, "test", blocks)), threshold)
    card = replace(
        card,
        metrics={k: round(v, 5) for k, v in numbers.items()},
        protocol=PROTOCOL,
        summary=(note + " " if note else "") + "Finds diffraction disks; V_g and q_z of each.",
    )
    return save(net, card, folder)


def learned_support(model: Model, blocks: list[Block]) -> dict[str, float]:
    """Weights of `diskern.nets.disk_support` from what a network alone proposes of blocks."""
    features, right = [], []
    finder = finder_of(model, LEAST)
    for block in blocks:
        shape = block["image"].shape[1:]
        radius, edge, hole = (float(block[n][0]) for n in ("radius", "edge", "hole"))
        found = finder(block, probe_image((shape[0], shape[1]), radius, edge, hole))
        for i, disks in enumerate(block["disks"]):
            mine = found.pattern == i
            place = np.stack([found.row[mine], found.col[mine]], 1)
            truth = disks[disks[:, 4] >= EXCUSED, :2].astype(np.float64)
            features.append(support_features(place, found.probability[mine], radius))
            right.append(match(place, truth, NEAR * radius) >= 0)
    return fit_support(np.concatenate(features), np.concatenate(right))


def _blocks(recipe: TrainRecipe, side: str, count: int) -> list[Block]:
    # Numbers far from those of the losses that were watched during training.
    chosen = DiskSet(recipe.data, side)
    return [chosen.block(10_000 + i) for i in range(count)]
