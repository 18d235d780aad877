"""Patterns brought near the size of disks that the network knows."""

import numpy as np
import pytest
import torch

from diskern.bragg.disk_probe import Probe
from diskern.nets.disk_scale import rescaled, rescaled_probe, scale_of


@pytest.mark.parametrize(
    ("radius", "scale"), [(2.0, 2 / 3), (3.99, 2 / 3), (4.0, 1), (7.9, 1), (8.0, 2), (13.0, 3)]
)
def test_disks_come_to_three_to_eight_pixels(radius: float, scale: float) -> None:
    assert scale_of(radius) == pytest.approx(scale)
    assert 3 <= radius / scale < 8


@pytest.mark.parametrize("scale", [2 / 3, 1, 2, 3, 4])
def test_counts_are_kept_and_the_probe_stays_in_the_middle(scale: float) -> None:
    patterns = torch.rand(2, 70, 101)
    images = rescaled(patterns, scale)
    assert float(images.sum()) == pytest.approx(float(patterns.sum()), rel=0.01)
    assert all(n % 16 == 0 for n in images.shape[1:])
    assert images.shape[1] * scale >= 70
    assert images.shape[2] * scale >= 101
    probe = Probe.synthetic((70, 101), 8.0, 0.8).image.astype(np.float32)
    shape = (images.shape[1], images.shape[2])
    made = rescaled_probe(probe, scale, shape).double()
    assert float(made.sum()) == pytest.approx(1, abs=1e-5)
    rows, cols = (torch.arange(n).double() - n // 2 for n in shape)
    assert float((made.sum(1) * rows).sum()) == pytest.approx(0, abs=1e-3)
    assert float((made.sum(0) * cols).sum()) == pytest.approx(0, abs=1e-3)
    square = float(((rows[:, None] ** 2 + cols**2) * made).sum()) * scale**2
    # A disk's mean square radius is half of its radius squared; binned pixels add their own.
    assert (2 * (square - max(scale**2 - 1, 0) / 6)) ** 0.5 == pytest.approx(8, abs=0.35)


@pytest.mark.parametrize("scale", [2 / 3, 1, 2, 3])
def test_a_disk_stays_where_it_is(scale: float) -> None:
    rows, cols = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    blob = torch.exp(-((rows - 40.2) ** 2 + (cols - 51.7) ** 2) / 18)
    image = rescaled(blob[None], scale)[0].double()
    place = [
        float((image.sum(k) * (torch.arange(image.shape[1 - k]) + 0.5)).sum() / image.sum())
        for k in (1, 0)
    ]
    assert [p * scale - 0.5 for p in place] == pytest.approx([40.2, 51.7], abs=0.01)
