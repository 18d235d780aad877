"""The spot-set network on plain arrays: the same answers as `diskern.nets.spot_set`, no torch.

One pattern is judged in a millisecond or two, and a program that identifies patterns need not
wait seconds for a framework that it hardly uses.  A test holds both to the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        self.weights = {k: np.asarray(v, dtype=np.float32) for k, v in weights.items()}
        self._dense = _dense(self.weights)
        self.heads = int(arguments.get("heads", 5))
        self.shape = int(arguments["shape"])
        self._tree = [_Branches.of(level) for level in symmetry_tree()]
        self._layers = {name: _layers(self.weights, name) for name in ("facts", "within", "among")}

    def __call__(self, sets: SpotArrays) -> tuple[Singles, Singles]:
        """(S, 230) log-probabilities of space groups, (B,) log-odds of there being a crystal."""
        pattern = self._patterns(without_padding(sets))
        crystal = self._linear(normed(pattern), "crystal.1")[:, 0]
        return self._together(pattern, sets), crystal

    def _patterns(self, sets: SpotArrays) -> Singles:
        """(B, set_width) a vector of each pattern."""
        w = self.weights
        spread = np.sqrt(w["common.running_var"] + np.float32(1e-5))
        facts = self._linear((sets.pattern - w["common.running_mean"]) / spread, "read_facts")
        for i in range(self._layers["facts"]):
            facts = self._perceptron(facts, f"facts.{i}")
        token = self._pair(sets.token, "read_token.0", "read_token.2")
        x = np.concatenate([self._linear(facts, "summary")[:, None], token], 1)
        there = np.concatenate([np.ones_like(sets.there[:, :1]), sets.there], 1)
        hidden = np.where(there, 0, NEVER).astype(np.float32)[:, None, None, :]
        last = self._layers["within"] - 1
        for i, bias in enumerate(self._biases(sets.place, last)):
            x = self._attention(x, bias + hidden, f"within.{i}", self.heads)
        x = self._attention(x, hidden, f"within.{last}", self.heads, rows=1)
        return self._linear(np.concatenate([facts, x[:, 0]], 1), "whole")

    def _together(self, pattern: Singles, sets: SpotArrays) -> Singles:
        """(S, 230) log-probabilities from the vectors of the patterns."""
        shape = sets.pattern[:, self.shape : self.shape + 3][sets.member]
        here = sets.member_there[..., None].astype(np.float32)
        scale = scale_facts(sets.known * here, shape)
        x = (pattern[sets.member] + self._pair(scale, "read_scale.0", "read_scale.2")) * here
        first = normed(x) * self.weights["single.0.weight"] + self.weights["single.0.bias"]
        single = self._perceptron(first, "single.1")
        own = (single @ self.weights["tree.logits.weight"].T * here).sum(1)
        query = np.broadcast_to(self.weights["query"], (len(x), 1, x.shape[2]))
        x = np.concatenate([query, x], 1)
        there = np.concatenate([np.ones_like(sets.member_there[:, :1]), sets.member_there], 1)
        bias = np.where(there, 0, NEVER).astype(np.float32)[:, None, None, :]
        last = self._layers["among"] - 1
        for i in range(last + 1):
            rows = 1 if i == last else None
            x = self._attention(x, bias, f"among.{i}", SET_HEADS, rows=rows)
        joint = self._pair(normed(x[:, 0]), "tree.joint.1", "tree.joint.3")
        return self._leaves(joint + self.weights["share"] * own)

    def _leaves(self, scores: Singles) -> Singles:
        """(S, 230) log-probabilities from (S, nodes) scores of all nodes of the tree."""
        total = np.zeros((len(scores), 1))
        start = 0
        for level in self._tree:
            part = scores[:, start : start + len(level.above)].astype(np.float64)
            start += len(level.above)
            top = part.max(1, keepdims=True)
            norm = top + np.log(np.maximum(np.exp(part - top) @ level.member, 1e-300))
            total = (total - norm)[:, level.above] + part
        return np.asarray(total, dtype=np.float32)

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
        out = x @ weight
        out += bias
        return np.asarray(out)

    def _pair(self, x: Singles, first: str, second: str) -> Singles:
        return self._linear(gelu(self._linear(x, first)), second)

    def _perceptron(self, x: Singles, name: str) -> Singles:
        return x + self._pair(normed(x), f"{name}.widen", f"{name}.narrow")

    def _attention(
        self, x: Singles, bias: Singles, name: str, heads: int, rows: int | None = None
    ) -> Singles:
        """(B, N, width), or only the first ``rows``: all that is asked of a last layer."""
        batch, count, width = x.shape
        asked = self._linear(normed(x), f"{name}.ask")
        q, k, v = asked.reshape(batch, count, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        score = q[:, :, :rows] @ k.swapaxes(2, 3)
        score *= np.float32((width // heads) ** -0.5)
        score += bias
        score -= np.maximum.reduce(score, -1, keepdims=True)
        np.exp(score, out=score)
        score /= np.add.reduce(score, -1, keepdims=True)
        flat = (score @ v).transpose(0, 2, 1, 3).reshape(batch, -1, width)
        return self._perceptron(x[:, :rows] + self._linear(flat, f"{name}.answer"), name)


@dataclass(frozen=True, eq=False)
class _Branches:
    """One level of the tree: the class above each class, and (above, below) who belongs to whom."""

    above: Ints
    member: Floats

    @classmethod
    def of(cls, above: tuple[int, ...]) -> _Branches:
        return cls(np.array(above), np.eye(max(above) + 1)[list(above)])


def _dense(weights: Mapping[str, Singles]) -> dict[str, tuple[Singles, Singles]]:
    """(in, out) weights and (out,) biases of all linear layers.

    Scale and shift of a normalisation are taken into the linear layer that reads it.
    """
    norm_of = {"crystal.1": "crystal.0", "tree.joint.1": "tree.joint.0"}
    for layer in {k.rsplit(".", 2)[0] for k in weights if k.endswith(".narrow.weight")}:
        attends = f"{layer}.ask.weight" in weights
        norm_of[f"{layer}.widen"] = f"{layer}.{'between' if attends else 'before'}"
        norm_of[f"{layer}.ask"] = f"{layer}.before"
    out = {}
    for key in [k for k, v in weights.items() if k.endswith(".weight") and v.ndim == 2]:
        name = key.removesuffix(".weight")
        weight = weights[key].T
        bias = weights.get(f"{name}.bias", np.zeros(weight.shape[1], dtype=np.float32))
        if name in norm_of:
            scale, shift = (weights[f"{norm_of[name]}.{part}"] for part in ("weight", "bias"))
            weight, bias = weight * scale[:, None], bias + shift @ weight
        out[name] = np.ascontiguousarray(weight), bias
    return out


def _layers(weights: Mapping[str, Any], name: str) -> int:
    """How many layers there are of a name."""
    return len({k.split(".")[1] for k in weights if k.startswith(f"{name}.")})


def without_padding(sets: SpotArrays) -> SpotArrays:
    """The same without the tokens that stand for nothing in every pattern."""
    used = sets.there.any(0)
    if used.all():
        return sets
    return sets._replace(
        token=sets.token[:, used], place=sets.place[:, used], there=sets.there[:, used]
    )


def gelu(x: Singles) -> Singles:
    """The Gaussian error linear unit."""
    share = x * np.float32(0.5**0.5)
    erf(share, out=share)
    share += np.float32(1)
    share *= x
    share *= np.float32(0.5)
    return share


def normed(x: Singles) -> Singles:
    """Last axis of mean 0 and variance 1."""
    # Plain sums: `mean` costs more than all else here for a pattern or two.
    share = np.float32(1 / x.shape[-1])
    centred = x - np.add.reduce(x, -1, keepdims=True) * share
    square = np.einsum("...i,...i->...", centred, centred)[..., None]
    square *= share
    square += np.float32(1e-5)
    centred /= np.sqrt(square, out=square)
    return np.asarray(centred)


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
    relative = np.concatenate([np.zeros_like(net), shape[..., 1:]], 2)
    told = known[..., 1:2] * net
    own = (known[..., :1] + relative) * told
    angle = np.float32(2 * np.pi) * own[..., None] * np.array(WAVES, dtype=np.float32)
    waves = np.concatenate([np.cos(angle), np.sin(angle)], 3) * told[..., None]
    shared = np.zeros((*own.shape, len(SQUARES)))
    if known.shape[1] > 1:
        shared = shared_lengths(known, relative, net)
    flat = [a.reshape(*a.shape[:2], -1) for a in (waves, shared)]
    return np.concatenate([known, own, *flat], 2).astype(np.float32)


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
