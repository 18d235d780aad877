"""No structure type, formula or enantiomorph stands on both sides of a split."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.train.materials import Material, materials_of
from diskern.train.recipe import Recipe, SplitTable, load_recipe, parse_recipe
from diskern.train.samples import split_of
from diskern.train.split import (
    Leak,
    Split,
    enantiomorph,
    find_leaks,
    prototype_family,
    split_materials,
)


@cache
def mixed() -> tuple[Material, ...]:
    source = {"source": "common", "max_volume": 250.0}
    other = {"source": "substituted", "per_group": 6, "max_volume": 250.0}
    return materials_of(parse_recipe({"kind": "spots", "name": "m", "crystals": [source, other]}))


def material(key: str, label: str, formula: str) -> Material:
    number = int(label.split("_")[0])
    return Material(key, number, label, formula, key, "", lambda: pytest.fail("built"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_prototype_split_has_no_leak(seed: int, share: float) -> None:
    split = split_materials(mixed(), SplitTable(validation=share), seed)
    assert find_leaks(split) == ()
    everything = Counter(
        m.key for side in (split.train, split.validation, split.dropped) for m in side
    )
    assert everything == Counter(m.key for m in mixed())
    assert len(split.validation) == pytest.approx(share * len(mixed()), rel=0.2, abs=2)


@pytest.mark.parametrize("name", ["saed-small", "spots-small", "patterns-small"])
def test_shipped_prototype_recipes_have_no_leak(name: str) -> None:
    recipe = load_recipe(name)
    split = split_of(recipe)
    kinds = {leak.kind for leak in find_leaks(split)}
    assert kinds <= ({"prototype", "formula"} if recipe.split.by == "crystal" else set())


def test_leaks_are_found() -> None:
    split = Split(
        (material("a", "213_1cd", "Mn"), material("b", "225_1a_1b", "NaCl")),
        (material("c", "212_1cd", "Re"), material("d", "221_1a_1b", "NaCl")),
        (),
    )
    assert find_leaks(split) == (Leak("prototype", "212_1x2"), Leak("formula", "NaCl"))


def test_origin_choices_are_one_family() -> None:
    assert prototype_family(material("a", "227_1a", "C")) == prototype_family(
        material("b", "227_1b", "Si")
    )


def test_formula_of_validation_leaves_training() -> None:
    one = material("rutile", "136_1a_2f", "O2Ti")
    two = material("anatase", "141_1a_2e", "O2Ti")
    for seed in range(20):
        split = split_materials([one, two], SplitTable(validation=0.4), seed)
        if split.validation:
            assert not split.train
            assert len(split.dropped) == 1


def test_order_does_not_matter() -> None:
    forward = split_materials(mixed(), SplitTable(), 3)
    backward = split_materials(mixed()[::-1], SplitTable(), 3)
    assert {m.key for m in forward.validation} == {m.key for m in backward.validation}


def test_eleven_enantiomorphic_pairs() -> None:
    pairs = {(enantiomorph(n), n) for n in range(1, 231) if enantiomorph(n) != n}
    assert pairs == {
        (76, 78), (91, 95), (92, 96), (144, 145), (151, 153), (152, 154),
        (169, 170), (171, 172), (178, 179), (180, 181), (212, 213),
    }  # fmt: skip


def test_published_set_splits_as_published() -> None:
    """249 crystals of five groups, 15 % of each group rounded down: 214 and 35."""
    counts = {213: 50, 221: 50, 225: 50, 227: 50, 229: 49}
    many = [
        material(f"{n}-{i}", f"{n}_1a", f"X{n}{i}") for n, c in counts.items() for i in range(c)
    ]
    split = split_materials(many, SplitTable(by="crystal"), 2021)
    assert (len(split.train), len(split.validation)) == (214, 35)
    assert (len(split.train) * 16 * 20, len(split.validation) * 16 * 20) == (68480, 11200)


def test_materials_are_steady_and_ordered() -> None:
    recipe: Recipe = load_recipe("spots-small")
    again = materials_of(recipe)
    assert [m.key for m in materials_of(recipe)] == [m.key for m in again]
    assert len({m.key for m in again}) == len(again)
    for m in again[:5]:
        crystal = m.crystal(0.08)
        assert isinstance(crystal, Crystal)
        assert crystal.symmetry().number == m.space_group
        assert (crystal.u_iso > 0).all()


def test_substitution_keeps_group_and_prototype() -> None:
    from diskern.crystal.prototype import prototype

    chosen = [m for m in mixed() if m.key.startswith("substituted")][::40]
    assert len(chosen) >= 3
    for m in chosen:
        crystal = m.crystal(0.08)
        assert crystal.symmetry().number == m.space_group
        found = replace(m, prototype=prototype(crystal).label)
        assert prototype_family(found) == prototype_family(m)


def test_substitutes_denser_than_anything_real_are_left_out() -> None:
    def volumes(least: float) -> list[float]:
        source = {
            "source": "substituted",
            "space_groups": [229],
            "per_group": 30,
            "elements": ["N", "O", "Cl", "Fe", "W", "Na", "Ba"],
            "min_atom_volume": least,
        }
        recipe = parse_recipe({"kind": "spots", "name": "m", "crystals": [source]})
        return [c.volume / len(c) for c in (m.crystal(0.08) for m in materials_of(recipe))]

    assert min(volumes(0.0)) < 6 <= min(volumes(6.0))
    assert len(volumes(6.0)) >= 3


def test_random_crystals_are_built_when_asked() -> None:
    source = {"source": "random", "count": 230 * 2}
    recipe = parse_recipe({"kind": "spots", "name": "r", "crystals": [source]})
    made = materials_of(recipe)
    assert [m.space_group for m in made[:230]] == list(range(1, 231))
    one = next(m for m in made[::-1] if m.space_group == 62)
    assert one.crystal(0.08).symmetry().number == 62


def test_balance_tames_large_prototypes() -> None:
    values = {
        "kind": "spots",
        "name": "b",
        "crystals": [{"source": "common", "max_volume": 250.0}],
    }
    whole = materials_of(parse_recipe(values))
    few = materials_of(parse_recipe({**values, "balance": {"cap": 2}}))
    assert len(few) < len(whole)
    assert max(Counter(m.prototype for m in few).values()) <= 2
    assert {m.prototype for m in few} == {m.prototype for m in whole}


def test_empty_source_is_refused() -> None:
    source = {"source": "common", "elements": ["Al"], "space_groups": [227]}
    with pytest.raises(DiskernError, match="no usable crystal"):
        materials_of(parse_recipe({"kind": "spots", "name": "e", "crystals": [source]}))
