"""Recipes for the network that tells how large the disks of a scan are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from diskern.train.disks_recipe import DisksRecipe
from diskern.train.recipe import Share, Table
from diskern.train.schedules import OptimiserTable
from diskern.train.train_recipe import CheckpointTable, Precision, TrainingTable


class ProbeRadiusTable(Table):
    """Which network."""

    width: Annotated[int, Field(ge=4, le=256, multiple_of=4)] = 24


class ProbeRadiusTrainRecipe(TrainingTable):
    """One training on convergent-beam patterns of any radius."""

    kind: Literal["train-probe-radius"]
    precision: Precision = "float32"
    data: DisksRecipe
    without: Share = 0.1
    """Share of patterns blurred until no disk is left, or of noise: there is an answer for that."""
    round: Share = 0.25
    """Share of patterns on a round detector, whose rim is no disk's."""
    net: ProbeRadiusTable = ProbeRadiusTable()
    optimiser: OptimiserTable
    checkpoint: CheckpointTable = CheckpointTable()

    @model_validator(mode="after")
    def _whole_blocks(self) -> ProbeRadiusTrainRecipe:
        batch, block = self.optimiser.batch, self.data.per_block
        if batch % block:
            raise ValueError(
                f"optimiser.batch={batch} must be a multiple of data.per_block={block}"
            )
        return self
