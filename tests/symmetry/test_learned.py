"""The network on analysed images: the same tokens as in training, calibrated, explained."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.spot_tokens import PATTERN_FIELDS, SCALE, SHAPE, TOKEN_FIELDS, spot_tokens
from diskern.bragg.spots import Spots
from diskern.errors import DiskernError
from diskern.nets.registry import Card, build, save
from diskern.patterns.geometry import Centre
from diskern.patterns.pattern import Pattern
from diskern.symmetry.learned import (
    SymmetryNet,
    learned_symmetry,
    symmetry_net,
    tokens_of,
)
from diskern.symmetry.learned_reasons import spots_that_spoke
from diskern.symmetry.posterior import Prior
from diskern.symmetry.second_opinion import second_opinion, sets_of_both

EVEN = Prior(groups=dict.fromkeys(range(1, 231), 1.0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, its weights made large enough to have opinions."""
    torch.manual_seed(1)
    arguments = {
        "fields": TOKEN_FIELDS, "facts": PATTERN_FIELDS, "shape": SHAPE, "width": 16, "layers": 1,
        "heads": 2, "fact_width": 32, "fact_layers": 1, "set_width": 16, "set_layers": 1,
    }  # fmt: skip
    net = build("spot_set", arguments)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    calibration = {"temperature": 2.0, "temperature_slope": 0.5}
    card = Card("tiny", "spot_set", arguments, "", calibration=calibration)
    return save(net, card, tmp_path_factory.mktemp("weights"))


