"""Rings name their phase as far as radii and heights can, and calibrate the pixel size."""

from __future__ import annotations

import numpy as np
import pytest
from spot_simulation import phase

from diskern.bragg.rings import Rings
from diskern.crystal.common import common_phases
from diskern.errors import DiskernError
from diskern.patterns.geometry import Centre, Ellipse
from diskern.symmetry.kinematic_table import kinematic_table
from diskern.symmetry.ring_phases import calibrate_from_rings, fit_rings

PIXEL = 0.005


def rings_of(name: str, *, count: int = 6, least: float = 0.02, seed: int = 0) -> Rings:
    """Rings of a phase with heights off by half and radii off by 0.2 %."""
    rng = np.random.default_rng(seed)
    length, height, _ = kinematic_table(phase(name)).powder
    strong = np.flatnonzero(height > least)[:count]
    radius = length[strong] / PIXEL * (1 + rng.normal(0, 0.002, len(strong)))
    heights = height[strong] * np.exp(rng.normal(0, 0.4, len(strong)))
    return rings_at(radius, heights)


def rings_at(radius: np.ndarray, height: np.ndarray) -> Rings:
    """Rings at given radii, two px wide."""
    n = len(radius)
    return Rings(
        np.asarray(radius, dtype=float),
        np.full(n, 0.4),
        np.asarray(height, dtype=float),
        np.full(n, 2.0),
        np.zeros(1),
        Centre(256, 256, 0.2, "rings"),
        Ellipse(1.02, 30.0, 0.002),
    )


def ranked(rings: Rings, pixel_size: float | None, error: float = 0.03) -> list[tuple[str, float]]:
    """All common phases with their evidence, best first."""
    found = [(c.name, fit_rings(rings, c, pixel_size, error).evidence) for c in common_phases()]
    return sorted(found, key=lambda f: -f[1])


def test_powder_lines_have_the_kinematic_intensities() -> None:
    length, height, hkl = kinematic_table(phase("NaCl")).powder
    lines = {tuple(h): (1 / g, i) for h, g, i in zip(hkl.tolist(), length, height, strict=True)}
    assert lines[2, 0, 0] == (pytest.approx(2.8201, abs=1e-3), 1.0)
    # multiplicity × |F|² × d² with the published |F| (Lobato): 6.1572, 20.3098, 14.8877 Å.
    expected = (12 * 14.8877**2 / 8) / (6 * 20.3098**2 / 4)
    assert lines[2, 2, 0][1] == pytest.approx(expected, rel=0.12)
    expected = (8 * 6.1572**2 / 3) / (6 * 20.3098**2 / 4)
    assert lines[1, 1, 1][1] == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("name", ["ZnO", "TiO2 (anatase)", "Fe2O3 (hematite)", "CeO2"])
def test_a_phase_is_first_with_the_scale_six_percent_off(name: str) -> None:
    rings = rings_of(name, count=8)
    order = ranked(rings, PIXEL * 1.04)
    evidence = dict(order)
    # Isostructural oxides with cells within the calibration error cannot be told apart.
    assert evidence[name] > order[0][1] - 2.0
    fit = fit_rings(rings, phase(name), PIXEL * 1.04)
    assert fit.scale == pytest.approx(PIXEL, rel=0.004)
    assert fit.explained == 1.0


def test_gold_rings_tie_with_silver_but_not_with_rock_salt_or_copper() -> None:
    evidence = dict(ranked(rings_of("Au"), PIXEL))
    best = max(evidence.values())
    assert evidence["Au"] > best - 1.5
    assert evidence["Ag"] > best - 1.5
    assert evidence["Au"] > evidence["MgO"] + 3.0
    assert evidence["Au"] > evidence["Cu"] + 3.0  # 12 % in scale
    assert evidence["Au"] > evidence["Fe (ferrite)"] + 5.0


def test_rock_salt_heights_speak_against_gold() -> None:
    evidence = dict(ranked(rings_of("MgO"), PIXEL))
    assert evidence["MgO"] > evidence["Au"] + 3.0


def test_rings_at_random_belong_to_no_phase() -> None:
    rng = np.random.default_rng(4)
    rings = rings_at(np.sort(rng.uniform(60, 240, 7)), rng.random(7) + 0.2)
    fcc_like = [fit_rings(rings, phase(n), PIXEL).evidence for n in ("Au", "MgO", "Si", "ZnO")]
    assert max(fcc_like) < 2.0


def test_a_missing_strong_ring_counts_against_a_phase() -> None:
    full = rings_of("Au")
    keep = np.arange(len(full.radius)) != 2
    thinned = rings_at(full.radius[keep], full.intensity[keep])
    lost = (
        fit_rings(full, phase("Au"), PIXEL).evidence
        - fit_rings(thinned, phase("Au"), PIXEL).evidence
    )
    assert lost > 3.0


@pytest.mark.parametrize("start", [None, PIXEL * 1.05])
def test_calibration_finds_the_pixel_size(start: float | None) -> None:
    result = calibrate_from_rings(rings_of("Au"), phase("Au"), pixel_size=start)
    assert result.pixel_size == pytest.approx(PIXEL, rel=0.003)
    assert abs(result.pixel_size - PIXEL) < 3 * result.sigma
    assert result.ellipse.ratio == 1.02


def test_rings_of_another_phase_do_not_calibrate() -> None:
    rng = np.random.default_rng(4)
    rings = rings_at(np.sort(rng.uniform(60, 240, 7)), rng.random(7) + 0.2)
    with pytest.raises(DiskernError, match="do not fit Au"):
        calibrate_from_rings(rings, phase("Au"))
