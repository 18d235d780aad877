"""Where learned symmetry holds: one property of the patterns at a time, within narrow bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from diskern.symmetry.labels import Level
from diskern.train.materials import Material
from diskern.train.recipe import Range
from diskern.train.spot_sets_recipe import SpotSetsRecipe
from diskern.train.symmetry_answers import (
    DYNAMICAL,
    blocks_of,
    dynamical,
    held_out,
    is_real,
    network_answers,
)
from diskern.train.symmetry_evaluate import rows_of
from diskern.train.symmetry_judges import Judge

Band = dict[str, Any]


def _words(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value:.0e}".replace("e+0", "e")


def _spans(field: str, *edges: float) -> dict[str, Band]:
    """Bands between neighbouring edges."""
    return {
        f"{_words(low)}–{_words(high)}": {field: Range(low=low, high=high)}
        for low, high in pairwise(edges)
    }


BANDS: Mapping[str, Mapping[str, Band]] = {
    "thickness, Å": _spans("thickness", 20, 50, 100, 200, 400, 800),
    "tilt, degrees": {_words(v): {"tilt": Range(low=v, high=v)} for v in (0.05, 0.2, 0.5, 1, 2)},
    "dose, electrons": _spans("dose", 300, 3e3, 3e4, 3e5, 3e6),
    "scale error, %": {_words(100 * v): {"scale_error": v} for v in (0.0, 0.01, 0.03, 0.06)},
}
"""What of the recipe is held within each band; everything else is drawn as in training."""
LEVELS: tuple[Level, ...] = ("system", "extinction_group")


def band_rows(
    net: Judge,
    recipe: SpotSetsRecipe,
    *,
    blocks: int,
    materials: Sequence[Material] | None = None,
    counts: Sequence[int] = (1, 3, 10),
    bands: Mapping[str, Mapping[str, Band]] = BANDS,
    tell: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Scores on dynamical patterns of held-out known structures, band by band.

    The same crystals and directions stand in every band, so that bands compare better than their
    standard errors would let them.

    Parameters
    ----------
    blocks : crystals of each band.
    materials : other crystals than the known structures that the recipe holds out.
    """
    out: list[dict[str, Any]] = []
    for name, parts in bands.items():
        for band, changes in parts.items():
            if tell is not None:
                tell(f"{name} {band}")
            source = held_out(recipe, keep=is_real, materials=materials, **DYNAMICAL, **changes)
            made = dynamical(blocks_of(source, blocks))
            answers = network_answers(net, made, counts)
            facts = {"source": "network", "of": name, "band": band}
            out += rows_of(answers, net=net, levels=LEVELS, facts=facts)
    return out
