"""The labelled zone-axis set: labels say what the images show."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from small_sets import changed, small_set

from diskern.crystal.common import common_phases
from diskern.errors import DiskernError
from diskern.symmetry.lookalike import RA_ZONES, lookalike_labels
from diskern.train.recipe import load_recipe, parse_recipe
from diskern.train.saed import setting_title
from diskern.train.samples import training_set


def test_published_recipe_has_the_61_classes() -> None:
    recipe = load_recipe("saed-2021")
    source = {"source": "common", "space_groups": [213, 221, 225, 227, 229], "max_volume": 60.0}
    small = parse_recipe({**recipe.model_dump(), "crystals": [source]})
    made = training_set(small, "train")
    assert made.vocabulary["label"] == tuple(c.label for c in lookalike_labels().classes)
    assert len(made.vocabulary["label"]) == 61
    assert (made.block_size, made.blocks) == (20, 16 * len(made.materials))
    assert made.zones == RA_ZONES


def test_labels_are_those_of_the_table() -> None:
    made = small_set("saed")
    table, names = made.labels, made.vocabulary["label"]
    for number in range(0, made.blocks, 5):
        block = made.block(number)
        material = made.materials[int(block["crystal"][0])]
        title = setting_title(material.crystal(0.08), material.space_group)
        expected = table.label(title, block["zone"][0].tolist())
        assert {names[i] for i in block["label"]} == {expected}


@pytest.mark.parametrize(
    ("name", "title"),
    [("Si", "227-8a/8b"), ("C (diamond", "227-8a/8b"), ("MgAl2O4", "227-general"), ("NaCl", "225")],
)
def test_faces_of_227(name: str, title: str) -> None:
    phase = next(c for c in common_phases() if c.name.startswith(name))
    assert setting_title(phase, phase.symmetry().number) == title


def test_same_label_same_net() -> None:
    """Images of one label show spots on one net up to scale: its shape decides the label."""
    made = small_set("saed")
    nets = defaultdict(set)
    for number in range(made.blocks):
        entry = next(
            c
            for c in made.labels.classes
            if c.label == made.vocabulary["label"][int(made.block(number)["label"][0])]
        )
        nets[entry.label].add((entry.shape.category, entry.shape.angles))
    assert all(len(shapes) == 1 for shapes in nets.values())


def test_images_follow_voltage_and_camera_length() -> None:
    made = training_set(
        changed("saed", voltages=(100.0, 300.0), camera_lengths=(0.2, 0.4), size=192), "train"
    )
    block = made.block(0)
    order = np.lexsort((block["camera_length"], block["energy"]))
    assert order.tolist() == [0, 1, 2, 3]
    # q = pixel/(λL): twice the camera length halves the scale, a higher voltage raises it.
    scale = block["pixel_size"]
    assert scale[0] / scale[1] == pytest.approx(2, rel=1e-6)
    assert scale[2] / scale[0] == pytest.approx(0.037014 / 0.019687, rel=1e-4)
    assert block["image"].max(axis=(1, 2)).tolist() == [255] * 4


def test_spots_stand_at_the_right_distance() -> None:
    made = training_set(changed("saed", size=256, crop=200), "train")
    index = next(i for i, m in enumerate(made.materials) if m.space_group == 225)
    block = made.block(index * len(made.zones))
    crystal = made.materials[index].crystal(0.08)
    image, scale = block["image"][0].astype(float), float(block["pixel_size"][0])
    row, col = np.unravel_index(image.argmax(), image.shape)
    distance = np.hypot(row - 128, col - 128) * scale
    allowed = np.array([2.0, np.sqrt(8.0), 4.0]) / crystal.parameters[0]
    assert np.abs(distance - allowed).min() < 1.0 * scale


def test_other_systems_are_refused() -> None:
    source = {"source": "common", "space_groups": [194], "max_volume": 60.0}
    recipe = parse_recipe({"kind": "saed", "name": "h", "crystals": [source]})
    with pytest.raises(DiskernError, match="cubic"):
        training_set(recipe, "train")
