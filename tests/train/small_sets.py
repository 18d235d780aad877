"""Small training sets, made once."""

from __future__ import annotations

from functools import cache
from typing import Any

from diskern.train.recipe import AnyRecipe, load_recipe
from diskern.train.samples import split_of, training_set
from diskern.train.split import Side

KINDS = ("saed", "quartets", "spots", "patterns")


@cache
def small_set(kind: str, side: Side = "train", **changes: Any) -> Any:
    """The shipped small recipe of a kind, with values changed."""
    return training_set(changed(kind, **changes), side, _split(kind))


def changed(kind: str, **changes: Any) -> AnyRecipe:
    recipe = load_recipe(f"{kind}-small")
    return recipe.model_copy(update=changes)


@cache
def _split(kind: str) -> Any:
    return split_of(load_recipe(f"{kind}-small"))
