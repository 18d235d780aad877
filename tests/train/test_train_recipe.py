"""Training recipes: those that ship are whole, those that are wrong say where."""

from pathlib import Path

import pytest
import torch

from diskern.errors import DiskernError
from diskern.nets.registry import load
from diskern.train.task import task_of
from diskern.train.train_recipe import load_train_recipe, parse_train_recipe, train_recipe_names


def test_shipped_recipes_are_whole() -> None:
    assert {"disks_cpu", "disks_gpu", "disks_smoke"} <= set(train_recipe_names())
    for name in train_recipe_names():
        recipe = load_train_recipe(name)
        assert recipe.name.replace("-", "_") == name


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("optimiser", "steps"), 0, "optimiser.steps"),
        (("optimiser", "batch"), 5, "multiple of data.per_block"),
        (("net", "architecture"), "resnet", "net.architecture"),
        (("data", "dosis"), 1, "data.dosis"),
        (("data", "size"), 100, "data.size"),
        (("device",), "gpu", "device"),
    ],
)
def test_wrong_values_are_named(where: tuple[str, ...], value: object, words: str) -> None:
    values = load_train_recipe("disks_smoke").model_dump()
    table = values
    for word in where[:-1]:
        table = table[word]
    table[where[-1]] = value
    with pytest.raises(DiskernError, match=words):
        parse_train_recipe(values)


def test_files_are_read_and_folders_are_the_recipes_own(tmp_path: Path) -> None:
    text = (
        'kind = "train"\nname = "a"\n[optimiser]\nsteps = 1\nbatch = 8\n[data]\nname = "a"\n'
        'bloch = 0.5\nbloch_tables = "tables"\n[[data.crystals]]\nsource = "folder"\npath = "cif"\n'
    )
    path = tmp_path / "a.toml"
    path.write_text(text)
    recipe = load_train_recipe(path)
    assert recipe.data.bloch_tables == str(tmp_path / "tables")
    assert recipe.data.crystals[0].path == str(tmp_path / "cif")  # type: ignore[union-attr]
    path.write_text("kind = [")
    with pytest.raises(DiskernError, match="no TOML"):
        load_train_recipe(path)
    with pytest.raises(DiskernError, match="shipped recipes: disks_cpu"):
        load_train_recipe(tmp_path / "none.toml")


def test_tables_depend_on_what_decides_them_only() -> None:
    data = load_train_recipe("disks_smoke").data
    same = data.model_copy(update={"dose": data.radius, "bloch": 0.5, "blocks": 9, "taught": 3.0})
    other = data.model_copy(update={"max_index": 2})
    assert data.table_key == same.table_key != other.table_key


@pytest.mark.parametrize("name", ["disks_wide", "disks_flooded", "spot_set_more"])
def test_a_training_may_start_from_weights(name):
    recipe = load_train_recipe(name)
    net = task_of(recipe).net()
    shipped = load(recipe.net.start).net.state_dict()
    assert net.training
    assert all(torch.equal(value, shipped[name]) for name, value in net.state_dict().items())


def test_weights_of_another_width_start_nothing():
    with pytest.raises(DiskernError, match="width 32 instead of 24"):
        task_of(_of_width(24)).net()


def test_a_wider_network_starts_from_a_narrow_one():
    assert task_of(_of_width(64)).net().width == 64


def _of_width(width):
    recipe = load_train_recipe("disks_wide")
    return recipe.model_copy(update={"net": recipe.net.model_copy(update={"width": width})})
