"""Tokens of patterns, and sets of them, as the spot-set network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.spot_tokens import SCALE, SpotTokens
from diskern.nets.spot_set_plain import SpotArrays

if TYPE_CHECKING:
    from diskern.nets.spot_set import SpotSets

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Singles = NDArray[np.float32]


def joined(parts: Sequence[SpotTokens]) -> SpotTokens:
    """All patterns one after the other."""
    names = ("token", "place", "there", "pattern", "source")
    return SpotTokens(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def known_scales(
    log_scale: NDArray[np.floating], member: Ints, there: Bools, told: Bools, shared: Bools
) -> Singles:
    """(S, K, 4) of `diskern.nets.set_net.Sets.known`.

    Parameters
    ----------
    log_scale : (B,) ln of each pattern's unit of length, in ln(1/Å) where it is told.
    member, there : (S, K) rows of the patterns of each set, and which of them count.
    told : (S,) sets whose scale is known in 1/Å.
    shared : (S,) sets whose patterns were taken at one camera length, known or not.
    """
    own = np.asarray(log_scale, dtype=np.float64)[member]
    mean = (own * there).sum(1, keepdims=True) / np.maximum(there.sum(1, keepdims=True), 1)
    out = np.zeros((*member.shape, 4))
    out[..., 0] = np.where(told[:, None], own, 0)
    out[..., 1] = told[:, None]
    out[..., 2] = np.where(shared[:, None], own - mean, 0)
    out[..., 3] = shared[:, None]
    return np.asarray(out * there[..., None], dtype=np.float32)


def as_arrays(tokens: SpotTokens, member: Ints, there: Bools, known: Singles) -> SpotArrays:
    """What the network is given.

    The scale is taken out of the facts of the patterns: it is told with the sets, or not.
    """
    facts = tokens.pattern.copy()
    facts[:, SCALE] = 0
    return SpotArrays(tokens.token, tokens.place, tokens.there, facts, member, there, known)


def as_inputs(tokens: SpotTokens, member: Ints, there: Bools, known: Singles) -> SpotSets:
    """The same as tensors."""
    import torch

    from diskern.nets.spot_set import SpotSets

    arrays = as_arrays(tokens, member, there, known)
    return SpotSets(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
