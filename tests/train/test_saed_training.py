"""Residual networks on look-alike labels: images in order, a loss that falls, honest measures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diskern.errors import DiskernError
from diskern.nets.registry import Card, Model, load
from diskern.nets.resnet import ResNet, unit_images
from diskern.symmetry.ensemble import Ensemble
from diskern.train.augment import TurnAndCrop
from diskern.train.loop import build_net, train
from diskern.train.saed_blocks import image_blocks, settle
from diskern.train.saed_evaluate import (
    Seen,
    ensemble_rows,
    evaluate_saed,
    look_at,
    table_of,
)
from diskern.train.saed_images import ImageBlocks, saed_images, sides_of
from diskern.train.saed_recipe import SaedTrainRecipe
from diskern.train.split import prototype_family
from diskern.train.task import task_of
from diskern.train.train_recipe import load_train_recipe, parse_train_recipe


def small(**changes: Any) -> SaedTrainRecipe:
    """A few crystals of two groups along two zones, 40 px."""
    values: dict[str, Any] = {
        "kind": "train-saed",
        "name": "small",
        "seed": 5,
        "threads": 1,
        "unseen_crystals": 0.3,
        "net": {"width": 8},
        "optimiser": {"steps": 30, "batch": 16, "rate": 3e-3, "warm_up": 3, "average": 0.0},
        "checkpoint": {"every": 15, "validation_blocks": 2},
        "data": {
            "kind": "saed",
            "name": "small",
            "seed": 4,
            "zones": [[0, 0, 1], [0, 1, 1], [1, 1, 1]],
            "voltages": [200.0],
            "camera_lengths": [0.25, 0.31],
            "detector_pixel": 640.0,
            "size": 40,
            "crop": 36,
            "sigma": 0.6,
            "crystals": [
                {
                    "source": "common",
                    "space_groups": [221, 225, 229],
                    "elements": ["Al", "Fe", "Ni", "Cu", "Na", "Cl", "Mg", "O", "Cr", "Ti"],
                    "max_volume": 120.0,
                }
            ],
            "split": {"by": "prototype", "validation": 0.3},
        },
    }
    return parse_train_recipe({**values, **changes})  # type: ignore[return-value]


@cache
def trained() -> Model:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    made = train(small(), folder)
    return load(task_of(small()).finish(made.net, folder))


def test_sides_share_neither_crystals_nor_types() -> None:
    sides = sides_of(small())
    keys = {name: {m.key for m in held} for name, held in sides.items()}
    assert all(keys.values())
    assert not keys["train"] & keys["validation"]
    types = {name: {prototype_family(m) for m in held} for name, held in sides.items()}
    assert not (types["train"] | types["validation"]) & types["test"]
    published = small(data={**small().data.model_dump(), "split": {"by": "crystal"}})
    assert sides_of(published)["test"] == ()


def test_one_pass_shows_every_image_once() -> None:
    images = saed_images(small(), "train")
    whole = TurnAndCrop(0, 40)
    blocks = ImageBlocks(images, whole, size=7, seed=1)
    count = len(images)
    places = np.concatenate([blocks.places(n) for n in range(2 * count)])
    for epoch in range(7):
        assert sorted(places[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert places[:count].tolist() != places[count : 2 * count].tolist()
    held = ImageBlocks(images, whole, size=7, seed=1, shuffled=False)
    once = np.concatenate([held.places(n) for n in range(held.blocks)])
    assert sorted(once.tolist()) == list(range(count))


def test_images_keep_their_labels() -> None:
    images = saed_images(small(), "train")
    block = ImageBlocks(images, TurnAndCrop(0, 40), size=5, seed=1).block(3)
    places = ImageBlocks(images, TurnAndCrop(0, 40), size=5, seed=1).places(3)
    np.testing.assert_allclose(block["image"] * 255, images.images[places], atol=1e-3)
    table = table_of(small())
    for label, number, zone in zip(
        block["label"], block["space_group"], block["zone"].tolist(), strict=True
    ):
        assert images.classes[label] == table.label(int(number), zone)


def test_stored_images_are_those_in_memory(tmp_path: Path) -> None:
    recipe = small(store=str(tmp_path / "images"))
    first = saed_images(recipe, "validation")
    again = saed_images(recipe, "validation")
    plain = saed_images(small(), "validation")
    assert isinstance(again.images, np.memmap)
    assert (first.images == plain.images).all()
    assert (again.images == plain.images).all()
    for name, array in plain.facts.items():
        assert (again.facts[name] == array).all()
    assert not list((tmp_path / "images").glob("*.partial"))


def test_training_learns() -> None:
    model = trained()
    found = evaluate_saed(model, limit=64)
    known = next(e for e in found["sides"] if e["held_out"] == "unseen crystals")
    # Chance is the share of the commonest label, below 0.4.
    assert known["top1"] > 0.6
    assert model.card.metrics["unseen crystals: top1"] > 0.6
    row = found["table"]
    assert row["parameters"] == sum(p.numel() for p in model.net.parameters())
    assert 0.01 < row["ms_per_pattern"] < 1000
    assert row["unseen crystals %"] == pytest.approx(100 * known["top1"])


def test_resumed_training_takes_the_same_steps(tmp_path: Path) -> None:
    recipe = small(checkpoint={"every": 2, "validation_blocks": 0})
    whole = train(recipe, tmp_path / "whole", stop_after=4)
    train(recipe, tmp_path / "parts", stop_after=2)
    rest = train(recipe, tmp_path / "parts", resume=True, stop_after=4)
    for a, b in zip(whole.net.state_dict().values(), rest.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_settled_statistics_are_those_of_the_weights() -> None:
    """Asked alone, the network says what it said of the batch its statistics come from."""
    net = build_net(small())
    source = image_blocks(small(), "train")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    images = torch.from_numpy(np.concatenate([source.block(n)["image"] for n in range(4)]))
    momentum = net.get_submodule("bn1").momentum
    net.train()
    said = net(unit_images(images))
    settle(net, source, blocks=4)
    assert not net.training
    assert net.get_submodule("bn1").momentum == momentum
    # The kept variance is the unbiased one of 32 images: nearly that of the batch.
    assert torch.allclose(net(unit_images(images)), said, rtol=0.05, atol=0.05 * said.std().item())


def test_fine_tuning_begins_with_the_file(tmp_path: Path) -> None:
    given = ResNet(18, 1000, 8)
    save_file(given.state_dict(), tmp_path / "own.safetensors")
    start = build_net(small(net={"width": 8, "pretrained": str(tmp_path / "own.safetensors")}))
    assert torch.equal(start.get_parameter("conv1.weight"), given.conv1.weight)
    assert start.get_parameter("fc.weight").shape[0] == len(table_of(small()))
    pickled = tmp_path / "own.pth"
    pickled.write_bytes(b"\x80\x04.")
    with pytest.raises(DiskernError, match="safetensors only"):
        build_net(small(net={"width": 8, "pretrained": str(pickled)}))


def seen(probability: np.ndarray, label: np.ndarray, **facts: np.ndarray) -> Seen:
    n = len(label)
    blank = {
        "crystal": np.zeros(n, int),
        "space_group": np.full(n, 225),
        "zone": np.zeros((n, 3), int),
        "random": np.zeros(n, bool),
        "in_view": np.ones(n, bool),
    }
    return Seen(probability=probability, label=label, **{**blank, **facts})


def test_nets_in_view() -> None:
    """F along [111] shows 2-20 first: √8/a must fit into half the image."""
    data = {**small().data.model_dump(), "zones": [(1, 1, 1)], "camera_lengths": [0.31]}
    recipe = small(data=data)
    found = look_at(build_net(recipe), recipe, "train")
    edges = saed_images(recipe, "train").edges[found.crystal]
    centred = found.space_group == 225
    reach = 640e-6 / (0.31 * 0.0250793) * 18
    assert (found.in_view == (np.sqrt(8) / edges < reach))[centred].all()
    assert found.in_view[centred].any()


def test_more_zones_help_up_to_the_ceiling() -> None:
    """With certain labels, one zone of 225 may be another group's; several are not."""
    recipe = small(data={**small().data.model_dump(), "zones": [(0, 0, 1), (0, 1, 1), (0, 1, 3)]})
    table = table_of(recipe)
    names = [entry.label for entry in table.classes]
    zones = np.array([[0, 0, 1], [0, 1, 1], [0, 1, 3]])
    label = np.array([names.index(table.label(225, z)) for z in zones.tolist()])
    rows = ensemble_rows(
        seen(np.eye(len(names))[label], label, zone=zones), Ensemble(table), (1, 3)
    )
    assert rows[0]["mean"] == rows[0]["mean_ideal"] < 1
    assert rows[1]["mean"] == rows[1]["product"] == rows[1]["product_ideal"] == 1.0
    assert [
        row["patterns"]
        for row in ensemble_rows(
            seen(np.eye(len(names))[label], label, zone=zones), Ensemble(table), (1, 3, 5)
        )
    ] == [1, 3]


