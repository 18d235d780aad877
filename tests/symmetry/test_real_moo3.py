"""A plate crystal of MoO3 at the camera length that gold rings calibrate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spot_simulation import phase

from diskern.bragg.analyse import analyse
from diskern.crystal.common import common_phases
from diskern.patterns.read import read
from diskern.symmetry.phases import search_phases
from diskern.symmetry.ring_phases import calibrate_from_rings

ELEMENTS = ["Mo", "O", "C", "Cu", "Au", "Si", "Al", "Fe"]
"""Of the crystal, its support and grid, the calibrant and the column."""


def test_moo3_lies_on_its_plate_normal(experimental: Path) -> None:
    """Among all phases that the specimen, its grid and the column can be made of.

    Among all elements perovskites and spinels on <001> fit as well or better: this image is
    stretched by 6 % in another direction than the gold rings, and the h0l with h + l odd that the
    n glide of MoO3 forbids are lit.
    """
    folder = experimental / "pyxem__pyxem-demos"
    gold = analyse(read(folder / "au_xgrating_20cm.tif"))
    calibration = calibrate_from_rings(gold.rings, phase("Au"))
    analysis = analyse(read(folder / "moo3_20cm.tif"))
    candidates = common_phases(ELEMENTS)
    assert len(candidates) >= 30
    matches = search_phases([analysis], candidates, pixel_size=calibration.pixel_size)
    best = matches[0]
    assert best.name == "MoO3 (alpha)"
    assert best.score > 0.5
    zone, angle = best.zone_axes[0]
    assert tuple(np.abs(zone)) == (0, 1, 0)
    assert angle < 1.5
    assert best.explained > 0.9
    # The net is 3 to 4 % smaller than the gold rings say (97.1 against 99.7 px·Å by hand).
    assert best.scale == pytest.approx(1.033, abs=0.012)
