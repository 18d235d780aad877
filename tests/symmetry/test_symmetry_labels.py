"""The label tree and what patterns can tell: counts and ceilings known from theory."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.crystal.extinction_groups import symbol_of
from diskern.crystal.spacegroups import space_group
from diskern.errors import DiskernError
from diskern.symmetry.labels import (
    LEVELS,
    Level,
    Theory,
    cubic_table,
    cubic_zones,
    label_tree,
    zone_table,
)
from diskern.symmetry.lookalike import RA_ZONES


def test_class_counts() -> None:
    tree = label_tree()
    assert [len(tree.names[level]) for level in LEVELS] == [7, 12, 101, 122, 211, 230]
    assert all(len(set(tree.names[level])) == len(tree.names[level]) for level in LEVELS[:-2])


def test_every_class_is_used_and_agrees_with_the_tables() -> None:
    tree = label_tree()
    for level in LEVELS:
        assert set(tree.of_group[level].tolist()) == set(range(len(tree.names[level])))
    for n in range(1, 231):
        assert tree.names["system"][int(tree.index("system", n))] == space_group(n).system
        symbol = int(tree.index("diffraction_symbol", n))
        assert tree.members("diffraction_symbol", symbol) == symbol_of(n).space_groups


@pytest.mark.parametrize(
    ("fine", "coarse"),
    [
        ("space_group", "point_group"),
        ("point_group", "diffraction_symbol"),
        ("diffraction_symbol", "extinction_group"),
        ("diffraction_symbol", "laue_class"),
        ("extinction_group", "system"),
        ("laue_class", "system"),
    ],
)
def test_levels_refine_each_other(fine: Level, coarse: Level) -> None:
    tree = label_tree()
    above = tree.parents(fine, coarse)
    np.testing.assert_array_equal(above[tree.of_group[fine]], tree.of_group[coarse])


def test_laue_class_and_extinction_group_stand_side_by_side() -> None:
    with pytest.raises(DiskernError, match="does not refine"):
        label_tree().parents("extinction_group", "laue_class")


def test_probabilities_sum_up_the_tree() -> None:
    tree = label_tree()
    p = np.random.default_rng(0).dirichlet(np.ones(230), 3)
    for level in LEVELS:
        q = tree.marginal(level, p)
        np.testing.assert_allclose(q.sum(1), 1)
        first = np.array(tree.members(level, 0)) - 1
        np.testing.assert_allclose(q[:, 0], p[:, first].sum(1))
    with pytest.raises(DiskernError, match="230"):
        tree.marginal("system", np.ones(7))


@pytest.mark.parametrize("number", [0, 231, 1.5])
def test_impossible_groups(number: float) -> None:
    with pytest.raises(DiskernError, match="does not exist"):
        label_tree().index("system", number)


def test_twenty_two_zones() -> None:
    assert len(cubic_zones()) == 22
    assert cubic_zones()[:3] == ((0, 0, 1), (0, 1, 1), (1, 1, 1))
    assert set(RA_ZONES) < set(cubic_zones())


@pytest.mark.parametrize(
    ("theory", "expected"),
    [("kinematic", (0.49, 0.72, 0.83, 0.94)), ("dynamical", (0.20, 0.32, 0.41, 0.56))],
)
def test_ceilings_of_the_cubic_symbols(theory: Theory, expected: tuple[float, ...]) -> None:
    """Computed independently before: 49/72/83/94 % and 20/32/41/56 % for 1, 2, 3, 5 zones."""
    table = cubic_table(theory)
    assert len(table.candidates) == 17
    found = [table.ceiling(k) for k in (1, 2, 3, 5)]
    assert found == pytest.approx(expected, abs=0.012)


def test_ceiling_of_the_published_groups() -> None:
    """Naming one of the five groups of the 2021 set from ideal patterns: 61, 81, 90, 97 %."""
    table = zone_table([213, 221, 225, 227, 229], RA_ZONES)
    found = [table.ceiling(k) for k in (1, 2, 3, 5)]
    assert found == pytest.approx([0.61, 0.81, 0.90, 0.975], abs=0.012)


def test_zone_informativeness() -> None:
    table = cubic_table("kinematic")
    counts = {z: table.resolved(z) for z in table.zones}
    assert (counts[0, 0, 1], counts[1, 1, 1], counts[0, 1, 1], counts[0, 1, 3]) == (6, 2, 7, 14)
    assert max(counts.values()) == 14
    worst = cubic_table("dynamical")
    expected = {(1, 1, 1): 1, (0, 0, 1): 3, (0, 1, 1): 4, (0, 1, 3): 6, (1, 1, 2): 6}
    assert {z: worst.resolved(z) for z in expected} == expected


def test_two_zones_resolve_all_seventeen() -> None:
    table = cubic_table("kinematic")
    for number in table.candidates:
        assert table.ambiguity_set(number, [(0, 0, 1), (1, 1, 2)], indexed=True) == (number,)


def test_pairs_that_multiple_scattering_hides_for_good() -> None:
    """P--- and P4₂--, F--- and F4₁--, I--- and I4₁-- differ in no zone of ideal thick patterns."""
    table = cubic_table("dynamical")
    for one, other in ((221, 208), (225, 210), (229, 214)):
        assert other in table.ambiguity_set(one, table.zones, indexed=True)
        kinematic = cubic_table("kinematic")
        assert other not in kinematic.ambiguity_set(one, kinematic.zones, indexed=True)


def test_posterior_is_a_probability_and_holds_the_truth() -> None:
    table = cubic_table()
    for number in table.candidates:
        p = table.posterior(number, [(0, 1, 1), (1, 1, 1)])
        assert p.sum() == pytest.approx(1)
        assert p[table.candidates.index(number)] > 0
        assert number in table.ambiguity_set(number, [(0, 1, 1), (1, 1, 1)])


def test_knowing_the_zone_never_hurts_nor_does_another_pattern() -> None:
    table = cubic_table()
    blind, indexed = ([table.ceiling(k, indexed=i) for k in (1, 2, 3)] for i in (False, True))
    assert all(b <= i + 0.01 for b, i in zip(blind, indexed, strict=True))
    assert blind == sorted(blind)


def test_silicon_200_stays_dark_on_001_but_not_on_011() -> None:
    """The textbook case: Si 200 in [011] lights up by double diffraction, in [001] it cannot."""
    groups, zones = [227, 225], [(0, 0, 1), (0, 1, 1)]
    kinematic = zone_table(groups, zones)
    dynamical = zone_table(groups, zones, theory="dynamical")
    assert kinematic.ambiguity_set(227, [(0, 1, 1)], indexed=True) == (227,)
    assert dynamical.ambiguity_set(227, [(0, 1, 1)], indexed=True) == (227, 225)


def test_other_lattices_have_looks_too() -> None:
    hexagonal = ((3.0, 0, 0), (-1.5, 2.598, 0), (0, 0, 5.0))
    table = zone_table([191, 194, 186], [(0, 0, 1), (1, 0, 0), (2, 1, 0)], lattice=hexagonal)
    assert table.ambiguity_set(194, [(0, 0, 1)], indexed=True) == (191, 194, 186)
    assert table.ambiguity_set(194, [(2, 1, 0)], indexed=True) in (
        (194,),
        (194, 186),
        (191, 194, 186),
    )
    assert 191 not in table.ambiguity_set(194, [(1, 0, 0), (2, 1, 0)], indexed=True)


def test_misuse_is_one_line() -> None:
    table = cubic_table()
    for call in (
        lambda: table.ceiling(0),
        lambda: table.ceiling(23),
        lambda: table.posterior(1, [(0, 0, 1)]),
        lambda: table.posterior(225, [(0, 0, 9)]),
        lambda: zone_table([], []),
        lambda: zone_table([225], [(0, 0, 1)], theory="other"),  # type: ignore[arg-type]
    ):
        with pytest.raises(DiskernError):
            call()
