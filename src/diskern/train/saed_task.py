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
from diskern.train.augment import TurnAndCrop
from diskern.train.saed_images import ImageBlocks, saed_images
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

    def source(self, side: str) -> ImageBlocks:
        """Images of one side, turned and cropped."""
        return image_blocks(self.recipe, side)

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
        return net

    def loss(self, net: nn.Module, blocks: Sequence[Block]) -> Mapping[str, torch.Tensor]:
        """Cross entropy, and the share of images named right."""
        images = np.concatenate([b["image"] for b in blocks])
        labels = np.concatenate([b["label"] for b in blocks])
        x = torch.from_numpy(images).to(self.recipe.device)
        truth = torch.from_numpy(labels.astype(np.int64)).to(self.recipe.device)
        logits = net(unit_images(x))
        right = (logits.detach().argmax(1) == truth).float().mean()
        return {"total": cross_entropy(logits, truth), "right": right}

    def words(self, parts: Mapping[str, float]) -> str:
        """Loss and accuracy."""
        return f"loss {parts['total']:.3f}, {parts['right']:.1%} named right"

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """See `diskern.train.saed_evaluate.finish`."""
        from diskern.train.saed_evaluate import finish

        return finish(self.recipe, net, folder, tell=tell)


def image_blocks(recipe: SaedTrainRecipe, side: str, tell: Tell | None = None) -> ImageBlocks:
    """Images of one of `diskern.train.saed_images.SIDES`, turned and cropped."""
    return ImageBlocks(
        saed_images(recipe, side, tell),
        TurnAndCrop(recipe.data.rotation, recipe.data.crop),
        size=recipe.per_block,
        seed=recipe.seed,
        shuffled=side == "train",
    )


def settle(net: nn.Module, source: ImageBlocks, blocks: int = 60, at_once: int = 4) -> None:
    """Measure the statistics that batch normalisation uses, anew and with the final weights.

    Those kept during training trail behind weights that change quickly, so much so after few
    steps that a network right in training is wrong when asked (Wu & Johnson,
    arXiv:2105.07576).

    Parameters
    ----------
    source : of training images.
    blocks : of images, taken ``at_once`` in a batch.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    device = next(net.parameters()).device
    net.train()
    with torch.no_grad():
        for first in range(0, blocks, at_once):
            made = [source.block(n)["image"] for n in range(first, first + at_once)]
            net(unit_images(torch.from_numpy(np.concatenate(made)).to(device)))
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
    net.eval()


@cache
def class_names(recipe: SaedTrainRecipe) -> tuple[str, ...]:
    """The look-alike classes that a recipe's space groups have along its zones."""
    from diskern.symmetry.lookalike import RA_ZONES, lookalike_labels
    from diskern.train.saed import label_settings

    groups = sorted({n for source in recipe.data.crystals for n in source.space_groups})
    table = lookalike_labels(label_settings(groups), recipe.data.zones or RA_ZONES)
    return tuple(entry.label for entry in table.classes)
