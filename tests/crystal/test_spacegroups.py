import json

import numpy as np
import pytest

from diskern.crystal.conditions import extinction_name, reflection_conditions
from diskern.crystal.extinction_groups import diffraction_symbols, extinction_groups, symbol_of
from diskern.crystal.spacegroups import (
    LAUE_CLASSES,
    SYSTEMS,
    absent_by,
    laue_operations,
    operations,
    settings,
    space_group,
    systematically_absent,
)
from diskern.errors import DiskernError

AXIS = np.arange(-7, 8)
BLOCK = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), -1).reshape(-1, 3)


def test_the_counts_of_the_international_tables():
    symbols, groups = diffraction_symbols(), extinction_groups()
    assert len(symbols) == 122
    assert len(groups) == 101
    assert sum(s.system == "cubic" for s in symbols) == 23
    assert sum(g.system == "cubic" for g in groups) == 17
    merged = {(s.laue_class.replace("-31m", "-3m1"), s.extinction) for s in symbols}
    # P - - - and P 31 - - are the two that -3m1 and -31m share.
    assert len(merged) == 120


@pytest.mark.parametrize("levels", [diffraction_symbols(), extinction_groups()])
def test_every_group_is_in_one_class_of_each_level(levels):
    numbers = sorted(n for level in levels for n in level.space_groups)
    assert numbers == list(range(1, 231))


def test_names_are_unique_within_their_level():
    assert len({s.name for s in diffraction_symbols()}) == 122
    assert len({(g.system, g.extinction) for g in extinction_groups()}) == 101


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (2, "P -"),
        (14, "P 21/c"),
        (15, "C c"),
        (19, "P 21 21 21"),
        (61, "P b c a"),
        (62, "P n - a"),
        (70, "F d d d"),
        (73, "I b c a"),
        (86, "P 42/n - -"),
        (88, "I 41/a - -"),
        (98, "I 41 - -"),
        (133, "P n b c"),
        (136, "P - n -"),
        (141, "I a - d"),
        (167, "R - c -"),
        (176, "P 63 - -"),
        (193, "P - c -"),
        (194, "P - - c"),
        (198, "P 21 - -"),
        (205, "P a - -"),
        (208, "P 42 - -"),
        (223, "P - - n"),
        (227, "F d - -"),
        (228, "F d - c"),
        (230, "I a - d"),
    ],
)
def test_extinction_symbols_as_the_international_tables_print_them(number, name):
    assert extinction_name(number) == name
    assert symbol_of(number).extinction == name


def test_the_two_settings_of_3m_stay_apart():
    assert space_group(164).laue_class == "-3m1"
    assert space_group(162).laue_class == "-31m"
    assert space_group(150).laue_class == "-3m1"  # 321: twofold along a
    assert space_group(149).laue_class == "-31m"
    assert space_group(167).laue_class == "-3m1"


@pytest.mark.parametrize(
    ("name", "order"),
    [
        *[("-1", 2), ("2/m", 4), ("mmm", 8), ("4/m", 8), ("4/mmm", 16), ("-3", 6), ("-3m1", 12)],
        *[("-31m", 12), ("6/m", 12), ("6/mmm", 24), ("m-3", 24), ("m-3m", 48)],
    ],
)
def test_laue_groups_have_their_order_and_close(name, order):
    ops = laue_operations(name)
    assert len(ops) == order
    known = {tuple(o.ravel()) for o in ops}
    assert {tuple((a @ b).ravel()) for a in ops for b in ops} == known


@pytest.mark.parametrize(
    ("number", "hkl", "absent"),
    [
        (227, (2, 0, 0), True),  # silicon: d glide
        (227, (2, 2, 2), False),  # not by symmetry, only by the site of Si
        (225, (1, 0, 0), True),
        (225, (2, 0, 0), False),
        (14, (0, 3, 0), True),
        (14, (1, 0, 1), True),
        (14, (1, 1, 1), False),
        (148, (1, 0, 0), True),  # hexagonal axes: -h+k+l = 3n
        (148, (1, 0, 1), False),
        (194, (1, 1, 1), True),
        (205, (0, 1, 2), True),
        (205, (0, 2, 1), False),  # cyclic permutations only
        (62, (0, 1, 2), True),
    ],
)
def test_known_absences(number, hkl, absent):
    assert bool(systematically_absent(number, hkl)) is absent


