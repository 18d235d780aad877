"""Symmetry from sets of patterns, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from diskern.nets.registry import begin
from diskern.nets.set_net import Verdicts
from diskern.train.samples import Block
from diskern.train.set_inputs import arguments_of, inputs_of
from diskern.train.spot_sets import SpotSets
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.task import Tell

Ints = NDArray[np.int64]

SHARED = 0.8
"""Share of the sets of unknown scale whose patterns are said to have one and the same."""


class SpotSetTask:
    """See `diskern.train.task.Task`."""

    def __init__(self, recipe: SpotSetTrainRecipe) -> None:
        self.recipe = recipe

    @property
    def per_block(self) -> int:
        """Patterns of one crystal."""
        return self.recipe.data.per_block

    @property
    def arguments(self) -> dict[str, int]:
        """What the network is built with."""
        return arguments_of(self.recipe.net)

    def source(self, side: str, tell: Tell | None = None) -> SpotSets:
        """Sets of patterns of one crystal."""
        return SpotSets(self.recipe.data, side)

    def net(self) -> nn.Module:
        """The network before its first step.

        Raises
        ------
        DiskernError
            For weights to start from that are not of the recipe's network.
        """
        return begin(self.recipe.net.architecture, self.arguments, self.recipe.net.start)

    def loss(self, net: nn.Module, blocks: Sequence[Block]) -> Mapping[str, torch.Tensor]:
        """Total, that of patterns alone and of sets (in nats), and that of refusal."""
        seed = [self.recipe.seed, *(int(b["number"][0]) for b in blocks)]
        rng = np.random.default_rng(seed)
        member, there = drawn_sets(len(blocks), self.per_block, self.recipe.sets, rng)
        group = np.concatenate([b["space_group"] for b in blocks]).astype(np.int64)
        keep = group[member[:, 0]] > 0
        if not keep.any():
            keep[0] = True
        member, there = member[keep], there[keep]
        told = rng.random(len(member)) < self.recipe.scale_known
        shared = told | (rng.random(len(member)) < SHARED)
        inputs = inputs_of(self.recipe.net, blocks, member, there, told, shared)
        verdicts: Verdicts = net(type(inputs)(*(t.to(self.recipe.device) for t in inputs)))
        truth = torch.from_numpy(np.maximum(group[member[:, 0]], 1)).to(self.recipe.device)
        nll = -verdicts.log_groups.gather(1, truth[:, None] - 1)[:, 0]
        alone = torch.from_numpy(there.sum(1) == 1).to(self.recipe.device)
        crystal = np.concatenate([b["crystal"] for b in blocks])
        asked = torch.from_numpy(crystal >= 0).to(self.recipe.device)
        target = torch.from_numpy((crystal > 0).astype(np.float32)).to(self.recipe.device)
        each = binary_cross_entropy_with_logits(verdicts.crystal, target, reduction="none")
        refusal = (each * asked).sum() / asked.sum().clamp(min=1)
        single = (nll * alone).sum() / alone.sum().clamp(min=1)
        several = (nll * ~alone).sum() / (~alone).sum().clamp(min=1)
        total = single + several + self.recipe.refusal_weight * refusal
        return {"total": total, "single": single, "set": several, "refusal": refusal}

    def words(self, parts: Mapping[str, float]) -> str:
        """Nats of the space group for one pattern and for sets, and of refusal."""
        return (
            f"loss {parts['total']:.3f}: space group {parts['single']:.3f} from one pattern, "
            f"{parts['set']:.3f} from sets, crystal or none {parts['refusal']:.3f}"
        )

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """See `diskern.train.spot_sets_finish.finish`."""
        from diskern.train.spot_sets_finish import finish

        return finish(self.recipe, self.arguments, net, folder, tell=tell)


def drawn_sets(
    blocks: int, per_block: int, sizes: Sequence[int], rng: np.random.Generator
) -> tuple[Ints, NDArray[np.bool_]]:
    """(S, K) rows of patterns of each set and which of them count.

    Every pattern alone, then of each block one set of each size.
    """
    widest = max(1, *sizes)
    member = np.zeros((blocks * (per_block + len(sizes)), widest), dtype=np.int64)
    there = np.zeros(member.shape, dtype=bool)
    member[: blocks * per_block] = np.arange(blocks * per_block)[:, None]
    there[: blocks * per_block, 0] = True
    row = blocks * per_block
    for block in range(blocks):
        for size in sizes:
            picked = block * per_block + rng.permutation(per_block)[:size]
            member[row] = picked[0]
            member[row, :size] = picked
            there[row, :size] = True
            row += 1
    return member, there
