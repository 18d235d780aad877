"""The scan of the demonstration: its truth, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import stand_in_search

from diskern.bragg.disk_probe import Probe
from diskern.bragg.vectors import BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.cli import _demo_scan as demo
from diskern.cli._maps import Wishes, make_maps
from diskern.patterns.pattern import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return demo.simulated()


def ideal(scan: Scan) -> BraggVectors:
    """The disks exactly where the strained lattice puts them."""
    specimen = scan.data.specimen
    ny, nx = specimen.shape
    hkl = np.array([(h, k, 0) for h in range(-4, 5, 2) for k in range(-4, 5, 2)])
    g = hkl @ specimen.crystals[0].reciprocal
    turned = np.einsum("yxij,nj->yxni", specimen.rotations(), g)
    strained = np.einsum("yxji,yxnj->yxni", np.linalg.inv(specimen.stretches()), turned)
    position = 64 + strained[..., 1::-1].reshape(-1, 2) / scan.pixel_size
    count = len(position)
    columns = {
        "row": position[:, 0], "col": position[:, 1],
        "intensity": np.tile(1e3 * np.exp(-(g**2).sum(1)), ny * nx),
        "sigma_row": np.full(count, 0.02), "sigma_col": np.full(count, 0.02),
        "covariance": np.zeros(count), "sigma_intensity": np.full(count, 5.0),
    }  # fmt: skip
    which = np.repeat(np.arange(ny * nx), len(hkl))
    known = VectorCalibration(scan.pixel_size, scan.energy, scan.scan_step)
    return BraggVectors.from_columns((ny, nx), (128, 128), which, columns, known)


def test_the_truth_is_what_perfect_disks_give(scan: Scan) -> None:
    results = make_maps(ideal(scan), Wishes(), "ideal", lambda words: None)
    indexed, lattices, off = demo.compared(results, scan.data.specimen.strain)
    assert (indexed, lattices) == (1.0, 2)
    assert off < 2e-5
    assert np.ptp(scan.data.specimen.strain[..., 0]) > demo.STRAIN
    wrong = demo.compared(results, -scan.data.specimen.strain)[2]
    assert wrong > 5e-3


def test_the_scan_is_written_mapped_and_judged(tmp_path: Path, monkeypatch) -> None:
    stand_in_search.install(monkeypatch)
    radius = 1.8e-3 / 0.02508 / 0.024
    monkeypatch.setattr(
        "diskern.bragg.disk_probe_estimate.estimate_probe",
        lambda patterns, mask, dark: Probe.synthetic(patterns.shape[1:], radius, 0.5),
    )
    told: list[str] = []
    found, facts = demo.map_demo(tmp_path, told.append)
    assert {p.name for p in tmp_path.iterdir()} == {"scan.h5", "maps"}
    assert (tmp_path / found.address).exists()
    assert found.image.startswith(b"\x89PNG")
    assert (tmp_path / "maps" / "vectors.h5").exists()
    assert not (tmp_path / "maps" / "blocks").exists()
    facts = json.loads(json.dumps(facts))
    assert facts["lattices"] == 2
    assert facts["strain_error"] > 0
    assert any("patterns" in words for words in told)
