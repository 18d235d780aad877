"""Zone-axis images drawn once and taken in random order: what a network on images learns from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.train.augment import TurnAndCrop
from diskern.train.materials import Material
from diskern.train.passes import Passes
from diskern.train.recipe import SplitTable
from diskern.train.saed import SaedSet, setting_title
from diskern.train.saed_recipe import SaedTrainRecipe
from diskern.train.samples import Block, split_of
from diskern.train.split import Split, split_materials

SIDES = ("train", "validation", "test")
"""Learned from; unseen crystals of known structure types; unseen structure types."""
FACTS = ("label", "crystal", "space_group", "zone", "energy", "camera_length")


@dataclass(frozen=True, eq=False)
class SaedImages:
    """All images of one side.

    Attributes
    ----------
    images : (N, S, S) uint8; a memory map where they are kept in a folder.
    facts : (N, …) arrays by name, see `FACTS`.
    classes : names of the labels.
    titles : of the crystals, by number.
    random : (M,) whether a crystal is a random one, of no known structure type.
    settings : of the crystals, titles of `diskern.train.saed.label_settings`.
    edges : (M,) cell edges in Å.
    """

    images: NDArray[np.uint8]
    facts: dict[str, NDArray[Any]]
    classes: tuple[str, ...]
    titles: tuple[str, ...]
    random: NDArray[np.bool_]
    settings: tuple[str, ...]
    edges: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.images)


class ImageBlocks:
    """Blocks of images in an order that every epoch draws anew, turned and cropped.

    Parameters
    ----------
    size : images in a block.
    shuffled : held-out sides are taken in one random order instead, the same at every pass.
    """

    def __init__(
        self,
        images: SaedImages,
        augment: TurnAndCrop,
        *,
        size: int,
        seed: int,
        shuffled: bool = True,
    ) -> None:
        self.images, self.augment, self.size = images, augment, size
        self.seed, self.shuffled = seed, shuffled
        self._passes = Passes(len(images), seed, shuffled=shuffled)

    @property
    def blocks(self) -> int:
        """Whole blocks and the rest, in one pass."""
        return -(-len(self.images) // self.size)

    def places(self, number: int) -> NDArray[np.int64]:
        """Images of a block; one pass begins where the one before ends."""
        row = np.arange(number * self.size, (number + 1) * self.size)
        if not self.shuffled:
            row = row[row < len(self.images)] if number < self.blocks else row
        return self._passes.at(row)

    def block(self, number: int) -> Block:
        """Images (B, crop, crop) float32 in [0, 1] with their facts."""
        places = self.places(number)
        facts = {name: array[places] for name, array in self.images.facts.items()}
        rng = np.random.default_rng([self.seed, 1, number])
        return self.augment({"image": self.images.images[places], **facts}, rng)


def sides_of(recipe: SaedTrainRecipe) -> dict[str, tuple[Material, ...]]:
    """Crystals of each of `SIDES`; published splits have no third."""
    first = split_of(recipe.data)
    if recipe.data.split.by == "crystal":
        return {"train": first.train, "validation": first.validation, "test": ()}
    table = SplitTable(by="crystal", validation=recipe.unseen_crystals)
    second = split_materials(first.train, table, recipe.data.seed)
    return {"train": second.train, "validation": second.validation, "test": first.validation}


def saed_images(
    recipe: SaedTrainRecipe, side: str, tell: Callable[[str], None] | None = None
) -> SaedImages:
    """Draw the images of one side, or open those that the recipe's ``store`` holds.

    Raises
    ------
    DiskernError
        For an unknown or empty side, or a store that cannot be written.
    """
    if side not in SIDES:
        raise DiskernError(f"side {side!r} is unknown; use {', '.join(SIDES)}")
    materials = sides_of(recipe)[side]
    if not materials:
        raise DiskernError(f"{recipe.name}: the {side} side has no crystal")
    dataset = SaedSet(recipe.data, "train", Split(materials, (), ()))
    if not recipe.store:
        images, facts = _drawn(dataset, None, tell)
    else:
        share = f"-{recipe.unseen_crystals:g}" if recipe.data.split.by == "prototype" else ""
        folder = Path(recipe.store) / f"{recipe.data.configuration}{share}-{side}"
        images, facts = _stored(dataset, folder, tell)
    crystals = [m.crystal(recipe.data.displacement) for m in materials]
    return SaedImages(
        images=images,
        facts=facts,
        classes=dataset.vocabulary["label"],
        titles=tuple(m.name for m in materials),
        random=np.array([m.formula == "" for m in materials]),
        settings=tuple(
            setting_title(crystal, m.space_group)
            for crystal, m in zip(crystals, materials, strict=True)
        ),
        edges=np.array([crystal.parameters[0] for crystal in crystals]),
    )


def _drawn(
    dataset: SaedSet, file: Path | None, tell: Callable[[str], None] | None
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
    """Every block of a set, its images in a file where one is given."""
    size = dataset.recipe.size
    shape = (len(dataset), size, size)
    images: NDArray[np.uint8] = (
        np.zeros(shape, dtype=np.uint8)
        if file is None
        else np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    )
    facts: list[Block] = []
    for number in range(dataset.blocks):
        made = dataset.block(number)
        start = number * dataset.block_size
        images[start : start + dataset.block_size] = made["image"]
        facts.append({name: made[name] for name in FACTS})
        if tell is not None and number % 50 == 0:
            tell(f"drawing images: {start} of {len(dataset)}")
    return images, {name: np.concatenate([f[name] for f in facts]) for name in FACTS}


def _stored(
    dataset: SaedSet, folder: Path, tell: Callable[[str], None] | None
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
    """Images of a folder that stands there whole or not at all."""
    try:
        if not folder.exists():
            draft = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
            draft.mkdir(parents=True, exist_ok=True)
            _, facts = _drawn(dataset, draft / "image.npy", tell)
            for name, array in facts.items():
                np.save(draft / f"{name}.npy", array)
            recipe = dataset.recipe.model_dump(mode="json")
            (draft / "recipe.json").write_text(json.dumps(recipe, indent=1), encoding="utf-8")
            try:
                draft.rename(folder)
            except OSError:
                # Another process was quicker; what it wrote is the same.
                shutil.rmtree(draft)
        images = np.load(folder / "image.npy", mmap_mode="r")
        return images, {name: np.load(folder / f"{name}.npy") for name in FACTS}
    except (OSError, ValueError) as error:
        raise DiskernError(f"images cannot be kept in {folder}: {error}") from error
