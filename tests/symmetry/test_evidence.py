from dataclasses import replace

import numpy as np
import pytest
from zone_patterns import crystal, evidence

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.spots import Spots
from diskern.errors import DiskernError
from diskern.patterns.geometry import Centre, Ellipse, Flaw
from diskern.patterns.pattern import Pattern
from diskern.symmetry.evidence import (
    NodeState,
    PatternEvidence,
    distortion_covariance,
    doubt_of,
    evidence_from,
    generated_basis,
    reduce_basis,
    undistorted,
)

NODES = np.stack(np.meshgrid(np.arange(-4, 5), np.arange(-4, 5)), -1).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(20))
def test_reduction_keeps_lattice_and_hand(seed):
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(2, 2)) @ np.array([[1, 3], [0, 1]])
    change = reduce_basis(basis)
    assert round(np.linalg.det(change)) == 1
    a, b = change @ basis
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert a @ a <= b @ b * (1 + 1e-9)
    assert abs(cosine) <= 0.5 + 1e-9


def test_nodes_follow_the_reduced_basis():
    basis = np.array([[30.0, 0.0], [70.0, 20.0]])
    found = PatternEvidence.from_nodes(basis, NODES, np.arange(len(NODES)) + 1.0, radius=1e9)
    before = {tuple(np.round(p, 6)) for p in NODES @ basis if p.any()}
    after = {tuple(np.round(p, 6)) for p in found.indices @ found.basis}
    assert before == after
    for node, value in zip(found.indices, found.intensity, strict=True):
        where = np.abs(NODES @ basis - node @ found.basis).sum(1).argmin()
        assert value == where + 1


def test_states_and_radius():
    intensity = np.where(NODES.sum(1) % 2 == 0, 10.0, 0.1)
    hidden = NODES[:, 0] == 3
    found = PatternEvidence.from_nodes(
        np.eye(2) * 10, NODES, intensity, limit=1.0, hidden=hidden, radius=35.0
    )
    assert np.linalg.norm(found.indices @ found.basis, axis=1).max() <= 35.0
    assert not (found.indices == 0).all(1).any()
    assert set(found.state[np.abs(found.indices).sum(1) == 1]) == {NodeState.DARK}
    assert (found.state == NodeState.HIDDEN).sum() == 3
    assert "3 hidden" in repr(found)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"basis": [[1.0, 0.0], [2.0, 0.0]]}, "parallel"),
        ({"basis": [[1.0, np.nan], [2.0, 0.0]]}, "two finite vectors"),
        ({"basis": np.eye(3)}, "two finite vectors"),
        ({"indices": NODES[:5]}, "need"),
        ({"intensity": np.full(len(NODES), np.inf)}, "not finite"),
        ({"limit": np.nan}, "not finite"),
    ],
)
def test_bad_nodes_are_refused_in_one_line(change, line):
    good = {"basis": np.eye(2) * 9, "indices": NODES, "intensity": np.ones(len(NODES))}
    with pytest.raises(DiskernError, match=line):
        PatternEvidence.from_nodes(**(good | change))


def test_distortion_moves_shapes_as_the_covariance_says():
    rng = np.random.default_rng(3)
    basis = np.array([[20.0, 3.0], [-9.0, 25.0]])
    plain = PatternEvidence.from_nodes(basis, NODES, np.ones(len(NODES)))
    spread, shapes = 0.003, []
    for _ in range(3000):
        e1, e2 = rng.normal(0, spread, 2)
        bent = plain.basis @ (np.eye(2) + np.array([[e1, e2], [e2, -e1]]))
        lengths = np.log(np.linalg.norm(bent, axis=1))
        cosine = bent[0] @ bent[1] / np.exp(lengths.sum())
        shapes.append([*lengths, np.arccos(cosine)])
    expected = distortion_covariance(plain.basis, spread) - (spread / 2) ** 2 * np.eye(3)
    measured = np.cov(np.array(shapes).T)
    assert np.abs(measured - expected).max() < 0.1 * np.abs(expected).max()


def test_an_ellipse_is_taken_out():
    ellipse = Ellipse(ratio=1.05, angle=30.0)
    phi = np.radians(30.0)
    major = np.array([np.sin(phi), np.cos(phi)])  # row, column
    minor = np.array([np.cos(phi), -np.sin(phi)])
    stretched = np.array([major * np.sqrt(1.05), minor / np.sqrt(1.05)]) * 40
    lengths = np.linalg.norm(undistorted(stretched, ellipse), axis=1)
    assert np.allclose(lengths, 40.0)


@pytest.mark.parametrize("seed", range(8))
def test_generated_lattice_is_the_coarsest(seed):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(2, 2)) * 5
    nodes = np.array([[2, 1], [-1, 3], [5, -2], [3, 3], [1, 0], [4, 7]])
    found = generated_basis(nodes @ true)
    assert abs(np.linalg.det(found)) == pytest.approx(abs(np.linalg.det(true)), rel=1e-6)
    place = nodes @ true @ np.linalg.inv(found)
    assert np.abs(place - np.rint(place)).max() < 1e-6


def test_generated_lattice_of_one_row_is_refused():
    with pytest.raises(DiskernError, match="one row"):
        generated_basis(np.array([[1.0, 2.0], [2.0, 4.0], [-3.0, -6.0]]))


