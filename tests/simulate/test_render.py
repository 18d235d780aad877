"""Rendered spots: flux, place, scale, and batches."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from simulate_crystals import SILICON

from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.render import Detector, draw_disks, draw_gaussians, render_spots
from diskern.simulate.saed import simulate_saed
from diskern.simulate.spot_pattern import SpotPattern


def one_spot(q=(0.3, -0.2), intensity=0.7, energy=200e3):
    return SpotPattern(
        np.array([[1, 0, 0]]), np.array([q]), np.zeros(1), np.array([intensity]), energy
    )


def moments(image):
    """Flux, mean (row, col) and variance (row, col)."""
    rows, cols = np.indices(image.shape)
    total = image.sum(dtype=np.float64)
    mean = np.array([(rows * image).sum() / total, (cols * image).sum() / total])
    var = [((a - m) ** 2 * image).sum() / total for a, m in zip((rows, cols), mean, strict=True)]
    return total, mean, np.array(var)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.5, 4.0])
@pytest.mark.parametrize("shape", [(64, 64), (65, 97)])
def test_a_spot_keeps_flux_place_and_width(sigma, shape):
    image = render_spots(one_spot(), shape, 0.031, sigma)
    assert image.dtype == np.float32
    flux, mean, var = moments(image)
    assert flux == pytest.approx(0.7, rel=2e-5)
    # q_x along columns, q_y along rows, the direct beam on (H // 2, W // 2).
    # A spot narrower than a pixel is known to half a pixel only.
    blur = 0.5 * math.exp(-((sigma / 0.3) ** 2)) + 2e-3
    assert mean == pytest.approx(
        [shape[0] // 2 - 0.2 / 0.031, shape[1] // 2 + 0.3 / 0.031], abs=blur
    )
    if sigma >= 0.5:
        # Integration over the pixel adds its own variance of 1/12.
        assert var == pytest.approx([sigma**2 + 1 / 12] * 2, rel=0.03)


def test_centre_and_normalisation():
    spot = one_spot(q=(0.0, 0.0))
    moved = render_spots(spot, (64, 64), 0.02, 2.0, centre=(10.25, 40.5))
    assert moments(moved)[1] == pytest.approx([10.25, 40.5], abs=1e-3)
    peak = render_spots(spot, (64, 64), 0.02, 2.0, normalisation="peak")
    assert peak.max() == pytest.approx(0.7, rel=1e-5)
    assert render_spots(spot, (64, 64), 0.02, normalisation="max").max() == 1
    direct = render_spots(one_spot(), (64, 64), 0.02, 1.0, direct_beam=2.0)
    assert direct[32, 32] > 4 * np.delete(direct, np.s_[28:37], 0).max() / 2
    assert direct.sum() == pytest.approx(2.7, rel=1e-4)


def test_camera_length_is_a_flat_detector():
    lam, pixel, length = wavelength(200e3), 15e-6, 0.5
    spot = one_spot(q=(1.9, 0.0))
    image = render_spots(
        spot,
        (2049, 2049),
        sigma=2.0,
        camera_length=length,
        detector_pixel=pixel * 1e6,
        centre=(1024, 50),
    )
    two_theta = math.asin(lam * 1.9)
    assert moments(image)[1] == pytest.approx(
        [1024, 50 + length * math.tan(two_theta) / pixel], abs=2e-2
    )
    detector = Detector((9, 9), None, length, pixel * 1e6, 200e3)
    assert detector.scale == pytest.approx(pixel / (length * lam))


def test_spots_outside_leave_no_trace_and_edges_are_cut():
    far = SpotPattern(
        np.array([[1, 0, 0]]), np.array([[50.0, 0.0]]), np.zeros(1), np.ones(1), 200e3
    )
    assert not render_spots(far, (64, 64), 0.02).any()
    edge = one_spot(q=(0.0, -0.64), intensity=1.0)
    assert render_spots(edge, (64, 64), 0.02, 3.0).sum() == pytest.approx(0.5 + 0.066, abs=0.02)


@pytest.mark.parametrize("sigma", [0.4, 1.5, 4.0])
def test_many_peaks_equal_a_few_at_a_time(sigma):
    """Tabulated profiles, direct ones and the matrix product of tensors draw the same image."""
    rng = np.random.default_rng(5)
    shape, count = (160, 140), 3000
    rows, cols = rng.uniform(-8, 168, (1, count)), rng.uniform(-8, 148, (1, count))
    weights = rng.exponential(1, (1, count))
    many = draw_gaussians(rows, cols, weights, shape, sigma)
    parts = (slice(i, i + 50) for i in range(0, count, 50))
    few = sum(draw_gaussians(rows[:, p], cols[:, p], weights[:, p], shape, sigma) for p in parts)
    tensors = (torch.from_numpy(a) for a in (rows, cols, weights))
    product = draw_gaussians(*tensors, shape, sigma).numpy()
    peak = weights.max() * math.erf(0.5 / (math.sqrt(2) * sigma)) ** 2
    assert np.abs(many - few).max() < 2e-5 * peak
    # The tensors' positions are rounded to float32 of a pixel.
    assert np.abs(many - product).max() < 1e-4 * peak


def test_empty_pattern_is_a_black_image():
    none = SpotPattern(np.zeros((0, 3), int), np.zeros((0, 2)), np.zeros(0), np.zeros(0), 200e3)
    assert not render_spots(none, (32, 32), 0.02).any()
    assert render_spots(none, (32, 32), 0.02, direct_beam=1.0).sum() == pytest.approx(1, rel=1e-4)


def test_batches_equal_single_images_in_numpy_and_torch(monkeypatch):
    turns = Rotation.random(6, random_state=2)
    batch = simulate_saed_batch(SILICON, turns)
    images = render_spots(batch, (96, 128), 0.03, 1.3)
    assert images.shape == (6, 96, 128)
    tensors = render_spots(
        simulate_saed_batch(SILICON, torch.tensor(turns.as_matrix())), (96, 128), 0.03, 1.3
    )
    assert torch.is_tensor(tensors)
    for i in range(6):
        alone = render_spots(batch[i], (96, 128), 0.03, 1.3)
        assert np.abs(images[i] - alone).max() < 1e-6
        assert np.abs(tensors[i].numpy() - alone).max() < 1e-6
    monkeypatch.setattr("diskern.simulate.render.CHUNK", 1)
    assert np.abs(render_spots(batch, (96, 128), 0.03, 1.3) - images).max() < 1e-6


def test_gradients_reach_positions_and_intensities():
    rows = torch.tensor([[10.3, 20.1]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    image = draw_gaussians(rows, rows.detach() + 1, weights, (32, 32), 1.5)
    target = torch.arange(32.0)[:, None] * image[0]
    target.sum().backward()
    # The mean row moves with the spot: d/dr Σ row · image = weight.
    assert rows.grad[0].tolist() == pytest.approx([1.0, 2.0], rel=1e-3)
    assert weights.grad[0].tolist() == pytest.approx([10.3, 20.1], rel=1e-3)


def test_disks_have_their_height_and_area():
    disks = draw_disks(np.array([[20.3]]), np.array([[30.8]]), np.array([[2.5]]), (64, 64), 7.4)[0]
    assert disks.max() == pytest.approx(2.5)
    assert disks.sum() / 2.5 == pytest.approx(math.pi * 7.4**2, rel=0.01)
    assert moments(disks)[1] == pytest.approx([20.3, 30.8], abs=0.02)


@pytest.mark.parametrize(
    ("shape", "pixel", "sigma", "extra"),
    [
        ((0, 5), 0.02, 1.0, {}),
        ((64, 64), None, 1.0, {}),
        ((64, 64), 0.02, 1.0, {"camera_length": 1.0, "detector_pixel": 10.0}),
        ((64, 64), -0.02, 1.0, {}),
        ((64, 64), float("nan"), 1.0, {}),
        ((64, 64), 0.02, 0.0, {}),
        ((64, 64), 0.02, float("inf"), {}),
        ((64, 64), 0.02, 1.0, {"normalisation": "loud"}),
        ((64, 64), 0.02, 1.0, {"direct_beam": -1.0}),
    ],
)
def test_impossible_detectors_are_refused(shape, pixel, sigma, extra):
    with pytest.raises(DiskernError) as caught:
        render_spots(one_spot(), shape, pixel, sigma, **extra)
    assert "\n" not in str(caught.value)


def test_camera_length_needs_the_energy():
    spot = one_spot(energy=None)
    with pytest.raises(DiskernError, match="energy"):
        render_spots(spot, (64, 64), camera_length=1.0, detector_pixel=10.0)
    image = render_spots(spot, (64, 64), camera_length=1.0, detector_pixel=500.0, energy=200e3)
    assert image.sum() == pytest.approx(0.7, rel=1e-3)


def test_flux_of_a_whole_pattern():
    pattern = simulate_saed(SILICON, (0, 1, 1), thickness=30.0)
    image = render_spots(pattern, (512, 512), 0.01, 1.5)
    assert image.sum() == pytest.approx(pattern.intensity.sum(), rel=1e-4)
