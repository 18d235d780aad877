"""What is drawn inside disks, told in the frame of each disk."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.bragg.disk_basis import count, disk_basis, recentred
from diskern.bragg.disk_contrast import (
    ACROSS,
    ALONG,
    FIELDS,
    MOST,
    PROFILE,
    direct_beams,
    disk_facts,
    mirrored,
    profiles,
)
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disks import CONTRAST, Candidates, Disks

RADIUS = 7.0
SHAPE = (96, 96)


def turned(places: np.ndarray, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return places @ np.array([[c, s], [-s, c]])


def ring_of_disks(places: np.ndarray, intensity: np.ndarray, contrast: np.ndarray) -> Disks:
    return Disks.from_columns(
        np.zeros(len(places), int),
        *(places + 48).T,
        intensity=intensity,
        sigma_intensity=np.sqrt(intensity),
        chi2=1.0,
        contrast=contrast,
    )


def test_recentred_polynomials_are_the_same_function() -> None:
    rng = np.random.default_rng(0)
    basis = disk_basis(6)
    given, shift = rng.normal(size=(4, count(6))), rng.normal(0, 0.1, (4, 2))
    found = recentred(given, shift)
    x, y = rng.uniform(-0.6, 0.6, (2, 9))
    for old, new, (a, b) in zip(given, found, shift, strict=True):
        expected = basis.evaluate(x + a, y + b)[:, : count(6)] @ old
        np.testing.assert_allclose(basis.evaluate(x, y)[:, : count(6)] @ new, expected, atol=1e-10)


def test_the_fit_tells_where_a_disk_is_bright() -> None:
    """A bright line across the disk, whatever the disk's place between the pixels."""
    rows, cols = np.mgrid[:96, :96]
    probe = Probe.synthetic(SHAPE, RADIUS, 0.6)
    for row in (48.0, 48.4):
        r, c = rows - row, cols - 47.7
        rim = 0.5 - 0.5 * np.tanh((np.hypot(r, c) - RADIUS) / 0.6)
        image = 400 * rim * (0.3 + np.exp(-0.5 * ((r / RADIUS - 0.4) / 0.2) ** 2))
        image = np.random.default_rng(1).poisson(image + 2)[None].astype(np.float32)
        start = Candidates.at([0], [48.2], [47.5])
        assert not refine_disks(image, probe, start).contrast.any()
        disks = refine_disks(image, probe, start, contrast=True)
        own, beam = profiles(disks.contrast, disks.contrast[0], np.array([[1.0, 0.0]]))
        np.testing.assert_allclose(own, beam)
        profile = own[0]
        middle = profile.reshape(len(ALONG), len(ACROSS))[:, 1]
        assert ALONG[middle.argmax()] == pytest.approx(0.4, abs=0.11)
        assert middle.max() > 0.5
        assert middle.min() < -0.2


def test_facts_do_not_change_when_a_pattern_is_turned() -> None:
    rng = np.random.default_rng(2)
    places = np.array([[0, 0], [20, 3], [-20, -3], [4, -22], [15, 25]], float)
    intensity = np.array([1e5, 4e3, 3e3, 2e3, 1e3])
    # A gradient turns with the pattern; P₁ and P₂ are proportional to column and row.
    gradient = rng.normal(size=(5, 2))

    def told(degrees: float) -> np.ndarray:
        basis = disk_basis(6)
        weight = basis.evaluate(np.array([1.0, 0.0]), np.array([0.0, 1.0]))[:, 1:3]
        contrast = np.zeros((5, CONTRAST))
        contrast[:, :2] = turned(gradient, degrees) @ np.linalg.inv(weight).T
        made = ring_of_disks(turned(places, degrees), intensity, contrast)
        facts = disk_facts(made, 0, radius=RADIUS, energy=2e5, pixel_size=0.01, total=2e5)
        assert facts.source.tolist() == [1, 2, 3, 4]
        return facts.facts

    assert told(0).shape == (4, FIELDS)
    np.testing.assert_allclose(told(0), told(37.0), atol=2e-4)
    assert abs(told(0)[:, :PROFILE]).max() > 0.1


def test_mirroring_turns_profiles_round() -> None:
    facts = np.random.default_rng(3).normal(size=(5, FIELDS)).astype(np.float32)
    there = mirrored(facts)
    np.testing.assert_array_equal(mirrored(there), facts)
    grid = facts[:, :PROFILE].reshape(5, len(ALONG), len(ACROSS))
    np.testing.assert_array_equal(there[:, :PROFILE].reshape(grid.shape), grid[:, :, ::-1])
    np.testing.assert_array_equal(there[:, 2 * PROFILE :], facts[:, 2 * PROFILE :])


def test_only_the_strongest_disks_are_told() -> None:
    rng = np.random.default_rng(4)
    places = np.concatenate([[[0, 0]], rng.uniform(-45, 45, (80, 2))])
    disks = ring_of_disks(places, np.arange(81, 0, -1) * 100.0, np.zeros((81, CONTRAST)))
    facts = disk_facts(disks, 0, radius=RADIUS, energy=2e5, pixel_size=0.01, total=1e6)
    assert facts.source.tolist() == list(range(1, MOST + 1))
    assert np.isfinite(facts.facts).all()


def test_the_direct_beam_is_where_the_scan_has_it() -> None:
    """In the third pattern another disk is brighter."""
    pattern = np.repeat([0, 1, 2], 3)
    row = np.tile([50.0, 70.0, 30.0], 3)
    intensity = np.array([9, 1, 1, 9, 1, 1, 1, 9, 1]) * 1e4
    disks = Disks.from_columns(pattern, row, 48.0, intensity=intensity)
    assert direct_beams(disks, SHAPE, RADIUS) == {0: 0, 1: 3, 2: 6}
