"""The direct beam found again among the nodes of a lattice, where the image alone misled."""

from __future__ import annotations

import numpy as np
import pytest
from lattice_patterns import MIDDLE, SHAPE, is_same, measured, net, nodes
from synthetic import Canvas, hexagonal

from diskern.bragg.analyse import analyse
from diskern.bragg.beam_node import beam_node
from diskern.bragg.lattice_fit import fit_lattices
from diskern.bragg.noncrystal import refusal
from diskern.patterns.geometry import Centre, Flaw
from diskern.patterns.pattern import Pattern

SPACING = 36.0


def _spots(seed):
    rng = np.random.default_rng(seed)
    basis = net(rng, "oblique", SPACING)
    _, place = nodes(basis, radius=160.0)
    away = np.linalg.norm(place - MIDDLE, axis=1)
    intensity = np.exp(rng.normal(0, 0.3, len(place)) - (away / 90) ** 2)
    return basis, measured(rng, place, 0.2, intensity=intensity)[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_centre_between_nodes_does_not_hide_the_lattice(seed):
    basis, spots = _spots(seed)
    wrong = Centre(*(MIDDLE + 0.5 * basis[0] + 0.5 * basis[1]), 0.1, "Friedel symmetry")
    found = fit_lattices(spots, wrong, SHAPE)
    assert len(found) == 1
    assert is_same(found[0], basis)
    off = (found[0].origin - MIDDLE) @ np.linalg.inv(basis)
    assert np.allclose(off, np.rint(off), atol=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_the_hidden_node_that_the_background_aims_at_is_the_beam(seed):
    basis, spots = _spots(seed)
    wrong = Centre(*(MIDDLE + basis[0]), 0.1, "Friedel symmetry")
    lattice = fit_lattices(spots, wrong, SHAPE)[0]
    flaws = np.zeros(SHAPE, dtype=np.uint16)
    row, col = (slice(int(m) - 6, int(m) + 7) for m in MIDDLE)
    flaws[row, col] = Flaw.BEAM_STOP
    aim = MIDDLE + np.array([3.0, -4.0])
    found = beam_node(lattice, spots, wrong, aim, flaws)
    assert found is not None
    assert np.linalg.norm(found - MIDDLE) < 0.3
    right = Centre(*MIDDLE, 0.1, "Friedel symmetry")
    kept = fit_lattices(spots, right, SHAPE)[0]
    assert beam_node(kept, spots, right, aim, flaws) is None


@pytest.mark.parametrize("seed", range(6))
def test_without_background_the_node_between_the_mates_is_the_beam(seed):
    """A counting detector without diffuse light, on which a Bragg spot outshines the beam."""
    rng = np.random.default_rng(seed)
    basis = net(rng, "oblique", SPACING)
    index, place = nodes(basis, radius=160.0)
    wrong, half = MIDDLE + 2 * basis[0], (index[:, 0] > 0) & (index != (2, 0)).any(1)
    some = place[half & (rng.random(len(place)) < 0.4)]
    place = np.concatenate([some, 2 * MIDDLE - some, MIDDLE[None]])
    intensity = np.exp(rng.normal(0, 0.3, len(place)))
    spots = measured(rng, place, 0.2, intensity=intensity)[0]
    centre = Centre(*wrong, 0.1, "direct beam", 2.0)
    lattice = fit_lattices(spots, centre, SHAPE)[0]
    found = beam_node(lattice, spots, centre, None, np.zeros(SHAPE, dtype=np.uint16))
    assert found is not None
    assert np.linalg.norm(found - MIDDLE) < 0.5


def test_a_flooded_beam_is_no_reason_to_refuse_a_lattice():
    _, spots = _spots(0)
    wide = Centre(*MIDDLE, 0.1, "direct beam", 0.15 * min(SHAPE))
    lattices = fit_lattices(spots, wide, SHAPE)
    assert refusal(spots, lattices, None, None, wide, SHAPE) is None
    assert "convergent" in str(refusal(spots, (), None, None, wide, SHAPE))


@pytest.mark.parametrize("angle", [70, 160, 300])
def test_a_pattern_lit_on_one_side_behind_a_beam_stop(angle):
    canvas = Canvas((400, 420), (205.0, 214.0), angle).background(level=4, peak=300, decay=40)
    a, b = hexagonal(canvas.centre, 38.0, angle)
    side = np.array([np.sin(np.radians(angle + 180)), np.cos(np.radians(angle + 180))])
    for m in range(-5, 6):
        for n in range(-5, 6):
            q = m * np.array(a) + n * np.array(b)
            if 0 < np.hypot(*q) < 150:
                # Intensities fall off about a point beside the beam, as off a zone axis.
                bright = 6e3 * np.exp(-((np.hypot(*(q - 50 * side)) / 70) ** 2))
                canvas.spot(*(np.array(canvas.centre) + q), bright)
    canvas.beam_stop(angle, 12)
    found = analyse(Pattern.from_array(canvas.counts()))
    assert np.hypot(found.centre.row - 205.0, found.centre.col - 214.0) < 2
    assert found.lattices[0].lengths[0] == pytest.approx(38, rel=0.01)
