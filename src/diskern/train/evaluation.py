"""What a trained network is measured by, chosen by its architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diskern.errors import DiskernError
from diskern.nets.registry import Model, load
from diskern.nets.resnet import parameter_count
from diskern.train.disks import DiskSet
from diskern.train.disks_evaluate import evaluate, summary
from diskern.train.excitation_recipe import ExcitationTrainRecipe
from diskern.train.excitation_sets import measured_patterns
from diskern.train.excitation_task import vote_scores
from diskern.train.probe_radius_recipe import ProbeRadiusTrainRecipe
from diskern.train.probe_radius_task import ProbeRadiusSet, radius_scores
from diskern.train.saed_evaluate import evaluate_saed
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.symmetry_bands import band_rows
from diskern.train.symmetry_evaluate import evaluate_symmetry
from diskern.train.symmetry_judges import SYMMETRY, judge_of
from diskern.train.train_finish import finder_of
from diskern.train.train_recipe import TrainRecipe, parse_train_recipe

Rows = list[dict[str, Any]]
Tell = Callable[[str], None]

LIMIT = 100
"""Blocks of patterns that a disk finder, or what tells their size, is measured on."""
CRYSTALS = 200
"""Crystals of each kind that learned symmetry is measured on."""
BAND_CRYSTALS = 120
"""Crystals of each band."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of one network.

    Attributes
    ----------
    name, architecture : of the weights.
    protocol : how they were measured, in words.
    tables : rows of values by the table's name; ``"table"`` holds the one row that stands
        beside other networks'.
    """

    name: str
    architecture: str
    protocol: str
    tables: dict[str, Rows]


def evaluate_weights(
    name: str | Path,
    *,
    limit: int | None = None,
    bands: bool = False,
    tell: Tell | None = None,
) -> Evaluation:
    """Measure weights on the patterns that their own recipe holds out.

    Parameters
    ----------
    name : of shipped weights, or a ``.safetensors`` file with its card beside it.
    limit : samples at most of every side, for a quick look.
    bands : measure learned symmetry band by band of thickness, tilt, dose and scale error too.

    Raises
    ------
    DiskernError
        For unknown weights, or those whose card lacks the recipe.
    """
    model = load(name)
    if not model.card.recipe:
        raise DiskernError(
            f"the card of {model.card.name} names no recipe, so nobody knows what it has not seen"
        )
    if bands and model.card.architecture not in SYMMETRY:
        raise DiskernError(
            f"{model.card.name} has no bands; they are measured of {' and '.join(SYMMETRY)} alone"
        )
    found = _measures(model, limit, tell)
    if bands:
        found["bands"] = _bands(model, limit, tell)
    return Evaluation(model.card.name, model.card.architecture, model.card.protocol, found)


def comparison(evaluations: Sequence[Evaluation]) -> Rows:
    """One row for each network, all with the same columns; None where one was not measured."""
    rows = [row for e in evaluations for row in e.tables.get("table", [])]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows]


def _measures(model: Model, limit: int | None, tell: Tell | None) -> dict[str, Rows]:
    if model.card.architecture == "resnet":
        found = evaluate_saed(model, limit=limit, tell=tell)
        return {**found, "table": [found["table"]]}
    if model.card.architecture == "proposer":
        return _disks(model, LIMIT if limit is None else limit)
    if model.card.architecture == "excitation":
        return _lines(model, limit, tell)
    if model.card.architecture == "probe_radius":
        return _radii(model, LIMIT if limit is None else limit)
    if model.card.architecture in SYMMETRY:
        return _symmetry(model, CRYSTALS if limit is None else limit, tell)
    raise DiskernError(
        f"{model.card.name} is a {model.card.architecture}; resnet, spot_set, image_set, "
        "proposer, excitation and probe_radius can be evaluated"
    )


def _symmetry(model: Model, crystals: int, tell: Tell | None) -> dict[str, Rows]:
    net = judge_of(model)
    rows = evaluate_symmetry(net, _spot_recipe(model).data, blocks=crystals, tell=tell)
    row: dict[str, Any] = {
        "network": model.card.architecture.replace("_", " "),
        "weights": model.card.name,
        "parameters": parameter_count(model.net),
        "ms_per_pattern": next((r["ms"] for r in rows if r["level"] == "speed"), None),
    }
    for entry in rows:
        level, count = entry["level"], entry["patterns"]
        if entry.get("scale") == "known" and level in ("system", "space_group"):
            row[f"{entry['crystals_are']}: {level}, {count} patterns, %"] = 100 * entry["top1"]
    return {"table": [row], "symmetry": rows}


def _spot_recipe(model: Model) -> SpotSetTrainRecipe:
    recipe = parse_train_recipe(dict(model.card.recipe), f"card of {model.card.name}")
    if not isinstance(recipe, SpotSetTrainRecipe):
        raise DiskernError(f"{model.card.name} was not trained on sets of spots")
    return recipe


def _bands(model: Model, crystals: int | None, tell: Tell | None) -> Rows:
    blocks = BAND_CRYSTALS if crystals is None else crystals
    return band_rows(judge_of(model), _spot_recipe(model).data, blocks=blocks, tell=tell)


def _disks(model: Model, blocks: int) -> dict[str, Rows]:
    recipe = parse_train_recipe(dict(model.card.recipe), f"card of {model.card.name}")
    if not isinstance(recipe, TrainRecipe):
        raise DiskernError(f"{model.card.name} was not trained to find disks")
    held = DiskSet(recipe.data, "test")
    seen = evaluate(finder_of(model), [held.block(10_000 + i) for i in range(blocks)])
    numbers = summary(seen, float(model.card.calibration["threshold"]))
    row = {"network": model.card.architecture, "weights": model.card.name, **numbers}
    return {"table": [row]}


def _lines(model: Model, blocks: int | None, tell: Tell | None) -> dict[str, Rows]:
    recipe = parse_train_recipe(dict(model.card.recipe), f"card of {model.card.name}")
    if not isinstance(recipe, ExcitationTrainRecipe):
        raise DiskernError(f"{model.card.name} was not trained to read excitation errors")
    # Anew, and not from a store: the weights may have come without it.
    here = recipe.model_copy(update={"store": "", "held": blocks or recipe.held})
    held = measured_patterns(here, "test", tell)
    numbers = vote_scores(model.net, held, model.card.calibration)
    row = {"network": model.card.architecture, "weights": model.card.name, **numbers}
    return {"table": [row]}


def _radii(model: Model, blocks: int) -> dict[str, Rows]:
    recipe = parse_train_recipe(dict(model.card.recipe), f"card of {model.card.name}")
    if not isinstance(recipe, ProbeRadiusTrainRecipe):
        raise DiskernError(f"{model.card.name} was not trained to tell radii of disks")
    held = ProbeRadiusSet(recipe, "test")
    numbers = radius_scores(model.net, [held.block(i) for i in range(blocks)])
    row = {"network": model.card.architecture, "weights": model.card.name, **numbers}
    return {"table": [row]}
