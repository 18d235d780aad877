"""The report of maps: complete, self-contained, honest where things are unknown."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diskern.errors import DiskernError
from diskern.mapping.calibration import calibrate
from diskern.mapping.index import index_vectors
from diskern.mapping.strain import strain_map
from diskern.mapping.thickness import thickness_map
from diskern.mapping.tilt import tilt_map
from diskern.report.map_report import (
    MapResults,
    render_map_report,
    save_map_figures,
    write_map_report,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "mapping"))

from mapping_scans import scan, vectors


@pytest.fixture(scope="module")
def results():
    points = scan((6, 8), missing=0.2).points
    points = replace(points, q_z=np.zeros(len(points)), sigma_q_z=np.full(len(points), 1e-3))
    points = points.select(points.pattern != 3)
    found = vectors(points, pixel_size=0.01, energy=200e3, scan_step=(10.0, 10.0))
    lattices = index_vectors(found)
    return MapResults(
        "scan <1>.h5",
        found,
        lattices,
        calibrate(found, lattices),
        strain_map(lattices, calibration=found.calibration),
        tilt_map(lattices, calibration=found.calibration),
        thickness_map(lattices, 200e3),
        {"command": "diskern map 'scan <1>.h5'", "options": {"lattices": 2}},
        ("a note & a warning",),
    )


def test_report_holds_everything(results):
    text = render_map_report(results)
    for title in ("Strain", "Tilt", "Lattices", "Bragg vectors", "Virtual images", "Calibration"):
        assert f"<h2>{title}</h2>" in text
    assert text.count("<img ") == 5
    assert "1 positions: no disks" in text
    assert "cannot be told from" in text
    assert '{"lattices": 2}' in text or "{&quot;lattices&quot;: 2}" in text


def test_report_asks_for_nothing_from_outside_and_escapes(results):
    text = render_map_report(results)
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "scan <1>" not in text
    assert "scan &lt;1&gt;.h5" in text
    assert "a note &amp; a warning" in text
    assert "<script" not in text


def test_parts_that_are_not_there_are_left_out(results):
    bare = render_map_report(MapResults("x", results.vectors))
    assert "<h2>Strain</h2>" not in bare
    assert "<h2>Bragg vectors</h2>" in bare


def test_scans_without_lattice_say_so(results):
    points = results.lattices.points
    nothing = points.select(np.zeros(len(points), dtype=bool))
    lattices = index_vectors(nothing)
    text = render_map_report(
        MapResults("x", vectors(nothing), lattices, strain=strain_map(lattices))
    )
    assert "No lattice explains" in text


def test_rough_tilts_are_called_rough(results):
    rough = tilt_map(
        results.lattices,
        calibration=results.vectors.calibration,
        method="friedel",
        thickness=100.0,
    )
    assert "rough estimate" in render_map_report(replace(results, tilt=rough))


def test_files_are_written(results, tmp_path):
    path = write_map_report(results, tmp_path / "out" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    names = {p.name for p in save_map_figures(results, tmp_path / "figures")}
    assert names == {
        "bragg_vectors.png",
        "strain.png",
        "tilt.png",
        "lattices.png",
        "virtual_images.png",
    }
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskernError, match="cannot"):
        write_map_report(results, tmp_path / "file" / "report.html")
    with pytest.raises(DiskernError, match="cannot"):
        save_map_figures(results, tmp_path / "file" / "x")
