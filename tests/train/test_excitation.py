"""Excitation errors from the contrast inside disks: what is learned from, and what comes of it."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diskern.bragg.disk_contrast import FIELDS, PROFILE
from diskern.bragg.disk_excitation import LearnedExcitation
from diskern.bragg.disk_proposer import LearnedProposer
from diskern.bragg.disks import CONTRAST, Disks
from diskern.errors import DiskernError
from diskern.nets.disk_units import unit_of
from diskern.nets.excitation import Votes, agreed_tilt, coupling_loss, vote_loss
from diskern.nets.registry import build, load
from diskern.train import excitation_sets
from diskern.train.evaluation import evaluate_weights
from diskern.train.excitation_recipe import ExcitationTrainRecipe
from diskern.train.excitation_sets import ExcitationBlocks, MeasuredPatterns, measured_patterns
from diskern.train.excitation_task import vote_scores
from diskern.train.loop import train
from diskern.train.task import task_of
from diskern.train.train_recipe import load_train_recipe, parse_train_recipe


def small(**changes: Any) -> ExcitationTrainRecipe:
    """Two-beam patterns of a few common phases."""
    values: dict[str, Any] = {
        "kind": "train-excitation",
        "name": "small",
        "seed": 3,
        "threads": 1,
        "blocks": 6,
        "held": 3,
        "per_block": 4,
        "net": {"width": 16},
        "optimiser": {"steps": 8, "batch": 8, "warm_up": 2},
        "checkpoint": {"every": 4, "validation_blocks": 1},
        "data": {
            "name": "small",
            "seed": 3,
            "size": 96,
            "per_block": 4,
            "bloch": 0.0,
            "zone_share": 1.0,
            "dose": {"low": 1e5, "high": 1e6},
            "crystals": [{"source": "common", "max_volume": 120.0}],
            "split": {"by": "prototype", "validation": 0.4},
        },
    }
    return parse_train_recipe({**values, **changes})  # type: ignore[return-value]


def sure(line: torch.Tensor, log_sigma: float = -3.0) -> Votes:
    """Votes of one σ for lines."""
    return Votes(line, torch.full_like(line, log_sigma))


@cache
def measured(side: str) -> MeasuredPatterns:
    return measured_patterns(small(), side)


def test_what_is_measured_has_its_truth() -> None:
    seen = measured("train")
    assert len(seen) >= 6
    assert seen.facts.shape[2] == FIELDS
    assert np.isfinite(seen.facts).all()
    assert (seen.there.sum(1) >= 3).all()
    assert (seen.known.sum(1) >= 3).all()
    assert 0.5 < seen.known.sum() / seen.there.sum() <= 1
    assert (seen.known <= seen.there).all()
    used = seen.known > 0
    # Near zone axes the lines of a pattern follow from one tilt: a plane less the sphere.
    line, G = torch.from_numpy(seen.line), torch.from_numpy(seen.G)
    tilt = agreed_tilt(sure(line), G, torch.from_numpy(seen.known), 12)[0].numpy()
    length = np.linalg.norm(seen.G, axis=2)
    plane = -(seen.G * tilt[:, None]).sum(2) / length - length / 2
    assert np.median(np.abs(seen.line - plane)[used]) < 0.2
    assert np.median(np.abs(seen.line)[used]) > 0.4


def test_bright_lines_lie_where_the_truth_says() -> None:
    """Where a line crosses a disk, the disk is brighter towards it than away from it."""
    seen = measured("train")
    crossed = (seen.known > 0) & (np.abs(seen.line) > 0.3) & (np.abs(seen.line) < 2)
    profile = seen.facts[..., :PROFILE].reshape(*seen.line.shape, 9, 3).mean(-1)
    slope = (profile[..., 6:].mean(-1) - profile[..., :3].mean(-1))[crossed]
    strong = np.abs(slope) > 0.1
    assert strong.sum() > 20
    assert np.mean(np.sign(slope[strong]) == np.sign(seen.line[crossed][strong])) > 0.8


def test_store_gives_back_what_was_measured(tmp_path: Path) -> None:
    recipe = small(store=str(tmp_path))
    first, again = measured_patterns(recipe, "train"), measured_patterns(recipe, "train")
    for item in fields(MeasuredPatterns):
        np.testing.assert_array_equal(getattr(first, item.name), getattr(again, item.name))
        np.testing.assert_array_equal(
            getattr(first, item.name), getattr(measured("train"), item.name)
        )
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DiskernError, match=r"measured disks cannot be kept in .*npz"):
        measured_patterns(recipe, "train")


def test_one_pass_shows_every_pattern_once() -> None:
    seen = measured("train")
    blocks = ExcitationBlocks(seen, size=1, seed=0, dropped=0.5)
    lines = np.concatenate([blocks.block(n)["line"] for n in range(len(seen))])
    np.testing.assert_array_equal(np.sort(lines, 0), np.sort(seen.line, 0))
    some = blocks.block(0)
    assert 3 <= some["there"].sum() <= seen.there.sum(1).max()


def test_votes_agree_on_the_tilt_in_spite_of_a_few() -> None:
    rng = np.random.default_rng(0)
    G = torch.from_numpy(rng.uniform(-10, 10, (3, 20, 2)))
    tilt = torch.tensor([[1.0, -2.0], [0.1, 3.0], [-4.0, 0.5]], dtype=torch.float64)
    length = G.norm(dim=-1)
    line = -(G * tilt[:, None]).sum(-1) / length - length / 2
    wrong = line.clone()
    wrong[:, ::7] += 5.0
    there = torch.ones(3, 20, dtype=torch.float64)
    exact = agreed_tilt(sure(line), G, there)[0]
    torch.testing.assert_close(exact, tilt, atol=1e-3, rtol=0)
    robust = agreed_tilt(sure(wrong), G, there, 20)[0]
    assert (
        (robust - tilt).norm(dim=1).max()
        < 0.1
        < (agreed_tilt(sure(wrong), G, there, 1)[0] - tilt).norm(dim=1).max()
    )


def test_a_store_keeps_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured before an interruption is not measured again, nor for more blocks."""
    monkeypatch.setattr(excitation_sets, "SHARD", 2)
    recipe = small(store=str(tmp_path), blocks=4)
    seen = measured_patterns(recipe, "train")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(before) == 2
    more = measured_patterns(small(store=str(tmp_path), blocks=6), "train")
    assert len(set(tmp_path.glob("*.npz")) - set(before)) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    np.testing.assert_array_equal(more.facts[: len(seen)], seen.facts)
    np.testing.assert_array_equal(more.facts, measured("train").facts)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    net = build("excitation", {"fields": FIELDS, "width": 16}).eval()
    facts, G = torch.randn(2, 9, FIELDS), torch.randn(2, 9, 2) * 5
    there = torch.ones(2, 9)
    there[0, 6:] = 0
    alone = net(facts[:1, :6], G[:1, :6], there[:1, :6])
    both = net(facts, G, there)
    for more, fewer in ((both[0][-1].line, alone[0][-1].line), (both[1].value, alone[1].value)):
        torch.testing.assert_close(more[0, :6], fewer[0], atol=1e-4, rtol=1e-4)


