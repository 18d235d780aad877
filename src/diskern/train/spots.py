"""Spot lists on the fly: what a spot finder reports of a random crystal in a random microscope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.train.camera import DRAWN, SpotLists, record
from diskern.train.exposures import Exposure, expose
from diskern.train.recipe import SpotsRecipe
from diskern.train.samples import FACTS, Block, Field, TrainingSet


class SpotSet(TrainingSet):
    """A block is one crystal: ``per_crystal`` patterns, so sets of patterns can be drawn from it.

    See `SpotsRecipe`.  Blocks beyond the epoch are new draws.
    """

    recipe: SpotsRecipe

    @property
    def fields(self) -> Mapping[str, Field]:
        """Spots strongest first, padded with zeros."""
        n = self.recipe.max_spots
        return {
            **FACTS,
            "q": Field((n, 2), "float32", "(q_x, q_y) of each spot", "1/Å"),
            "intensity": Field((n,), "float32", "relative to the strongest spot; 0 where padded"),
            "count": Field((), "int16", "number of spots"),
            "hkl": Field((n, 3), "int16", "indices; 0 0 0 of false spots and of another grain"),
            "orientation": Field((3, 3), "float32", "rotation crystal → lab"),
        }

    @property
    def block_size(self) -> int:
        """Patterns of one crystal."""
        return self.recipe.per_crystal

    @property
    def blocks(self) -> int:
        """Crystals in an epoch."""
        return self.recipe.blocks

    def block(self, number: int) -> Block:
        """All patterns of one crystal, chosen by the block's number."""
        rng = self.rng(number)
        chosen = int(rng.integers(len(self.materials)))
        crystal = self.materials[chosen].crystal(self.recipe.displacement)
        exposures = expose(self.recipe, crystal, rng)
        lists = joined_lists(exposures)
        if not self.recipe.clean:
            lists = record(lists, rng)
        arrays = strongest(lists, self.recipe.max_spots)
        made = {**self.facts(number, chosen, **exposure_facts(exposures)), **arrays}
        made["orientation"] = np.concatenate([e.orientations for e in exposures]).astype(np.float32)
        return {name: array[: self.block_size] for name, array in made.items()}

    def facts(self, number: int, material: int, **values: Any) -> Block:
        """See `TrainingSet.facts`; per-pattern values may be longer than the block."""
        cut = {k: v[: self.block_size] for k, v in values.items() if isinstance(v, np.ndarray)}
        return super().facts(number, material, **{**values, **cut})


def exposure_facts(exposures: list[Exposure]) -> dict[str, NDArray[Any]]:
    """Zone, thickness and energy of every pattern."""
    sizes = [len(e.orientations) for e in exposures]
    return {
        "zone": np.repeat([e.zone for e in exposures], sizes, axis=0),
        "thickness": np.repeat([e.spots.thickness or 0.0 for e in exposures], sizes),
        "energy": np.repeat([e.spots.energy or 0.0 for e in exposures], sizes),
    }


def joined_lists(exposures: list[Exposure]) -> SpotLists:
    """The `DRAWN` strongest spots of each pattern, of all directions in one padded table."""
    longest = min(DRAWN, max(e.spots.intensity.shape[1] for e in exposures))
    shape = (sum(len(e.orientations) for e in exposures), longest)
    joined = SpotLists(np.zeros((*shape, 2)), np.zeros(shape), np.zeros((*shape, 3), np.int64))
    start = 0
    for exposure in exposures:
        rows = slice(start, start + len(exposure.orientations))
        for name in ("q", "intensity", "hkl"):
            spots = getattr(exposure.spots, name)[:, :longest]  # they come strongest first
            getattr(joined, name)[rows, : spots.shape[1]] = spots
        start = rows.stop
    return joined


def strongest(lists: SpotLists, count: int) -> Block:
    """The arrays of a block: at most ``count`` spots of each pattern, strongest first."""
    lists = lists.at(np.argsort(-lists.intensity, axis=1, kind="stable")[:, :count])
    b, n = lists.intensity.shape
    seen = lists.intensity > 0
    arrays: Block = {
        "q": np.zeros((b, count, 2), np.float32),
        "intensity": np.zeros((b, count), np.float32),
        "hkl": np.zeros((b, count, 3), np.int16),
        "count": seen.sum(1).astype(np.int16),
    }
    arrays["q"][:, :n] = lists.q * seen[..., None]
    arrays["intensity"][:, :n] = lists.intensity / np.maximum(lists.intensity[:, :1], 1e-30)
    arrays["hkl"][:, :n] = lists.hkl * seen[..., None]
    return arrays
