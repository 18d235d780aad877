"""Training the published architecture: images of V_g and q_z instead of lists of disks.

For comparison with the proposer on the same patterns: `label_images` draws what the network is
to give, `fourier_loss` is the published mean square with q_z weighted by V_g, and `image_peaks`
reads disks off the images it gives.
"""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool2d

from diskern.nets.correlation import correlate
from diskern.nets.disk_unet import Q_SOFT
from diskern.nets.proposer import Proposals
from diskern.train.disks_batch import DiskBatch
from diskern.train.losses import SEEN, DiskLoss


def label_images(batch: DiskBatch) -> torch.Tensor:
    """(B, 2, H, W): ln(1 + W) and asinh(Q/4) within the visible disks, 0 elsewhere.

    Where disks overlap the one listed last counts.
    """
    height, width = batch.images.shape[1:]
    which, index = torch.nonzero(
        (batch.disks[..., 4] >= SEEN) & (batch.disks[..., 5] > 0), as_tuple=True
    )
    disks = batch.disks[which, index]
    reach = int(batch.radius.max()) + 1
    steps = torch.arange(-reach, reach + 1, device=disks.device)
    rows = torch.round(disks[:, 0])[:, None, None] + steps[:, None]
    cols = torch.round(disks[:, 1])[:, None, None] + steps[None, :]
    distance = torch.hypot(rows - disks[:, 0, None, None], cols - disks[:, 1, None, None])
    covered = distance <= batch.radius[which][:, None, None]
    covered = covered & (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    frame = which[:, None, None].expand_as(covered)[covered]
    at = (rows.long() * width + cols.long())[covered]
    out = torch.zeros(len(batch.images), 2, height * width, device=disks.device)
    values = (torch.log1p(disks[:, 2].exp()), torch.asinh(disks[:, 3] / Q_SOFT))
    for channel, value in enumerate(values):
        out[frame, channel, at] = value[:, None, None].expand_as(covered)[covered]
    return out.view(len(out), 2, height, width)


def fourier_loss(out: torch.Tensor, batch: DiskBatch) -> DiskLoss:
    """Mean squares of both images."""
    truth = label_images(batch)
    v = (out[:, 0] - truth[:, 0]).square().mean()
    weight = truth[:, 0]
    q = (weight * (out[:, 1] - truth[:, 1]).square()).sum() / weight.sum().clamp(min=1)
    blank = torch.zeros_like(v)
    return DiskLoss(v + 0.05 * q, blank, blank, v, q)


def image_peaks(out: torch.Tensor, probes: torch.Tensor, radius: float, least: float) -> Proposals:
    """Disks as maxima of the V_g image's mean m over a disk; m/(1 + m) stands for a probability."""
    mean = correlate(out[:, 0], probes)
    soft_q = correlate(out[:, 1], probes)
    reach = max(1, round(0.5 * radius))
    highest = max_pool2d(mean[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
    found = torch.nonzero((mean == highest) & (mean > least), as_tuple=True)
    which, row, col = (t.numpy() for t in found)
    height = mean[found].double().clamp(min=0).numpy()
    nothing = torch.full((len(which),), torch.nan).double().numpy()
    return Proposals(
        pattern=which,
        row=row.astype(float),
        col=col.astype(float),
        probability=height / (1 + height),
        v_g=torch.expm1(mean[found].double()).numpy(),
        sigma_v_g=nothing,
        q_z=Q_SOFT * torch.sinh(soft_q[found].double()).numpy(),
        sigma_q_z=nothing,
        sigma_place=nothing,
    )
