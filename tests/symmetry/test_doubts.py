"""What may be no single crystal is said to be so."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from diskern.bragg.spots import Spots
from diskern.symmetry.doubts import doubts
from diskern.symmetry.identification import Identification


def _analysis(members, intensity, kind="spots"):
    lattices = tuple(SimpleNamespace(members=np.array(m), rank=2) for m in members)
    count = len(intensity)
    places = np.zeros((count, 2))
    spots = Spots(
        places, places, np.asarray(intensity, dtype=float), np.ones(count), np.ones(count)
    )
    return SimpleNamespace(kind=kind, lattices=lattices, spots=spots)


@pytest.fixture
def good():
    return _analysis([range(8)], np.ones(10))


def test_a_lattice_that_explains_the_spots_raises_none(good):
    assert doubts([good], [0.9]) == (None,)
    assert doubts([good], [None]) == (None,)


def test_each_reason_is_told(good):
    stray = _analysis([], np.ones(14))
    chance = _analysis([range(4)], np.ones(40))
    few = _analysis([range(2)], np.ones(4))
    many = _analysis([range(8), range(8, 14), range(14, 20)], np.ones(30))
    several = doubts([stray, chance, good, few, many], [0.9, 0.9, 0.04, 0.9, 0.9])
    assert several[0].startswith("14 spots on no common lattice")
    assert several[1] == "the lattices found explain 10 % of the light of 40 spots"
    assert several[3] == "a lattice of 2 of 4 spots"
    assert several[4] == "3 lattices on top of each other, as of several grains"
    assert several[2] == "the network gives 4 % to the spots being of one crystal"


def test_a_lattice_that_explains_most_may_have_chance_companions():
    assert doubts([_analysis([range(20), range(20, 24), range(24, 28)], np.ones(30))], [0.9]) == (
        None,
    )


def test_rings_and_empty_frames_speak_for_themselves():
    assert doubts([_analysis([], [], "rings"), _analysis([], [], "none")], [None, None]) == (
        None,
        None,
    )


def test_an_answer_is_doubtful_where_no_pattern_with_spots_is_sure(good):
    rings = _analysis([], [], "rings")
    answer = Identification(True, None, (good, rings), doubts=("why", None))
    assert answer.doubtful
    assert not replace(answer, doubts=(None, None)).doubtful
    assert not replace(answer, analyses=(good, good), doubts=("why", None)).doubtful
    assert not Identification(False, "empty", (rings,)).doubtful
