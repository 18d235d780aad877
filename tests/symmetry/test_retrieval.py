"""Candidates from a database by their nets: the truth is found, scales count, elements too."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.spots import Spots
from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.patterns.geometry import Centre
from diskern.patterns.pattern import Pattern
from diskern.symmetry.hypotheses_zones import plane_basis
from diskern.symmetry.retrieval import NetIndex, crystal_nets, net_shape, shortlist


@cache
def index() -> NetIndex:
    return NetIndex.of(list(common_phases())[::4])


def nets(crystal: Crystal, seed: int, count: int = 3, scale: float = 1.0) -> np.ndarray:
    """Nets of a primitive crystal along short zones, turned, distorted by half a percent."""
    rng = np.random.default_rng(seed)
    lattice = crystal.primitive().lattice
    axis = np.arange(-2, 3)
    zones = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    zones = zones[np.gcd.reduce(zones, axis=1) == 1]
    length = np.linalg.norm(zones @ lattice, axis=1)
    out = []
    for zone in zones[np.argsort(length + 1e-6 * rng.random(len(length)))][: 4 * count : 4]:
        vectors = plane_basis(zone) @ np.linalg.inv(lattice).T
        frame = np.linalg.qr(vectors.T)[0]
        turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
        strain = np.eye(2) + rng.normal(0, 0.003, (2, 2))
        out.append(scale * vectors @ frame @ turn @ strain)
    return np.array(out)


def analysis(basis: np.ndarray, pixel_size: float | None) -> Analysis:
    net = Lattice2D(np.array([64.0, 64.0]), basis, np.eye(6), np.arange(0), np.zeros((0, 2), int),
                    0.1, 50.0)  # fmt: skip
    image = np.zeros((128, 128), dtype=np.float32)
    return Analysis(
        Pattern.from_array(image, pixel_size), np.zeros((128, 128), np.uint16), image,
        Centre(64.0, 64.0, 0.1, "beam"), Spots.empty(), (net,), None, "spots", None,
    )  # fmt: skip


def test_weights_of_a_crystal_sum_to_one_and_nets_are_reduced() -> None:
    found, weight = crystal_nets(index().crystals[3])
    assert weight.sum() == pytest.approx(1)
    assert (found[:, 1] >= -1e-9).all()
    assert (found[:, 2] <= 0.5 * np.exp(-found[:, 1]) + 1e-6).all()


def test_the_shape_of_a_net_does_not_depend_on_its_basis() -> None:
    basis = np.array([[3.0, 0.4], [-1.0, 5.0]])
    other = np.array([[2, 1], [1, 1]]) @ basis @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(net_shape(basis[None]), net_shape(other[None]), atol=1e-12)


@pytest.mark.parametrize("known", [True, False])
def test_the_true_crystal_is_among_the_first(known: bool) -> None:
    ranks = []
    for row, crystal in enumerate(index().crystals):
        given = nets(crystal, row, scale=1.01 if known else 350.0)
        score = index().scores(given, 0.02 if known else None)
        ranks.append(int((score > score[row]).sum()))
    # Without a scale all crystals of one cubic lattice are alike.
    assert np.mean(np.array(ranks) < (5 if known else 25)) > 0.9
    assert np.mean(np.array(ranks) == 0) > (0.6 if known else 0.2)


def test_a_wrong_scale_is_held_against_a_crystal() -> None:
    crystal = index().crystals[5]
    right, wrong = (index().scores(nets(crystal, 1, scale=s), 0.02)[5] for s in (1.0, 1.3))
    assert right > wrong + 10


def test_elements_and_the_length_of_the_list() -> None:
    crystal = index().crystals[7]
    found = index().shortlist(nets(crystal, 2), 0.02, 5, elements=crystal.elements)
    assert len(found) <= 5
    assert crystal in found
    assert all(set(c.elements) <= set(crystal.elements) for c in found)


def test_analyses_of_known_unknown_and_mixed_scale() -> None:
    crystals = list(index().crystals)
    truth = crystals[11]
    given = nets(truth, 4)
    for sizes in ((0.01, 0.01, 0.01), (None, None, None), (0.01, None, 0.01)):
        analyses = [analysis(n / 0.01, s) for n, s in zip(given, sizes, strict=True)]
        assert truth in shortlist(analyses, crystals, 25)
    assert shortlist([], crystals, 3) == crystals
    assert shortlist([analysis(given[0], None)], crystals, len(crystals)) == crystals
