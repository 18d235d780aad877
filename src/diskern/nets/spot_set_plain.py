"""The spot-set network on plain arrays: the same answers as `diskern.nets.spot_set`, no torch.

One pattern is judged in a millisecond or two, and a program that identifies patterns need not
wait seconds for a framework that it hardly uses.  A test holds both to the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from diskern.nets.symmetry_tree import symmetry_tree

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SQUARES = (1.0, 4 / 3, 3 / 2, 5 / 3, 2.0, 5 / 2, 8 / 3, 3.0, 4.0, 5.0, 6.0)
"""Ratios of squared lengths that lattices of higher symmetry have between their vectors; looked for
within a pattern and between the patterns of a set."""
ALIKE = 0.014
"""Difference of ln|q| over which two lengths count as equal."""
WAVES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Waves, per unit of ln|q|, in which lengths in 1/Å are told."""
_ANGLES = np.array(2 * np.pi * np.array(WAVES), dtype=np.float32)
_BUT_FIRST = np.array([0, 1, 1], dtype=np.float32)
SET_HEADS = 4
NEVER = -1e9


class SpotArrays(NamedTuple):
    """Patterns and sets of them; the fields of `diskern.nets.spot_set.SpotSets`."""

    token: Singles
    place: Singles
    there: Bools
    pattern: Singles
    member: Ints
    member_there: Bools
    known: Singles


