"""The training loop: plain torch, one process or many, interrupted and resumed at will.

What a step sees follows from the recipe's seed and the step's number alone, so a resumed run
takes exactly the steps that an unbroken one would have taken.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diskern.errors import DiskernError
from diskern.train.checkpoint import (
    Progress,
    checkpoints_in,
    restore_checkpoint,
    save_checkpoint,
)
from diskern.train.samples import Block
from diskern.train.task import BlockSource, Task, Tell, task_of
from diskern.train.train_recipe import TrainingRecipe


@dataclass(frozen=True)
class Ranks:
    """This process among those that ``torchrun`` started."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gives.

    Attributes
    ----------
    net : with the averaged weights.
    history : losses on the validation side after every so many steps.
    leads : whether this process is the one that writes files.
    """

    net: nn.Module
    step: int
    history: list[dict[str, float]]
    leads: bool


def train(
    recipe: TrainingRecipe,
    folder: Path,
    *,
    resume: bool = False,
    tell: Tell | None = None,
    stop_after: int | None = None,
) -> Trained:
    """Train a network by its recipe.

    Parameters
    ----------
    recipe : of any kind that `diskern.train.task` knows.
    folder : for checkpoints.
    resume : go on from the latest one there; otherwise the folder must hold none.
    tell : takes a line on where the training stands.
    stop_after : leave after this many steps in all, as if interrupted there.

    Raises
    ------
    DiskernError
        Where the folder holds a training and ``resume`` is not asked for, or another recipe's.
    """
    say = tell or (lambda words: None)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    with _ranks() as ranks:
        return _Training(recipe, folder, ranks, say).run(resume, stop_after)


class _Steps(Dataset[list[Block]]):
    """The blocks of each step that are this process's."""

    def __init__(self, source: BlockSource, whole: int, ranks: Ranks) -> None:
        self.source, self.rank, self.whole = source, ranks.rank, whole
        self.own = self.whole // ranks.size

    def __getitem__(self, step: int) -> list[Block]:
        first = step * self.whole + self.rank * self.own
        return [self.source.block(n) for n in range(first, first + self.own)]


def _as_it_is(blocks: list[Block]) -> list[Block]:
    return blocks


class _Training:
    """State of one training; see `train`."""

    def __init__(self, recipe: TrainingRecipe, folder: Path, ranks: Ranks, say: Tell) -> None:
        self.say = say
        self.task: Task = task_of(recipe)
        if recipe.optimiser.batch % (self.task.per_block * ranks.size):
            raise DiskernError(
                f"optimiser.batch={recipe.optimiser.batch} is no multiple of "
                f"{ranks.size} processes × data.per_block={self.task.per_block}"
            )
        self.recipe, self.folder, self.ranks = recipe, folder, ranks
        self.net = build_net(recipe).to(recipe.device)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.optimiser = recipe.optimiser.make(self.net.parameters())
        self.source = self.task.source("train", say)
        self.held: BlockSource | None = None
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.key = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:16]

    def run(self, resume: bool, stop_after: int | None) -> Trained:
        self._begin(resume)
        options = self.recipe.optimiser
        last = options.steps if stop_after is None else min(options.steps, stop_after)
        begun, first = time.monotonic(), self.step
        steps = _Steps(self.source, options.batch // self.task.per_block, self.ranks)
        seen = self.recipe.checkpoint.seen
        loader: DataLoader[list[Block]] = DataLoader(
            steps,
            batch_size=None,
            sampler=range(seen + self.step, seen + last),
            num_workers=self.recipe.workers,
            collate_fn=_as_it_is,
        )
        try:
            for blocks in loader:
                parts = self._one_step(blocks)
                if self.step % 20 == 0:
                    rate = (self.step - first) * options.batch / (time.monotonic() - begun)
                    words = self.task.words(_numbers(parts))
                    self.say(f"step {self.step} of {options.steps}, {rate:.0f} patterns/s: {words}")
                if self.step % self.recipe.checkpoint.every == 0 or self.step == options.steps:
                    self._look_and_save()
        except KeyboardInterrupt:
            self._save()
            raise
        return Trained(self.average, self.step, self.history, self.ranks.leads)

    def _begin(self, resume: bool) -> None:
        found = checkpoints_in(self.folder)
        if found and not resume:
            raise DiskernError(
                f"{self.folder} holds a training already; resume it, or choose another folder"
            )
        if found:
            progress = restore_checkpoint(
                found[-1], self.key, self.net, self.average, self.optimiser
            )
            self.step, self.history = progress.step, progress.history

    def _one_step(self, blocks: list[Block]) -> Mapping[str, torch.Tensor]:
        options = self.recipe.optimiser
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate_at(self.step)
        # Dropout, too, follows from the step's number.
        place = self.step * self.ranks.size + self.ranks.rank
        torch.manual_seed((self.recipe.seed * 1_000_003 + place) % 2**63)
        self.net.train()
        parts = self.task.loss(self.net, blocks)
        self.optimiser.zero_grad(set_to_none=True)
        parts["total"].backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.net.parameters(), options.clip)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return parts

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights."""
        # Young averages follow quickly, so that the first weights are forgotten.
        keep = min(self.recipe.optimiser.average, (1 + self.step) / (10 + self.step))
        for old, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
            old.lerp_(new, 1 - keep)
        for held, now in zip(self.average.buffers(), self.net.buffers(), strict=True):
            held.copy_(now)

    def _share_gradients(self) -> None:
        """Mean gradient of all processes, which then take the same step."""
        if self.ranks.size == 1:
            return
        with_gradient = [p.grad for p in self.net.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in with_gradient])
        torch.distributed.all_reduce(flat)
        flat /= self.ranks.size
        start = 0
        for gradient in with_gradient:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def _look_and_save(self) -> None:
        if self.recipe.checkpoint.validation_blocks and self.ranks.leads:
            self.history.append({"step": self.step, **self._validate()})
            self.say(", ".join(f"{k} {v:.4g}" for k, v in self.history[-1].items()))
        self._save()

    def _validate(self) -> dict[str, float]:
        self.held = self.held or self.task.source("validation", self.say)
        self.average.eval()
        with torch.no_grad():
            found = [
                _numbers(self.task.loss(self.average, [self.held.block(number)]))
                for number in range(self.recipe.checkpoint.validation_blocks)
            ]
        return {name: float(np.mean([parts[name] for parts in found])) for name in found[0]}

    def _save(self) -> None:
        if self.ranks.leads:
            progress = Progress(self.step, self.key, self.history)
            save_checkpoint(
                self.folder,
                progress,
                self.net,
                self.average,
                self.optimiser,
                keep=self.recipe.checkpoint.keep,
            )


def build_net(recipe: TrainingRecipe) -> nn.Module:
    """The untrained network of a recipe, its first weights from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    return task_of(recipe).net()


def _numbers(parts: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in parts.items()}


@contextmanager
def _ranks() -> Iterator[Ranks]:
    """The process group of ``torchrun``, where it was used."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()
