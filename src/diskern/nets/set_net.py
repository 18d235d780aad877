"""From vectors of patterns to the symmetry of their crystal, whatever the vectors were read from.

Attention among the vectors of the patterns of a set, in no order, makes one of the crystal.  A
tree of conditional probabilities (system, Laue class, diffraction symbol, space group) is read
from it, so that every level is the sum of the next.  Whether a pattern shows one crystal at all
is asked of each pattern alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from diskern.nets.spot_set_plain import ALIKE, NEVER, SET_HEADS, SQUARES, WAVES
from diskern.nets.symmetry_tree import symmetry_tree

SCALE_FIELDS = 4 + 3 + 3 * 2 * len(WAVES) + 3 * len(SQUARES)


class Sets(NamedTuple):
    """Which patterns make which sets.

    Attributes
    ----------
    member : (S, K) rows of patterns that make each set.
    there : (S, K) which of them stand for something.
    known : (S, K, 4) ln of the scale in 1/Å (0 unless known), whether it is known, ln of the
        scale relative to the other patterns of the set (0 where they share none), and whether
        they share one.
    """

    member: torch.Tensor
    there: torch.Tensor
    known: torch.Tensor

    def only(self, chosen: torch.Tensor, most: int | None = None) -> Sets:
        """The chosen sets, of their first ``most`` patterns."""
        return Sets(*(x[chosen][:, :most] for x in self))


class Verdicts(NamedTuple):
    """What the network says.

    Attributes
    ----------
    log_groups : (S, 230) log-probabilities of the space groups, given that there is a crystal.
    crystal : (B,) log-odds that a pattern shows one crystal.
    """

    log_groups: torch.Tensor
    crystal: torch.Tensor


class SetNet(nn.Module):
    """What networks that judge sets of patterns share; they differ in how a pattern is read.

    Parameters
    ----------
    set_width, set_layers : of the attention among patterns.
    """

    def __init__(self, set_width: int, set_layers: int) -> None:
        super().__init__()
        if set_width % SET_HEADS:
            raise ValueError(f"set_width={set_width} is no multiple of {SET_HEADS}")
        self.read_scale = nn.Sequential(
            nn.Linear(SCALE_FIELDS, set_width), nn.GELU(), small_linear(set_width, set_width)
        )
        self.query = nn.Parameter(torch.zeros(set_width))
        self.among = nn.ModuleList(Attention(set_width, SET_HEADS) for _ in range(set_layers))
        self.crystal = nn.Sequential(nn.LayerNorm(set_width), nn.Linear(set_width, 1))
        self.single = nn.Sequential(nn.LayerNorm(set_width), Perceptron(set_width))
        self.tree = Tree(set_width, symmetry_tree())
        self.share = nn.Parameter(torch.tensor(0.5))

    def verdicts(self, pattern: torch.Tensor, shape: torch.Tensor, sets: Sets) -> Verdicts:
        """Verdicts on every set, and whether each pattern is of a crystal.

        Parameters
        ----------
        pattern : (B, set_width) vectors of the patterns.
        shape : (B, 3) see `scale_facts`.
        """
        alone = ~sets.there[:, 1:].any(1)
        if alone.all() or not alone.any():
            said = self.together(pattern, shape, sets)
        else:
            # Patterns alone need no places for others.
            said = pattern.new_zeros(len(alone), len(symmetry_tree()[-1]))
            one, several = sets.only(alone, 1), sets.only(~alone)
            said = said.index_put((alone,), self.together(pattern, shape, one))
            said = said.index_put((~alone,), self.together(pattern, shape, several))
        return Verdicts(said, self.crystal(pattern)[:, 0])

    def together(self, pattern: torch.Tensor, shape: torch.Tensor, sets: Sets) -> torch.Tensor:
        """(S, 230) log-probabilities from the vectors of the patterns."""
        known = sets.known * sets.there[..., None]
        x = pattern[sets.member] + self.read_scale(scale_facts(known, shape[sets.member]))
        x = x * sets.there[..., None]
        there = torch.cat([torch.ones_like(sets.there[:, :1]), sets.there], 1)
        # Each pattern's own opinion is added up, as independent witnesses' would be; attention
        # corrects what they share.
        own = self.tree.logits(self.single(x)) * sets.there[..., None]
        x = torch.cat([self.query.expand(len(x), 1, -1), x], 1)
        bias = torch.zeros(1, device=x.device).where(there, NEVER)[:, None, None, :]
        for layer in self.among[:-1]:
            x = layer(x, bias)
        x = self.among[-1](x, bias, rows=1)
        return self.tree.log_leaves(self.tree.joint(x[:, 0]) + self.share * own.sum(1))


def scale_facts(known: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """(S, K, `SCALE_FIELDS`) what lengths say of each pattern of a set.

    Its own lengths in 1/Å where they are known, and how many lengths of the other patterns lie
    at a simple ratio to each of its own, as they do in lattices of high symmetry.

    Parameters
    ----------
    known : (S, K, 4) of `SpotSets`.
    shape : (S, K, 3) whether there is a net, and ln of two lengths over that of its first vector.
    """
    net, relative = shape[..., :1], torch.cat([torch.zeros_like(shape[..., :1]), shape[..., 1:]], 2)
    own = (known[..., :1] + relative) * known[..., 1:2] * net
    angle = 2 * torch.pi * own[..., None] * own.new_tensor(WAVES)
    told = (known[..., 1:2] * net)[..., None]
    waves = (torch.cat([torch.cos(angle), torch.sin(angle)], 3) * told).flatten(2)
    shared = own.new_zeros(*own.shape, len(SQUARES))
    several = (known[..., 3] * net[..., 0]).sum(1) > 1
    if several.any():
        shared[several] = shared_lengths(known[several], relative[several], net[several])
    return torch.cat([known, own, waves, shared.flatten(2)], 2)


def shared_lengths(known: torch.Tensor, relative: torch.Tensor, net: torch.Tensor) -> torch.Tensor:
    """(S, K, 3, `SQUARES`) lengths of other patterns at each ratio, per other pattern."""
    length = known[..., 2:3] + relative
    count, patterns = length.shape[:2]
    use = known[..., 3] * net[..., 0]
    flat = length.reshape(count, 1, 1, 3 * patterns)
    apart = (length[..., None] - flat).abs()
    other = 1 - torch.eye(patterns, device=length.device).repeat_interleave(3, 1)
    weight = use[:, :, None] * use.repeat_interleave(3, 1)[:, None] * other
    centre = 0.5 * length.new_tensor(SQUARES).log()
    near = torch.exp(-0.5 * ((apart[..., None] - centre) / ALIKE) ** 2)
    total = (near * weight[:, :, None, :, None]).sum(3)
    return total / (use.sum(1) - 1).clamp(min=1)[:, None, None, None]


class Perceptron(nn.Module):
    """A small perceptron beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), small_linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        added: torch.Tensor = self.narrow(gelu(self.widen(self.before(x))))
        return x + added


