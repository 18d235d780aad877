"""Images on the fly: a random crystal in a random microscope, as its camera records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.simulate.instrument import Instrument, Labels
from diskern.simulate.render import draw_gaussians
from diskern.train.exposures import Exposure, draw, expose
from diskern.train.recipe import PatternsRecipe
from diskern.train.samples import FACTS, Block, Field, TrainingSet
from diskern.train.spots import exposure_facts, joined_lists

Floats = NDArray[np.float64]


class PatternSet(TrainingSet):
    """A block is one crystal; ``per_instrument`` neighbours come from one camera.

    See `PatternsRecipe`.  Spots are drawn where the camera's geometry puts them, so nothing is
    resampled.  Blocks beyond the epoch are new draws.
    """

    recipe: PatternsRecipe

    @property
    def fields(self) -> Mapping[str, Field]:
        """The image, where its reflections are, and the scale."""
        n, p = self.recipe.size, self.recipe.points
        return {
            **FACTS,
            "image": Field((n, n), "float32", "recorded image; the mean is 1"),
            "points": Field((p, 2), "float32", "row and column of reflections, -1 if padded", "px"),
            "visible": Field((p,), "bool", "False where a stop or the edge hides the reflection"),
            "flux": Field((p,), "float32", "relative to the strongest reflection"),
            "hkl": Field((p, 3), "int16", "indices"),
            "centre": Field((2,), "float32", "row and column of the direct beam", "px"),
            "pixel_size": Field((), "float32", "true scale before distortion", "1/Å per px"),
            "orientation": Field((3, 3), "float32", "rotation crystal → lab"),
        }

    @property
    def block_size(self) -> int:
        """Images of one crystal."""
        return self.recipe.per_crystal

    @property
    def blocks(self) -> int:
        """Crystals in an epoch."""
        return self.recipe.blocks

    def block(self, number: int) -> Block:
        """All images of one crystal, chosen by the block's number."""
        rng = self.rng(number)
        chosen = int(rng.integers(len(self.materials)))
        crystal = self.materials[chosen].crystal(self.recipe.displacement)
        exposures = expose(self.recipe, crystal, rng)
        facts = {k: v[: self.block_size] for k, v in exposure_facts(exposures).items()}
        made = self.facts(number, chosen, **facts)
        made.update(self._record(exposures, rng))
        turns = np.concatenate([e.orientations for e in exposures])
        made["orientation"] = turns[: self.block_size].astype(np.float32)
        return made

    def _record(self, exposures: list[Exposure], rng: np.random.Generator) -> Block:
        lists = joined_lists(exposures)
        parts = []
        for start in range(0, self.block_size, self.recipe.per_instrument):
            part = slice(start, min(start + self.recipe.per_instrument, self.block_size))
            parts.append(
                self._one_camera(lists.q[part], lists.intensity[part], lists.hkl[part], rng)
            )
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _one_camera(
        self, q: Floats, flux: Floats, hkl: NDArray[np.int64], rng: np.random.Generator
    ) -> Block:
        """Images of (B, N) reflections by one instrument."""
        n = self.recipe.size
        pixel_size = float(draw(self.recipe.reach, rng)) / (n / 2)
        instrument = Instrument.draw(int(rng.integers(2**31)), (n, n), pixel_size)
        flat = q[..., ::-1].reshape(-1, 2) / pixel_size + n // 2
        blank = np.zeros((n, n), dtype=np.float32)
        labels = instrument.place(Labels.of(blank, flat, pixel_size=pixel_size))
        where = labels.points.reshape(q.shape)
        sigma = float(draw(self.recipe.sigma, rng))
        clean = draw_gaussians(where[..., 0], where[..., 1], flux, (n, n), sigma)
        # A pattern with nothing on the detector still has its direct beam.
        clean += np.float32(1e-6 * max(float(clean.max()), 1e-6))
        images, labels = instrument.recorder().apply(clean, labels)
        images = images / np.maximum(np.abs(images.mean((1, 2), keepdims=True)), 1e-6)
        return {
            "image": images.astype(np.float32),
            **self._labels(labels, flux, hkl),
            "centre": np.tile(labels.centre, (len(q), 1)).astype(np.float32),
            "pixel_size": np.full(len(q), pixel_size, dtype=np.float32),
        }

    def _labels(self, labels: Labels, flux: Floats, hkl: NDArray[np.int64]) -> Block:
        """The strongest reflections that fall on the image, padded."""
        b, count = len(flux), self.recipe.points
        points = labels.points.reshape(b, -1, 2)
        visible = labels.visible.reshape(b, -1) & (flux > 0)
        inside = (flux > 0) & (points > -0.5).all(-1) & (points < self.recipe.size - 0.5).all(-1)
        order = np.argsort(-np.where(inside, flux, 0), axis=1, kind="stable")[:, :count]
        rows = np.arange(b)[:, None]
        kept = inside[rows, order]
        size = np.where(kept, flux[rows, order], 0)

        def padded(array: NDArray[Any], blank: float, dtype: str) -> NDArray[Any]:
            out = np.full((b, count, *array.shape[2:]), blank, dtype)
            out[:, : kept.shape[1]][kept] = array[kept]
            return out

        return {
            "points": padded(points[rows, order], -1, "float32"),
            "visible": padded(visible[rows, order], 0, "bool"),
            "flux": padded(size / np.maximum(size[:, :1], 1e-30), 0, "float32"),
            "hkl": padded(hkl[rows, order], 0, "int16"),
        }
