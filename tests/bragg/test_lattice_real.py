"""The lattice fit on real patterns, from the image to the net."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from diskern.bragg.analyse import analyse
from diskern.bragg.lattice_fit import fit_lattices
from diskern.bragg.metric import metric
from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre
from diskern.patterns.pattern import Pattern


def lattices(path):
    image = (
        tifffile.imread(path) if path.suffix == ".tif" else np.array(Image.open(path).convert("L"))
    )
    return analyse(Pattern.from_array(image)).lattices


def test_aluminium_net_of_111_and_220(experimental):
    net = metric(lattices(experimental / "mompiou__pycotem" / "diff+21.5.png")[0])
    assert net.angle == pytest.approx(90, abs=2)
    assert 1 / net.ratio == pytest.approx(np.sqrt(3 / 8), rel=0.03)
    assert net.length_a == pytest.approx(158.344 * np.sqrt(3) / 4.0495, rel=0.03)


def test_molybdenum_trioxide_net(experimental):
    first = lattices(experimental / "pyxem__pyxem-demos" / "moo3_20cm.tif")[0]
    a, b = first.basis
    diagonals = a + b, a - b
    cosine = diagonals[0] @ diagonals[1] / np.prod([np.linalg.norm(d) for d in diagonals])
    assert max(np.degrees(np.arccos(cosine)), np.degrees(np.arccos(-cosine))) == pytest.approx(
        94.6, abs=1.5
    )
    assert np.abs(np.linalg.norm(diagonals, axis=1) / 36.0 - 1).max() < 0.06


def peaks(image, threshold):
    """Spots by a difference of Gaussians: the split spots of a twin, whatever the finder does."""
    sharp = ndimage.gaussian_filter(image, 1.2) - ndimage.gaussian_filter(image, 6.0)
    top = (sharp == ndimage.maximum_filter(sharp, 5)) & (sharp > threshold)
    edge = np.zeros_like(top)
    edge[3:-3, 3:-3] = True
    place = np.argwhere(top & edge)
    height = sharp[tuple(place.T)]
    offset = np.mgrid[-2:3, -2:3]
    windows = [np.maximum(sharp[y - 2 : y + 3, x - 2 : x + 3], 0) for y, x in place]
    shift = np.array([(offset * w).sum(axis=(1, 2)) / w.sum() for w in windows])
    one = np.ones(len(place))
    return Spots(place + shift, np.full(place.shape, 0.4), height, one, 2 * one)


def test_two_crystals_in_the_twinned_pattern(experimental):
    path = experimental / "Godllolzzz__virtual-lab-saed" / "twinsFault_crop.png"
    image = np.array(Image.open(path).convert("L"), dtype=float)[:225, :238]  # above the scale bar
    spots = peaks(image, 16.0)
    beam = np.array([136.4, 132.0])
    spots = spots.select(np.linalg.norm(spots.position - beam, axis=1) > 15)
    found = fit_lattices(spots, Centre(*beam, 0.5, "by eye"), image.shape)
    assert [net.rank for net in found] == [2, 2]
    assert np.linalg.norm(found[0].origin - found[1].origin) < 2
