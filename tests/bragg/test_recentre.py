"""Another direct beam: measurements about a rival centre."""

from dataclasses import replace

import numpy as np
import pytest

from diskern import Pattern
from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.recentre import agreed, recentred
from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre

BASIS = np.array([[0.0, 40.0], [40.0, 0.0]])
BEAM = np.array([100.0, 100.0])


def frame(beam=BEAM, rivals=()):
    """A square net of 40 px on a 200 px image; node (0, 0) is at ``beam``."""
    mn = np.array([(m, n) for m in range(-2, 3) for n in range(-2, 3) if (m, n) != (0, 0)])
    place = beam + mn @ BASIS
    keep = ((place > 5) & (place < 195)).all(1)
    mn, place = mn[keep], place[keep]
    n = len(mn)
    spots = Spots(place, np.full((n, 2), 0.1), np.arange(n, 0, -1.0), np.ones(n), np.full(n, 2.0))
    lattice = Lattice2D(beam, BASIS, np.eye(6), np.arange(n), mn, 0.1, 50.0)
    zeros = np.zeros((200, 200), dtype=np.float32)
    centre = Centre(float(beam[0]), float(beam[1]), 0.3, "direct beam", 3.0, rivals)
    return Analysis(
        Pattern.from_array(zeros + 1), zeros.astype(np.uint16), zeros, centre, spots, (lattice,),
        None, "spots", None,
    )  # fmt: skip


def test_spots_and_lattice_follow_the_new_beam():
    moved = recentred(frame(), (100.4, 140.2))
    assert (moved.centre.row, moved.centre.col) == (100.4, 140.2)
    assert moved.centre.rivals == ((100.0, 100.0),)
    away = np.linalg.norm(moved.spots.position - [100, 140], axis=1)
    assert away.min() > 30
    assert moved.spots.position[0] == pytest.approx(BEAM)
    assert moved.spots.intensity.argmax() == 0
    lattice = moved.lattices[0]
    assert lattice.origin == pytest.approx([100, 140])
    predicted = lattice.origin + lattice.indices @ lattice.basis
    assert np.allclose(predicted, moved.spots.position[lattice.members])


def test_frames_agree_on_the_beam_most_of_them_name():
    odd = frame(np.array([100.0, 140.0]), rivals=((101.0, 99.0),))
    result = agreed([frame(), frame(BEAM + 1), odd])
    assert [a.centre.col for a in result] == [100.0, 101.0, 99.0]
    assert result[0].lattices[0].origin == pytest.approx(BEAM)


def test_two_frames_are_no_majority():
    odd = frame(np.array([100.0, 140.0]), rivals=((101.0, 99.0),))
    assert agreed([frame(), odd])[1].centre.col == 140.0


def test_a_row_moves_along_itself():
    analysis = frame()
    row = replace(analysis.lattices[0], basis=np.array([[0.0, 40.0], [np.nan, np.nan]]), rank=1)
    moved = recentred(replace(analysis, lattices=(row,)), (100.0, 140.0))
    assert moved.lattices[0].origin == pytest.approx([100, 140])
