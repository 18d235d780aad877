"""Training sets as torch sees them: an endless or finite stream of samples, parted by worker.

This module imports torch; nothing else of the room does at its top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from diskern.train.samples import Block

Sample = dict[str, torch.Tensor]


class Blocks(Protocol):
    """What is streamed: a `TrainingSet`, a `ShardedSet`, or anything of their shape."""

    @property
    def blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    def block(self, number: int) -> Block: ...


class Stream(IterableDataset[Sample]):
    """Samples (or whole blocks) of a set in an order that each epoch draws anew.

    Every block goes to exactly one of all workers of all ranks.  The order follows from the seed
    and the epoch alone; with the same number of workers a run repeats bit for bit.

    Parameters
    ----------
    source : the set.
    seed : of the order.
    on_the_fly : epoch e asks for blocks e·n to (e+1)·n, new draws of a set made on the fly,
        instead of the same n again.
    mix : blocks held at a time, from which samples are drawn at random; 1 keeps samples of one
        crystal together.
    whole_blocks : give each block as one dict of stacked tensors (patterns of one crystal).
    transform : applied to each block, with the random generator of its epoch; augmentation.
    rank, ranks : place of this process in a distributed run.
    """

    def __init__(
        self,
        source: Blocks,
        *,
        seed: int = 0,
        on_the_fly: bool = False,
        mix: int = 4,
        whole_blocks: bool = False,
        transform: Callable[[Block, np.random.Generator], Block] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__()
        self.source, self.seed, self.on_the_fly, self.mix = source, seed, on_the_fly, max(1, mix)
        self.whole_blocks, self.transform = whole_blocks, transform
        self.rank, self.ranks = rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is; call it before the workers start."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.source.blocks * (1 if self.whole_blocks else self.source.block_size)

    def __iter__(self) -> Iterator[Sample]:
        mine = self._numbers()
        if self.whole_blocks:
            for number in mine:
                yield _tensors(self._block(number))
            return
        rng = np.random.default_rng([self.seed, self.epoch, 1, *map(int, mine[:1])])
        for start in range(0, len(mine), self.mix):
            held = [self._block(n) for n in mine[start : start + self.mix]]
            places = [(i, j) for i, b in enumerate(held) for j in range(len(b["seed"]))]
            for k in rng.permutation(len(places)):
                i, j = places[int(k)]
                yield _tensors({name: array[j] for name, array in held[i].items()})

    def _numbers(self) -> list[int]:
        """The blocks of this worker in this epoch."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.source.blocks)
        if self.on_the_fly:
            order = order + self.epoch * self.source.blocks
        worker = get_worker_info()
        workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        return [int(n) for n in order[self.rank * workers + own :: self.ranks * workers]]

    def _block(self, number: int) -> Block:
        block = self.source.block(number)
        if self.transform is None:
            return block
        return self.transform(block, np.random.default_rng([self.seed, self.epoch, 2, number]))


def _tensors(arrays: Block) -> Sample:
    return {name: torch.as_tensor(np.ascontiguousarray(a)) for name, a in arrays.items()}
