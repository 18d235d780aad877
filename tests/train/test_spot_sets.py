"""Sets of spot patterns: what is drawn, the nets that are seen, and a training that learns."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diskern.crystal.extinction_groups import symbol_of
from diskern.crystal.spacegroups import operations, systematically_absent
from diskern.errors import DiskernError
from diskern.nets.registry import load
from diskern.symmetry.hypotheses_zones import plane_basis
from diskern.train.camera import SpotLists
from diskern.train.loop import train
from diskern.train.samples import sides_of
from diskern.train.split import prototype_family
from diskern.train.spot_negatives import KINDS, no_crystal
from diskern.train.spot_nets import generated, seen_nets
from diskern.train.spot_sets import RUN, SpotSets
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.spot_sets_task import SpotSetTask, drawn_sets
from diskern.train.spot_wilson import structure_factors, wilson_foils
from diskern.train.train_recipe import load_train_recipe, parse_train_recipe

IMAGES = {"architecture": "image_set", "width": 8, "size": 32, "set_width": 32}
"""A small network that looks at images."""


@cache
def smoke() -> SpotSetTrainRecipe:
    return load_train_recipe("spot_set_smoke")  # type: ignore[return-value]


def with_net(net: dict[str, Any]) -> SpotSetTrainRecipe:
    """The small recipe, with another network where one is given."""
    values = smoke().model_dump() | ({"net": net} if net else {})
    return SpotSetTrainRecipe.model_validate(values)


@cache
def spot_sets(side: str = "train", **changes: Any) -> SpotSets:
    return SpotSets(smoke().data.model_copy(update=changes), side)


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.flatten() for p in net.parameters()])


# --- nets -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("vectors", "index"),
    [
        ([[2, 0], [0, 1]], 2),
        ([[1, 1], [1, -1]], 2),
        ([[2, 4], [4, 2], [3, 3]], 6),
        ([[6, 0], [4, 2], [0, 3]], 6),
    ],
)
def test_generated_lattice(vectors: list[list[int]], index: int) -> None:
    form = generated(np.array(vectors))
    assert form is not None
    assert abs(round(np.linalg.det(form))) == index
    whole = np.array(vectors) @ np.linalg.inv(form)
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-9)


def test_one_row_generates_no_lattice() -> None:
    assert generated(np.array([[2, 4], [1, 2], [-3, -6]])) is None


def test_the_seen_net_is_fitted_to_the_measured_places() -> None:
    """Distortion, a wrong centre and absences of a centred zone come out in the basis."""
    zone = np.array([0, 1, 1])
    plane = plane_basis(zone)
    side = np.arange(-3, 4)
    index = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    index = index[index.any(1) & (index.sum(1) % 2 == 0)]
    true = np.array([[0.2, 0.01], [-0.03, 0.31]])
    lists = SpotLists(
        (index @ true + [0.004, -0.002])[None], np.ones((1, len(index))), (index @ plane)[None]
    )
    origin, basis = seen_nets(lists, zone[None], np.array([1e-3]))
    np.testing.assert_allclose(origin, [[0.004, -0.002]], atol=1e-9)
    assert abs(np.linalg.det(basis[0])) == pytest.approx(2 * abs(np.linalg.det(true)))
    assert np.isnan(seen_nets(lists, np.zeros((1, 3), dtype=int), np.array([1e-3]))[1]).all()


# --- samples --------------------------------------------------------------------------------
def test_blocks_follow_from_their_number_alone() -> None:
    fresh = SpotSets(smoke().data)
    for number in (5, 0, 3):
        one, other = spot_sets().block(number), fresh.block(number)
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)
    assert not np.array_equal(spot_sets().block(0)["token"], spot_sets().block(1)["token"])


def test_no_prototype_is_on_two_sides() -> None:
    families = [{prototype_family(m) for m in side} for side in sides_of(smoke().data)]
    assert all(families)
    assert not families[0] & families[1]
    assert not families[2] & (families[0] | families[1])
    with pytest.raises(DiskernError, match="train, validation, test"):
        SpotSets(smoke().data, "exam")


def test_symbols_are_drawn_equally_often() -> None:
    made = spot_sets(window=4096, reuse=1, negatives=0.0)
    prior = made.group_prior
    assert prior.sum() == pytest.approx(1)
    rows = made._drawn(0)
    drawn = np.bincount([symbol_of(made.materials[r].space_group).index for r in rows])
    drawn = drawn[drawn > 0]
    assert len(drawn) == len({symbol_of(m.space_group).index for m in made.materials})
    assert drawn.max() < 1.3 * drawn.min() + 30


def test_nets_explain_clean_zone_patterns() -> None:
    made = spot_sets(clean=True, zone_share=1.0, negatives=0.0, double_diffraction=0.0)
    share = np.concatenate([made.block(n)["pattern"][:, 5:7] for n in range(6)])
    assert np.median(share[:, 0]) > 0.95
    assert np.median(share[:, 1]) > 0.7


def test_dynamical_blocks_are_made_too() -> None:
    block = spot_sets(bloch=1.0, negatives=0.0, per_block=2).block(0)
    assert block["dynamical"].all()
    assert (block["intensity"] > 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_negatives_are_no_lattice(kind: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(5):
        place, intensity, _ = no_crystal(kind, 60, rng)
        assert len(place) == len(intensity) <= 60
        assert (intensity > 0).all()
    if kind == "quasicrystal":
        # As many strongest spots as its order lie at one distance.
        radius = np.linalg.norm(place[:8], axis=1)
        assert np.ptp(radius) < 0.8 * radius.max()


def test_what_shows_no_crystal_can_be_chosen() -> None:
    two = spot_sets(negatives=1.0, made_up=0.0, clean=True).block(0)
    assert (two["space_group"] == 0).all()
    assert (two["energy"] > 0).all()
    rings = spot_sets(negatives=1.0, made_up=1.0, made_up_kinds=("rings",), clean=True).block(0)
    assert (rings["energy"] == 0).all()
    radius = np.linalg.norm(rings["q"], axis=-1)
    for own, bright in zip(radius, rings["intensity"], strict=True):
        # A few distances, each of several spots.
        assert len(np.unique(np.round(own[bright > 0], 1))) <= 12


def test_blocks_without_a_crystal_say_so() -> None:
    made = spot_sets(negatives=1.0)
    blocks = [made.block(n) for n in range(8)]
    assert all((b["space_group"] == 0).all() for b in blocks)
    assert {int(c) for b in blocks for c in b["crystal"]} <= {0, -1}


# --- potentials without atoms -----------------------------------------------------------------
@pytest.mark.parametrize("number", [4, 62, 88, 110, 146, 176, 205, 220, 228])
def test_random_potentials_have_the_absences_of_their_group_and_hardly_others(number: int) -> None:
    axis = np.arange(-5, 6)
    hkl = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    hkl = hkl[hkl.any(1)]
    factor = structure_factors(number, hkl, np.random.default_rng(0))
    dark, absent = np.abs(factor) < 1e-4, systematically_absent(number, hkl)
    assert dark[absent].all()
    # Hashes of two images may meet, so that they cancel.
    assert dark[~absent].mean() < 0.02
    # Laue symmetry: an operation changes phases alone; Friedel's law.
    rotations, _ = operations(number)
    place = {tuple(h): i for i, h in enumerate(hkl.tolist())}
    image = [place.get(tuple(h), -1) for h in (hkl @ rotations[len(rotations) // 2]).tolist()]
    same = np.array([i >= 0 for i in image])
    strength = np.abs(factor)
    np.testing.assert_allclose(strength[same], strength[np.array(image)[same]], atol=1e-4)
    mate = [place[tuple(h)] for h in (-hkl).tolist()]
    np.testing.assert_allclose(factor[mate], factor.conj(), atol=1e-4)


def test_thick_random_potentials_keep_the_rows_dark_that_gjonnes_and_moodie_name() -> None:
    """0k0 with k odd of P2₁/c stays dark along [001] at the exact zone; the others all light up."""
    data = smoke().data.model_copy(update={"max_index": 1, "short_zones": 0.0, "negatives": 0.0})
    tilt = data.tilt.model_copy(update={"low": 1e-6, "high": 1e-6})
    data = data.model_copy(update={"tilt": tilt})
    made = wilson_foils(np.full(60, 14), data, np.random.default_rng(1))
    h, k, length = np.moveaxis(made.lists.hkl, -1, 0)
    chosen = (np.abs(made.zone[:, None]) == [0, 0, 1]).all(-1)
    row = chosen & (h == 0) & (length == 0) & (k % 2 == 1)
    assert chosen.any()
    assert made.lists.intensity[row & (np.abs(k) < 4)].max(initial=0) < 1e-8
    even = chosen & (h == 0) & (length == 0) & (k % 2 == 0) & (made.lists.intensity > 0)
    assert even.any()


def test_random_potentials_lie_in_their_zones_and_among_true_crystals() -> None:
    made = spot_sets(wilson_share=1.0, negatives=0.3, sheet=16)
    blocks = [made.block(n) for n in range(16)]
    groups = np.array([b["space_group"][0] for b in blocks])
    assert 0 < (groups == 0).sum() < 12
    assert all(b["token"].shape == blocks[0]["token"].shape for b in blocks)
    foils = wilson_foils(np.array([225, 2, 194]), smoke().data, np.random.default_rng(2))
    seen = foils.lists.intensity > 0
    along = np.einsum("bnc,bc->bn", foils.lists.hkl, foils.zone)
    assert not along[seen].any()
    # Held-out sides are never of potentials.
    held = spot_sets("validation", wilson_share=1.0, negatives=0.0).block(0)
    assert held["zone"].shape == (4, 3)
    assert int(held["space_group"][0]) in {m.space_group for m in spot_sets("validation").materials}


def test_runs_of_sheets_come_as_often_as_told() -> None:
    made = spot_sets(repeats=2, sheet=1)
    np.testing.assert_array_equal(made.block(3)["token"], made.block(3 + RUN)["token"])
    assert not np.array_equal(made.block(3)["q"], made.block(3 + 2 * RUN)["q"])


# --- training -------------------------------------------------------------------------------
def test_sets_are_of_one_crystal() -> None:
    member, there = drawn_sets(3, 4, (2, 3), np.random.default_rng(0))
    assert member.shape == there.shape == (3 * 6, 3)
    assert (member // 4 == member[:, :1] // 4).all()
    assert sorted(there.sum(1).tolist()) == [1] * 12 + [2] * 3 + [3] * 3
    for row, mask in zip(member, there, strict=True):
        assert len(set(row[mask])) == mask.sum()


@pytest.mark.parametrize("net", [{}, IMAGES])
def test_a_tiny_training_learns_what_it_sees(net: dict[str, Any]) -> None:
    task = SpotSetTask(with_net(net))
    made = spot_sets(negatives=0.3, window=64)
    blocks = [made.block(n) for n in range(8)]
    torch.manual_seed(0)
    fresh = task.net()
    optimiser = torch.optim.Adam(fresh.parameters(), lr=5e-3)
    seen = []
    for _ in range(50):
        optimiser.zero_grad()
        parts = task.loss(fresh, blocks)
        parts["total"].backward()
        optimiser.step()
        seen.append({name: float(value.detach()) for name, value in parts.items()})
    assert seen[-1]["single"] < 0.5 * seen[0]["single"]
    assert seen[-1]["set"] < 0.5 * seen[0]["set"]
    assert seen[-1]["refusal"] < 0.8 * seen[0]["refusal"]


def test_a_resumed_training_takes_the_same_steps(tmp_path: Path) -> None:
    whole = train(smoke(), tmp_path / "whole")
    train(smoke(), tmp_path / "parts", stop_after=3)
    rest = train(smoke(), tmp_path / "parts", resume=True)
    assert torch.equal(weights(whole.net), weights(rest.net))
    assert rest.history == whole.history


@pytest.mark.parametrize("net", [{}, IMAGES])
def test_finished_weights_carry_temperature_and_sets(tmp_path: Path, net: dict[str, Any]) -> None:
    task = SpotSetTask(with_net(net))
    torch.manual_seed(0)
    card = load(task.finish(task.net(), tmp_path)).card
    assert card.calibration["temperature"] > 0
    assert 0 <= card.calibration["set_system_95_1"] <= card.calibration["set_system_90_1"] <= 1
    assert {"known system top1 1", "known space_group nll 10"} <= set(card.metrics)


@pytest.mark.parametrize(
    ("table", "value", "words"),
    [
        ({"sets": [9]}, None, "data.per_block"),
        ({"net": {"width": 16}}, None, "multiple of heads"),
        ({"net": {"architecture": "image_set", "heads": 2}}, None, "net.image_set.heads"),
        ({"net": {"architecture": "eye"}}, None, "'spot_set', 'image_set'"),
    ],
)
def test_wrong_values_are_named(table: dict[str, Any], value: object, words: str) -> None:
    values = smoke().model_dump() | table
    with pytest.raises(DiskernError, match=words):
        parse_train_recipe(values)
