"""`diskern train` and `diskern models` as a person runs them."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from diskern.cli._app import run
from diskern.nets.registry import load


def test_train_stops_resumes_and_writes_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert run(["train", "disks_smoke", "-o", folder, "--steps", "3"]) == 0
    assert "step 3 of 6" in capsys.readouterr().out
    assert run(["train", "disks_smoke", "-o", folder]) == 1
    assert "resume" in capsys.readouterr().err
    assert run(["train", "disks_smoke", "-o", folder, "--resume", "--json", "-"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["step"] == done["steps"] == 6
    assert run(["models", done["weights"]]) == 0
    shown = capsys.readouterr().out
    assert "SHA-256" in shown
    assert "recall" in shown


def test_the_published_architecture_trains_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = files("diskern.train") / "recipes" / "nets" / "disks_smoke.toml"
    recipe = tmp_path / "small.toml"
    recipe.write_text(shipped.read_text().replace("[net]", '[net]\narchitecture = "fourier"'))
    folder = str(tmp_path / "run")
    assert run(["train", str(recipe), "-o", folder, "--json", "-"]) == 0
    written = json.loads(capsys.readouterr().out)["weights"]
    model = load(written)
    assert model.card.architecture == "fourier"
    # Images of V_g and q_z of the pattern's size.
    out = model.net(torch.rand(1, 64, 64), torch.rand(1, 64, 64))
    assert all(image.shape[-2:] == (64, 64) for image in vars(out).values())


def test_models_lists_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json", "-"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert all({"name", "sha256", "metrics"} <= set(card) for card in cards)
    assert run(["models", "nothing"]) == 1
    assert "no weights called" in capsys.readouterr().err


def test_wrong_recipes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "nothing.toml"]) == 1
    error = capsys.readouterr().err
    assert "shipped recipes" in error
    assert "Traceback" not in error


def test_the_program_is_a_module_for_torchrun() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "diskern.cli", "train", "--help"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "torchrun" in done.stdout
