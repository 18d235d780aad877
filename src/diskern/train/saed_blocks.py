"""Images of look-alike classes in blocks, and what a network needs of them after its training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from diskern.nets.resnet import unit_images
from diskern.train.augment import TurnAndCrop
from diskern.train.saed_images import ImageBlocks, saed_images
from diskern.train.saed_recipe import SaedTrainRecipe
from diskern.train.task import Tell


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
