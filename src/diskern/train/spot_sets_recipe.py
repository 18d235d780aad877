"""What decides the pattern sets that a spot-set network learns symmetry from, and its training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from diskern.train.recipe import Count, Kilovolts, Positive, Range, Recipe, Share
from diskern.train.schedules import OptimiserTable
from diskern.train.spot_negatives import KINDS, NoCrystal
from diskern.train.train_recipe import CheckpointTable, StartTable, TrainingTable


class SpotSetsRecipe(Recipe):
    """Sets of spot patterns of one crystal, every diffraction symbol equally often.

    A block is one crystal, or several patterns that show none.
    """

    per_block: Annotated[int, Field(ge=1, le=64)] = 8
    """Patterns of one crystal, each along a direction of its own."""
    max_spots: Annotated[int, Field(ge=12, le=512)] = 96
    zone_share: Share = 0.92
    """Share of patterns along zone axes; the others are in general directions."""
    max_index: Annotated[int, Field(ge=1, le=8)] = 3
    short_zones: Annotated[float, Field(ge=0, le=10)] = 3.0
    """Zones are drawn with this power of 1/length: microscopists look for the short ones."""
    tilt: Range = Range(low=0.05, high=1.0)
    """Degrees off the direction, rms, drawn for each crystal."""
    voltages: Annotated[tuple[Kilovolts, ...], Field(min_length=1)] = (80.0, 120.0, 200.0, 300.0)
    thickness: Range = Range(low=30, high=600)
    """Å"""
    bend: Range = Range(low=1.0, high=8.0)
    """Width of the rel-rods over that of a flat foil."""
    dose: Range = Range(low=3e3, high=3e6)
    """Electrons in all diffracted beams of a pattern."""
    scale_error: Annotated[float, Field(ge=0, le=0.1)] = 0.02
    """Standard deviation of the relative error of the scale."""
    double_diffraction: Share = 0.25
    """Share of kinematic blocks whose twice-scattered beams light extinct reflections."""
    bloch: Share = 0.5
    """Share of the blocks of small cells that are solved by Bloch waves."""
    bloch_volume: Positive = 300.0
    """Å³ of the cell up to which Bloch waves are solved."""
    negatives: Share = 0.1
    """Share of blocks without a crystal."""
    made_up: Share = 0.6
    """Share of these that show nothing at all; the others show two grains."""
    made_up_kinds: Annotated[tuple[NoCrystal, ...], Field(min_length=1)] = KINDS
    """What is shown then, each as often."""
    real_share: Share = 0.4
    """Share of blocks whose crystal is no random one, where its space group has any."""
    g_max: Annotated[float, Field(ge=0.6, le=4)] = 1.4
    clean: bool = False
    """Leave out everything that the instrument does."""
    reuse: Count = 4
    """How often a crystal comes again within a window of blocks, each time another half of its
    beams, and recorded anew."""
    window: Count = 1024
    """Blocks of a window; the diffracted beams of its crystals are kept in memory."""
    sheet: Count = 1
    """Blocks that are made together, which is quicker; it decides what is drawn for them."""
    wilson_share: Share = 0.0
    """Share of the training side's sheets that are random potentials, which have nothing but
    their symmetry (`diskern.train.spot_wilson`)."""
    repeats: Count = 1
    """How often each run of training sheets comes; sets are drawn anew each time."""


class SpotNetTable(StartTable):
    """The spot-set network."""

    architecture: Literal["spot_set"] = "spot_set"
    width: Annotated[int, Field(ge=8, le=512)] = 80
    layers: Annotated[int, Field(ge=1, le=12)] = 2
    heads: Annotated[int, Field(ge=1, le=16)] = 5
    fact_width: Annotated[int, Field(ge=8, le=2048)] = 256
    fact_layers: Annotated[int, Field(ge=1, le=12)] = 3
    set_width: Annotated[int, Field(ge=8, le=1024, multiple_of=4)] = 128
    set_layers: Annotated[int, Field(ge=1, le=8)] = 2

    @model_validator(mode="after")
    def _whole_heads(self) -> SpotNetTable:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")
        return self


class ImageNetTable(StartTable):
    """The network that looks at images of the spots instead."""

    architecture: Literal["image_set"]
    depth: Literal[18, 34, 50, 101, 152] = 18
    width: Annotated[int, Field(ge=4, le=128)] = 32
    """Channels of the first stage; 64 is the published network."""
    size: Annotated[int, Field(ge=32, le=512)] = 96
    """px of an image's side."""
    set_width: Annotated[int, Field(ge=8, le=1024, multiple_of=4)] = 128
    set_layers: Annotated[int, Field(ge=1, le=8)] = 2


def _architecture(values: Any) -> str:
    if isinstance(values, dict):
        return str(values.get("architecture", "spot_set"))
    return str(getattr(values, "architecture", ""))


AnyNetTable = Annotated[
    Annotated[SpotNetTable, Tag("spot_set")] | Annotated[ImageNetTable, Tag("image_set")],
    Discriminator(_architecture),
]


class SpotSetTrainRecipe(TrainingTable):
    """One training of a network that tells symmetry from sets of patterns, from seed to weights."""

    kind: Literal["train-spot-set"]
    scale_known: Share = 0.6
    """Share of sets whose scale the network is told."""
    sets: Annotated[tuple[int, ...], Field(min_length=1)] = (2, 3, 5, 8)
    """Sizes of the sets drawn from each block, beside each pattern alone."""
    refusal_weight: Positive = 0.5
    data: SpotSetsRecipe
    net: AnyNetTable = SpotNetTable()
    optimiser: OptimiserTable
    checkpoint: CheckpointTable = CheckpointTable()

    @model_validator(mode="after")
    def _whole_blocks(self) -> SpotSetTrainRecipe:
        batch, block = self.optimiser.batch, self.data.per_block
        if batch % block:
            raise ValueError(
                f"optimiser.batch={batch} must be a multiple of data.per_block={block}"
            )
        if max(self.sets) > block:
            raise ValueError(f"sets of {max(self.sets)} need data.per_block of as many")
        return self
