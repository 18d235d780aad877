"""Telling how large disks are: what is learned from, and a training of a few steps."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diskern.errors import DiskernError
from diskern.nets.probe_radius import COUNT, radii
from diskern.train.evaluation import evaluate_weights
from diskern.train.loop import train
from diskern.train.probe_radius_recipe import ProbeRadiusTrainRecipe
from diskern.train.probe_radius_task import ProbeRadiusSet, ProbeRadiusTask, radius_scores
from diskern.train.samples import Block
from diskern.train.task import task_of
from diskern.train.train_recipe import load_train_recipe, parse_train_recipe


def small(**changes: Any) -> ProbeRadiusTrainRecipe:
    """Two-beam patterns of a few common phases."""
    values: dict[str, Any] = {
        "kind": "train-probe-radius",
        "name": "small",
        "seed": 3,
        "threads": 1,
        "without": 0.3,
        "net": {"width": 8},
        "optimiser": {"steps": 4, "batch": 8, "warm_up": 1},
        "checkpoint": {"every": 2, "validation_blocks": 1, "card_blocks": 3},
        "data": {
            "name": "small",
            "seed": 3,
            "size": 64,
            "per_block": 4,
            "radius": {"low": 2.0, "high": 10.0},
            "bloch": 0.0,
            "dose": {"low": 1e5, "high": 1e6},
            "crystals": [{"source": "common", "max_volume": 120.0}],
            "split": {"by": "prototype", "validation": 0.4},
        },
    }
    return parse_train_recipe({**values, **changes})  # type: ignore[return-value]


@cache
def blocks(side: str, count: int = 6) -> list[Block]:
    made = ProbeRadiusSet(small(), side)
    return [made.block(n) for n in range(count)]


def test_patterns_have_their_radius_or_none() -> None:
    radius, seen = (np.concatenate([b[k] for b in blocks("train")]) for k in ("radius", "seen"))
    images = np.concatenate([b["image"] for b in blocks("train")])
    assert images.min() >= 0
    with_disks = radius[radius > 0]
    assert with_disks.min() >= 2.0
    assert with_disks.max() <= 10.0
    assert 0 < (radius == 0).sum() < len(radius) / 2
    assert (seen[radius > 0] > 0).all()
    assert (seen[radius == 0] == 0).all()


def test_blocks_come_again_alike() -> None:
    again = ProbeRadiusSet(small(), "train").block(2)
    for name, values in blocks("train")[2].items():
        np.testing.assert_array_equal(again[name], values)


class Told(torch.nn.Module):
    """Says one class of every pattern."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.said = torch.full((COUNT + 1,), -50.0)
        self.said[number] = 0.0

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        return self.said.expand(len(patterns), -1)


def test_scores_are_of_what_was_told() -> None:
    number = 15
    radius = np.array([1.0, 1.08, 2.0, 0.0, np.nan], np.float32) * float(radii()[number])
    held = [{"image": np.zeros((5, 16, 16), np.float32), "radius": radius, "seen": radius}]
    right = radius_scores(Told(number), held)
    assert right["patterns"] == 3
    assert right["within 5 %"] == pytest.approx(1 / 3, abs=1e-3)
    assert right["within 10 %"] == pytest.approx(2 / 3, abs=1e-3)
    assert right["none told of none"] == 0
    empty = radius_scores(Told(COUNT), held)
    assert empty["none told of none"] == empty["none told of some"] == 1


def test_the_loss_is_least_for_the_truth() -> None:
    number = 15
    radius = np.full(2, radii()[number], np.float32)
    block = {"image": np.zeros((2, 16, 16), np.float32), "radius": radius}
    task = ProbeRadiusTask(small())
    told = [task.loss(Told(n), [block]) for n in (number - 6, number, number + 6)]
    losses = [float(parts["total"]) for parts in told]
    assert losses[1] < min(losses[0], losses[2])
    assert [float(parts["right"]) for parts in told] == [0, 1, 0]


def test_a_small_training_from_recipe_to_weights(tmp_path: Path) -> None:
    recipe = small()
    made = train(recipe, tmp_path)
    path = task_of(recipe).finish(made.net, tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["metrics"]["patterns"] > 3
    (row,) = evaluate_weights(path, limit=2).tables["table"]
    assert row["network"] == "probe_radius"
    assert 0 < row["patterns"] <= card["metrics"]["patterns"]


def test_recipes() -> None:
    shipped = load_train_recipe("probe_radius_cpu")
    assert isinstance(shipped, ProbeRadiusTrainRecipe)
    with pytest.raises(DiskernError, match="must be a multiple of"):
        small(optimiser={"steps": 4, "batch": 6, "warm_up": 1})
