"""Network and fit decide together what is a disk."""

import numpy as np
import pytest
from disk_patterns import grid_places, probe_of, simulate

from diskern.bragg.disk_search import find_disks, measure_named
from diskern.bragg.disk_verdict import BELIEVED, WEIGHTS, Verdict, verdict_features
from diskern.bragg.disks import Candidates


class Named:
    """Names the same places of every pattern, each as likely as is said."""

    def __init__(self, place: np.ndarray, probability: list[float]) -> None:
        self.place, self.probability = place, probability

    def __call__(self, patterns: np.ndarray, probe: np.ndarray) -> Candidates:
        pattern = np.repeat(np.arange(len(patterns)), len(self.place))
        row, col = np.tile(self.place, (len(patterns), 1)).T
        return Candidates.at(pattern, row, col, np.tile(self.probability, len(patterns)))


@pytest.fixture(scope="module")
def seen() -> np.ndarray:
    """Three patterns of a disk at (30, 30) and nothing at (66, 66)."""
    place = np.full((3, 1, 2), 30.0)
    return simulate(place, np.full((3, 1), 3000.0), background=2.0).counts


def test_all_that_is_named_is_measured(seen: np.ndarray) -> None:
    proposer = Named(np.array([[30.0, 30.0], [66.0, 66.0]]), [0.5, 0.5])
    named, found = measure_named(seen, probe_of(), proposer)
    assert len(named) == len(found) == 6
    features = verdict_features(named, found, 12.0)
    assert features[:, 1] == pytest.approx(0)
    there = named.row < 40
    assert features[there, 2].min() > 3 > 2 > features[~there, 2].max()
    assert (features[:, 3] == 1).all()
    np.testing.assert_array_equal(features[:, 4], features[:, 2])
    close = verdict_features(named, found, 60.0)
    assert not close[:, 3:].any()


def test_counts_and_probability_weigh_each_other(seen: np.ndarray) -> None:
    places = np.array([[30.0, 30.0], [66.0, 66.0]])
    assert len(find_disks(seen, probe_of(), proposer=Named(places, [0.4, 0.4]))) == 3
    assert len(find_disks(seen, probe_of(), proposer=Named(places, [0.001, 0.4]))) < 3


def test_a_card_tells_how_its_network_is_weighed(seen: np.ndarray) -> None:
    assert Verdict.of({"threshold": 0.5}) == Verdict()
    stated = Verdict.of(dict(zip(WEIGHTS, [-5.0, 1, 0, 0, 0], strict=True)) | {BELIEVED: 0.9})
    assert stated == Verdict((-5.0, 1, 0, 0, 0), 0.9)
    doubting = Named(grid_places(1, 96, 26)[0], [0.9] * 9)
    doubting.verdict = stated  # type: ignore[attr-defined]
    assert len(find_disks(seen, probe_of(), proposer=doubting)) == 0
