"""Spots on simulated frames: found, measured with honest uncertainties, and not invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from synthetic import Canvas, hexagonal, jpeg

from diskern.bragg.spots import Spots, find_spots
from diskern.patterns.background import radial_background, with_rings
from diskern.patterns.centre import find_centre
from diskern.patterns.masks import find_flaws, usable
from diskern.patterns.read import read


def _spots(image: np.ndarray) -> tuple[Spots, np.ndarray]:
    flaws = find_flaws(image)
    centre = find_centre(image, flaws)
    background = with_rings(radial_background(image, centre, flaws), image, centre, flaws)
    return find_spots(image, flaws, centre, background), flaws


def _match(found: Spots, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from each true spot to the nearest found one, and the index of that."""
    away = np.linalg.norm(truth[:, None, :2] - found.position[None], axis=2)
    return away.min(1), away.argmin(1)


def _net(seed: int, shape: tuple[int, int] = (420, 400), sigma: float = 1.5) -> Canvas:
    canvas = Canvas(shape, (0.49 * shape[0], 0.52 * shape[1]), seed).background()
    a, b = hexagonal(canvas.centre, 38.0 + seed, 9.0 * seed)
    return canvas.lattice(a, b, 1500, sigma).beam()


def test_recall_and_false_alarms_on_counts() -> None:
    missed = strong = false = 0
    for seed in range(3):
        canvas = _net(seed)
        found, _ = _spots(canvas.counts())
        truth = np.array(canvas.spots)
        away, _ = _match(found, truth)
        seen = truth[:, 2] > 120
        strong, missed = strong + int(seen.sum()), missed + int((away[seen] > 1.5).sum())
        back = np.linalg.norm(truth[:, None, :2] - found.position[None], axis=2).min(0)
        false += int((back > 3).sum())
    assert strong > 200
    assert missed < 0.03 * strong
    assert false <= 2


def test_uncertainties_are_honest() -> None:
    place, flux = [], []
    for seed in range(4):
        canvas = _net(seed + 10)
        found, _ = _spots(canvas.counts())
        truth = np.array(canvas.spots)
        away, index = _match(found, truth)
        use = away < 1.5
        place.append((found.position[index] - truth[:, :2])[use] / found.sigma[index][use])
        flux.append((found.intensity[index] - truth[:, 2])[use] / found.sigma_intensity[index][use])
    z, zi = np.concatenate(place).ravel(), np.concatenate(flux)
    assert 0.75 < 1.4826 * np.median(np.abs(z)) < 1.2
    assert abs(np.median(z)) < 0.15
    assert 0.75 < 1.4826 * np.median(np.abs(zi)) < 1.3
    assert abs(np.median(zi)) < 0.4


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("level", [0.0, 0.05, 0.4])
def test_counts_on_hardly_any_background(level: float, shared: float) -> None:
    """Most pixels are zero: neither their median nor their scatter is that of what is there.

    ``shared``: rms radius in px of the light of one electron.
    """
    canvas = Canvas((320, 340), (150.0, 170.0), 8).background(level, 0)
    canvas.lattice(*hexagonal(canvas.centre, 38.0, 11.0), 1500, 1.8).beam(1e5)
    image = canvas.counts().astype(float)
    found, _ = _spots(ndimage.gaussian_filter(image, shared) if shared else image)
    truth = np.array(canvas.spots)
    assert (_match(found, truth[truth[:, 2] > 60])[0] < 1.5).mean() > 0.95
    away = np.linalg.norm(truth[:, None, :2] - found.position[None], axis=2).min(0)
    assert (away > 4).sum() <= 3


def test_beside_a_beam_far_beyond_saturation() -> None:
    canvas = Canvas((320, 320), (160.0, 150.0), 9).background()
    canvas.lattice(*hexagonal(canvas.centre, 45.0, 5.0), 4000, 2.5).disk(*canvas.centre, 1e9, 28.0)
    inner = [s for s in canvas.spots if 0 < np.hypot(s[0] - 160, s[1] - 150) < 50 and s[2] > 2000]
    found, _ = _spots(canvas.camera(bits=12))
    assert len(inner) == 4
    assert (_match(found, np.array(inner))[0] < 1.5).all()


@pytest.mark.parametrize("kind", ["camera", "jpeg", "stop", "negative offset"])
def test_other_cameras(kind: str) -> None:
    canvas = _net(3)
    if kind == "stop":
        canvas.beam_stop(33)
    image = canvas.camera() if kind != "jpeg" else jpeg(canvas.picture(300.0, 0.6)).astype(float)
    if kind == "negative offset":
        image = image / 40 - 7.3
    found, flaws = _spots(image)
    truth = np.array(canvas.spots)
    rows, cols = np.round(truth[:, :2]).astype(int).T
    truth = truth[(truth[:, 2] > (400 if kind == "jpeg" else 150)) & usable(flaws)[rows, cols]]
    assert (_match(found, truth)[0] < 1.5).mean() > 0.95
    away = np.linalg.norm(np.array(canvas.spots)[:, None, :2] - found.position[None], axis=2).min(0)
    assert (away > 4).sum() <= 2


