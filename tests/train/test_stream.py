"""The stream gives each sample once, whoever asks, and repeats from its seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_sets import small_set
from torch.utils.data import DataLoader

from diskern.train.augment import TurnAndCrop
from diskern.train.shards import ShardedSet, write_shards
from diskern.train.stream import Stream


def ids(samples: Any) -> list[tuple[int, bytes]]:
    return [(int(s["seed"][2]), s["q"].numpy().tobytes()) for s in samples]


def test_every_sample_once() -> None:
    made = small_set("spots")
    found = ids(Stream(made))
    assert len(found) == len(made) == len(Stream(made))
    assert len(set(found)) == len(found)


def test_order_follows_from_seed_and_epoch() -> None:
    made = small_set("spots")
    stream = Stream(made, seed=3)
    first, again = ids(stream), ids(Stream(made, seed=3))
    stream.set_epoch(1)
    assert first == again
    assert ids(stream) != first
    assert sorted(ids(stream)) == sorted(first)


def test_on_the_fly_epochs_are_new_draws() -> None:
    made = small_set("spots")
    stream = Stream(made, on_the_fly=True)
    first = set(ids(stream))
    stream.set_epoch(1)
    assert not first & set(ids(stream))


def test_ranks_share_the_blocks() -> None:
    made = small_set("spots")
    parts = [ids(Stream(made, rank=r, ranks=3)) for r in range(3)]
    assert sorted(one for part in parts for one in part) == sorted(ids(Stream(made)))


@pytest.mark.parametrize("workers", [0, 2])
def test_through_a_loader_with_workers(workers: int, tmp_path: Path) -> None:
    made = small_set("saed")
    write_shards(made, tmp_path)
    loader = DataLoader(Stream(ShardedSet(tmp_path)), batch_size=16, num_workers=workers)
    batches = list(loader)
    assert sum(len(b["label"]) for b in batches) == len(made)
    assert batches[0]["image"].shape == (16, 96, 96)
    assert batches[0]["image"].dtype == torch.uint8


def test_whole_blocks_keep_a_crystal_together() -> None:
    made = small_set("spots")
    for block in Stream(made, whole_blocks=True):
        assert block["q"].shape[0] == made.block_size
        assert len(set(block["crystal"].tolist())) == 1


def test_augmentation_is_applied_with_the_epochs_own_draw() -> None:
    made = small_set("saed")
    stream = Stream(made, transform=TurnAndCrop(30.0, 80), whole_blocks=True)
    first = next(iter(stream))["image"]
    assert first.shape[1:] == (80, 80)
    assert torch.equal(first, next(iter(stream))["image"])
    assert first.dtype == torch.float32
    assert float(first.max()) <= 1.0


def test_turning_moves_spots_where_they_belong() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((1, 65, 65), dtype=np.float32)
    image[0, 32, 52] = 1.0
    block = {"image": np.repeat(image, 4, 0), "seed": np.zeros((4, 3), dtype=np.int64)}
    out = TurnAndCrop(90.0, 65)(block, rng)["image"]
    for frame in out:
        row, col = np.unravel_index(frame.argmax(), frame.shape)
        assert np.hypot(row - 32, col - 32) == pytest.approx(20, abs=1.0)
        assert row > 31
    still = TurnAndCrop(0.0, 65)(block, rng)["image"]
    np.testing.assert_allclose(still, block["image"])
