"""The published architecture's labels and how disks are read off its images."""

import numpy as np
import pytest
import torch
from small_disks import disk_set

from diskern.nets.fourier_unet import FourierUNet
from diskern.train.disks_batch import to_batch
from diskern.train.disks_fourier import fourier_loss, image_peaks, label_images
from diskern.train.losses import SEEN


def test_disks_are_read_off_perfect_images() -> None:
    found_all = true_all = 0
    for number in range(8):
        block = disk_set().block(number)
        batch = to_batch([block])
        images = label_images(batch)
        found = image_peaks(images, batch.probes, float(batch.radius[0]), 0.05)
        for i, disks in enumerate(block["disks"]):
            truth = disks[(disks[:, 4] >= SEEN) & (disks[:, 5] > 0)]
            if not len(truth):
                continue
            mine = found.pattern == i
            away = np.hypot(found.row[mine] - truth[:, :1], found.col[mine] - truth[:, 1:2])
            found_all += int((away.min(1, initial=99) < 0.5 * batch.radius[0].item()).sum())
            true_all += len(truth)
    # Disks that overlap others, and weak ones beside strong ones, are lost in such images.
    assert found_all > 0.6 * true_all


def test_labels_hold_the_values_of_their_disk() -> None:
    batch = to_batch([disk_set().block(1)])
    images = label_images(batch)
    disks = batch.disks[0]
    alone = disks[(disks[:, 4] >= SEEN) & (disks[:, 5] > 0)][-1]
    row, col = (int(v) for v in torch.round(alone[:2]))
    assert images[0, 0, row, col] == pytest.approx(float(torch.log1p(alone[2].exp())), rel=1e-5)
    assert images[0, 1, row, col] == pytest.approx(float(torch.asinh(alone[3] / 4)), rel=1e-5)
    assert (images[:, 0] >= 0).all()


def test_loss_vanishes_at_the_labels_and_trains_the_network() -> None:
    batch = to_batch([disk_set().block(0)])
    assert float(fourier_loss(label_images(batch), batch).total) == 0
    net = FourierUNet(width=4, levels=3)
    loss = fourier_loss(net(batch.images, batch.probes), batch).total
    loss.backward()
    assert torch.isfinite(loss.detach())
    assert all(p.grad is not None for p in net.parameters())