def test_it_learns_where_lines_are() -> None:
    """Patterns whose profiles show the line plainly."""
    rng = np.random.default_rng(1)
    count, disks = 256, 10
    G = rng.uniform(-4, 4, (count, disks, 2)).astype(np.float32)
    tilt = rng.normal(0, 2, (count, 1, 2))
    length = np.linalg.norm(G, axis=2)
    line = (-(G * tilt).sum(2) / length - length / 2).astype(np.float32)
    facts = np.zeros((count, disks, FIELDS), np.float32)
    facts[..., 0] = np.exp(-0.5 * line**2) * np.sign(line)
    coupling = rng.normal(0, 1, line.shape).astype(np.float32)
    facts[..., 1] = coupling + rng.normal(0, 0.2, line.shape)
    one = np.ones_like(line)
    seen = MeasuredPatterns(facts, G, one, one, line, coupling, np.ones(count, np.float32))
    blocks = ExcitationBlocks(seen, size=64, seed=0, dropped=0.0)
    torch.manual_seed(0)
    net = build("excitation", {"fields": FIELDS, "width": 32})
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    errors, factors = [], []
    for step in range(120):
        made = {k: torch.from_numpy(v) for k, v in blocks.block(step).items()}
        votes, couplings = net(made["facts"], made["G"], made["there"])
        loss = sum(vote_loss(v, made["line"], made["known"]) for v in votes)
        loss = loss + coupling_loss(couplings, made["coupling"], made["known"])
        optimiser.zero_grad()
        torch.as_tensor(loss).backward()
        optimiser.step()
        errors.append((votes[-1].line - made["line"]).abs().median().item())
        factors.append((couplings.value - made["coupling"]).abs().median().item())
    for found in (errors, factors):
        assert np.mean(found[-5:]) < 0.5 * np.mean(found[:5])