def test_small_disks() -> None:
    canvas = Canvas((400, 400), (200.0, 195.0), 4).background()
    a, b = (np.array(v) for v in hexagonal(canvas.centre, 45.0))
    for m in range(-3, 4):
        for n in range(-3, 4):
            if (m, n) != (0, 0):
                row, col = np.array(canvas.centre) + m * a + n * b
                if 10 < row < 390 and 10 < col < 390:
                    canvas.disk(row, col, float(canvas.rng.lognormal(8, 0.6)), 6.0)
    beam = Canvas((400, 400), canvas.centre, 4).disk(*canvas.centre, 2e5, 6.0)
    canvas.mean += beam.mean
    found, _ = _spots(canvas.counts())
    away, _ = _match(found, np.array(canvas.spots))
    assert (away < 1.0).mean() > 0.95
    assert len(found) <= len(canvas.spots) + 2


def test_overlapping_spots_are_told_apart() -> None:
    canvas = Canvas((200, 200), (100.0, 100.0), 5).background(10, 0).beam(1e5)
    for k in range(8):
        angle = 2 * np.pi * k / 8
        row, col = 100 + 60 * np.sin(angle), 100 + 60 * np.cos(angle)
        canvas.spot(row, col, 4000, 1.5).spot(row + 4.4, col + 3.0, 2500, 1.5)
    found, _ = _spots(canvas.counts())
    away, index = _match(found, np.array(canvas.spots))
    assert (away < 0.6).all()
    assert len(set(index.tolist())) == 16


@pytest.mark.parametrize("level", [0.3, 1.5, 30.0])
def test_noise_has_no_spots(level: float) -> None:
    """FALSE_SPOTS per image is the promise; ten images may have a few."""
    count = 0
    for seed in range(4):
        canvas = Canvas((256, 256), (120.0, 130.0), seed).background(level, 20 * level, 40)
        count += len(_spots(canvas.counts())[0])
    assert count <= 3


@pytest.mark.parametrize("quality", [40, 55, 70])
def test_compressed_noise_has_hardly_any_spots(quality: int) -> None:
    """Most blocks have no coefficient left but their mean, and in the others one stands alone."""
    count = 0
    for seed in range(4):
        canvas = Canvas((300, 300), (150.0, 150.0), seed).background(4, 60).beam(3e4)
        picture = canvas.counts().clip(0, 255).astype(np.uint8)
        count += len(_spots(jpeg(picture, quality).astype(float))[0])
    assert count <= 8


def test_smooth_rings_have_no_spots() -> None:
    canvas = Canvas((300, 300), (150.0, 150.0), 6).background(5, 300, 20).beam()
    for radius in (50, 58, 82, 96):
        canvas.ring(radius, 80, 2.0)
    assert len(_spots(canvas.counts())[0]) <= 1


def test_nothing_at_all() -> None:
    assert len(_spots(np.zeros((40, 50)))[0]) == 0
    assert len(_spots(np.full((64, 64), 3.0))[0]) == 0


def test_glycine_peak_list(experimental: Path) -> None:
    """Columns 7 to 10 of the list are column and row in px, no flip; frame 1 is this file."""
    folder = experimental / "ccp4__electron-diffraction"
    table = np.loadtxt(folder / "glycine.rpl")
    listed = table[table[:, 11] == 1]
    found, _ = _spots(read(folder / "00001.tiff").image)
    truth = np.column_stack([listed[:, 8], listed[:, 7], listed[:, 4]])
    away, _ = _match(found, truth)
    significance = listed[:, 3] / listed[:, 4]
    assert (away[significance > 8] < 1.5).mean() >= 0.8
    # Turned or flipped the list must not fit: the axes are as said.
    assert (_match(found, truth[:, [1, 0, 2]])[0] < 1.5).mean() < 0.3


@pytest.mark.parametrize(
    ("name", "fewest", "most"),
    [
        ("test.mib", 6, 11),
        ("au_xgrating_20cm.tif", 0, 8),
        ("bismuth.dm4", 0, 4),
        ("diff+1.8.png", 4, 25),
        ("diff+21.5.png", 12, 25),
        ("diff-2.png", 4, 25),
        ("diff-26.6.png", 4, 25),
        ("diff-34.8.png", 4, 25),
        ("moo3_20cm.tif", 45, 90),
        ("dd020.dm3", 20, 40),
    ],
)
def test_real_files(experimental: Path, name: str, fewest: int, most: int) -> None:
    found, flaws = _spots(read(next(experimental.rglob(name))).image)
    assert fewest <= len(found) <= most
    rows, cols = np.clip(np.round(found.position).astype(int), 0, np.array(flaws.shape) - 1).T
    assert usable(flaws)[rows, cols].mean() >= 0.8
