"""Excitation errors of all disks of a pattern, from what diffraction draws inside them.

A disk is crossed by its Bragg line, s = 0, where the convergent beam holds directions that
fulfil Bragg's law; fringes lie along it, and a deficient line lies at the same place of the
direct beam.  Of a crystal near a zone axis all lines follow from one tilt κ (in aperture radii),
for the excitation errors lie on a plane less the curvature of the Ewald sphere:

    e = Q/G = −ĝ·κ − G/2,

e the distance of the line from the middle of the disk along ĝ, in aperture radii, Q and G in the
units of `diskern.nets.disk_units`.  The network lets every disk vote, finds the tilt that the
votes agree on, tells every disk of it, and lets them vote again, twice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

PASSES = 2
"""Votes after the first."""
DOUBT = 2.0
"""Standard deviations beyond which a vote counts less for the tilt."""
AGREED = 8
"""What a disk is told of the tilt that the votes agree on."""
FARTHEST = 4.5
"""Largest asinh of a vote."""


class Votes(NamedTuple):
    """Of (B, N) disks.

    Attributes
    ----------
    line : (B, N) distance e of the Bragg line from the middle, in aperture radii.
    log_sigma : (B, N) logarithm of its uncertainty.
    """

    line: torch.Tensor
    log_sigma: torch.Tensor


class ExcitationNet(nn.Module):
    """See the module.

    Parameters
    ----------
    fields : what is told of each disk; the last is asinh of a first guess of e.
    width : of all layers.
    """

    def __init__(self, fields: int, width: int = 128) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Linear(fields, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.others = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.first = nn.Linear(width, 2)
        self.told = nn.Sequential(
            nn.Linear(width + AGREED, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.again = nn.Linear(width, 3)
        for last in (self.first, self.again):
            nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(last.bias)

    def forward(self, facts: torch.Tensor, G: torch.Tensor, there: torch.Tensor) -> list[Votes]:
        """Votes of every pass, the last the best.

        Parameters
        ----------
        facts : (B, N, fields), see `diskern.bragg.disk_contrast.disk_facts`.
        G : (B, N, 2) from the direct beam in aperture radii.
        there : (B, N) 1 for disks, 0 for padding.
        """
        length, along = _polar(G)
        x = self.read(facts)
        mean = (x * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        x = x + self.mix(x + self.others(mean)[:, None])
        said = self.first(x)
        line = torch.sinh((said[..., 0] + facts[..., -1]).clamp(-FARTHEST, FARTHEST))
        votes = [Votes(line, said[..., 1].clamp(-5, 4))]
        for _ in range(PASSES):
            line, log_sigma = votes[-1]
            tilt, covariance = agreed_tilt(votes[-1], G, there)
            common = -(along * tilt[:, None]).sum(-1) - length / 2
            spread = (along[..., None, :] @ covariance[:, None] @ along[..., :, None])[..., 0, 0]
            apart = (line - common) * torch.exp(-log_sigma)
            misfit = (apart**2 * there).sum(1) / there.sum(1).clamp(min=1)
            agreed = [
                torch.asinh(common),
                torch.asinh(5 * common) / 2,
                torch.asinh(line),
                torch.asinh(5 * line) / 2,
                log_sigma,
                spread.clamp(min=1e-8).log() / 2,
                torch.asinh(apart),
                misfit.clamp(min=1e-4).log()[:, None].expand_as(line),
            ]
            said = self.again(self.told(torch.cat([x, torch.stack(agreed, -1)], -1)))
            own = torch.sigmoid(said[..., 2])
            moved = own * line + (1 - own) * common + log_sigma.clamp(max=1).exp() * said[..., 0]
            votes.append(Votes(moved, (said[..., 1] + 0.5 * log_sigma).clamp(-5, 4)))
        return votes


def agreed_tilt(
    votes: Votes, G: torch.Tensor, there: torch.Tensor, steps: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 2) tilt κ that the votes agree on, and its (B, 2, 2) covariance.

    Weighted least squares, in which votes far off count less (Cauchy's weights).
    """
    length, along = _polar(G)
    precision = there * torch.exp(-2 * votes.log_sigma)
    wanted = -(votes.line + length / 2)
    weight, tilt = precision, torch.zeros_like(G[:, 0])
    for step in range(steps):
        if step:
            apart = (wanted - (along * tilt[:, None]).sum(-1)) * torch.exp(-votes.log_sigma)
            weight = precision / (1 + (apart / DOUBT) ** 2)
        matrix = (weight[..., None, None] * along[..., :, None] * along[..., None, :]).sum(1)
        # Disks on one row leave the other component open: it is then zero.
        covariance = torch.linalg.inv(matrix + 1e-3 * torch.eye(2, device=G.device))
        right = (weight[..., None] * along * wanted[..., None]).sum(1)
        tilt = (covariance @ right[..., None])[..., 0]
    return tilt, covariance


def _polar(G: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    length = G.norm(dim=-1).clamp(min=1e-3)
    return length, G / length[..., None]


def vote_loss(votes: Votes, truth: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Mean −ln of Student's density (four degrees of freedom) of the true lines."""
    z = (votes.line - truth) * torch.exp(-votes.log_sigma)
    cost = votes.log_sigma + 2.5 * torch.log1p(z * z / 4)
    return (cost * there).sum() / there.sum().clamp(min=1)
