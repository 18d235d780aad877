"""Every set keeps what its fields promise, and follows from its seeds alone."""

from __future__ import annotations

import numpy as np
import pytest
from small_sets import KINDS, changed, small_set

from diskern.errors import DiskernError
from diskern.train.recipe import parse_recipe
from diskern.train.samples import training_set


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_have_the_fields_they_promise(kind: str) -> None:
    made = small_set(kind)
    block = made.block(made.blocks - 1)
    assert block.keys() == made.fields.keys()
    for name, field in made.fields.items():
        assert block[name].shape == (made.block_size, *field.shape), name
        assert block[name].dtype == np.dtype(field.dtype), name
        assert np.isfinite(block[name]).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_repeats_bit_for_bit_in_any_order(kind: str) -> None:
    made = small_set(kind)
    again = training_set(changed(kind), "train")
    later = again.block(1)
    first = again.block(0)
    for number, block in ((0, first), (1, later)):
        for name, array in made.block(number).items():
            assert array.tobytes() == block[name].tobytes(), name


@pytest.mark.parametrize("kind", ["spots", "patterns"])
def test_blocks_seeds_and_sides_differ(kind: str) -> None:
    arrays = "q" if kind == "spots" else "image"
    made = small_set(kind)
    other = training_set(changed(kind, seed=2), "train")
    validation = small_set(kind, "validation")
    draws = [made.block(0), made.block(1), made.block(made.blocks), other.block(0)]
    draws.append(validation.block(0))
    prints = {d[arrays].tobytes() for d in draws}
    assert len(prints) == len(draws)


@pytest.mark.parametrize("kind", KINDS)
def test_facts_name_the_crystal(kind: str) -> None:
    made = small_set(kind)
    block = made.block(2)
    chosen = made.materials[int(block["crystal"][0])]
    assert (block["space_group"] == chosen.space_group).all()
    assert (block["seed"] == made.seed_of(2)).all()


@pytest.mark.parametrize("kind", ["saed", "quartets"])
def test_finite_sets_end(kind: str) -> None:
    made = small_set(kind)
    with pytest.raises(DiskernError, match="is none of"):
        made.block(made.blocks)


def test_a_side_without_crystals_is_refused() -> None:
    source = {"source": "common", "elements": ["Al"]}
    recipe = parse_recipe(
        {"kind": "spots", "name": "a", "crystals": [source], "split": {"validation": 0.0}}
    )
    with pytest.raises(DiskernError, match="validation side has no crystal"):
        training_set(recipe, "validation")
