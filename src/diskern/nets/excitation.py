"""Excitation errors and structure factors of disks, from what diffraction draws inside them.

A disk is crossed by its Bragg line, s = 0, where the convergent beam holds directions that
fulfil Bragg's law; fringes lie along it, and a deficient line lies at the same place of the
direct beam.  Of a crystal near a zone axis all lines follow from one tilt κ (in aperture radii),
for the excitation errors lie on a plane less the curvature of the Ewald sphere:

    e = Q/G = −ĝ·κ − G/2,

e the distance of the line from the middle of the disk along ĝ, in aperture radii, Q and G in the
units of `diskern.nets.disk_units`.  The network lets every disk vote, finds the tilt that the
votes agree on, tells every disk of it, and lets them vote again, twice.  What each disk says of
its W = 1/(ξ λ k_R²) is read last, beside where the lines are.
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


class Couplings(NamedTuple):
    """Of (B, N) disks.

    Attributes
    ----------
    value : (B, N) ln W.
    log_sigma : (B, N) logarithm of its uncertainty.
    """

    value: torch.Tensor
    log_sigma: torch.Tensor


class _Together(nn.Module):
    """Every disk is told the mean of its pattern."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.others = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU())

    def forward(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        mean = (x * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        added: torch.Tensor = self.mix(x + self.others(mean)[:, None])
        return x + added


class ExcitationNet(nn.Module):
    """See the module.

    Parameters
    ----------
    fields : what is told of each disk; the last is asinh of a first guess of e.
    width : of all layers.
    """

    def __init__(self, fields: int, width: int = 128) -> None:
        super().__init__()
        self.read = _two_layers(fields, width)
        self.share = _Together(width)
        self.first = nn.Linear(width, 2)
        self.told = _two_layers(width + AGREED, width)
        self.share_again = _Together(width)
        self.again = nn.Linear(width, 3)
        # Of its own from the start: couplings are read more easily and would crowd lines out.
        self.read_coupling = _two_layers(fields + AGREED, width)
        self.share_coupling = _Together(width)
        self.coupling = nn.Linear(width, 2)
        for last in (self.first, self.again, self.coupling):
            nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(last.bias)

    def forward(
        self, facts: torch.Tensor, G: torch.Tensor, there: torch.Tensor
    ) -> tuple[list[Votes], Couplings]:
        """Votes of every pass, the last the best, and couplings.

        Parameters
        ----------
        facts : (B, N, fields), see `diskern.bragg.disk_contrast.disk_facts`.
        G : (B, N, 2) from the direct beam in aperture radii.
        there : (B, N) 1 for disks, 0 for padding.
        """
        x = self.share(self.read(facts), there)
        said = self.first(x)
        line = torch.sinh((said[..., 0] + facts[..., -1]).clamp(-FARTHEST, FARTHEST))
        votes = [Votes(line, said[..., 1].clamp(-5, 4))]
        for _ in range(PASSES):
            common, agreed = _agreement(votes[-1], G, there)
            h = self.told(torch.cat([x, agreed], -1))
            said = self.again(self.share_again(h, there))
            line, log_sigma = votes[-1]
            own = torch.sigmoid(said[..., 2])
            moved = own * line + (1 - own) * common + log_sigma.clamp(max=1).exp() * said[..., 0]
            votes.append(Votes(moved, (said[..., 1] + 0.5 * log_sigma).clamp(-5, 4)))
        agreed = _agreement(votes[-1], G, there)[1].detach()
        h = self.read_coupling(torch.cat([facts, agreed], -1))
        said = self.coupling(self.share_coupling(h, there))
        return votes, Couplings(said[..., 0], said[..., 1].clamp(-4, 1.8))


def _agreement(
    votes: Votes, G: torch.Tensor, there: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, N) lines of the tilt that the votes agree on, and (B, N, `AGREED`) what to tell of it."""
    line, log_sigma = votes
    along = _polar(G)[1]
    tilt, covariance = agreed_tilt(votes, G, there)
    common = lines_of(tilt, G)
    spread = (along[..., None, :] @ covariance[:, None] @ along[..., :, None])[..., 0, 0]
    apart = (line - common) * torch.exp(-log_sigma)
    misfit = (apart**2 * there).sum(1) / there.sum(1).clamp(min=1)
    told = [
        torch.asinh(common),
        torch.asinh(5 * common) / 2,
        torch.asinh(line),
        torch.asinh(5 * line) / 2,
        log_sigma,
        spread.clamp(min=1e-8).log() / 2,
        torch.asinh(apart),
        misfit.clamp(min=1e-4).log()[:, None].expand_as(line),
    ]
    return common, torch.stack(told, -1)


def lines_of(tilt: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
    """(B, N) lines e of disks at (B, N, 2) G where the tilt is (B, 2) κ."""
    length, along = _polar(G)
    return -(along * tilt[:, None]).sum(-1) - length / 2


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


def _two_layers(given: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(given, width), nn.GELU(), nn.Linear(width, width), nn.GELU())


def _polar(G: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    length = G.norm(dim=-1).clamp(min=1e-3)
    return length, G / length[..., None]


def vote_loss(votes: Votes, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean −ln of Student's density (four degrees of freedom) of the true lines."""
    return _student(votes.line, votes.log_sigma, truth, known)


def coupling_loss(couplings: Couplings, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The same of the true ln W."""
    return _student(couplings.value, couplings.log_sigma, truth, known)


def _student(
    value: torch.Tensor, log_sigma: torch.Tensor, truth: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    z = (value - truth) * torch.exp(-log_sigma)
    cost = log_sigma + 2.5 * torch.log1p(z * z / 4)
    return (cost * known).sum() / known.sum().clamp(min=1)
