"""σ follows the direction in which diffraction draws."""

from dataclasses import replace

import numpy as np
import pytest
from disk_patterns import grid_places, probe_of, simulate

from diskern.bragg.disk_direction import ACROSS, ALONG, directed
from diskern.bragg.disk_search import measure_named
from diskern.bragg.disks import Candidates, Disks


@pytest.fixture(scope="module")
def disks() -> Disks:
    """Three by three disks of two patterns, the middle ones brightest."""
    place = grid_places(2, 96, 26)
    electrons = np.full((2, 9), 3000.0)
    electrons[:, 4] = 9000
    seen = simulate(place, electrons)

    def proposer(patterns: np.ndarray, probe: np.ndarray) -> Candidates:
        pattern = np.repeat([0, 1], 9)
        return Candidates.at(pattern, *place.reshape(-1, 2).T)

    return measure_named(seen.counts, probe_of(), proposer)[1]


def covariance(disks: Disks) -> np.ndarray:
    rows = [disks.sigma_row**2, disks.covariance, disks.covariance, disks.sigma_col**2]
    return np.stack(rows, 1).reshape(-1, 2, 2)


def test_sigma_grows_along_g_and_shrinks_across(disks: Disks) -> None:
    fringed = replace(disks, order=np.full(len(disks), 2))
    before, after = covariance(fringed), covariance(directed(fringed, (96, 96), 6.0))
    middle = np.arange(len(disks)) % 9 == 4
    np.testing.assert_allclose(after[middle], before[middle])
    place = np.stack([disks.row, disks.col], 1).reshape(2, 9, 2)
    g = (place - place[:, 4:5]).reshape(-1, 2)[~middle]
    u = g / np.hypot(*g.T)[:, None]
    for direction, factor in ((u, ALONG), (np.stack([-u[:, 1], u[:, 0]], 1), ACROSS)):
        was, now = (
            np.einsum("ni,nij,nj->n", direction, c[~middle], direction) for c in (before, after)
        )
        np.testing.assert_allclose(now / was, factor**2)
    areas = np.linalg.det(after[~middle]) / np.linalg.det(before[~middle])
    np.testing.assert_allclose(areas, (ALONG * ACROSS) ** 2)


def test_disks_without_contrast_are_left_as_they_are(disks: Disks) -> None:
    flat = replace(disks, order=np.zeros(len(disks), np.int64))
    np.testing.assert_array_equal(covariance(directed(flat, (96, 96), 6.0)), covariance(flat))
    assert len(directed(Disks.empty(), (96, 96), 6.0)) == 0