@cache
def analysis(seed: int = 0, turned: float = 0.0, pixel_size: float | None = None) -> Analysis:
    """What the spot finder would say of a noiseless pattern."""
    rng = np.random.default_rng(seed)
    side = np.arange(-3, 4)
    node = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    node = node[node.any(1)][rng.permutation(48)[:36]]
    t = np.radians(turned)
    basis = np.array([[0, 24.0], [31, 5.0]]) @ np.array(
        [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    )
    origin = np.array([127.0, 130.0])
    intensity = np.sort(np.exp(rng.normal(0, 1.5, len(node))))[::-1]
    count = len(node)
    spots = Spots(
        origin + node @ basis, np.full((count, 2), 0.1), intensity, 0.01 * intensity,
        np.full(count, 2.0),
    )  # fmt: skip
    net = Lattice2D(origin, basis, np.eye(6), np.arange(count), node, 0.1, 100.0)
    image = np.zeros((256, 256), dtype=np.float32)
    return Analysis(
        Pattern.from_array(image, pixel_size), np.zeros((256, 256), np.uint16), image,
        Centre(127.0, 130.0, 0.1, "beam"), spots, (net,), None, "spots", None,
    )  # fmt: skip


def test_images_and_training_share_their_tokens() -> None:
    own = tokens_of(analysis())
    spots, net = analysis().spots, analysis().lattices[0]
    plain = spot_tokens((spots.position - net.origin)[None], spots.intensity[None], net.basis[None])
    np.testing.assert_array_equal(own.token, plain.token)
    assert own.pattern[0, SCALE] == pytest.approx(np.log(24), abs=1e-5)


def test_probabilities_sum_to_one_and_do_not_depend_on_how_images_lie(weights: Path) -> None:
    one = learned_symmetry([analysis(0), analysis(1)], weights=weights)
    other = learned_symmetry([analysis(1, 70.0), analysis(0, 33.0)], weights=weights)
    assert one is not None
    assert other is not None
    assert one.posterior.groups.sum() == pytest.approx(1)
    np.testing.assert_allclose(one.posterior.groups, other.posterior.groups, atol=1e-5)
    np.testing.assert_allclose(one.crystal, other.crystal[::-1], atol=1e-5)
    alone = learned_symmetry([analysis(0)], weights=weights)
    assert alone is not None
    assert not np.allclose(alone.posterior.groups, one.posterior.groups, atol=1e-3)


def test_a_known_scale_is_used(weights: Path) -> None:
    found = [
        learned_symmetry([analysis(0, 0.0, size)], weights=weights, prior=EVEN)
        for size in (None, 0.01, 0.02)
    ]
    groups = [f.posterior.groups for f in found if f is not None]
    assert not np.allclose(groups[0], groups[1], atol=1e-4)
    assert not np.allclose(groups[1], groups[2], atol=1e-4)


def test_temperature_grows_with_the_number_of_patterns(weights: Path) -> None:
    net = symmetry_net(weights)
    assert net is not None
    np.testing.assert_allclose(net.temperature(np.array([1, 4])), [2.0, 4.0])


def test_sets_hold_what_passes_the_threshold(weights: Path) -> None:
    net = symmetry_net(weights)
    assert net is not None
    p = np.array([0.1, 0.6, 0.25, 0.05])
    assert net.prediction_set(p, "system", 90, 1) == (1, 2, 0, 3)
    card = replace(net.card, calibration={"set_system_90_5": 0.2})
    strict = SymmetryNet(card, net.net.weights)
    assert strict.prediction_set(p, "system", 90, 4) == (1, 2)
    assert strict.prediction_set(np.full(10, 0.1), "system", 90, 6) == (0,)
    # Of rules and network together nothing is promised before somebody has measured it.
    assert strict.joint_set(p, "system", 90, 4) == ()
    both = SymmetryNet(replace(net.card, calibration={"joint_system_90_5": 0.2}), net.net.weights)
    assert both.joint_set(p, "system", 90, 4) == (1, 2)
    assert both.joint_set(p, "system", 90, 1) == ()


def test_sets_of_both_are_named(weights: Path) -> None:
    given = [analysis(0), analysis(1)]
    found = learned_symmetry(given, prior=EVEN, weights=weights)
    assert found is not None
    assert sets_of_both(found.posterior, found, weights=weights) == {}
    shipped = learned_symmetry(given)
    assert shipped is not None
    groups = np.zeros(230)
    groups[[224, 226]] = 0.7, 0.3
    sets = sets_of_both(replace(shipped.posterior, groups=groups), shipped)
    assert sets["system"] == ("cubic",)
    assert sets["extinction_group"][0] == "F - - -"
    assert sets["space_group"][0] == "F m -3 m"
    # F - - - of orthorhombic crystals reads alike: both then say whose they are.
    groups[21] = 0.5
    sets = sets_of_both(replace(shipped.posterior, groups=groups), shipped)
    assert {"F - - - (cubic)", "F - - - (orthorhombic)"} <= set(sets["extinction_group"])


def test_absent_weights_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    symmetry_net.cache_clear()
    monkeypatch.setattr("diskern.symmetry.learned.model_names", lambda: ("proposer",))
    try:
        assert learned_symmetry([analysis()]) is None
        assert spots_that_spoke([analysis()], 0) is None
    finally:
        symmetry_net.cache_clear()


def test_weights_of_another_kind_are_refused(weights: Path) -> None:
    net = symmetry_net(weights)
    assert net is not None
    with pytest.raises(DiskernError, match="needs a spot_set"):
        SymmetryNet(replace(net.card, architecture="proposer"), net.net.weights)
    path = weights.with_name("other.safetensors")
    path.write_bytes(b"no weights")
    card = replace(net.card, sha256=hashlib.sha256(b"no weights").hexdigest())
    path.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")
    with pytest.raises(DiskernError, match="cannot be read"):
        symmetry_net(path)


def test_nothing_is_said_of_patterns_without_spots(weights: Path) -> None:
    assert learned_symmetry([replace(analysis(), kind="none")], weights=weights) is None


def test_what_spots_say_is_what_leaving_them_out_takes(weights: Path) -> None:
    given: list[Any] = [analysis(0), analysis(1)]
    said = spots_that_spoke(given, 40, weights=weights)
    assert said is not None
    assert [len(voices.spots) for voices in said] == [36, 36]
    own, node = said[0].spots, given[0].lattices[0].indices
    asked = np.isfinite(own)
    assert 8 < asked.sum() < 36
    assert np.abs(own[asked]).max() > 1e-4
    assert np.ptp(own[asked]) > 0
    mates = [(i, j) for i in range(36) for j in range(i) if (node[i] == -node[j]).all()]
    pair = [(i, j) for i, j in mates if asked[i]]
    assert pair
    for i, j in pair:
        assert own[i] == own[j]
    # The value is that of a pattern from which the two spots were taken.
    i, j = pair[0]
    rest = np.setdiff1d(np.arange(36), [i, j])
    fewer = replace(given[0], spots=given[0].spots.select(rest))
    base, without = (learned_symmetry([a, given[1]], weights=weights) for a in (given[0], fewer))
    assert base is not None
    assert without is not None
    share = [
        v.posterior.log_evidence[40] - np.logaddexp.reduce(v.posterior.log_evidence)
        for v in (base, without)
    ]
    assert own[i] == pytest.approx(share[0] - share[1], abs=1e-4)


def test_dark_nodes_are_named_where_they_lie(weights: Path) -> None:
    given = analysis(0, 25.0)
    said = spots_that_spoke([given], 3, weights=weights)
    assert said is not None
    lattice = given.lattices[0]
    index = (said[0].dark_position - lattice.origin) @ np.linalg.inv(lattice.basis)
    np.testing.assert_allclose(index, np.rint(index), atol=0.02)
    lit = {tuple(n) for n in lattice.indices.tolist()}
    assert len(index) == len(said[0].dark) > 0
    for node in np.rint(index).astype(int).tolist():
        assert tuple(node) not in lit
        assert tuple(-n for n in node) not in lit
    assert np.isfinite(said[0].dark).all()


def test_the_second_opinion_tells_what_the_network_says(weights: Path) -> None:
    given = [analysis(0), replace(analysis(1), kind="none"), analysis(2)]
    found = learned_symmetry(given, prior=EVEN, weights=weights)
    assert found is not None
    said = second_opinion(found, given, weights=weights)
    assert said is not None
    assert said.system == found.posterior.system()
    assert said.explained == found.posterior.best.name
    assert said.crystal[1] is None
    assert said.crystal[2] == pytest.approx(float(found.crystal[1]))
    assert said.voices[1] == ()
    own = said.voices[0]
    assert 0 < len(own) <= 6
    assert [abs(v.nats) for v in own] == sorted((abs(v.nats) for v in own), reverse=True)
    assert {type(name) for names in said.sets.values() for name in names} == {str}
    assert len(said.sets["system"]) == len(found.sets["system", 90])
    assert said.rules is None
    np.testing.assert_array_equal(found.witness.log_likelihood, found.posterior.log_evidence)
    # The rules are told as they are without the network.
    cubic = np.zeros(230)
    cubic[224] = 1.0
    joint = replace(found.posterior, alone=cubic)
    both = second_opinion(found, given, rules=joint, weights=weights)
    assert both is not None
    assert both.rules is not None
    assert [r.space_groups for r in both.rules.space_group] == [(225,)]


def test_the_network_needs_no_torch() -> None:
    """Asking costs a program that identifies patterns no framework."""
    code = (
        "import sys; from diskern.symmetry import second_opinion, learned; "
        "learned.symmetry_net(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