def small_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose first outputs are small."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.5 / inputs**0.5)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Attention and a small perceptron, each beside an identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = small_linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), small_linear(2 * width, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        """(B, N, width) with a bias that broadcasts to (B, heads, N, N).

        ``rows`` asks for the first rows only, which is cheaper; the bias then has as many.
        """
        batch, count, width = x.shape
        asked = self.ask(self.before(x)).view(batch, count, 3, self.heads, width // self.heads)
        q, k, v = asked.permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(q[:, :, :rows], k, v, attn_mask=bias)
        x = x[:, :rows] + self.answer(found.transpose(1, 2).reshape(batch, -1, width))
        widened: torch.Tensor = self.narrow(gelu(self.widen(self.between(x))))
        return x + widened


class Tree(nn.Module):
    """Conditional probabilities down a tree; those of the leaves sum to one."""

    def __init__(self, width: int, above: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.sizes = [len(p) for p in above]
        for level, p in enumerate(above):
            # Not part of the weights: it follows from crystallography.
            self.register_buffer(f"above{level}", torch.tensor(p), persistent=False)
        self.logits = nn.Linear(width, sum(self.sizes), bias=False)
        last = nn.Linear(2 * width, sum(self.sizes))
        self.joint = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), last
        )
        # The first answer is: every diffraction symbol equally likely.
        for matrix in (self.logits.weight, last.weight):
            nn.init.zeros_(matrix)
        last.bias.data = torch.cat([torch.tensor(n).log() for n in symbols_below(above)])

    def log_leaves(self, logits: torch.Tensor) -> torch.Tensor:
        """(S, leaves) log-probabilities from (S, nodes) scores of all nodes."""
        total = logits.new_zeros(len(logits), 1)
        for level, part in enumerate(torch.split(logits, self.sizes, 1)):
            above = getattr(self, f"above{level}")
            total = total[:, above] + log_shares(part, above, total.shape[1])
        return total


def symbols_below(above: tuple[tuple[int, ...], ...]) -> list[list[float]]:
    """How many classes of the last level but one each class of each level holds; 1 for leaves."""
    counts = [[1.0] * len(above[-1]), [1.0] * len(above[-2])]
    for level in range(len(above) - 2, 0, -1):
        total = [0.0] * len(above[level - 1])
        for place, parent in enumerate(above[level]):
            total[parent] += counts[-1][place]
        counts.append(total)
    return [*counts[:0:-1], counts[0]]


def log_shares(scores: torch.Tensor, above: torch.Tensor, groups: int) -> torch.Tensor:
    """(S, C) log-softmax of scores among the classes with the same parent."""
    index = above.expand(len(scores), -1)
    empty = scores.new_full((len(scores), groups), -torch.inf)
    largest = empty.scatter_reduce(1, index, scores.detach(), "amax")
    shifted = scores - largest.gather(1, index)
    total = torch.zeros_like(empty).scatter_add(1, index, shifted.exp())
    return shifted - total.log().gather(1, index)
