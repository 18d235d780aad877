"""Indexing of scans: bases found unasked, several lattices, honest refusals."""

from __future__ import annotations

import time

import numpy as np
import pytest
from mapping_scans import HEXAGONAL, SQUARE, combine, deformations, rotated, scan

from diskern.errors import DiskernError
from diskern.mapping.bases import same_lattice
from diskern.mapping.index import IndexOptions, index_vectors
from diskern.mapping.lattice_map import Reason
from diskern.mapping.points import Points

SHAPE = (24, 24)
Y, X = np.indices(SHAPE)


def test_one_crystal_is_one_lattice_and_one_grain():
    truth = scan(SHAPE, missing=0.3, spurious=0.15, descan=(0.2, -0.1))
    lattices = index_vectors(truth.points)
    assert lattices.indexed.all()
    assert len(lattices.bases) == 1
    assert lattices.grains == 1
    assert same_lattice(lattices.bases[0], SQUARE)[1] < 1e-3
    assert np.abs(lattices.origin[0] - truth.origin).max() < 0.2
    assert (lattices.reason == Reason.INDEXED).all()


@pytest.mark.parametrize("direct", [True, False])
def test_two_overlapping_grains_are_told_apart(direct):
    left = scan(SHAPE, missing=0.3, spurious=0.1, seed=1, direct=direct)
    right = scan(SHAPE, rotated(SQUARE, 20), missing=0.3, spurious=0.1, seed=2, direct=direct)
    both = combine([(left, X < 14), (right, X >= 10)])
    lattices = index_vectors(both)
    overlap = (X >= 10) & (X < 14)
    assert len(lattices.bases) == 2
    assert lattices.grains == 2
    assert np.array_equal((lattices.label >= 0).sum(axis=0) == 2, overlap)
    first = lattices.label[0]
    assert len({first[5, 3], first[5, 20]}) == 2
    for slot in range(2):
        here = overlap & (lattices.label[slot] == first[5, 3])
        size = same_lattice(lattices.basis[slot][here], SQUARE)[1]
        assert np.all(size < 0.002)


@pytest.mark.parametrize("twist", [3.0, 30.0])
def test_twisted_bilayers_show_both_lattices_everywhere(twist):
    shape = (10, 10)
    everywhere = np.ones(shape, dtype=bool)
    lower = scan(shape, HEXAGONAL, missing=0.2, seed=1)
    upper = scan(shape, rotated(HEXAGONAL, twist), missing=0.2, seed=2)
    lattices = index_vectors(combine([(lower, everywhere), (upper, everywhere)]))
    assert (lattices.label >= 0).all(axis=0).mean() > 0.97
    assert lattices.grains == 2
    assert len(lattices.bases) == 2
    both = (lattices.label >= 0).all(axis=0)
    angle = np.degrees(np.arctan2(lattices.basis[..., 0, 0], lattices.basis[..., 0, 1]))
    apart = (angle[1] - angle[0])[both]
    off = np.abs(np.abs(apart) - twist)
    assert np.median(np.minimum(off % 60, 60 - off % 60)) < 0.05


def test_bent_crystals_are_one_grain_in_one_setting():
    turn = np.radians(12) * np.linspace(0, 1, SHAPE[1])
    truth = scan(SHAPE, deformation=deformations(SHAPE, rotation=turn), missing=0.3, spurious=0.1)
    lattices = index_vectors(truth.points)
    assert lattices.grains == 1
    assert np.abs(np.diff(lattices.basis[0], axis=1)).max() < 1.0


def test_superlattice_reflections_in_one_half_index_the_whole():
    truth = scan(SHAPE, missing=0.2)
    even = (truth.indices % 2 == 0).all(axis=1)
    right = (X >= 12).reshape(-1)[truth.points.pattern]
    lattices = index_vectors(truth.points.select(even | right))
    assert len(lattices.bases) == 1
    assert lattices.indexed.mean() > 0.98
    assert np.linalg.norm(lattices.bases[0], axis=1) == pytest.approx(30, abs=0.1)


def test_polycrystal_with_many_orientations():
    rng = np.random.default_rng(3)
    seeds = rng.uniform(0, SHAPE[0], (9, 2))
    place = np.stack([Y, X], axis=-1)[:, :, None]
    grain = ((place - seeds) ** 2).sum(axis=-1).argmin(axis=-1)
    angles = np.linspace(0, 54, 9)
    parts = [
        (scan(SHAPE, rotated(HEXAGONAL, a), missing=0.3, spurious=0.1, seed=k), grain == k)
        for k, a in enumerate(angles)
    ]
    lattices = index_vectors(combine(parts))
    assert lattices.indexed.mean() > 0.99
    for k in range(9):
        counts = np.unique(lattices.grain[0][grain == k], return_counts=True)[1]
        assert counts.max() >= 0.9 * (grain == k).sum()
    # Within a grain all bases are in one setting, whatever reference they were indexed with.
    for g in range(lattices.grains):
        bases = lattices.basis[lattices.grain == g]
        assert np.abs(bases - np.median(bases, axis=0)).max() < 1.0


