"""How large the disks of patterns are, told by the network that ships."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diskern.nets.probe_radius import COUNT, probe_radius, radii
from diskern.nets.registry import Model, build, load


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load("probe_radius")


def arrays(
    radius: float,
    pitch: float,
    side: int | tuple[int, int] = 128,
    dose: float = 1e5,
    count: int = 6,
) -> NDArray[np.float32]:
    """Arrays of round disks about a brighter one."""
    height, width = (side, side) if isinstance(side, int) else side
    rng = np.random.default_rng(2)
    rows, cols = np.indices((height, width))
    out = []
    for _ in range(count):
        centre = np.array([height, width]) / 2 + rng.uniform(-1, 1, 2)
        turn = rng.uniform(0, np.pi)
        axes = pitch * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        mean = np.full((height, width), 0.1 / (height * width))
        for h, k in np.ndindex(7, 7):
            at = centre + np.array([h - 3, k - 3]) @ axes
            share = 1.0 if h == k == 3 else 0.1 * np.exp(rng.normal(0, 0.7))
            r = np.hypot(rows - at[0], cols - at[1])
            mean += share * (0.5 - 0.5 * np.tanh((r - radius) / 0.6)) / radius**2
        out.append(rng.poisson(mean / mean.sum() * dose))
    return np.array(out, np.float32)


@pytest.mark.parametrize(
    ("radius", "pitch"), [(2.0, 14), (4.0, 18), (8.0, 24), (13.0, 36), (24.0, 62)]
)
def test_disks_of_any_size(shipped: Model, radius: float, pitch: float) -> None:
    found, sure = probe_radius(shipped, arrays(radius, pitch))
    assert found == pytest.approx(radius, rel=0.12)
    assert sure > 0.5


@pytest.mark.parametrize(
    ("side", "radius", "pitch"),
    [(96, 5.0, 18), ((100, 140), 5.0, 20), (256, 2.5, 22), (512, 30.0, 90), (512, 5.0, 60)],
)
def test_detectors_of_any_size(
    shipped: Model, side: int | tuple[int, int], radius: float, pitch: float
) -> None:
    """Large ones are binned, and looked at on finer pixels where disks are small."""
    found, sure = probe_radius(shipped, arrays(radius, pitch, side, 1e6, count=3))
    assert found == pytest.approx(radius, rel=0.15)
    assert sure > 0.5


def test_patterns_without_disks_say_nothing(shipped: Model) -> None:
    shown = arrays(5.0, 22)
    empty = np.random.default_rng(0).poisson(0.4, (18, 128, 128)).astype(np.float32)
    alone, _ = probe_radius(shipped, shown)
    among, sure = probe_radius(shipped, np.concatenate([empty, shown]))
    assert among == pytest.approx(alone, rel=0.02)
    assert sure > 0.5
    assert probe_radius(shipped, empty)[1] < 0.2


def test_classes_are_equal_ratios() -> None:
    ratios = radii()[1:] / radii()[:-1]
    assert len(ratios) == COUNT - 1
    np.testing.assert_allclose(ratios, ratios[0])
    assert 1.0 < ratios[0] < 1.1


def test_it_gives_probabilities_whatever_the_counts() -> None:
    torch.manual_seed(0)
    net = build("probe_radius", {"width": 8}).eval()
    counts = torch.tensor([0.0, 1.0, 1e7])[:, None, None].expand(3, 64, 64)
    said = net(counts)
    assert said.shape == (3, COUNT + 1)
    torch.testing.assert_close(said.exp().sum(1), torch.ones(3))
