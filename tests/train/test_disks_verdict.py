"""Weighing network and fit, on patterns of the recipe of a few steps."""

import numpy as np
from small_disks import disk_set

from diskern.bragg.disk_verdict import BELIEVED, WEIGHTS
from diskern.nets.registry import load
from diskern.train.disks_verdict import PRECISE, _least, learned_verdict, probe_of


def test_the_fit_counts_for_a_disk() -> None:
    blocks = [disk_set("validation").block(n) for n in range(3)]
    told = learned_verdict(load("proposer"), blocks)
    assert set(told) == {*WEIGHTS, BELIEVED}
    assert told["verdict_1"] > 0
    assert told["verdict_2"] + told["verdict_4"] > 0
    assert 0 < told[BELIEVED] < 1


def test_as_many_are_believed_as_are_right_often_enough() -> None:
    probability = np.linspace(0.99, 0.0, 100)
    right = np.arange(100) < 60
    level = _least(probability, right)
    kept = probability >= level
    assert right[kept].mean() >= PRECISE > right[probability >= level - 0.011].mean()
    assert _least(probability, np.zeros(100, bool)) == 0.5


def test_the_probe_of_a_block_is_round_or_a_ring() -> None:
    block = dict(disk_set().block(0))
    block["hole"] = np.zeros_like(block["hole"])
    assert probe_of(block).round
    block["hole"] = np.full_like(block["hole"], 0.5)
    ring = probe_of(block)
    assert not ring.round
    middle = tuple(n // 2 for n in ring.image.shape)
    assert ring.image[middle] < 0.1 * ring.image.max()
