"""What every training set is: a numbered row of samples made block by block.

A block is the unit of randomness and of work.  Everything in it follows from the recipe's seed,
the side of the split and the block's number, so any process can make any block and gets the
same bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.train.materials import Material, materials_of
from diskern.train.recipe import AnyRecipe, Recipe
from diskern.train.split import SIDES, Side, Split, prototype_family, split_materials

Block = dict[str, NDArray[Any]]
"""Arrays whose first axis is the sample."""


@dataclass(frozen=True)
class Field:
    """One array of a sample.

    Attributes
    ----------
    shape : of one sample.
    unit : ``""`` where it has none.
    meaning : a line for the shard's own documentation.
    """

    shape: tuple[int, ...]
    dtype: str
    meaning: str
    unit: str = ""


FACTS: dict[str, Field] = {
    "crystal": Field((), "int32", "row of the crystal in the manifest"),
    "space_group": Field((), "int16", "1 to 230, of the crystal"),
    "zone": Field((3,), "int16", "[uvw] along the beam; 0 0 0 for a general direction"),
    "thickness": Field((), "float32", "foil thickness", "Å"),
    "energy": Field((), "float32", "beam energy", "eV"),
    "seed": Field((3,), "int64", "seed of the recipe, side (0 train, 1 validation), block"),
}
"""What every sample of every set says of itself."""


class TrainingSet(ABC):
    """Samples of one side of a recipe's split.

    Parameters
    ----------
    split : made by `split_of`, where both sides are wanted; made anew by default.

    Attributes
    ----------
    materials : the crystals of this side.
    """

    def __init__(self, recipe: AnyRecipe, side: Side = "train", split: Split | None = None) -> None:
        self.recipe: AnyRecipe = recipe
        self.side: Side = side
        self.materials: tuple[Material, ...] = (split or split_of(recipe)).side(side)
        if not self.materials:
            raise DiskernError(
                f"{recipe.name}: the {side} side has no crystal; change split.validation or "
                "offer more prototypes"
            )

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, Field]:
        """The arrays of a sample, by name."""

    @property
    @abstractmethod
    def block_size(self) -> int:
        """Samples in a block."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Blocks in the set, or in one epoch of it."""

    @abstractmethod
    def block(self, number: int) -> Block:
        """The samples of a block; sets made on the fly take any number from 0 on."""

    def __len__(self) -> int:
        return self.blocks * self.block_size

    def rng(self, number: int, *more: int) -> np.random.Generator:
        """The one source of randomness of a block."""
        return np.random.default_rng([*self.seed_of(number), *more])

    def seed_of(self, number: int) -> tuple[int, int, int]:
        """Recipe's seed, side, block."""
        return self.recipe.seed, SIDES.index(self.side), number

    def facts(self, number: int, material: int, **values: Any) -> Block:
        """The `FACTS` of a block of one crystal; ``values`` are broadcast to its size."""
        given = {
            "crystal": material,
            "space_group": self.materials[material].space_group,
            "seed": self.seed_of(number),
            **values,
        }
        out: Block = {}
        for name, field in FACTS.items():
            shape = (self.block_size, *field.shape)
            out[name] = np.broadcast_to(np.asarray(given[name], field.dtype), shape).copy()
        return out

    @property
    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the classes of each field that holds class numbers."""
        return {}


def split_of(recipe: AnyRecipe) -> Split:
    """Both sides of a recipe."""
    return split_materials(materials_of(recipe), recipe.split, recipe.seed)


@lru_cache(maxsize=8)
def sides_of(recipe: Recipe) -> tuple[tuple[Material, ...], ...]:
    """Materials of train, validation and test; no prototype is in two of them.

    Where a network is calibrated on one half of what is held out, it is measured on the other.
    """
    split = split_materials(materials_of(recipe), recipe.split, recipe.seed)
    families = sorted({prototype_family(m) for m in split.validation})
    tested = set(families[::2])
    return (
        split.train,
        tuple(m for m in split.validation if prototype_family(m) not in tested),
        tuple(m for m in split.validation if prototype_family(m) in tested),
    )


def training_set(recipe: AnyRecipe, side: Side = "train", split: Split | None = None) -> Any:
    """The training set of a recipe, by its kind.

    Returns
    -------
    A `TrainingSet`.
    """
    from importlib import import_module

    module, name = _KINDS[recipe.kind]
    return getattr(import_module(module), name)(recipe, side, split)


_KINDS = {
    "saed": ("diskern.train.saed", "SaedSet"),
    "quartets": ("diskern.train.quartets", "QuartetSet"),
    "spots": ("diskern.train.spots", "SpotSet"),
    "patterns": ("diskern.train.patterns", "PatternSet"),
}