def test_sparse_patterns_are_indexed_together():
    truth = scan((30, 30), missing=0.87, spurious=0.02, seed=5)
    assert np.median(truth.points.counts) <= 6
    lattices = index_vectors(truth.points)
    assert same_lattice(lattices.bases[0], SQUARE)[1] < 2e-3
    enough = truth.points.counts.reshape(30, 30) >= 5
    assert lattices.indexed[enough].mean() > 0.97


def test_clutter_has_no_lattice():
    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(400), 20)
    columns = {
        "row": rng.uniform(5, 250, 8000),
        "col": rng.uniform(5, 250, 8000),
        "intensity": rng.lognormal(5, 1, 8000),
        "sigma_row": np.full(8000, 0.05),
        "sigma_col": np.full(8000, 0.05),
    }
    lattices = index_vectors(Points.from_columns((20, 20), (256, 256), which, columns))
    assert lattices.indexed.mean() < 0.01
    assert np.isnan(lattices.basis[0][~lattices.indexed]).all()


def test_patterns_that_cannot_be_indexed_say_why():
    truth = scan(SHAPE, missing=0.2)
    points, pattern = truth.points, truth.points.pattern
    drop = np.zeros(len(points), dtype=bool)
    beam = (truth.indices == 0).all(axis=1)
    drop |= pattern == 0  # no disk at all
    drop |= (pattern == 1) & ~beam  # the direct beam alone
    drop |= (pattern == 2) & (truth.indices[:, 1] != 0)  # one row
    lattices = index_vectors(points.select(~drop))
    assert lattices.reason[0, :3].tolist() == [Reason.EMPTY, Reason.FEW, Reason.VAGUE]
    assert np.isnan(lattices.basis[0, 0, :3]).all()
    assert (lattices.slot[lattices.points.pattern <= 2] == -1).all()
    assert lattices.indexed.sum() == np.prod(SHAPE) - 3


def test_indices_belong_to_the_disks():
    truth = scan((10, 10), missing=0.3, spurious=0.2, seed=4)
    lattices = index_vectors(truth.points)
    held = lattices.slot == 0
    true = np.isfinite(truth.indices[:, 0])
    assert held[true].mean() > 0.99
    assert held[~true].mean() < 0.03
    basis = lattices.basis[0].reshape(-1, 2, 2)[lattices.points.pattern[held]]
    origin = lattices.origin[0].reshape(-1, 2)[lattices.points.pattern[held]]
    node = origin + np.einsum("ni,nij->nj", lattices.indices[held], basis)
    miss = lattices.points.position[held] - node
    assert np.allclose(miss, lattices.residual[held], atol=1e-6)
    assert np.abs(miss).max() < 0.6


def test_scatter_beyond_the_given_sigma_is_found():
    truth = scan((15, 15), sigma=0.2, unequal=False)
    from dataclasses import replace

    boastful = replace(truth.points, covariance=truth.points.covariance / 16)
    lattices = index_vectors(boastful)
    assert np.sqrt(lattices.noise.excess) == pytest.approx(0.2 * np.sqrt(15 / 16), rel=0.05)
    assert np.nanmedian(lattices.chi2[0]) == pytest.approx(1, abs=0.08)


def test_vectors_without_sigma_get_theirs_from_the_scatter():
    truth = scan((15, 15), sigma=0.1, unequal=False)
    from dataclasses import replace

    silent = replace(truth.points, covariance=np.zeros_like(truth.points.covariance))
    lattices = index_vectors(silent)
    assert np.sqrt(lattices.noise.excess) == pytest.approx(0.1, rel=0.05)


def test_given_bases_are_used():
    truth = scan((8, 8), missing=0.3)
    lattices = index_vectors(truth.points, bases=SQUARE * 1.01)
    assert lattices.indexed.all()
    assert len(lattices.bases) == 1


def test_same_input_same_answer():
    truth = scan((12, 12), missing=0.4, spurious=0.2)
    one, two = index_vectors(truth.points), index_vectors(truth.points)
    assert np.array_equal(one.basis, two.basis, equal_nan=True)


def test_no_disks_at_all():
    nothing = Points.from_columns((3, 4), (64, 64), [], {"row": [], "col": [], "intensity": []})
    lattices = index_vectors(nothing)
    assert not lattices.indexed.any()
    assert (lattices.reason == Reason.EMPTY).all()
    assert "no disks" in repr(lattices)


def test_one_pattern_is_a_scan_too():
    truth = scan((1, 1), missing=0.2)
    assert index_vectors(truth.points).indexed.all()


@pytest.mark.parametrize("bad", [{"max_lattices": 0}, {"deformation": 2.0}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(DiskernError, match=next(iter(bad))):
        IndexOptions(**bad)


def test_bases_that_span_nothing_are_refused():
    with pytest.raises(DiskernError, match="spans no lattice"):
        index_vectors(scan((2, 2)).points, bases=[[1.0, 0], [2.0, 0]])


def test_quick_enough():
    """A quarter of a million disks in seconds: no loop over patterns."""
    e = 0.01 * np.sin(np.linspace(0, 6, 100))
    truth = scan((100, 100), deformation=deformations((100, 100), e_xx=e), missing=0.3)
    start = time.process_time()
    lattices = index_vectors(truth.points)
    assert time.process_time() - start < 15
    assert lattices.indexed.all()
