"""Naming look-alike classes of zone-axis images, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from diskern.nets.registry import build
from diskern.nets.resnet import ResNet, load_pretrained, unit_images
from diskern.train.saed_blocks import image_blocks
from diskern.train.saed_images import ImageBlocks
from diskern.train.saed_recipe import SaedTrainRecipe
from diskern.train.samples import Block
from diskern.train.task import Tell


class SaedTask:
    """See `diskern.train.task.Task`."""

    def __init__(self, recipe: SaedTrainRecipe) -> None:
        self.recipe = recipe

    @property
    def per_block(self) -> int:
        """Images drawn together."""
        return self.recipe.per_block

    def source(self, side: str, tell: Tell | None = None) -> ImageBlocks:
        """Images of one side, turned and cropped."""
        return image_blocks(self.recipe, side, tell)

    def net(self) -> nn.Module:
        """The network as the training begins: random, or with weights of the user's file."""
        options = self.recipe.net
        arguments = {
            "depth": options.depth,
            "classes": len(class_names(self.recipe)),
            "width": options.width,
        }
        net = build("resnet", arguments)
        if options.pretrained and isinstance(net, ResNet):
            load_pretrained(net, options.pretrained)
        for weights in net.parameters():
            if weights.ndim == 4:
                # Channels last: what convolutions on CPUs and GPUs run fastest in.
                weights.data = weights.data.contiguous(memory_format=torch.channels_last)
        return net

    def loss(self, net: nn.Module, blocks: Sequence[Block]) -> Mapping[str, torch.Tensor]:
        """Cross entropy, and the share of images named right."""
        images = np.concatenate([b["image"] for b in blocks])
        labels = np.concatenate([b["label"] for b in blocks])
        x = torch.from_numpy(images).to(self.recipe.device)
        truth = torch.from_numpy(labels.astype(np.int64)).to(self.recipe.device)
        half = self.recipe.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            logits = net(unit_images(x).contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        right = (logits.detach().argmax(1) == truth).float().mean()
        return {"total": cross_entropy(logits, truth), "right": right}

    def words(self, parts: Mapping[str, float]) -> str:
        """Loss and accuracy."""
        return f"loss {parts['total']:.3f}, {parts['right']:.1%} named right"

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """See `diskern.train.saed_evaluate.finish`."""
        from diskern.train.saed_evaluate import finish

        return finish(self.recipe, net, folder, tell=tell)


@cache
def class_names(recipe: SaedTrainRecipe) -> tuple[str, ...]:
    """The look-alike classes that a recipe's space groups have along its zones."""
    from diskern.symmetry.lookalike import RA_ZONES, lookalike_labels
    from diskern.train.saed import label_settings

    groups = sorted({n for source in recipe.data.crystals for n in source.space_groups})
    table = lookalike_labels(label_settings(groups), recipe.data.zones or RA_ZONES)
    return tuple(entry.label for entry in table.classes)