def test_a_small_training_from_recipe_to_disks(tmp_path: Path) -> None:
    recipe = small(store=str(tmp_path / "store"))
    made = train(recipe, tmp_path / "run")
    path = task_of(recipe).finish(made.net, tmp_path / "run")
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["metrics"]["disks"] > 20
    assert min(card["calibration"].values()) > 0
    assert card["metrics"]["middle, crossed"] < 1
    reader = LearnedExcitation.load(path, energy=2e5, pixel_size=0.01)
    (row,) = evaluate_weights(path, limit=2).tables["table"]
    assert row["network"] == "excitation"
    assert 0 < row["disks"] < card["metrics"]["disks"]
    rng = np.random.default_rng(0)
    places = np.array([[48, 48], [70, 48], [26, 48], [48, 75], [30, 30]], float)
    disks = Disks.from_columns(
        np.array([0, 0, 0, 0, 0, 1, 1]),
        *np.concatenate([places, places[:2]]).T,
        intensity=np.array([9, 1, 2, 1, 1, 9, 1]) * 1e4,
        sigma_intensity=100.0,
        chi2=1.0,
        q_z=0.5,
        sigma_q_z=0.1,
        v_g=5.0,
        sigma_v_g=1.0,
        contrast=rng.normal(0, 0.1, (7, CONTRAST)),
    )
    patterns = np.ones((2, 96, 96), np.float32)
    read = reader(disks, patterns, 7.0)
    # The direct beam, and a pattern with too few disks, keep what they had.
    for column, before in (("q_z", 0.5), ("v_g", 5.0)):
        values, sigma = getattr(read, column), getattr(read, f"sigma_{column}")
        assert (values == before).tolist() == [True, False, False, False, False, True, True]
        assert np.isfinite(values).all()
        assert (sigma > 0).all()
    doubled = LearnedExcitation(reader.model, 2e5, 0.02)(disks, patterns, 7.0)
    assert unit_of(2e5, 0.14) == pytest.approx(4 * unit_of(2e5, 0.07))
    assert not np.allclose(doubled.q_z[1:5], read.q_z[1:5])


def test_what_ships_reads_lines() -> None:
    """Nearer to the true ones than the middles of their disks are."""
    model = load("excitation")
    scores = vote_scores(model.net, measured("validation"), model.card.calibration)
    assert scores["disks"] > 50
    assert scores["line, crossed"] < 0.8 * scores["middle, crossed"]


def test_keys_of_scans_follow_the_weights() -> None:
    plain, reading = LearnedProposer.load(), LearnedProposer.load(energy=2e5, pixel_size=0.01)
    assert plain.configuration["excitation"] is None
    assert reading.excitation is not None
    assert reading.configuration["excitation"] == reading.excitation.model.card.sha256
    assert json.loads(json.dumps(reading.configuration)) == reading.configuration


def test_other_weights_are_refused() -> None:
    with pytest.raises(DiskernError, match="not an excitation network"):
        LearnedExcitation.load("proposer", energy=2e5, pixel_size=0.01)


def test_recipe_that_ships() -> None:
    recipe = load_train_recipe("excitation_cpu")
    assert isinstance(recipe, ExcitationTrainRecipe)
    assert recipe.data.split.by == "prototype"
    with pytest.raises(DiskernError, match="multiple of per_block"):
        small(per_block=3)
    assert load("proposer").card.architecture == "proposer"
