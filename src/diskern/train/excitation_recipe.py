"""Recipes for the network that reads excitation errors from what diffraction draws in disks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from diskern.train.disks_recipe import DisksRecipe
from diskern.train.recipe import Count, Share, Table
from diskern.train.schedules import OptimiserTable
from diskern.train.train_recipe import CheckpointTable, TrainingTable


class ExcitationTable(Table):
    """Which network."""

    width: Annotated[int, Field(ge=8, le=1024)] = 128


class ExcitationTrainRecipe(TrainingTable):
    """One training: patterns are drawn and their disks measured once, then seen many times."""

    kind: Literal["train-excitation"]
    data: DisksRecipe
    proposer: str = "proposer"
    """Name or file of the weights that find the disks."""
    blocks: Count = 1500
    """Blocks of the data that are drawn to learn from."""
    held: Count = 150
    """Blocks of either held-out side."""
    store: str = ""
    """Folder that keeps what was measured between runs, relative to that of the call; an empty
    word holds it in memory."""
    per_block: Count = 16
    """Patterns taken together; a step takes whole blocks."""
    dropped: Share = 0.5
    """Largest share of a pattern's disks that is hidden at random in training."""
    net: ExcitationTable = ExcitationTable()
    optimiser: OptimiserTable
    checkpoint: CheckpointTable = CheckpointTable()

    @model_validator(mode="after")
    def _whole_blocks(self) -> ExcitationTrainRecipe:
        batch = self.optimiser.batch
        if batch % self.per_block:
            raise ValueError(
                f"optimiser.batch={batch} must be a multiple of per_block={self.per_block}"
            )
        return self
