"""The lattice fit on real patterns, from the image to the net."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from diskern.bragg.analyse import analyse
from diskern.bragg.metric import metric
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


def holds(net, length_a, length_b, angle):
    """Whether a net is this reduced one, to 2 % and 1.5 degrees, either hand up."""
    sides = np.allclose(net.lengths, [length_a, length_b], rtol=0.02)
    return sides and min(abs(net.angle - angle), abs(180 - net.angle - angle)) < 1.5


def test_two_crystals_in_the_twinned_pattern(experimental):
    """Face-centred cubic [111], hexagonal in 220, and a second zone that shares its 220 row with
    the next row 1.22 times as far off, as in [114]."""
    found = lattices(experimental / "Godllolzzz__virtual-lab-saed" / "twinsFault_crop.png")
    assert [net.rank for net in found] == [2, 2]
    assert sum(holds(net, 59.4, 59.4, 60.0) for net in found) == 1
    assert sum(holds(net, 59.4, 69.2, 64.6) for net in found) == 1
    assert np.linalg.norm(found[0].origin - found[1].origin) < 2
