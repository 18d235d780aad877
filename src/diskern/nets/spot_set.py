"""The spot-set network: symmetry of a crystal from the spots of one or more patterns.

Attention among the tokens of a pattern (with a bias from how two places lie to each other) makes
one vector of it; `diskern.nets.set_net` makes the verdict of these.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from diskern.nets.set_net import Attention, Perceptron, SetNet, Sets, Verdicts, small_linear
from diskern.nets.spot_set_plain import NEVER

RELATIONS = 6


class SpotSets(NamedTuple):
    """Patterns and the sets that are made of them.

    Attributes
    ----------
    token : (B, T, F) tokens of all patterns.
    place : (B, T, 2) their positions in the frame of the pattern.
    there : (B, T) which tokens stand for something.
    pattern : (B, P) facts of each pattern as a whole.
    member, member_there, known : see `diskern.nets.set_net.Sets`.
    """

    token: torch.Tensor
    place: torch.Tensor
    there: torch.Tensor
    pattern: torch.Tensor
    member: torch.Tensor
    member_there: torch.Tensor
    known: torch.Tensor


class SpotSetNet(SetNet):
    """See the module.

    Parameters
    ----------
    fields, facts : columns of tokens and of patterns.
    shape : column of the patterns that says whether there is a net; in the next two stands ln of
        its second vector and of its shorter diagonal over its first vector.
    width, layers, heads : of the attention within patterns.
    fact_width, fact_layers : of the perceptron that reads the facts of a pattern.
    set_width, set_layers : of the attention among patterns.
    """

    def __init__(
        self,
        fields: int,
        facts: int,
        shape: int,
        *,
        width: int = 80,
        layers: int = 2,
        heads: int = 5,
        fact_width: int = 256,
        fact_layers: int = 3,
        set_width: int = 128,
        set_layers: int = 2,
    ) -> None:
        super().__init__(set_width, set_layers)
        if width % heads:
            raise ValueError(f"width={width} is no multiple of heads={heads}")
        self.layers, self.heads, self.shape = layers, heads, shape
        self.read_token = nn.Sequential(
            nn.Linear(fields, width), nn.GELU(), small_linear(width, width)
        )
        self.common = nn.BatchNorm1d(facts, affine=False, momentum=0.02)
        self.read_facts = nn.Linear(facts, fact_width)
        self.facts = nn.ModuleList(Perceptron(fact_width) for _ in range(fact_layers))
        self.summary = nn.Linear(fact_width, width)
        self.relation = nn.Sequential(nn.Linear(RELATIONS, 16), nn.GELU())
        self.bias = nn.Linear(16, layers * heads)
        self.within = nn.ModuleList(Attention(width, heads) for _ in range(layers))
        self.whole = nn.Linear(fact_width + width, set_width)

    def forward(self, sets: SpotSets) -> Verdicts:
        """Verdicts on every set, and whether each pattern is of a crystal."""
        shape = sets.pattern[:, self.shape : self.shape + 3]
        return self.verdicts(
            self.patterns(sets), shape, Sets(sets.member, sets.member_there, sets.known)
        )

    def patterns(self, sets: SpotSets) -> torch.Tensor:
        """(B, set_width) a vector of each pattern."""
        # Facts come in many units; their spread among patterns is the natural one.
        facts = self.read_facts(self.common(sets.pattern))
        for layer in self.facts:
            facts = layer(facts)
        x = torch.cat([self.summary(facts)[:, None], self.read_token(sets.token)], 1)
        there = torch.cat([torch.ones_like(sets.there[:, :1]), sets.there], 1)
        hidden = torch.zeros(1, device=x.device).where(there, NEVER)[:, None, None, :]
        for layer, bias in zip(self.within[:-1], self._biases(sets.place), strict=True):
            x = layer(x, bias + hidden)
        x = self.within[-1](x, hidden, rows=1)
        said: torch.Tensor = self.whole(torch.cat([facts, x[:, 0]], 1))
        return said

    def _biases(self, place: torch.Tensor) -> list[torch.Tensor]:
        """(B, heads, 1 + T, 1 + T) of each layer but the last: how places lie to each other.

        The last asks only for the first row, which has no place.
        """
        if self.layers == 1:
            return []
        count = place.shape[1]
        found = self.bias(self.relation(relations(place)))
        found = found.view(len(place), count, count, self.layers, self.heads)
        found = nn.functional.pad(found.permute(3, 0, 4, 1, 2), (1, 0, 1, 0))
        return list(found[:-1])


def relations(place: torch.Tensor) -> torch.Tensor:
    """(B, T, T, `RELATIONS`) of every two places: distance, angle with its sense, lengths.

    The cross product keeps its sign, so that a pattern differs from its mirror image.
    """
    x, y = place[..., 0], place[..., 1]
    dx, dy = x[:, :, None] - x[:, None], y[:, :, None] - y[:, None]
    dot = x[:, :, None] * x[:, None] + y[:, :, None] * y[:, None]
    cross = x[:, :, None] * y[:, None] - y[:, :, None] * x[:, None]
    length = torch.sqrt(x * x + y * y + 1e-6)
    product = length[:, :, None] * length[:, None]
    near = torch.sqrt(dx * dx + dy * dy + 1e-6)
    return torch.stack(
        [near / 3, dot / product, cross / product, dx / 3, dy / 3, torch.exp(-near)], -1
    )