def test_simulated_pattern_of_diamond_shows_the_thinned_net():
    # [001] of F d -3 m: the first spots are the 220s, a square net.
    found = evidence(crystal(227, (5.43,) * 3 + (90,) * 3), (0, 0, 1), pixel_size=1.0)
    a, b = np.exp(found.shape[:2])
    assert a == pytest.approx(np.sqrt(8) / 5.43, rel=1e-3)
    assert b == pytest.approx(a, rel=1e-6)
    assert np.degrees(found.shape[2]) == pytest.approx(90, abs=1e-3)


# --- from an image -----------------------------------------------------------------------
def _image(dark=(), stop=False, seed=1):
    """A square net of Gaussian spots on a noisy background; some nodes left out."""
    rng = np.random.default_rng(seed)
    shape, centre, basis = (201, 201), np.array([100.0, 100.0]), np.array([[24.0, 0], [0, 24.0]])
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for m, n in NODES:
        if (m, n) == (0, 0) or (m, n) in dark:
            continue
        row, col = centre + np.array([m, n]) @ basis
        strength = 400 * np.exp(-0.08 * (m * m + n * n))
        image += strength * np.exp(-((y - row) ** 2 + (x - col) ** 2) / (2 * 1.8**2))
    background = np.full(shape, 30.0, dtype=np.float32)
    flaws = np.zeros(shape, dtype=np.uint16)
    if stop:
        flaws[:100, 96:105] = int(Flaw.BEAM_STOP)
    noisy = rng.poisson(image + background).astype(np.float32)
    members = np.array([n for n in NODES.tolist() if tuple(n) not in dark and tuple(n) != (0, 0)])
    members = members[np.linalg.norm(members, axis=1) < 3.7]
    spots = Spots(
        centre + members @ basis,
        np.full((len(members), 2), 0.05),
        np.ones(len(members)),
        np.ones(len(members)),
        np.full(len(members), 2.5),
    )
    lattice = Lattice2D(
        centre, basis, np.eye(6) * 1e-4, np.arange(len(members)), members, 0.1, 99.0
    )
    return Analysis(
        pattern=Pattern.from_array(noisy, pixel_size=0.01),
        flaws=flaws,
        background=background,
        centre=Centre(100, 100, 0.1, "test"),
        spots=spots,
        lattices=(lattice,),
        rings=None,
        kind="spots",
        refusal=None,
    )


def test_dark_nodes_of_an_image_are_seen_to_be_dark():
    dark = {(1, 0), (-1, 0), (3, 0), (-3, 0)}
    analysis = _image(dark)
    found = evidence_from(analysis, analysis.lattices[0])
    table = {tuple(i): s for i, s in zip(found.indices.tolist(), found.state, strict=True)}
    assert {k for k, s in table.items() if s == NodeState.DARK} == dark
    assert found.pixel_size == 0.01
    odd = np.array([tuple(i) in dark for i in found.indices.tolist()])
    assert found.limit[odd].max() < 0.2 * found.intensity[~odd].min()


def test_a_spot_that_is_not_seen_in_a_flooded_part_or_at_the_edge_of_the_stop_is_not_dark():
    dark = {(1, 0), (0, 2), (-2, 0)}
    analysis = _image(dark)
    flaws = analysis.flaws.copy()
    flaws[118:130, 94:106] = int(Flaw.SATURATED)
    flaws[96:104, 155:180] = int(Flaw.BEAM_STOP)  # 7 px from node (0, 2), which is not beneath
    analysis = replace(analysis, flaws=flaws)
    found = evidence_from(analysis, analysis.lattices[0])
    table = {tuple(i): s for i, s in zip(found.indices.tolist(), found.state, strict=True)}
    assert table[1, 0] == NodeState.HIDDEN
    assert table[0, 2] == NodeState.HIDDEN
    assert table[-2, 0] == NodeState.DARK
    seen = replace(_image(), flaws=flaws)
    again = evidence_from(seen, seen.lattices[0])
    assert NodeState.DARK not in again.state


def test_a_net_that_leaves_most_spots_aside_is_doubted():
    doubts = [doubt_of(share) for share in (0.0, 0.4, 0.57, 0.7, 0.9, 1.0)]
    assert doubts == sorted(doubts, reverse=True)
    assert doubts[0] == pytest.approx(0.95, abs=0.01)
    assert doubts[-1] == pytest.approx(0.03, abs=0.001)
    analysis = _image()
    whole = analysis.lattices[0]
    some = replace(whole, members=whole.members[::3], indices=whole.indices[::3])
    assert evidence_from(analysis, whole).doubt < 0.04
    assert evidence_from(replace(analysis, lattices=(some,)), some).doubt > 0.9


def test_intensities_of_an_image_follow_the_spots():
    analysis = _image()
    found = evidence_from(analysis, analysis.lattices[0])
    square = (found.indices**2).sum(1)
    inner, outer = found.intensity[square == 1].mean(), found.intensity[square == 9].mean()
    assert inner / outer == pytest.approx(np.exp(0.08 * 8), rel=0.1)


def test_nodes_under_the_beam_stop_are_hidden():
    analysis = _image(stop=True)
    found = evidence_from(analysis, analysis.lattices[0])
    table = {tuple(i): s for i, s in zip(found.indices.tolist(), found.state, strict=True)}
    assert table[-2, 0] == NodeState.HIDDEN
    assert table[2, 0] == NodeState.OBSERVED


def test_one_row_is_no_zone():
    analysis = _image()
    row = Lattice2D(
        np.zeros(2),
        np.array([[24.0, 0.0], [np.nan, np.nan]]),
        np.eye(6),
        np.zeros(0, int),
        np.zeros((0, 2), int),
        0.1,
        1.0,
        rank=1,
    )
    with pytest.raises(DiskernError, match="two directions"):
        evidence_from(analysis, row)
