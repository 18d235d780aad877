"""`diskern evaluate` as a person runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from diskern.cli._app import run
from diskern.nets.registry import Card, save
from diskern.nets.resnet import ResNet

RECIPE = {
    "kind": "train-saed",
    "name": "tiny",
    "unseen_crystals": 0.3,
    "net": {"width": 8},
    "optimiser": {"steps": 1, "batch": 8},
    "data": {
        "kind": "saed",
        "name": "tiny",
        "zones": [[0, 0, 1], [0, 1, 1]],
        "voltages": [200.0],
        "camera_lengths": [0.3],
        "detector_pixel": 640.0,
        "size": 40,
        "crop": 36,
        "crystals": [
            {
                "source": "common",
                "space_groups": [221, 225, 229],
                "elements": ["Al", "Fe", "Ni", "Cu", "Na", "Cl", "Mg", "O", "Cr", "Ti"],
                "max_volume": 120.0,
            }
        ],
        "split": {"by": "crystal", "validation": 0.3},
    },
}


@pytest.fixture
def weights(tmp_path: Path) -> list[str]:
    """Two untrained networks, each with the recipe of what it has not seen."""
    from diskern.train.saed_evaluate import table_of
    from diskern.train.train_recipe import parse_train_recipe

    recipe = parse_train_recipe(dict(RECIPE))
    classes = len(table_of(recipe))  # type: ignore[arg-type]
    files = []
    for depth in (18, 34):
        torch.manual_seed(depth)
        arguments = {"depth": depth, "classes": classes, "width": 8}
        values = recipe.model_dump(mode="json")
        card = Card(f"tiny-{depth}", "resnet", arguments, "", values, protocol="Of a test.")
        files.append(str(save(ResNet(**arguments), card, tmp_path)))
    return files


def test_one_command_gives_the_table(
    weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert run(["evaluate", *weights, "--table", "-o", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "ResNet18" in shown
    assert "ResNet34" in shown
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [r["network"] for r in rows] == ["ResNet18", "ResNet34"]
    for row, file in zip(rows, weights, strict=True):
        card = json.loads(Path(file).with_suffix(".json").read_text())
        net = ResNet(**card["arguments"])
        assert int(row["parameters"]) == sum(p.numel() for p in net.parameters())
        assert 0 <= float(row["unseen crystals %"]) <= 100
        assert float(row["ms_per_pattern"]) > 0
    assert (folder / "table.md").read_text().count("\n") == 4
    assert (folder / "tiny-18-ensemble.png").stat().st_size > 1000
    written = json.loads((folder / "evaluation.json").read_text())
    assert [n["name"] for n in written["networks"]] == ["tiny-18", "tiny-34"]


def test_json_for_machines(weights: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", weights[0], "--limit", "8", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    (one,) = found["networks"]
    (side,) = one["tables"]["sides"]
    assert side["held_out"] == "unseen crystals"
    assert side["images"] == 8
    assert 0 <= side["top1"] <= side["top3"] <= 1
    for row in one["tables"]["ensemble"]:
        assert row["mean"] <= row["sets"]
        assert 0 <= row["mean_ideal"] <= 1


def test_without_table_every_measure_is_shown(
    weights: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", weights[0], "--limit", "8"]) == 0
    shown = capsys.readouterr().out
    assert "macro_f1" in shown
    assert "product_ideal" in shown
    assert "Of a test." in shown


def test_mistakes_are_one_line(
    weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "nothing"]) == 1
    assert "no weights called" in capsys.readouterr().err
    save(ResNet(18, 3, 8), Card("bare", "resnet", {"classes": 3, "width": 8}, ""), tmp_path)
    assert run(["evaluate", str(tmp_path / "bare.safetensors")]) == 1
    assert "names no recipe" in capsys.readouterr().err
    taken = tmp_path / "file"
    taken.write_text("")
    assert run(["evaluate", weights[0], "--limit", "8", "-o", str(taken)]) == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert error.count("\n") == 1
    assert run(["evaluate"]) == 2


@pytest.mark.slow
def test_symmetry_by_the_same_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from diskern.train.spot_sets_task import SpotSetTask
    from diskern.train.train_recipe import load_train_recipe

    recipe = load_train_recipe("spot_set_smoke")
    task = SpotSetTask(recipe)  # type: ignore[arg-type]
    values = recipe.model_dump(mode="json")
    save(task.net(), Card("tiny", "spot_set", task.arguments, "", values), tmp_path)
    file = str(tmp_path / "tiny.safetensors")
    assert run(["evaluate", file, "--limit", "2", "--json", "-", "-o", str(tmp_path / "o")]) == 0
    (row,) = json.loads(capsys.readouterr().out)["table"]
    assert row["ms_per_pattern"] > 0
    assert 0 <= next(v for k, v in row.items() if "space_group, 10 patterns" in k) <= 100
    assert (tmp_path / "o" / "tiny-symmetry.csv").exists()


def test_bands_are_of_learned_symmetry_alone(weights: list[str], capfd) -> None:
    assert run(["evaluate", weights[0], "--bands"]) == 1
    assert "image_set alone" in capfd.readouterr().err


def test_bands_are_drawn_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diskern.train import evaluation

    row = {"of": "dose", "patterns": 1, "level": "system", "top1": 0.5, "crystals": 9}
    rows = [{**row, "band": band} for band in ("few", "many")]

    def measured(name: str, **asked: object) -> evaluation.Evaluation:
        assert asked["bands"]
        return evaluation.Evaluation(name, "spot_set", "Of a test.", {"bands": rows})

    monkeypatch.setattr(evaluation, "evaluate_weights", measured)
    assert run(["evaluate", "spot_set", "--bands", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "spot_set-bands.png").stat().st_size > 5000
    assert "few" in (tmp_path / "spot_set-bands.csv").read_text()