class PlainSpotSet:
    """A trained spot-set network.

    Parameters
    ----------
    weights : its state by name.
    arguments : that it was built with.
    """

    def __init__(self, weights: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        self.weights = dict(weights)
        whole = {k: np.asarray(v, dtype=np.float64) for k, v in weights.items()}
        self.heads = int(arguments.get("heads", 5))
        self.shape = int(arguments["shape"])
        self._tree = _Branches.of(symmetry_tree())
        self._dense = _dense(whole, self.heads)
        self._dense["tree.scores"] = _scores(whole, self._tree.order)
        self._layers = {name: _layers(whole, name) for name in ("facts", "within", "among")}
        self._query = whole["query"].astype(np.float32)[None, None]
        self._first = _layer(whole["single.0.weight"], whole["single.0.bias"])

    def __call__(self, sets: SpotArrays) -> tuple[Singles, Singles]:
        """(S, 230) log-probabilities of space groups, (B,) log-odds of there being a crystal."""
        pattern = self._patterns(sets)
        crystal = self._linear(normed(pattern), "crystal.1")[:, 0]
        return self._together(pattern, sets), crystal

    def _patterns(self, sets: SpotArrays) -> Singles:
        """(B, set_width) a vector of each pattern."""
        facts = self._linear(sets.pattern, "read_facts")
        for i in range(self._layers["facts"]):
            facts = self._perceptron(facts, f"facts.{i}")
        token = self._pair(sets.token, "read_token.0", "read_token.2")
        x = np.concatenate([self._linear(facts, "summary")[:, None], token], 1)
        hidden = _hidden(sets.there)
        last = self._layers["within"] - 1
        for i, bias in enumerate(self._biases(sets.place, last)):
            x = self._attention(x, bias + hidden, f"within.{i}", self.heads)
        x = self._attention(x, hidden, f"within.{last}", self.heads, rows=1)
        return self._linear(np.concatenate([facts, x[:, 0]], 1), "whole")

    def _together(self, pattern: Singles, sets: SpotArrays) -> Singles:
        """(S, 230) log-probabilities from the vectors of the patterns."""
        shape = sets.pattern[:, self.shape : self.shape + 3][sets.member]
        here = sets.member_there[..., None].astype(np.float32)
        lengths = scale_facts(sets.known * here, shape)
        x = (pattern[sets.member] + self._pair(lengths, "read_scale.0", "read_scale.2")) * here
        scale, shift = self._first
        own = (self._perceptron(normed(x) * scale + shift, "single.1") * here).sum(1)
        x = np.concatenate([self._query.repeat(len(x), 0), x], 1)
        hidden = _hidden(sets.member_there)
        last = self._layers["among"] - 1
        for i in range(last + 1):
            rows = 1 if i == last else None
            x = self._attention(x, hidden, f"among.{i}", SET_HEADS, rows=rows)
        joint = gelu(self._linear(normed(x[:, 0]), "tree.joint.1"))
        return self._tree.leaves(self._linear(np.concatenate([joint, own], 1), "tree.scores"))

    def _biases(self, place: Singles, layers: int) -> list[Singles]:
        """(B, heads, 1 + T, 1 + T) of the first layers, from how places lie to each other."""
        if not layers:
            return []
        count = place.shape[1]
        found = self._pair(relations(place), "relation.0", "bias")
        shaped = found.reshape(len(place), count, count, -1, self.heads).transpose(3, 0, 4, 1, 2)
        out = np.zeros((layers, len(place), self.heads, count + 1, count + 1), dtype=np.float32)
        out[..., 1:, 1:] = shaped[:layers]
        return list(out)

    # --- layers -----------------------------------------------------------------------------
    def _linear(self, x: Singles, name: str) -> Singles:
        weight, bias = self._dense[name]
        out: Singles = x @ weight
        out += bias
        return out

    def _pair(self, x: Singles, first: str, second: str) -> Singles:
        return self._linear(gelu(self._linear(x, first)), second)

    def _perceptron(self, x: Singles, name: str) -> Singles:
        out = self._pair(normed(x), f"{name}.widen", f"{name}.narrow")
        out += x
        return out

    def _attention(
        self, x: Singles, bias: Singles, name: str, heads: int, rows: int | None = None
    ) -> Singles:
        """(B, N, width), or only the first ``rows``: all that is asked of a last layer."""
        batch, count, width = x.shape
        asked = self._linear(normed(x), f"{name}.ask")
        q, k, v = asked.reshape(batch, count, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        score = q[:, :, :rows] @ k.swapaxes(2, 3)
        score += bias
        score -= np.maximum.reduce(score, -1, keepdims=True)
        np.exp(score, out=score)
        score /= np.add.reduce(score, -1, keepdims=True)
        flat = (score @ v).transpose(0, 2, 1, 3).reshape(batch, -1, width)
        return self._perceptron(x[:, :rows] + self._linear(flat, f"{name}.answer"), name)


@dataclass(frozen=True, eq=False)
class _Branches:
    """The tree with its nodes, of all levels, sorted by the class above each.

    Attributes
    ----------
    order : (nodes,) which node, level by level, stands where.
    above : (nodes,) the class above each, counted over all levels from the root on.
    first : (classes above,) where the nodes below each begin.
    path : (levels, leaves) where the nodes stand that lead to each leaf.
    """

    order: Ints
    above: Ints
    first: Ints
    path: Ints

    @classmethod
    def of(cls, levels: tuple[tuple[int, ...], ...]) -> _Branches:
        # The root is class 0, and node i class i + 1.
        start = np.cumsum([0, *map(len, levels)])
        below = [0, *(start[:-2] + 1)]
        above = np.concatenate([np.array(a) + n for a, n in zip(levels, below, strict=True)])
        order = np.argsort(above, kind="stable")
        path = [np.arange(start[-2], start[-1])]
        for _ in levels[1:]:
            path.append(above[path[-1]] - 1)
        place = np.argsort(order)
        first = np.searchsorted(above[order], np.arange(above.max() + 1))
        return cls(order, above[order], first, place[np.stack(path)])

    def leaves(self, scores: Singles) -> Singles:
        """(S, leaves) log-probabilities from (S, nodes) scores: sums of log-shares of nodes."""
        score = scores.astype(np.float64)
        score -= np.maximum.reduceat(score, self.first, axis=1)[:, self.above]
        total = np.add.reduceat(np.exp(score), self.first, axis=1)
        score -= np.log(total)[:, self.above]
        return np.asarray(score[:, self.path].sum(1), dtype=np.float32)


Layer = tuple[Singles, Singles]
_BEFORE_GELU = (".widen", "read_token.0", "read_scale.0", "relation.0", "tree.joint.1")
_AFTER_GELU = (".narrow", "read_token.2", "read_scale.2", "bias")


def _dense(weights: Mapping[str, Floats], heads: int) -> dict[str, Layer]:
    """(in, out) weights and (out,) biases of all linear layers.

    What stands beside them is taken into them, once and for all: scale and shift of the
    normalisation that a layer reads, the scale of the scores of attention, and the √½ of `gelu`.
    """
    norms = _norms(weights)
    out = {}
    for key in [k for k, v in weights.items() if k.endswith(".weight") and v.ndim == 2]:
        name = key.removesuffix(".weight")
        weight = weights[key].T
        bias = weights.get(f"{name}.bias", np.zeros(weight.shape[1]))
        if name in norms:
            scale, shift = norms[name]
            weight, bias = weight * scale[:, None], bias + shift @ weight
        if name.endswith(".ask"):
            width = len(weight)
            each = width // (heads if name.startswith("within") else SET_HEADS)
            share = np.repeat([each**-0.5, 1, 1], width)
            weight, bias = weight * share, bias * share
        if name.endswith(_BEFORE_GELU):
            weight, bias = weight * 0.5**0.5, bias * 0.5**0.5
        if name.endswith(_AFTER_GELU):
            weight = weight * 0.5**0.5
        out[name] = _layer(weight, bias)
    return out


def _norms(weights: Mapping[str, Floats]) -> dict[str, tuple[Floats, Floats]]:
    """Scale and shift of the normalisation before each linear layer that has one."""
    norm_of = {"crystal.1": "crystal.0", "tree.joint.1": "tree.joint.0"}
    for layer in {k.rsplit(".", 2)[0] for k in weights if k.endswith(".narrow.weight")}:
        attends = f"{layer}.ask.weight" in weights
        norm_of[f"{layer}.widen"] = f"{layer}.{'between' if attends else 'before'}"
        if attends:
            norm_of[f"{layer}.ask"] = f"{layer}.before"
    out = {k: (weights[f"{norm}.weight"], weights[f"{norm}.bias"]) for k, norm in norm_of.items()}
    share = 1 / np.sqrt(weights["common.running_var"] + 1e-5)
    return {**out, "read_facts": (share, -weights["common.running_mean"] * share)}


def _scores(weights: Mapping[str, Floats], order: Ints) -> Layer:
    """The layer that makes scores of the nodes, in that order, of what is seen together (after
    `gelu`) and of the sum of what is seen in each pattern alone."""
    joint = weights["tree.joint.3.weight"] * 0.5**0.5
    own = weights["tree.logits.weight"] * weights["share"]
    return _layer(np.concatenate([joint, own], 1)[order].T, weights["tree.joint.3.bias"][order])


def _layer(weight: Floats, bias: Floats) -> Layer:
    return np.ascontiguousarray(weight, dtype=np.float32), bias.astype(np.float32)


def _layers(weights: Mapping[str, Any], name: str) -> int:
    """How many layers there are of a name."""
    return len({k.split(".")[1] for k in weights if k.startswith(f"{name}.")})


def _hidden(there: Bools) -> Singles:
    """(B, 1, 1, 1 + N) added to scores of a first row and (B, N) others: nothing or `NEVER`."""
    out = np.zeros((len(there), 1, 1, 1 + there.shape[1]), dtype=np.float32)
    out[:, 0, 0, 1:] = NEVER * ~there
    return out


def gelu(x: Singles) -> Singles:
    """The Gaussian error linear unit of √2 x, over √½: the layers about it do the rest."""
    out = erf(x)
    out += np.float32(1)
    out *= x
    return np.asarray(out)


def normed(x: Singles) -> Singles:
    """Last axis of mean 0 and variance 1."""
    # Products with a column cost less than sums along the axis, for one pattern or many.
    share = _shares(x.shape[-1])
    centred = x - x @ share
    square = (centred * centred) @ share
    square += np.float32(1e-5)
    centred /= np.sqrt(square, out=square)
    return np.asarray(centred)


@cache
def _shares(width: int) -> Singles:
    """(width, 1) that makes a mean of a row."""
    return np.full((width, 1), 1 / width, dtype=np.float32)


def relations(place: Singles) -> Singles:
    """(B, T, T, 6) of every two places; see `diskern.nets.spot_set.relations`."""
    x, y = place[..., 0], place[..., 1]
    dx, dy = x[:, :, None] - x[:, None], y[:, :, None] - y[:, None]
    dot = x[:, :, None] * x[:, None] + y[:, :, None] * y[:, None]
    cross = x[:, :, None] * y[:, None] - y[:, :, None] * x[:, None]
    length = np.sqrt(x * x + y * y + np.float32(1e-6))
    product = length[:, :, None] * length[:, None]
    near = np.sqrt(dx * dx + dy * dy + np.float32(1e-6))
    parts = [near / 3, dot / product, cross / product, dx / 3, dy / 3, np.exp(-near)]
    return np.asarray(np.stack(parts, -1), dtype=np.float32)


def scale_facts(known: Singles, shape: Singles) -> Singles:
    """(S, K, F) what lengths say; see `diskern.nets.set_net.scale_facts`."""
    net = shape[..., :1]
    relative = shape * _BUT_FIRST
    told = known[..., 1:2] * net
    own = (known[..., :1] + relative) * told
    angle = own[..., None] * _ANGLES
    waves = np.concatenate([np.cos(angle), np.sin(angle)], 3) * told[..., None]
    shared = np.zeros((*own.shape, len(SQUARES)), dtype=np.float32)
    if known.shape[1] > 1:
        shared = shared_lengths(known, relative, net)
    flat = [a.reshape(*a.shape[:2], -1) for a in (waves, shared)]
    return np.concatenate([known, own, *flat], 2)


def shared_lengths(known: Singles, relative: Singles, net: Singles) -> Singles:
    """(S, K, 3, `SQUARES`) lengths of other patterns at each ratio, per other pattern."""
    length = known[..., 2:3] + relative
    count, patterns = length.shape[:2]
    use = known[..., 3] * net[..., 0]
    apart = np.abs(length[..., None] - length.reshape(count, 1, 1, 3 * patterns))
    other = 1 - np.eye(patterns).repeat(3, 1)
    weight = use[:, :, None] * use.repeat(3, 1)[:, None] * other
    near = np.exp(-0.5 * ((apart[..., None] - 0.5 * np.log(SQUARES)) / ALIKE) ** 2)
    total = (near * weight[:, :, None, :, None]).sum(3)
    return np.asarray(total / np.maximum(use.sum(1) - 1, 1)[:, None, None, None], dtype=np.float32)
