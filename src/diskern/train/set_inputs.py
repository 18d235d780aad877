"""What networks that judge sets of patterns are given of blocks: spots as tokens, or images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from diskern.bragg.spot_tokens import PATTERN_FIELDS, SCALE, SHAPE, TOKEN_FIELDS, SpotTokens
from diskern.nets.image_set import ImageSets
from diskern.nets.spot_set import SpotSets
from diskern.symmetry.spot_inputs import as_inputs, known_scales
from diskern.train.samples import Block
from diskern.train.spot_images import images_of_blocks
from diskern.train.spot_sets_recipe import ImageNetTable, SpotNetTable

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def arguments_of(net: SpotNetTable | ImageNetTable) -> dict[str, int]:
    """What the network of a recipe is built with."""
    own = net.model_dump(exclude={"architecture", "start", "size"})
    if isinstance(net, ImageNetTable):
        return own
    return {"fields": TOKEN_FIELDS, "facts": PATTERN_FIELDS, "shape": SHAPE, **own}


def inputs_of(
    net: SpotNetTable | ImageNetTable,
    blocks: Sequence[Block],
    member: Ints,
    there: Bools,
    told: Bools,
    shared: Bools,
) -> SpotSets | ImageSets:
    """The patterns of some blocks and sets of them, as the network of a recipe takes them.

    Parameters
    ----------
    member, there, told, shared : see `diskern.symmetry.spot_inputs.known_scales`.
    """
    if isinstance(net, ImageNetTable):
        made = images_of_blocks(blocks, net.size)
        known = known_scales(made.log_scale, member, there, told, shared)
        return ImageSets(*(torch.from_numpy(a) for a in (made.image, member, there, known)))
    tokens = tokens_of_blocks(blocks)
    known = known_scales(tokens.pattern[:, SCALE], member, there, told, shared)
    return as_inputs(tokens, member, there, known)


def tokens_of_blocks(blocks: Sequence[Block]) -> SpotTokens:
    """The tokens of some blocks, one after the other."""
    whole = {n: np.concatenate([b[n] for b in blocks]) for n in ("token", "place", "there")}
    pattern = np.concatenate([b["pattern"] for b in blocks])
    source = np.full((*whole["there"].shape, 2), -1)
    return SpotTokens(whole["token"], whole["place"], whole["there"], pattern, source)
