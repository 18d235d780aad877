"""The network on analysed images: the same tokens as in training, calibrated, explained."""

from __future__ import annotations

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
from diskern.crystal.spacegroups import diffraction_symbols
from diskern.errors import DiskernError
from diskern.nets.registry import Card, build, save
from diskern.patterns.geometry import Centre
from diskern.patterns.pattern import Pattern
from diskern.symmetry import learned
from diskern.symmetry.learned import (
    SymmetryNet,
    combined,
    groups_from,
    learned_symmetry,
    spots_that_spoke,
    symmetry_net,
    tokens_of,
)
from diskern.symmetry.posterior import Prior, of_symbols

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
    card = net.model.card
    strict = SymmetryNet(
        type(net.model)(
            Card(**{**vars(card), "calibration": {"set_system_90_5": 0.2}}), net.model.net
        )
    )
    assert strict.prediction_set(p, "system", 90, 4) == (1, 2)
    assert strict.prediction_set(np.full(10, 0.1), "system", 90, 6) == (0,)


def test_absent_weights_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    symmetry_net.cache_clear()
    monkeypatch.setattr("diskern.nets.registry.model_names", lambda: ("proposer",))
    try:
        assert learned_symmetry([analysis()]) is None
        assert spots_that_spoke([analysis()], 0) is None
    finally:
        symmetry_net.cache_clear()


def test_weights_of_another_kind_are_refused(weights: Path) -> None:
    net = symmetry_net(weights)
    assert net is not None
    other = type(net.model)(Card("x", "proposer", {}, ""), net.model.net)
    with pytest.raises(DiskernError, match="needs a spot_set"):
        SymmetryNet(other)


def test_nothing_is_said_of_patterns_without_spots(weights: Path) -> None:
    from dataclasses import replace

    assert learned_symmetry([replace(analysis(), kind="none")], weights=weights) is None


def test_both_opinions_multiply() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 2, (2, len(diffraction_symbols())))
    flat = EVEN.of_groups()
    one, other = (learned.as_posterior(groups_from(v[None], flat)[0], v) for v in values)
    both = combined(one, other, prior=EVEN)
    assert both.groups.sum() == pytest.approx(1)
    expected = of_symbols(flat) * np.exp(values.sum(0))
    np.testing.assert_allclose(of_symbols(both.groups), expected / expected.sum(), rtol=1e-9)
    first = combined(one, other, prior=EVEN, weights=(1.0, 0.0))
    np.testing.assert_allclose(first.groups, one.groups, rtol=1e-9)
    # Groups of one symbol share its probability as the prior does, whoever speaks.
    symbol = max(diffraction_symbols(), key=lambda s: len(s.space_groups))
    own = both.groups[np.array(symbol.space_groups) - 1]
    np.testing.assert_allclose(own, own[0])


def test_what_spots_say_is_what_leaving_them_out_takes(weights: Path) -> None:
    given: list[Any] = [analysis(0), analysis(1)]
    said = spots_that_spoke(given, 40, weights=weights)
    assert said is not None
    assert [len(own) for own, _ in said] == [36, 36]
    assert np.abs(said[0][0]).max() > 1e-4
    node = given[0].lattices[0].indices
    pair = [(i, j) for i in range(36) for j in range(i) if (node[i] == -node[j]).all()]
    for i, j in pair[:5]:
        assert said[0][0][i] == said[0][0][j]
