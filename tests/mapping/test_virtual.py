"""Virtual images and thickness indicators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mapping_scans import scan, vectors

from diskern.errors import DiskernError
from diskern.mapping.index import index_vectors
from diskern.mapping.thickness import thickness_map
from diskern.mapping.virtual import virtual_image, virtual_image_of
from diskern.physics import interaction_parameter

SHAPE = (6, 7)


@pytest.fixture(scope="module")
def truth():
    return scan(SHAPE, missing=0.2, descan=(2.0, 0.0))


def test_apertures_sum_what_falls_in(truth):
    points = truth.points
    whole = virtual_image(points, (128, 128, 400.0))
    expected = np.bincount(points.pattern, points.intensity, points.patterns).reshape(SHAPE)
    assert whole == pytest.approx(expected)
    mask = np.ones(points.pattern_shape, dtype=bool)
    assert virtual_image(vectors(points), mask) == pytest.approx(whole)
    assert virtual_image(points, ~mask).max() == 0
    assert virtual_image(points, (128, 128, 400.0), weight="count").sum() == len(points)


def test_nodes_are_followed_through_the_descan(truth):
    lattices = index_vectors(truth.points)
    beam = (truth.indices == 0).all(axis=1)
    expected = np.zeros(truth.points.patterns)
    np.add.at(expected, truth.points.pattern[beam], truth.points.intensity[beam])
    assert virtual_image_of(lattices, (0, 0)) == pytest.approx(expected.reshape(SHAPE))
    pair = virtual_image_of(lattices, [(1, 0), (-1, 0)], weight="count")
    single = virtual_image_of(lattices, (1, 0), weight="count", label=0)
    assert (pair >= single).all()


def test_unindexed_positions_are_unknown(truth):
    points = truth.points
    lattices = index_vectors(points.select(points.pattern != 3))
    assert np.isnan(virtual_image_of(lattices, (0, 0))[0, 3])


@pytest.mark.parametrize(
    ("aperture", "options", "words"),
    [
        ((1, 2, 0), {}, "radius"),
        (np.ones((3, 3), dtype=bool), {}, "mask"),
        ((1, 2, 3), {"weight": "mass"}, "weight"),
        ((1, 2, 3), {"weight": "v_g"}, "V_g"),
    ],
)
def test_impossible_apertures_are_refused(truth, aperture, options, words):
    with pytest.raises(DiskernError, match=words):
        virtual_image(truth.points, aperture, **options)


def test_impossible_nodes_are_refused(truth):
    lattices = index_vectors(truth.points)
    with pytest.raises(DiskernError, match="whole"):
        virtual_image_of(lattices, (0.5, 0))
    with pytest.raises(DiskernError, match="lattice 7"):
        virtual_image_of(lattices, (1, 0), label=7)


def test_weak_beams_tell_the_thickness(truth):
    energy, thickness = 200e3, 60.0
    points = truth.points
    rng = np.random.default_rng(0)
    n = len(points)
    v_g = rng.uniform(0.2, 1.0, n)
    q_z = rng.normal(0, 0.003, n)
    beam = (truth.indices == 0).all(axis=1)
    share = (interaction_parameter(energy) * v_g * thickness) ** 2 * np.sinc(thickness * q_z) ** 2
    share[beam] = 0
    total = 1e6
    diffracted = np.bincount(points.pattern, share, points.patterns)
    intensity = np.where(beam, total * (1 - diffracted[points.pattern]), total * share)
    made = replace(points, intensity=intensity, v_g=v_g, q_z=q_z)
    found = thickness_map(index_vectors(made), energy)
    assert np.median(found.thickness) == pytest.approx(thickness, rel=0.02)
    assert not found.strong.any()
    assert found.scattered == pytest.approx(-np.log(1 - diffracted.reshape(SHAPE)), abs=0.01)


def test_without_v_g_there_is_only_the_scattered_share(truth):
    found = thickness_map(index_vectors(truth.points), 200e3)
    assert np.isnan(found.thickness).all()
    assert np.isfinite(found.scattered).all()
