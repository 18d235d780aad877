"""Radius and rim of a probe from how straight the rows of disks become."""

from __future__ import annotations

import numpy as np
import pytest
from disk_patterns import grid_places, simulate

from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_probe_fit import fitted_probe, in_rows, is_better, off_rows
from diskern.bragg.disk_search import find_disks
from diskern.bragg.disks import DiskOptions, Disks

ALL = np.ones((96, 96), dtype=bool)
EVEN = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)


def lattice(counts: int, pitch: float, seed: int = 0) -> np.ndarray:
    """(counts, 9, 2) places of nine disks in even rows, each pattern's turned its own way."""
    rng = np.random.default_rng(seed)
    turns = rng.uniform(0, np.pi, counts)
    axes = np.stack([np.cos(turns), np.sin(turns), -np.sin(turns), np.cos(turns)], 1)
    middle = 48 + rng.uniform(-0.5, 0.5, (counts, 1, 2))
    return middle + pitch * (EVEN - 1) @ axes.reshape(-1, 2, 2)


def found(counts: np.ndarray, radius: float) -> Disks:
    probe = Probe.synthetic((96, 96), radius, 0.7)
    return find_disks(counts, probe, mask=ALL, options=DiskOptions(gain=1.0))


def test_rows_are_threes_at_even_steps_of_one_pattern() -> None:
    places = np.concatenate([20 * EVEN, 20 * EVEN + 3])
    pattern = np.repeat([0, 4], 9)
    rows = in_rows(pattern, places)
    assert len(rows) == 16  # three rows, three columns and two diagonals of each
    assert (pattern[rows] == pattern[rows[:, :1]]).all()
    assert off_rows(places, rows) == pytest.approx(0)
    # One that is missing takes its rows along; a stray disk makes none.
    fewer = np.concatenate([np.delete(20 * EVEN, 4, axis=0), [[7.0, 9.0]]])
    assert len(in_rows(np.zeros(9, int), fewer)) == 4
    assert in_rows(np.arange(9), 20 * EVEN).shape == (0, 3)


def test_off_rows_is_the_scatter_of_places() -> None:
    rng = np.random.default_rng(0)
    places = np.tile(20 * EVEN, (200, 1)) + rng.normal(0, 0.3, (1800, 2))
    scatter = off_rows(places, in_rows(np.repeat(np.arange(200), 9), places))
    # The median of a Rayleigh distribution.
    assert scatter == pytest.approx(0.3 * np.sqrt(2 * np.log(2)), rel=0.06)


@pytest.mark.parametrize("start", [0.88, 1.12])
def test_fringed_disks_in_rows_tell_radius_and_rim(start: float) -> None:
    made = simulate(
        lattice(12, 22), np.full((12, 9), 2e4), radius=6.0, edge=0.5, background=1.0, contrast=0.7
    )
    disks = found(made.counts, start * 6.0)
    probe = fitted_probe(made.counts, ALL, disks, start * 6.0)
    assert probe.round
    assert probe.radius == pytest.approx(6.0, rel=0.02)
    assert 0.35 <= probe.edge <= 0.7


def test_without_rows_the_likelihood_decides() -> None:
    rng = np.random.default_rng(1)
    place = 48 + rng.uniform(-14, 14, (20, 1, 2))
    made = simulate(place, np.full((20, 1), 2e4), radius=6.0, edge=0.6, background=1.0)
    probe = fitted_probe(made.counts, ALL, found(made.counts, 6.4), 6.4)
    assert probe.radius == pytest.approx(6.0, rel=0.03)


@pytest.mark.parametrize("rows", [True, False])
def test_another_probe_must_be_plainly_better(rows: bool) -> None:
    place = lattice(12, 22) if rows else grid_places(3, 96, 26)[:, :1]
    shape = place.shape[:2]
    made = simulate(place, np.full(shape, 2e4), radius=6.0, background=1.0, contrast=0.5)
    disks = found(made.counts, 6.0)
    right, wrong = (Probe.synthetic((96, 96), r, 0.6) for r in (6.0, 7.2))
    assert is_better(made.counts, ALL, disks, right, wrong)
    assert not is_better(made.counts, ALL, disks, wrong, right)
    assert not is_better(made.counts, ALL, disks, right, right)