def test_recipes_that_ship() -> None:
    full = load_train_recipe("saed_resnet")
    assert isinstance(full, SaedTrainRecipe)
    assert (full.optimiser.steps, full.optimiser.rate_at(0)) == (25 * 2140, 1e-3)
    assert full.optimiser.rate_at(7 * 2140) == pytest.approx(1e-4)
    assert (full.data.size, full.data.crop, full.data.split.by) == (256, 224, "crystal")
    small_one = load_train_recipe("saed_resnet_cpu")
    assert isinstance(small_one, SaedTrainRecipe)
    assert small_one.data.split.by == "prototype"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"per_block": 7}, "multiple of per_block"),
        ({"net": {"depth": 20}}, "net.depth"),
        ({"unseen_crystals": 2}, "unseen_crystals"),
    ],
)
def test_wrong_recipes_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DiskernError, match=words):
        small(**changes)


def test_groups_must_be_named() -> None:
    data = small().data.model_dump()
    data["crystals"] = [{"source": "common", "max_volume": 100.0}]
    with pytest.raises(DiskernError, match="space_groups"):
        small(data=data)


def test_other_networks_are_not_evaluated_so() -> None:
    with pytest.raises(DiskernError):
        evaluate_saed(Model(Card("x", "resnet", {}, ""), ResNet(18, 3, 8)))
