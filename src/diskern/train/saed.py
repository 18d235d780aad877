"""Zone-axis patterns with look-alike labels: the set of Ra et al., RSC Adv. 11, 38307 (2021).

Each crystal is seen along 16 zone axes under 20 settings of the microscope (four voltages times
five camera lengths by default; the paper does not list its own).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.crystal.spacegroups import space_group
from diskern.crystal.symmetry import symmetry_dataset
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.render import render_spots
from diskern.simulate.structure_factors import Reflections
from diskern.symmetry.lookalike import (
    RA_SETTINGS,
    RA_ZONES,
    LookAlikeTable,
    Setting,
    Zone,
    lookalike_labels,
)
from diskern.train.recipe import SaedRecipe
from diskern.train.samples import FACTS, Block, Field, TrainingSet
from diskern.train.split import Side, Split

SPLIT_GROUP = 227
"""The group whose special positions 8a/8b and 16c/16d add absences of their own."""


class SaedSet(TrainingSet):
    """A block is one crystal along one zone axis, under every setting.

    See `SaedRecipe`; its crystals must be cubic, for the labels compare shapes of patterns.
    """

    recipe: SaedRecipe

    def __init__(
        self, recipe: SaedRecipe, side: Side = "train", split: Split | None = None
    ) -> None:
        super().__init__(recipe, side, split)
        everyone = {m.space_group for m in self.materials}
        other = sorted(n for n in everyone if space_group(n).system != "cubic")
        if other:
            raise DiskernError(
                f"{recipe.name}: look-alike labels need cubic crystals; space_groups offers "
                f"{other[:5]}"
            )
        self.zones: tuple[Zone, ...] = recipe.zones or RA_ZONES
        self._table = lru_cache(maxsize=1)(self._reflections)

    @cached_property
    def labels(self) -> LookAlikeTable:
        """Look-alike classes of every group that the recipe's sources may give."""
        listed = {n for s in self.recipe.crystals for n in s.space_groups}
        groups = sorted(listed or {m.space_group for m in self.materials})
        return lookalike_labels(label_settings(groups), self.zones)

    @property
    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the look-alike classes."""
        return {"label": tuple(c.label for c in self.labels.classes)}

    @property
    def fields(self) -> Mapping[str, Field]:
        """The image and its label."""
        n = self.recipe.size
        return {
            **FACTS,
            "image": Field((n, n), "uint8", f"255 (I/max)^{self.recipe.gamma:g}"),
            "label": Field((), "int16", "look-alike class, see vocabulary"),
            "camera_length": Field((), "float32", "of the setting", "m"),
            "pixel_size": Field((), "float32", "at the direct beam", "1/Å per px"),
        }

    @property
    def block_size(self) -> int:
        """Number of settings."""
        return len(self.recipe.voltages) * len(self.recipe.camera_lengths)

    @property
    def blocks(self) -> int:
        """Crystals times zone axes."""
        return len(self.materials) * len(self.zones)

    def block(self, number: int) -> Block:
        """One crystal along one zone axis under every setting.

        Raises
        ------
        DiskernError
            For a number beyond the set.
        """
        if not 0 <= number < self.blocks:
            raise DiskernError(f"block {number} of {self.recipe.name} is none of {self.blocks}")
        chosen, place = divmod(number, len(self.zones))
        zone, table = self.zones[place], self._table(chosen)
        rotation = zone_axis_orientation(table.crystal, zone)
        images, facts = self._images(table, rotation)
        title = setting_title(table.crystal, self.materials[chosen].space_group)
        name = self.labels.label(title, zone)
        made = self.facts(
            number, chosen, zone=zone, thickness=self.recipe.thickness, energy=facts.pop("energy")
        )
        label = self.vocabulary["label"].index(name)
        made["label"] = np.full(self.block_size, label, dtype=np.int16)
        return {**made, "image": images, **facts}

    def _reflections(self, chosen: int) -> Reflections:
        crystal = self.materials[chosen].crystal(self.recipe.displacement)
        table = Reflections.of(crystal, self.recipe.g_max)
        return table.select(table.allowed)

    def _images(self, table: Reflections, rotation: Rotation) -> tuple[NDArray[np.uint8], Block]:
        recipe, images, facts = self.recipe, [], []
        for voltage in recipe.voltages:
            spots = simulate_saed_batch(
                table, rotation, energy=voltage * 1e3, thickness=recipe.thickness
            )[0]
            for length in recipe.camera_lengths:
                image = render_spots(
                    spots,
                    (recipe.size, recipe.size),
                    sigma=recipe.sigma,
                    camera_length=length,
                    detector_pixel=recipe.detector_pixel,
                    normalisation="max",
                )
                images.append(np.rint(255 * np.clip(image, 0, 1) ** recipe.gamma))
                scale = recipe.detector_pixel * 1e-6 / (length * wavelength(voltage * 1e3))
                facts.append((voltage * 1e3, length, scale))
        energy, lengths, scales = np.array(facts, dtype=np.float32).T
        return np.array(images, dtype=np.uint8), {
            "energy": energy,
            "camera_length": lengths,
            "pixel_size": scales,
        }


def label_settings(groups: list[int]) -> list[Setting]:
    """The settings whose look-alikes are told apart: 227 in its three faces, others as they are."""
    faces = [s for s in RA_SETTINGS if s.number == SPLIT_GROUP]
    return [s for n in groups for s in (faces if n == SPLIT_GROUP else [Setting(n)])]


def setting_title(crystal: Crystal, number: int) -> str:
    """Which of `label_settings` a crystal is, by the Wyckoff positions its atoms take."""
    if number != SPLIT_GROUP:
        return str(number)
    found, _ = symmetry_dataset(crystal, 0.01)
    letters = set(found.wyckoffs)
    if letters <= {"a", "b"}:
        return "227-8a/8b"
    return "227-16c/16d" if letters <= {"c", "d"} else "227-general"
