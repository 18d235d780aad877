"""The spot-set network: a true tree, no order among tokens or patterns, handedness seen."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from diskern.crystal.extinction_groups import diffraction_symbols
from diskern.nets.set_net import shared_lengths
from diskern.nets.spot_set import (
    SpotSetNet,
    SpotSets,
    relations,
)
from diskern.nets.spot_set_plain import SQUARES, PlainSpotSet, SpotArrays
from diskern.nets.symmetry_tree import symmetry_tree

FIELDS, FACTS, SHAPE, TOKENS = 7, 8, 3, 9

SMALL = {
    "width": 16, "layers": 2, "heads": 2, "fact_width": 16, "fact_layers": 1, "set_width": 16,
}  # fmt: skip

SMALL_WITH_SHAPE = {**SMALL, "shape": SHAPE}


@cache
def net() -> SpotSetNet:
    torch.manual_seed(0)
    made = SpotSetNet(FIELDS, FACTS, SHAPE, **SMALL).eval()
    with torch.no_grad():
        # Beyond the small first weights, so that differences show.
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return made


def sets(patterns: int = 4, seed: int = 0) -> SpotSets:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    return SpotSets(
        normal(patterns, TOKENS, FIELDS),
        normal(patterns, TOKENS, 2),
        torch.rand(patterns, TOKENS, generator=g) > 0.2,
        normal(patterns, FACTS),
        torch.arange(patterns)[None],
        torch.ones(1, patterns, dtype=torch.bool),
        torch.cat([normal(1, patterns, 3), torch.ones(1, patterns, 1)], 2),
    )


@torch.inference_mode()
def log_groups(given: SpotSets) -> torch.Tensor:
    found: torch.Tensor = net()(given).log_groups
    return found


def test_the_tree_is_that_of_the_space_groups() -> None:
    systems, classes, symbols, groups = symmetry_tree()
    assert [len(systems), len(classes), len(symbols), len(groups)] == [7, 12, 122, 230]
    for symbol in diffraction_symbols():
        assert {groups[n - 1] for n in symbol.space_groups} == {symbol.index}


def test_probabilities_sum_to_one_at_every_level() -> None:
    p = log_groups(sets()).exp()
    assert p.shape == (1, 230)
    assert p.min() >= 0
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)


def test_each_level_is_what_its_own_scores_say() -> None:
    """The share of a Laue class within its system is that of its own scores alone."""
    tree = net().tree
    scores = torch.randn(1, sum(tree.sizes), generator=torch.Generator().manual_seed(3))
    p = tree.log_leaves(scores).exp()[0]
    systems, classes, symbols, groups = (torch.tensor(level) for level in symmetry_tree())
    of_class = classes_of_groups = classes[symbols[groups]]
    laue = torch.zeros(12).index_add(0, symbols[groups], p)
    start = tree.sizes[0]
    for system in range(7):
        own = torch.nonzero(classes == system)[:, 0]
        share = laue[own] / laue[own].sum()
        torch.testing.assert_close(share, scores[0, start + own].softmax(0), atol=1e-4, rtol=1e-3)
    assert of_class is classes_of_groups
    assert systems.max() == 0


def test_the_order_of_patterns_and_tokens_does_not_matter() -> None:
    given = sets()
    order = torch.tensor([2, 0, 3, 1])
    turned = given._replace(member=given.member[:, order], known=given.known[:, order])
    torch.testing.assert_close(log_groups(given), log_groups(turned), atol=1e-4, rtol=1e-4)
    mixed = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(1))
    shuffled = given._replace(
        token=given.token[:, mixed], place=given.place[:, mixed], there=given.there[:, mixed]
    )
    torch.testing.assert_close(log_groups(given), log_groups(shuffled), atol=1e-4, rtol=1e-4)


def test_what_is_not_there_says_nothing() -> None:
    given = sets()
    hidden = given.there.logical_not()[..., None]
    noise = given._replace(
        token=torch.where(hidden, given.token + 5, given.token),
        place=torch.where(hidden, given.place - 3, given.place),
    )
    torch.testing.assert_close(log_groups(given), log_groups(noise), atol=1e-4, rtol=1e-4)
    there = given.member_there.clone()
    there[0, 1] = False
    fewer = given._replace(member_there=there)
    member, known = given.member[:, [0, 2, 3]], given.known[:, [0, 2, 3]]
    left = given._replace(member=member, known=known, member_there=there[:, [0, 2, 3]])
    torch.testing.assert_close(log_groups(fewer), log_groups(left), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(log_groups(fewer), log_groups(given), atol=1e-3)


def test_patterns_alone_are_judged_as_in_company_of_other_sets() -> None:
    """One forward pass of single patterns and sets gives what each would get by itself."""
    given = sets()
    member = torch.cat([torch.arange(4)[:, None].expand(4, 4), given.member])
    there = torch.cat([torch.tensor([[True, False, False, False]]).expand(4, 4), torch.ones(1, 4)])
    mixed = given._replace(
        member=member, member_there=there.bool(), known=given.known.expand(5, 4, 4)
    )
    said = log_groups(mixed)
    torch.testing.assert_close(said[4:], log_groups(given), atol=1e-4, rtol=1e-4)
    one = given._replace(
        member=given.member[:, 2:3], member_there=there[:1, :1].bool(), known=given.known[:, :1]
    )
    torch.testing.assert_close(said[2:3], log_groups(one), atol=1e-4, rtol=1e-4)


def test_simple_ratios_of_lengths_are_found_between_patterns_of_one_scale() -> None:
    """Lengths at √2 and √3 of each other count in their places, and only where scales are one."""
    relative = torch.tensor([[[0.0, 0.5, 0.9], [0.0, 0.13, 0.61]]])
    known = torch.tensor([[[0.0, 0, 0, 1], [0, 0, 0.5 * math.log(2), 1]]])
    net = torch.ones(1, 2, 1)
    found = shared_lengths(known, relative, net)
    assert float(found[0, 0, 0, SQUARES.index(2.0)]) > 0.99
    assert float(found[0, 0, 0, SQUARES.index(3.0)]) < 0.01
    assert not shared_lengths(known * torch.tensor([1, 1, 1, 0]), relative, net).any()
    # 2 % off is too far.
    known[0, 1, 2] += 0.05
    assert float(shared_lengths(known, relative, net)[0, 0, 0, SQUARES.index(2.0)]) < 0.05


def test_mirrored_places_are_told_apart() -> None:
    given = sets()
    mirrored = given._replace(place=given.place * torch.tensor([1.0, -1.0]))
    assert not torch.allclose(log_groups(given), log_groups(mirrored), atol=1e-3)
    plain, other = (relations(s.place) for s in (given, mirrored))
    torch.testing.assert_close(plain[..., 2], -other[..., 2])
    torch.testing.assert_close(plain[..., :2], other[..., :2])


@pytest.mark.parametrize("patterns", [1, 4])
def test_plain_arrays_give_the_same_answers(patterns: int) -> None:
    given = sets(patterns, seed=5)
    given.pattern[:, SHAPE] = 1.0
    plain = PlainSpotSet({k: v.numpy() for k, v in net().state_dict().items()}, SMALL_WITH_SHAPE)
    log_p, crystal = plain(SpotArrays(*(t.numpy() for t in given)))
    with torch.inference_mode():
        said = net()(given)
    np.testing.assert_allclose(log_p, said.log_groups.numpy(), atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(crystal, said.crystal.numpy(), atol=1e-3, rtol=1e-4)
    assert np.exp(log_p.astype(float)).sum() == pytest.approx(1, abs=1e-5)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        SpotSetNet(FIELDS, FACTS, SHAPE, width=10, heads=4)
    with pytest.raises(ValueError, match="multiple of 4"):
        SpotSetNet(FIELDS, FACTS, SHAPE, set_width=10)
