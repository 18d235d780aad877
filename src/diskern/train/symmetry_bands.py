"""Where learned symmetry holds: one property of the patterns at a time, within narrow bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diskern.symmetry.labels import Level
from diskern.symmetry.learned import SymmetryNet
from diskern.train.materials import Material
from diskern.train.recipe import Range
from diskern.train.spot_sets_recipe import SpotSetsRecipe
from diskern.train.symmetry_evaluate import (
    blocks_of,
    held_out,
    is_real,
    network_answers,
    rows_of,
)

BANDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "thickness, Å": {
        "20–50": {"thickness": Range(low=20, high=50)},
        "50–100": {"thickness": Range(low=50, high=100)},
        "100–200": {"thickness": Range(low=100, high=200)},
        "200–400": {"thickness": Range(low=200, high=400)},
        "400–800": {"thickness": Range(low=400, high=800)},
    },
    "tilt, degrees": {
        "0.05": {"tilt": Range(low=0.05, high=0.05)},
        "0.2": {"tilt": Range(low=0.2, high=0.2)},
        "0.5": {"tilt": Range(low=0.5, high=0.5)},
        "1": {"tilt": Range(low=1, high=1)},
        "2": {"tilt": Range(low=2, high=2)},
    },
    "dose, electrons": {
        "3e2–3e3": {"dose": Range(low=3e2, high=3e3)},
        "3e3–3e4": {"dose": Range(low=3e3, high=3e4)},
        "3e4–3e5": {"dose": Range(low=3e4, high=3e5)},
        "3e5–3e6": {"dose": Range(low=3e5, high=3e6)},
    },
    "scale error, %": {
        "0": {"scale_error": 0.0},
        "1": {"scale_error": 0.01},
        "3": {"scale_error": 0.03},
        "6": {"scale_error": 0.06},
    },
}
"""What of the recipe is held within each band; everything else is drawn as in training."""
LEVELS: tuple[Level, ...] = ("system", "extinction_group")


def band_rows(
    net: SymmetryNet,
    recipe: SpotSetsRecipe,
    *,
    blocks: int,
    materials: Sequence[Material] | None = None,
    counts: Sequence[int] = (1, 3, 10),
    bands: Mapping[str, Mapping[str, Mapping[str, Any]]] = BANDS,
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
    dynamical: dict[str, Any] = {"bloch": 1.0, "bloch_volume": 1e3}
    for name, parts in bands.items():
        for band, changes in parts.items():
            if tell is not None:
                tell(f"{name} {band}")
            source = held_out(recipe, keep=is_real, materials=materials, **dynamical, **changes)
            made = blocks_of(source, blocks)
            made = [b for b in made if b["dynamical"].all()]
            answers = network_answers(net, made, counts)
            facts = {"source": "network", "of": name, "band": band}
            out += rows_of(answers, net=net, levels=LEVELS, facts=facts)
    return out
