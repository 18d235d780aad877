"""Weights and their cards: what is written is read, what does not fit is refused."""

import json
from pathlib import Path

import pytest
import torch

from diskern.errors import DiskernError
from diskern.nets.disk_unet import DiskUNet
from diskern.nets.registry import Card, build, load, model_names, read_card, save


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    return save(DiskUNet(8), Card("small", "proposer", {"width": 8}, ""), tmp_path)


def test_round_trip(weights: Path) -> None:
    model = load(weights)
    torch.manual_seed(1)
    same = DiskUNet(8)
    assert model.card.name == "small"
    assert not model.net.training
    for a, b in zip(model.net.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)


def test_other_weights_are_noticed(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DiskernError, match="SHA-256"):
        load(weights)


def test_weights_of_another_size_are_refused(weights: Path) -> None:
    card = weights.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), "arguments": {"width": 12}}))
    with pytest.raises(DiskernError, match="do not fit"):
        load(weights)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no model card"),
        ('{"name": 1}', "no model card"),
        ("[]", "no model card"),
    ],
)
def test_broken_cards_are_refused(weights: Path, text: str, words: str) -> None:
    weights.with_suffix(".json").write_text(text)
    with pytest.raises(DiskernError, match=words):
        load(weights)


def test_later_cards_are_refused(weights: Path) -> None:
    card = weights.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), "version": 99}))
    with pytest.raises(DiskernError, match="version 99"):
        load(weights)


def test_unknown_names_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DiskernError, match="no weights called 'nothing'"):
        load("nothing")
    with pytest.raises(DiskernError, match="cannot read"):
        read_card(tmp_path / "gone.safetensors")
    with pytest.raises(DiskernError, match="unknown; use proposer"):
        build("oracle", {})
    with pytest.raises(DiskernError, match="cannot be built"):
        build("proposer", {"depth": 3})


def test_shipped_weights_are_whole_and_small() -> None:
    for name in model_names():
        model = load(name)
        assert model.card.licence == "CC-BY-4.0"
        assert model.card.metrics
        assert model.card.protocol
        assert sum(p.numel() for p in model.net.parameters()) * 4 < 6e6
