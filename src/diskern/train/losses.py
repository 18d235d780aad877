"""What a disk finder is asked to learn: where disks are, V_g and q_z, and how sure it is.

A disk that cannot be seen is not taught: centres are positives as far as their visibility goes,
and what is hardly visible is neither demanded nor punished.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from diskern.nets.disk_unet import Q_SOFT, STRIDE, DiskMaps

SEEN = 0.5
"""Disks at least this visible are to be found."""
REGRESSED = 0.2
"""Disks at least this visible are to be measured."""


LEAST_LOG_W = -3.0
"""ln W that stands for all smaller ones: reflections lit by multiple scattering alone."""


@dataclass(frozen=True)
class DiskLoss:
    """Parts of the loss; ``total`` is what is minimised."""

    total: torch.Tensor
    heat: torch.Tensor
    offset: torch.Tensor
    w: torch.Tensor
    q: torch.Tensor


def disk_loss(
    maps: DiskMaps,
    disks: torch.Tensor,
    radius: torch.Tensor,
    weights: tuple[float, float, float] = (0.5, 0.3, 0.3),
) -> DiskLoss:
    """Loss of a batch.

    Parameters
    ----------
    disks : (B, K, 6) as of `diskern.train.disks.DiskSet`.
    radius : (B,) px.
    weights : of offset, V_g and q_z beside the heat map's 1.
    """
    heat = heat_loss(maps.heat, disks, radius)
    offset, w, q = measurement_losses(maps, disks)
    total = heat + weights[0] * offset + weights[1] * w + weights[2] * q
    return DiskLoss(total, heat, offset, w, q)


def heat_loss(heat: torch.Tensor, disks: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss (arXiv:1808.01244) with visibility as the weight of a disk."""
    batch, height, width = heat.shape
    visibility = disks[..., 4]
    around = _neighbourhood(disks, radius) * (visibility / SEEN).clamp(max=1)[..., None]
    rows, cols = _cells(disks)
    steps = torch.arange(-2, 3, device=heat.device)
    near_rows = rows[..., None] + steps.repeat_interleave(5)
    near_cols = cols[..., None] + steps.repeat(5)
    inside = (near_rows >= 0) & (near_rows < height) & (near_cols >= 0) & (near_cols < width)
    index = (near_rows * width + near_cols).where(inside, torch.zeros_like(near_rows))
    shade = torch.zeros(batch, height * width, device=heat.device)
    shade.scatter_reduce_(1, index.flatten(1), (around * inside).flatten(1), "amax")
    flat = heat.flatten(1)
    p = torch.sigmoid(flat)
    negative = -((1 - shade) ** 4) * p * p * logsigmoid(-flat)
    seen = visibility * (visibility >= SEEN)
    centre = flat.gather(1, (rows * width + cols).clamp(0, height * width - 1))
    positive = -seen * (1 - torch.sigmoid(centre)) ** 2 * logsigmoid(centre)
    return (positive.sum() + negative.sum()) / seen.sum().clamp(min=1)


def _cells(disks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, K) row and column of the cell that holds each disk's centre."""
    place = torch.floor((disks[..., :2] + 0.5) / STRIDE).long()
    return place[..., 0], place[..., 1]


def _position(disks: torch.Tensor) -> torch.Tensor:
    """(B, K, 2) centres in cells; a cell's middle is a whole number."""
    return (disks[..., :2] + 0.5) / STRIDE - 0.5


def _neighbourhood(disks: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """(B, K, 25) Gaussians about the centres on the 5×5 cells around them."""
    position = _position(disks)
    rows, cols = _cells(disks)
    steps = torch.arange(-2, 3, device=disks.device)
    down = rows[..., None] + steps - position[..., :1]
    across = cols[..., None] + steps - position[..., 1:]
    sigma = (0.5 + 0.1 * radius / STRIDE)[:, None, None, None]
    square = down[..., :, None] ** 2 + across[..., None, :] ** 2
    # The centre's own cell is not punished at all, wherever in it the centre lies.
    bump = torch.exp(-square / (2 * sigma * sigma))
    bump[..., 2, 2] = 1
    return bump.flatten(2)


def measurement_losses(
    maps: DiskMaps, disks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Negative log likelihoods of offset, log W and Q at the true disks.

    Each is read at the four cells about the centre, with bilinear weights, so that a peak one
    cell aside is still right.
    """
    read, offset, weight = read_at(maps, disks)
    seen = disks[..., 4]
    weight = weight * (seen * (seen >= REGRESSED))[..., None]
    known = weight * disks[..., 5:]
    miss = offset - read["offset"]
    # Row and column share one σ.
    place = gaussian_nll(miss.square().sum(-1) / 2, read["log_sigma_offset"])
    true_w = disks[..., 2:3].clamp(min=LEAST_LOG_W)
    w = gaussian_nll((true_w - read["log_w"]).square(), read["log_sigma_w"])
    true_q = torch.asinh(disks[..., 3:4] / Q_SOFT)
    q = gaussian_nll((true_q - read["soft_q"]).square(), read["log_sigma_q"])
    count = known.sum().clamp(min=1)
    return (
        (place * weight).sum() / weight.sum().clamp(min=1),
        (w * known).sum() / count,
        (q * known).sum() / count,
    )


def gaussian_nll(square: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian negative log likelihood, without its constant."""
    return log_sigma + 0.5 * square * torch.exp(-2 * log_sigma)


def read_at(
    maps: DiskMaps, disks: torch.Tensor
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Values (B, K, 4) at the four cells about each disk, true offsets from them, and weights.

    ``offset`` and the true offsets are (B, K, 4, 2), in cells.
    """
    height, width = maps.heat.shape[1:]
    position = _position(disks)
    corner = torch.floor(position)
    share = position - corner
    steps = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=disks.device)
    cells = corner[..., None, :] + steps
    bounds = torch.tensor([height - 1, width - 1], device=disks.device)
    cells = cells.clamp(min=torch.zeros_like(bounds), max=bounds)
    weight = torch.where(steps.bool(), share[..., None, :], 1 - share[..., None, :]).prod(-1)
    index = (cells[..., 0] * width + cells[..., 1]).long().flatten(1)
    read = {
        name: getattr(maps, name).flatten(1).gather(1, index).view(weight.shape)
        for name in ("log_w", "soft_q", "log_sigma_offset", "log_sigma_w", "log_sigma_q")
    }
    pair = maps.offset.flatten(2).gather(2, index[:, None].expand(-1, 2, -1))
    read["offset"] = pair.view(len(disks), 2, *weight.shape[1:]).movedim(1, -1)
    return read, position[..., None, :] - cells, weight
