"""Tokens of spots: the same however a pattern lies and whatever its scale, not when mirrored."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.bragg.spot_symmetry import OPERATIONS, SYMMETRY_FIELDS, net_symmetry
from diskern.bragg.spot_tokens import PAIRS, PATTERN_FIELDS, SCALE, SpotTokens, spot_tokens

NETS = {
    "oblique": [[0, 30.0], [26, 3.0]],
    "rectangular": [[0, 30.0], [41, 0.0]],
    "square": [[0, 30.0], [30, 0.0]],
    "hexagonal": [[0, 30.0], [30 * np.sqrt(0.75), -15.0]],
}


def pattern(net: str, seed: int = 0, count: int = 60) -> tuple[np.ndarray, ...]:
    """Spots of a net with random intensities, and five that are off it."""
    rng = np.random.default_rng(seed)
    basis = np.array(NETS[net])
    side = np.arange(-4, 5)
    node = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    node = node[node.any(1)]
    node = node[rng.permutation(len(node))[:count]]
    place = node @ basis
    place[:5] += rng.uniform(6, 9, (5, 2))
    intensity = np.exp(rng.normal(size=count) * 2)
    return place[None], intensity[None], basis[None]


def turn(degrees: float) -> np.ndarray:
    t = np.radians(degrees)
    return np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])


def same(a: SpotTokens, b: SpotTokens) -> bool:
    facts = np.delete(a.pattern - b.pattern, SCALE, 1)
    return bool(
        np.allclose(a.token, b.token, atol=1e-5)
        and np.allclose(facts, 0, atol=1e-5)
        and np.allclose(a.place, b.place, atol=1e-5)
        and np.array_equal(a.there, b.there)
        and np.array_equal(a.source, b.source)
    )


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("degrees", [17.3, 90.0, 180.0, 251.0])
def test_turning_and_magnifying_change_nothing_but_the_scale(net: str, degrees: float) -> None:
    place, intensity, basis = pattern(net)
    own = spot_tokens(place, intensity, basis)
    other = spot_tokens(place @ turn(degrees) * 2.7, 5 * intensity, basis @ turn(degrees) * 2.7)
    assert same(own, other)
    assert (other.pattern - own.pattern)[0, SCALE] == pytest.approx(np.log(2.7), abs=1e-5)


@pytest.mark.parametrize("net", NETS)
def test_any_basis_of_the_net_and_any_order_of_spots_will_do(net: str) -> None:
    place, intensity, basis = pattern(net)
    own = spot_tokens(place, intensity, basis)
    for change in ([[1, 0], [3, 1]], [[0, 1], [-1, 0]], [[2, 1], [1, 1]]):
        assert same(own, spot_tokens(place, intensity, np.array(change) @ basis))
    order = np.random.default_rng(1).permutation(place.shape[1])
    shuffled = spot_tokens(place[:, order], intensity[:, order], basis)
    np.testing.assert_allclose(own.token, shuffled.token, atol=1e-6)


@pytest.mark.parametrize("net", NETS)
def test_a_mirror_image_is_another_pattern(net: str) -> None:
    place, intensity, basis = pattern(net)
    mirror = np.diag([1.0, -1.0])
    own = spot_tokens(place, intensity, basis)
    other = spot_tokens(place @ mirror, intensity, basis @ mirror)
    rows = [set(map(tuple, np.round(t.token[0], 3).tolist())) for t in (own, other)]
    assert len(rows[0] & rows[1]) < 0.7 * len(rows[0])


def test_a_pattern_that_is_its_own_mirror_image_stays_itself() -> None:
    basis = np.array(NETS["rectangular"])
    side = np.arange(-3, 4)
    node = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    node = node[node.any(1)]
    place, intensity = (node @ basis)[None], np.exp(-0.3 * (node**2).sum(1))[None]
    mirror = np.diag([1.0, -1.0])
    own = spot_tokens(place, intensity, basis[None])
    other = spot_tokens(place @ mirror, intensity, basis[None] @ mirror)
    np.testing.assert_allclose(own.token, other.token, atol=1e-5)


def test_dark_nodes_are_told() -> None:
    basis = np.array(NETS["square"])
    node = np.array([[1, 0], [-1, 0], [2, 2], [-2, -2], [3, 0], [0, 3]])
    made = spot_tokens((node @ basis)[None], np.ones((1, 6)), basis[None])
    lit = (made.source[0] >= 0).any(-1)
    assert made.there[0, :PAIRS].sum() > lit.sum() == 4
    # As far as the outermost spot, no farther.
    assert np.linalg.norm(made.place[0][made.there[0]], axis=1).max() <= 3.07


def test_spots_without_a_net_are_told_in_a_frame_of_their_own() -> None:
    place, intensity, basis = pattern("oblique")
    lost = np.full_like(basis, np.nan)
    own = spot_tokens(place, intensity, lost)
    assert own.pattern[0, 3] == 0
    assert not own.pattern[0, 12:].any()
    assert same(own, spot_tokens(place @ turn(40), intensity, lost))


def test_nothing_seen_is_no_failure() -> None:
    made = spot_tokens(np.zeros((2, 0, 2)), np.zeros((2, 0)), np.full((2, 2, 2), np.nan))
    assert not made.there.any()
    assert made.pattern.shape == (2, PATTERN_FIELDS)
    assert np.isfinite(made.pattern).all()


@pytest.mark.parametrize(
    ("net", "operation"), [("square", 6), ("rectangular", 0), ("hexagonal", 7)]
)
def test_operations_that_the_intensities_obey_are_seen(net: str, operation: int) -> None:
    """A pattern made with an operation agrees with it; one that is not, does not."""
    side = np.arange(-6, 7)
    node = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    rng = np.random.default_rng(2)
    level = rng.uniform(0.2, 1, len(node))
    matrix = OPERATIONS[operation]
    if net == "hexagonal":
        # The frame here has an angle of 60° or 120°; take the turn that fits it.
        frame = np.array(NETS[net])
        metric = frame @ frame.T
        strain = [np.abs(m.T @ metric @ m - metric).max() for m in OPERATIONS]
        operation = next(i for i in (7, 8) if strain[i] < 1e-6)
        matrix = OPERATIONS[operation]
    frame = np.array(NETS[net])[None]
    image = node
    merged = level.copy()
    for _ in range(12):
        image = image @ matrix.T
        inside = (np.abs(image) <= 6).all(1)
        place = np.where(inside[:, None], image + 6, 0) @ [13, 1]
        merged = np.where(inside, np.maximum(merged, level[place]), merged)
    place = (node + 6) @ [13, 1]
    symmetric = np.zeros(169)
    small = (np.abs(node) <= 3).all(1)
    symmetric[place[small]] = merged[small]
    seen = np.zeros(169, dtype=bool)
    seen[place[(np.abs(node) <= 3).all(1)]] = True
    shape = (1, 13, 13)
    facts = net_symmetry(symmetric.reshape(shape), seen.reshape(shape), frame)
    random = np.zeros(169)
    random[place[small]] = level[small]
    other = net_symmetry(random.reshape(shape), seen.reshape(shape), frame)
    assert facts.shape == (1, SYMMETRY_FIELDS)
    assert facts[0, 3 * operation] < 1e-6
    assert facts[0, 3 * operation + 1] > other[0, 3 * operation + 1] + 0.05
