"""Recipes for residual networks on look-alike labels, after Ra et al. (2021)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from diskern.train.recipe import Count, SaedRecipe, Share, Table
from diskern.train.schedules import OptimiserTable, StepwiseTable
from diskern.train.train_recipe import CheckpointTable, Precision, TrainingTable


class ResNetTable(Table):
    """Which network, and where it starts."""

    depth: Literal[18, 34, 50, 101, 152] = 18
    width: Annotated[int, Field(ge=4, le=256)] = 64
    """Channels of the first stage; 64 is the published network."""
    pretrained: str = ""
    """A .safetensors file with torchvision's names, relative to the folder of the call; an empty
    word starts from random weights."""


class SaedTrainRecipe(TrainingTable):
    """One training on zone-axis images with look-alike labels.

    ``data.split.by = "crystal"`` parts crystals as the publication did.  With ``"prototype"``
    whole structure types are held out, and of the other crystals the share
    ``unseen_crystals`` too, so that one network can be measured on both.
    """

    kind: Literal["train-saed"]
    precision: Precision = "float32"
    data: SaedRecipe
    unseen_crystals: Share = 0.15
    store: str = ""
    """Folder that keeps the images between runs, relative to that of the call; an empty word
    holds them in memory."""
    per_block: Count = 8
    """Images drawn together; a step takes whole blocks."""
    net: ResNetTable = ResNetTable()
    optimiser: StepwiseTable | OptimiserTable
    checkpoint: CheckpointTable = CheckpointTable()

    @model_validator(mode="after")
    def _consistent(self) -> SaedTrainRecipe:
        batch = self.optimiser.batch
        if batch % self.per_block:
            raise ValueError(
                f"optimiser.batch={batch} must be a multiple of per_block={self.per_block}"
            )
        if not all(source.space_groups for source in self.data.crystals):
            raise ValueError("every table of data.crystals must name its space_groups")
        return self