def test_absences_keep_the_shape_of_hkl():
    assert systematically_absent(225, np.zeros((4, 5, 3), int)).shape == (4, 5)


@pytest.mark.parametrize("number", [1, 14, 43, 88, 110, 142, 167, 178, 205, 220, 230])
def test_operations_and_gemmi_agree_on_absences(number):
    ours = absent_by(*operations(number), BLOCK)
    assert (ours == systematically_absent(number, BLOCK)).all()


def test_absences_have_the_symmetry_of_the_laue_class():
    for symbol in diffraction_symbols():
        absent = systematically_absent(symbol.representative, BLOCK)
        for op in laue_operations(symbol.laue_class)[::3]:
            assert (systematically_absent(symbol.representative, BLOCK @ op) == absent).all()


def test_members_share_their_absences_in_some_setting():
    for symbol in diffraction_symbols():
        own = systematically_absent(symbol.representative, BLOCK)
        for number in symbol.space_groups:
            assert space_group(number).laue_class == symbol.laue_class
            if number == symbol.representative or symbol.system == "orthorhombic":
                continue
            assert any((absent_by(r, t, BLOCK) == own).all() for _, r, t in settings(number))


def _follows(hkl, number):
    """Allowed by the printed conditions, applied to every equivalent under the Laue class."""
    classes = {
        "hkl": lambda h, k, m: h == h,
        "0kl": lambda h, k, m: h == 0,
        "h0l": lambda h, k, m: k == 0,
        "hk0": lambda h, k, m: m == 0,
        "hhl": lambda h, k, m: h == k,
        "h-hl": lambda h, k, m: h == -k,
        "h00": lambda h, k, m: (k == 0) & (m == 0),
        "0k0": lambda h, k, m: (h == 0) & (m == 0),
        "00l": lambda h, k, m: (h == 0) & (k == 0),
    }
    ok = np.ones(len(hkl), bool)
    for op in laue_operations(space_group(number).laue_class):
        h, k, m = (hkl @ op).T
        for condition in reflection_conditions(number):
            good = np.ones(len(hkl), bool)
            if "all odd" in condition.rule:
                good = (h % 2 == k % 2) & (k % 2 == m % 2)
            else:
                for part in condition.rule.split(" and "):
                    terms, right = part.split(" = ")
                    for term in terms.split(", "):
                        text = term.replace("2h", "2*h").replace("l", "m")
                        value = eval(text, {"h": h, "k": k, "m": m})  # noqa: S307
                        good &= value % int(right[:-1]) == 0
            ok &= good | ~classes[condition.reflections](h, k, m)
    return ok


def test_conditions_in_words_say_exactly_what_is_absent():
    for symbol in diffraction_symbols():
        number = symbol.representative
        assert (_follows(BLOCK, number) == ~systematically_absent(number, BLOCK)).all(), symbol


def test_conditions_of_diamond():
    words = [str(c) for c in reflection_conditions(227)]
    assert words == ["hkl: h, k, l all odd or all even", "0kl: k = 2n and k + l = 4n"]


@pytest.mark.parametrize("bad", [0, 231, -3, 2.5, "P1", True])
def test_no_such_group(bad):
    with pytest.raises(DiskernError, match="1 to 230"):
        space_group(bad)


def test_hkl_of_the_wrong_shape():
    with pytest.raises(DiskernError, match="hkl has shape"):
        systematically_absent(225, [1, 2])


def test_against_the_reference_table(shared_data):
    table = json.loads((shared_data / "reference" / "classify_tables.json").read_text())
    ours = {(s.laue_class, s.space_groups) for s in diffraction_symbols()}
    theirs = {(s["laue"], tuple(s["groups"])) for s in table["diffraction_symbols_122"]}
    assert ours == theirs
    ours = {(g.system, g.space_groups) for g in extinction_groups()}
    theirs = {(g["system"], tuple(sorted(g["groups"]))) for g in table["extinction_groups_101"]}
    assert ours == theirs


def test_symbols_come_in_the_order_of_the_laue_classes():
    order = [LAUE_CLASSES.index(s.laue_class) for s in diffraction_symbols()]
    assert order == sorted(order)
    assert {s.system for s in diffraction_symbols()} == set(SYSTEMS)
