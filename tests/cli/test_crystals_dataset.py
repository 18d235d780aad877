"""The verbs crystals and dataset, end to end with small recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diskern.cli._app import run
from diskern.crystal.cif_write import cif_text
from diskern.crystal.common import common_phases


@pytest.fixture(scope="module")
def cifs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifs")
    for i, crystal in enumerate(common_phases(["Al", "Si", "Fe", "O", "Ti"])):
        (folder / f"{i:02d}.cif").write_text(cif_text(crystal), encoding="utf-8")
    (folder / "broken.cif").write_text("data_")
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert run([*words, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    rows = answer(capsys, "crystals", "list", "common", "--elements", "Ti,O")
    assert {r["name"] for r in rows} >= {"TiO2 (rutile)", "TiO2 (anatase)"}
    assert all(set(r["formula"]) <= set("TiO0123456789") for r in rows)
    assert run(["crystals", "list", "--elements", "Na,Cl,Mg", "--space-group", "225"]) == 0
    assert "cF8" in capsys.readouterr().out


def test_list_of_a_folder_says_what_was_left_out(
    cifs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["crystals", "list", str(cifs)]) == 0
    assert "broken.cif" in capsys.readouterr().err


def test_select_and_report(cifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "chosen"
    found = answer(capsys, "crystals", "select", str(cifs), "--cap", "1", "-o", str(out))
    kinds = [row["prototype"] for row in found["chosen"]]
    assert len(set(kinds)) == len(kinds) == len(list(out.glob("*.cif")))
    figure = tmp_path / "counts.png"
    counts = answer(capsys, "crystals", "report", str(out), "-o", str(figure))
    assert counts["crystals"] == len(kinds)
    assert sum(counts["systems"].values()) == len(kinds)
    assert figure.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["crystals", "list", "nowhere"], "nowhere"),
        (["crystals", "list", "common", "--space-group", "0"], "--space-group"),
        (["crystals", "list", "common", "--system", "round"], "round"),
        (["crystals", "list", "common", "--elements", "Qq"], "Qq"),
        (["crystals", "fetch", "cod", "-o", "x"], "cod"),
        (["crystals", "fetch", "file:///etc", "-o", "x"], "no http"),
        (["crystals", "select", "common", "--by", "mood", "-o", "x"], "mood"),
        (["dataset", "saed", "nothing", "-o", "x"], "saed-2021"),
        (["dataset", "saed", "spots-small", "-o", "x"], "diskern dataset spots"),
        (["dataset", "spots", "spots-small", "--shard", "5/4", "-o", "x"], "--shard 5/4"),
        (["dataset", "spots", "spots-small", "--side", "left", "-o", "x"], "left"),
        (["dataset", "preview", "spots-small", "--count", "0", "-o", "x.png"], "count=0"),
        (["dataset", "verify", "."], "no training set"),
        (["dataset", "atlas", "-o", "x.doc"], "x.doc"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 1
    error = capsys.readouterr().err.strip()
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.parametrize("kind", ["saed", "quartets", "spots", "patterns"])
def test_dataset_from_recipe_to_sheet(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sheet = tmp_path / "set", tmp_path / "sheet.png"
    words = ["dataset", kind, f"{kind}-small", "-o", str(out), "--shard"]
    first, second = (answer(capsys, *words, part) for part in ("1/2", "2/2"))
    assert first["configuration"] == second["configuration"]
    shards = [set(a["sides"][0]["shards"]) for a in (first, second)]
    assert not shards[0] & shards[1]
    assert run(["dataset", "verify", str(out)]) == 0
    pictures = tmp_path / "png"
    words = ["dataset", "preview", str(out), "-o", str(sheet), "--count", "6"]
    assert run([*words, "--pictures", str(pictures)]) == 0
    assert sheet.stat().st_size > 5_000
    assert len(list(pictures.rglob("*.png"))) >= 6


def test_broken_shards_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert run(["dataset", "saed", "saed-small", "--side", "validation", "-o", str(out)]) == 0
    next(out.glob("*.h5")).write_bytes(b"junk")
    assert run(["dataset", "verify", str(out)]) == 1
    assert "missing or broken" in capsys.readouterr().err


def test_recipes_and_atlas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dataset", "recipes"]) == 0
    assert "saed-2021" in capsys.readouterr().out
    page = tmp_path / "atlas.html"
    assert run(["dataset", "atlas", "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<h3>") == 61
    assert "<script" not in text
