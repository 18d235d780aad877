"""Learned symmetry measured: in bands of one property, and on beams from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.crystal.extinction_groups import symbol_of
from diskern.errors import DiskernError
from diskern.nets.registry import load
from diskern.train.camera import SpotLists
from diskern.train.recipe import Range
from diskern.train.spot_sets import SpotSets
from diskern.train.spot_sets_finish import own_kinds
from diskern.train.symmetry_answers import blocks_of, held_out, kept
from diskern.train.symmetry_bands import BANDS, band_rows
from diskern.train.symmetry_judges import Judge, judge_of
from diskern.train.train_recipe import load_train_recipe

DATA = load_train_recipe("spot_set_smoke").data


@pytest.fixture(scope="module")
def net() -> Judge:
    return judge_of(load("spot_set"))


@pytest.mark.parametrize("name", BANDS)
def test_bands_are_values_of_the_recipe(name):
    for changes in BANDS[name].values():
        assert set(changes) <= set(type(DATA).model_fields)


def test_a_band_holds_one_property_and_leaves_the_crystals_alone():
    thin = blocks_of(held_out(DATA, thickness=Range(low=20, high=50)), 4)
    thick = blocks_of(held_out(DATA, thickness=Range(low=200, high=400)), 4)
    for a, b in zip(thin, thick, strict=True):
        assert ((a["thickness"] >= 20) & (a["thickness"] <= 50)).all()
        assert ((b["thickness"] >= 200) & (b["thickness"] <= 400)).all()
        assert a["space_group"].tolist() == b["space_group"].tolist()
        assert a["zone"].tolist() == b["zone"].tolist()


def test_rows_of_bands(net):
    bands = {"dose": {"few": {"dose": Range(low=3e2, high=3e2)}, "many": {}}}
    rows = band_rows(net, DATA, blocks=3, counts=(1, 3), bands=bands)
    places = {(r["band"], r["patterns"], r["level"]) for r in rows}
    assert len(rows) == len(places) == 8
    assert {r["of"] for r in rows} == {"dose"}
    assert all(0 <= r["top1"] <= 1 and r["crystals"] <= 3 for r in rows)


def test_fewer_electrons_show_fewer_spots():
    few, many = (
        blocks_of(held_out(DATA, dose=Range(low=dose, high=dose)), 6) for dose in (3e2, 3e6)
    )
    spots = [sum(int((b["intensity"] > 0).sum()) for b in made) for made in (few, many)]
    assert spots[0] < 0.7 * spots[1]


def test_the_error_of_the_scale_is_as_told():
    exact, wrong = (
        blocks_of(held_out(DATA, scale_error=error, zone_share=1.0), 12) for error in (0.0, 0.1)
    )
    ratio = [
        np.linalg.norm(b["basis"][0, 0]) / np.linalg.norm(a["basis"][0, 0])
        for a, b in zip(exact, wrong, strict=True)
    ]
    ratio = [r for r in ratio if np.isfinite(r)]
    assert 0.03 < np.std(ratio) < 0.25


def test_crystals_may_be_drawn_as_often_as_they_occur():
    materials = kept(DATA, "train")
    rare = [m for m in materials if m.space_group == materials[0].space_group][:1]
    common = [m for m in materials if m.space_group != rare[0].space_group][:9]
    counts = []
    for evenly in (True, False):
        source = held_out(DATA, materials=[*rare, *common], evenly=evenly, window=600)
        rows = [source.material_of(n) for n in range(600)]
        counts.append(rows.count(0))
    symbols = {symbol_of(m.space_group).index for m in (*rare, *common)}
    assert counts[0] == pytest.approx(600 / len(symbols), rel=0.35)
    assert counts[1] == pytest.approx(60, rel=0.45)


def test_nothing_held_out_is_one_clear_line():
    nothing = DATA.model_copy(update={"split": DATA.split.model_copy(update={"validation": 0.0})})
    with pytest.raises(DiskernError, match="validation"):
        own_kinds(nothing, "validation", 2)


def test_dynamical_kinds_hold_no_kinematic_pattern():
    kinds = own_kinds(DATA, "test", 4)
    assert set(kinds) == {"known", "dynamical", "occurring"}
    assert not any(b["dynamical"].any() for b in kinds["known"].blocks)
    for who in ("dynamical", "occurring"):
        assert all(b["dynamical"].all() for b in kinds[who].blocks)


def test_beams_from_elsewhere_are_recorded_like_own_ones():
    clean = SpotSets(DATA.model_copy(update={"clean": True, "per_block": 2}), "test")
    hkl = np.array([(h, k, 0) for h in range(-3, 4) for k in range(-3, 4) if h or k])
    q = 0.25 * hkl[:, :2]
    lists = SpotLists(np.stack([q, q]), np.ones((2, len(q))), np.stack([hkl, hkl]))
    facts = {
        "group": np.array([221, 221]),
        "zone": np.array([[0, 0, 1], [0, 0, 1]]),
        "thickness": np.array([100.0, 100.0]),
        "energy": np.array([200e3, 200e3]),
        "dynamical": np.array([True, True]),
    }
    block = clean.recorded(lists, facts, number=3)
    assert block["space_group"].tolist() == [221, 221]
    assert block["number"].tolist() == [3, 3]
    for basis in block["basis"]:
        assert np.linalg.norm(basis, axis=1) == pytest.approx([0.25, 0.25], rel=1e-3)
