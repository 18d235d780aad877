"""What a stronger disk explains, and what it does not."""

import numpy as np
import pytest
from disk_patterns import probe_of, simulate

from diskern.bragg.disk_neighbours import beside, strongest
from diskern.bragg.disk_overlap import unexplained
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disks import Candidates

PLACE = np.array([[[48.0, 48.0], [57.0, 51.0]]])


def candidate_beside(contrast: float, second: float) -> bool:
    """Whether a candidate 9 px beside a fringed disk is kept, with a disk there or not."""
    seen = simulate(PLACE, np.array([[40_000.0, second]]), contrast=contrast)
    first = refine_disks(seen.counts, probe_of(), Candidates.at([0], [48.2], [47.7]))
    beside = Candidates.at([0], PLACE[0, 1:, 0] + 0.4, PLACE[0, 1:, 1] - 0.3)
    return bool(unexplained(seen.counts, probe_of(), first, beside, 5.0)[0])


@pytest.mark.parametrize("contrast", [0.0, 0.9])
def test_a_disk_beside_another_stands_out(contrast: float) -> None:
    assert candidate_beside(contrast, 20_000.0)


@pytest.mark.parametrize("contrast", [0.0, 0.9])
def test_the_fringes_of_a_disk_do_not(contrast: float) -> None:
    assert not candidate_beside(contrast, 0.0)


def test_a_candidate_far_away_is_judged_alone() -> None:
    place = np.array([[[30.0, 30.0], [66.0, 66.0]]])
    seen = simulate(place, np.array([[40_000.0, 3000.0]]))
    first = refine_disks(seen.counts, probe_of(), Candidates.at([0], [30.0], [30.0]))
    both = Candidates.at([0, 0], [66.0, 30.0], [66.0, 66.0])
    assert unexplained(seen.counts, probe_of(), first, both, 5.0).tolist() == [True, False]


def test_strongest_of_a_neighbourhood_and_no_chain_is_broken_twice() -> None:
    row, col = np.array([10.0, 14.0, 18.0, 50.0, 10.0]), np.full(5, 20.0)
    pattern, strength = np.array([0, 0, 0, 0, 1]), np.array([5.0, 4.0, 3.0, 1.0, 0.5])
    assert strongest(pattern, row, col, strength, 5.0, 10).tolist() == [0, 2, 3, 4]
    assert strongest(pattern, row, col, strength, 5.0, 1).tolist() == [0, 4]
    assert len(strongest(pattern[:0], row[:0], col[:0], strength[:0], 5.0, 1)) == 0


def test_disks_lie_beside_those_of_their_own_pattern_only() -> None:
    row, col = np.array([10.0, 14.0, 30.0, 30.0]), np.full(4, 20.0)
    assert beside(np.array([0, 0, 0, 1]), row, col, 5.0).tolist() == [True, True, False, False]
    assert beside(np.zeros(0, int), row[:0], col[:0], 5.0).tolist() == []


def test_a_misfit_counts_for_more_where_others_lie_beside(monkeypatch) -> None:
    # Every other pixel is empty, which no smooth polynomial follows; the first disk stands alone.
    image = np.ones((1, 96, 96), dtype=np.float32)
    rows, cols = np.indices((96, 96))
    places = [24.0, 70.0, 84.0]
    for col in places:
        image[0][(np.hypot(rows - 48, cols - col) < 5) & ((rows + cols) % 2 == 0)] = 4000
    near = Candidates.at([0, 0, 0], [48.0] * 3, places)
    found = refine_disks(image, Probe.synthetic((96, 96), 5.0), near)
    assert (found.chi2 > 5).all()
    monkeypatch.setattr("diskern.bragg.disk_refine.BESIDE", 0.0)
    alone = refine_disks(image, Probe.synthetic((96, 96), 5.0), near)
    assert found.sigma_row[0] == alone.sigma_row[0]
    assert (found.sigma_row[1:] > 1.2 * alone.sigma_row[1:]).all()
