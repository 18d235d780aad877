"""Look-alike labels by rule: each look is its own best answer, however the pattern lies."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from diskern.symmetry.lookalike import LookAlikeTable, lookalike_labels
from diskern.symmetry.lookalike_spots import LookAlikeNamer, template_of
from diskern.train.lookalike_spots import labelled_spots, named
from diskern.train.materials import materials_of
from diskern.train.recipe import load_recipe


@cache
def table() -> LookAlikeTable:
    return lookalike_labels()


@cache
def namer() -> LookAlikeNamer:
    return LookAlikeNamer(table(), 5e-4)


def drawn(place: int, degrees: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spots of a look within three indices, and the net."""
    entry = table().classes[place]
    template = template_of(entry.shape) * np.exp(1j * np.radians(degrees))
    basis = 23.0 * np.stack([template.imag, template.real], 1)
    side = np.arange(-3, 4)
    node = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    lit = np.array([tuple(n) not in entry.absent for n in node.tolist()]) & node.any(1)
    position = node[lit] @ basis
    return position, np.exp(-(position**2).sum(1) / (2 * 60.0**2)), basis


@pytest.mark.parametrize("degrees", [0.0, 71.0])
def test_every_look_is_named_as_itself(degrees: float) -> None:
    for place, entry in enumerate(table().classes):
        assert namer().name(*drawn(place, degrees)) == entry.label


def test_any_basis_of_the_net_will_do() -> None:
    for place in range(0, len(table()), 7):
        position, intensity, basis = drawn(place, 10.0)
        other = np.array([[2, 1], [1, 1]]) @ basis
        assert namer().name(position, intensity, other) == table().classes[place].label


def test_oblique_nets_are_told_from_their_mirror_images() -> None:
    chiral = [i for i, c in enumerate(table().classes) if c.shape.chirality]
    assert chiral
    for place in chiral:
        position, intensity, basis = drawn(place)
        flip = np.array([1.0, -1.0])
        p = namer().log_probabilities(position * flip, intensity, basis * flip)
        assert p[place] < p.max() - 3


def test_probabilities_sum_to_one_and_false_spots_are_borne() -> None:
    place = 5
    position, intensity, basis = drawn(place)
    rng = np.random.default_rng(0)
    position = np.concatenate([position, rng.uniform(-80, 80, (6, 2))])
    intensity = np.concatenate([intensity, np.full(6, 0.01)])
    p = LookAlikeNamer(table()).log_probabilities(position, intensity, basis)
    assert np.exp(p).sum() == pytest.approx(1)
    assert p.argmax() == place
    nothing = LookAlikeNamer(table()).log_probabilities(position[:1] * 0.3, intensity[:1], basis)
    assert np.isfinite(nothing).all()


def test_simulated_crystals_get_their_labels() -> None:
    """Clean patterns whose net is in view; those along the shortest zones always are."""
    zones = [(0, 0, 1), (0, 1, 1), (1, 1, 1), (0, 1, 3)]
    recipe = load_recipe("saed-small")
    rng = np.random.default_rng(1)
    right = []
    for material in materials_of(recipe)[::3]:
        spots = labelled_spots(material, table(), zones, rng, clean=True)
        pairs = list(named(spots, namer()))
        right += [a == b for (a, b), seen in zip(pairs, spots.in_view, strict=True) if seen]
    assert len(right) > 12
    assert np.mean(right) > 0.9
