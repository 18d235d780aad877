"""Recipes are checked when read, and say what is wrong in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from diskern.errors import DiskernError
from diskern.train.recipe import Recipe, load_recipe, parse_recipe, recipe_names

SMALL = {"kind": "spots", "name": "x", "crystals": [{"source": "common"}]}


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert isinstance(recipe, Recipe)
    assert recipe.name == name


def test_published_sets_ship_at_full_size() -> None:
    saed = load_recipe("saed-2021")
    assert saed.kind == "saed"
    assert len(saed.voltages) * len(saed.camera_lengths) == 20
    wanted = sum(len(s.space_groups) * s.per_group for s in saed.crystals)  # type: ignore[union-attr]
    assert wanted == 249


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "sead"}, "kind"),
        ({"blocs": 3}, "blocs"),
        ({"seed": -1}, "seed"),
        ({"voltages": []}, "voltages"),
        ({"voltages": [200e3]}, "voltages"),
        ({"crystals": []}, "crystals"),
        ({"crystals": [{"source": "web"}]}, "source"),
        ({"crystals": [{"source": "random", "space_groups": [231]}]}, "space_groups"),
        ({"thickness": {"low": 5.0, "high": 1.0}}, "below"),
        ({"split": {"validation": 1.0}}, "validation"),
        ({"name": "../x"}, "name"),
        ({"zone_share": float("nan")}, "zone_share"),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(DiskernError, match=words):
        parse_recipe({**SMALL, **change})


def test_crop_must_fit() -> None:
    with pytest.raises(DiskernError, match="does not fit"):
        parse_recipe({**SMALL, "kind": "saed", "size": 64, "crop": 80})


def test_configuration_follows_every_value() -> None:
    first, second = parse_recipe(SMALL), parse_recipe({**SMALL, "tilt": 0.6})
    assert first.configuration == parse_recipe(SMALL).configuration != second.configuration


def test_folders_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('kind="spots"\nname="m"\n[[crystals]]\nsource="folder"\npath="cifs"\n')
    recipe = load_recipe(path)
    assert recipe.crystals[0].path == str(tmp_path / "cifs")  # type: ignore[union-attr]


@pytest.mark.parametrize("content", [b"kind = ", b"\xff\xfe\x00", b"", b"crystals = 3"])
def test_broken_files_give_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(DiskernError) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(DiskernError, match="saed-2021"):
        load_recipe("no-such-recipe")
