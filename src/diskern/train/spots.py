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

    def padded(array: NDArray[Any]) -> NDArray[Any]:
        array = array[:, :longest]  # spots come strongest first
        more = [(0, 0), (0, longest - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
        return np.pad(array, more)

    q, intensity, hkl = (
        np.concatenate([padded(getattr(e.spots, name)) for e in exposures])
        for name in ("q", "intensity", "hkl")
    )
    return SpotLists(q, intensity, hkl)


def strongest(lists: SpotLists, count: int) -> Block:
    """The arrays of a block: at most ``count`` spots of each pattern, strongest first."""
    order = np.argsort(-lists.intensity, axis=1, kind="stable")[:, :count]
    rows = np.arange(len(order))[:, None]
    intensity = lists.intensity[rows, order]
    seen = intensity > 0
    top = np.maximum(intensity[:, :1], 1e-30)
    arrays: Block = {
        "q": lists.q[rows, order] * seen[..., None],
        "intensity": intensity / top,
        "hkl": lists.hkl[rows, order] * seen[..., None],
    }
    more = count - order.shape[1]
    types = {"q": np.float32, "intensity": np.float32, "hkl": np.int16}
    out = {
        name: np.pad(a, [(0, 0), (0, more)] + [(0, 0)] * (a.ndim - 2)).astype(types[name])
        for name, a in arrays.items()
    }
    out["count"] = seen.sum(1).astype(np.int16)
    return out
