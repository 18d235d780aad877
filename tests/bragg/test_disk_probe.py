"""Probes: synthetic ones, measured in vacuum, and estimated from diffraction patterns."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_probe_estimate import estimate_probe
from diskern.bragg.disk_probe_measure import measure_probe
from diskern.errors import DiskernError


def moved(probe: Probe, row: float, col: float) -> np.ndarray:
    """The probe's image with its centre elsewhere."""
    spectrum = np.fft.fft2(np.fft.ifftshift(probe.image))
    v, u = (np.fft.fftfreq(n) for n in probe.image.shape)
    turned = spectrum * np.exp(-2j * np.pi * (v[:, None] * row + u * col))
    return np.clip(np.fft.ifft2(turned).real, 0, None)


def patterns(
    probe: Probe,
    spacing: float,
    dose: float,
    *,
    fringes: float = 0,
    count: int = 12,
    one_crystal: bool = False,
):
    """Square arrays of disks around a brighter one, on a background, as counted electrons.

    Of one crystal the fringes of a reflection are alike in all patterns.
    """
    rng = np.random.default_rng(3)
    size = probe.image.shape[0]
    rows, cols = np.mgrid[:size, :size]
    out = []
    for _ in range(count):
        centre = size / 2 + rng.uniform(-1, 1, 2)
        drawn = np.random.default_rng(4) if one_crystal else rng
        mean = np.full((size, size), 0.1 / size**2)
        for h, k in np.ndindex(5, 5):
            at = centre + spacing * np.array([h - 2, k - 2])
            disk = moved(probe, *at)
            angle, phase, turns = drawn.uniform(0, [2 * np.pi, 2 * np.pi, 0.7])
            across = (rows - at[0]) * np.cos(angle) + (cols - at[1]) * np.sin(angle)
            wave = np.cos(2 * np.pi * turns * across / probe.radius + phase)
            disk = disk * np.clip(1 + fringes * wave, 0, None)
            share = 1.0 if h == k == 2 else 0.1 * np.exp(drawn.normal(0, 0.5))
            mean += 0.3 * share * disk / disk.sum()
        out.append(rng.poisson(mean / mean.sum() * dose))
    return np.array(out, np.float32)


@pytest.mark.parametrize("radius", [2.0, 5.0, 9.0, 20.0])
def test_a_round_beam_in_vacuum_gives_its_radius_and_edge(radius):
    probe = Probe.synthetic((96, 96), radius, 0.7)
    rng = np.random.default_rng(1)
    image = rng.poisson(moved(probe, 43.3, 51.8) * 1e6 + 0.02).astype(np.float64)
    image[3, 4] = 1e5  # a hot pixel
    image[70, 70] = np.nan
    found = measure_probe(image)
    assert found.round
    assert found.radius == pytest.approx(radius, abs=0.07)
    assert found.edge == pytest.approx(0.7, abs=0.06)
    assert found.image.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["annular", "square", "bullseye"])
def test_other_apertures_are_kept_as_measured(kind):
    probe = Probe.synthetic((96, 96), 12.0, 0.7, kind)
    rng = np.random.default_rng(2)
    found = measure_probe(rng.poisson(moved(probe, 45.0, 50.0) * 1e7))
    assert not found.round
    # Its outline is centred as that of the synthetic one, and so is its image.
    agreement = np.corrcoef(found.image.ravel(), probe.image.ravel())[0, 1]
    assert agreement > 0.97


@pytest.mark.parametrize(("fringes", "dose"), [(0.0, 1e4), (0.0, 1e6), (0.9, 1e6)])
def test_a_scan_shows_its_probe_without_vacuum(fringes, dose):
    probe = Probe.synthetic((112, 112), 6.0, 0.6)
    found = estimate_probe(patterns(probe, 20.0, dose, fringes=fringes))
    assert found.round
    assert found.radius == pytest.approx(6.0, abs=0.15 if fringes else 0.1)
    assert found.edge == pytest.approx(0.6, abs=0.15)


@pytest.mark.parametrize("spacing", [20.0, 32.0])
def test_fringes_of_one_crystal_are_not_the_probe(spacing):
    """Alike in every pattern, of 25 reflections and of nine."""
    probe = Probe.synthetic((112, 112), 6.0, 0.6)
    found = estimate_probe(patterns(probe, spacing, 1e6, fringes=0.9, one_crystal=True))
    assert found.round
    assert found.radius == pytest.approx(6.0, abs=0.3)


def test_a_masked_beam_does_not_matter():
    probe = Probe.synthetic((112, 112), 6.0, 0.6)
    shown = patterns(probe, 20.0, 1e5)
    mask = np.ones((112, 112), bool)
    mask[46:66, :66] = False
    shown[:, ~mask] = 0
    assert estimate_probe(shown, mask).radius == pytest.approx(6.0, abs=0.15)


def test_an_annular_aperture_is_seen_in_the_scan():
    probe = Probe.synthetic((128, 128), 10.0, 0.6, "annular")
    found = estimate_probe(patterns(probe, 27.0, 1e6))
    assert not found.round
    middle = found.image[62:67, 62:67].mean()
    assert middle < 0.2 * found.image.max()


def test_disks_that_overlap_still_give_a_radius():
    probe = Probe.synthetic((112, 112), 9.0, 0.6)
    found = estimate_probe(patterns(probe, 17.0, 1e5))
    assert found.round
    assert found.radius == pytest.approx(9.0, rel=0.15)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((32, 32)), "no disk"),
        (np.full((32, 32), np.nan), "no finite pixel"),
        (np.ones((3, 32, 32)), "give one image"),
        (np.pad(np.ones((6, 6)), ((0, 26), (0, 26))), "beyond the border"),
    ],
)
def test_images_without_a_whole_disk_are_refused(image, words):
    with pytest.raises(DiskernError, match=words):
        measure_probe(image)


@pytest.mark.parametrize("counts", [0.0, 0.01, 1.0, 100.0])
def test_noise_is_no_disk(counts):
    noise = np.random.default_rng(0).poisson(counts, (12, 96, 96)).astype(np.float32)
    with pytest.raises(DiskernError, match="no disk"):
        estimate_probe(noise)


def test_a_thousand_electrons_show_the_probe():
    probe = Probe.synthetic((112, 112), 6.0, 0.6)
    assert estimate_probe(patterns(probe, 20.0, 1e3)).radius == pytest.approx(6.0, abs=0.3)


def test_a_few_patterns_with_disks_among_many_without_show_the_probe():
    probe = Probe.synthetic((128, 128), 5.0, 0.6)
    shown = patterns(probe, 26, 5e4, count=6)
    empty = np.random.default_rng(5).poisson(0.3, (43, 128, 128)).astype(np.float32)
    found = estimate_probe(np.concatenate([empty[:20], shown[:3], empty[20:], shown[3:]]))
    assert found.radius == pytest.approx(5.0, rel=0.06)


def test_read_out_noise_of_a_camera_leaves_the_radius():
    probe = Probe.synthetic((128, 128), 5.0, 0.6)
    shown = patterns(probe, 26, 5e4)
    noise = np.random.default_rng(6).normal(0, 2.0, shown.shape)
    found = estimate_probe((20 * (shown + noise)).astype(np.float32))
    assert found.radius == pytest.approx(5.0, rel=0.06)


def test_read_out_noise_alone_is_no_disk():
    noise = np.random.default_rng(0).normal(0, 5.0, (12, 96, 96)).astype(np.float32)
    with pytest.raises(DiskernError, match="no disk"):
        estimate_probe(noise)
