"""Finding diffraction disks, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from diskern.nets.disk_unet import DiskMaps, DiskUNet
from diskern.nets.registry import begin, load
from diskern.train.disks import DiskSet
from diskern.train.disks_batch import to_batch
from diskern.train.disks_fourier import fourier_loss
from diskern.train.losses import disk_loss
from diskern.train.samples import Block
from diskern.train.task import Tell
from diskern.train.train_recipe import TrainRecipe


class DiskTask:
    """See `diskern.train.task.Task`."""

    def __init__(self, recipe: TrainRecipe) -> None:
        self.recipe = recipe

    @property
    def per_block(self) -> int:
        """Patterns of one crystal and camera."""
        return self.recipe.data.per_block

    def source(self, side: str, tell: Tell | None = None) -> DiskSet:
        """Convergent-beam patterns."""
        return DiskSet(self.recipe.data, side)

    def net(self) -> nn.Module:
        """The network before its first step; one that starts from a narrower one is widened.

        Raises
        ------
        DiskernError
            For weights to start from that are not of the recipe's network.
        """
        table = self.recipe.net
        if table.start and table.architecture == "proposer":
            narrow = load(table.start).net
            if isinstance(narrow, DiskUNet) and narrow.grows_to(table.width):
                return narrow.widened(table.width).train()
        return begin(table.architecture, {"width": table.width}, table.start)

    def loss(self, net: nn.Module, blocks: Sequence[Block]) -> Mapping[str, torch.Tensor]:
        """Total, then heat map, place, V_g and q_z."""
        batch = to_batch(blocks, self.recipe.device)
        if self.recipe.net.architecture == "fourier":
            return vars(fourier_loss(net(batch.images, batch.probes), batch))
        half = self.recipe.precision == "bfloat16"
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=half):
            maps: DiskMaps = net(batch.images, batch.probes, batch.radius, batch.edge, batch.fill)
        weights = (self.recipe.offset_weight, self.recipe.w_weight, self.recipe.q_weight)
        return vars(disk_loss(maps, batch.disks, batch.radius, weights))

    def words(self, parts: Mapping[str, float]) -> str:
        """Loss and its parts."""
        return (
            f"loss {parts['total']:.3f} = heat {parts['heat']:.3f}, place {parts['offset']:.3f}, "
            f"V_g {parts['w']:.3f}, q_z {parts['q']:.3f}"
        )

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """See `diskern.train.train_finish.finish`."""
        from diskern.train.train_finish import finish

        blocks = self.recipe.checkpoint.card_blocks
        return finish(self.recipe, net, folder, blocks=blocks, tell=tell)
