"""Spot lists as images, for a network that is to see patterns and no spots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.spot_tokens import FLOOR
from diskern.train.samples import Block

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

BLUR = 0.7
"""Standard deviation of a spot in px."""
WITHIN = 0.95
"""Share of the spots whose distance decides the camera length; false ones may lie far out."""
ZOOM = (1.05, 1.3)
"""Half the image's side over that distance, drawn for each crystal."""
_SIDE = np.arange(-2, 3)


class SpotImages(NamedTuple):
    """Images of patterns.

    Attributes
    ----------
    image : (B, n, n) logarithm of the intensity, from 0 (the floor of spot tokens, and below) to
        1 (the pattern's strongest spot); q_x along columns and q_y along rows.
    log_scale : (B,) ln of half the side, in the unit of the spots.
    """

    image: Singles
    log_scale: Floats


def images_of_blocks(blocks: Sequence[Block], size: int) -> SpotImages:
    """Images of the spots of some blocks, one after the other.

    All patterns of a block, which are of one crystal, have one camera length.

    Parameters
    ----------
    size : px of a side.
    """
    images, scales = [], []
    for block in blocks:
        q = block["q"].astype(np.float64)
        bright = block["intensity"].astype(np.float64)
        rng = np.random.default_rng([int(block["number"][0]), size])
        far = np.linalg.norm(q, axis=-1)[bright > 0]
        half = max(float(np.quantile(far, WITHIN)) if len(far) else 0.0, 1e-3) * rng.uniform(*ZOOM)
        images.append(spot_images(q / half, bright, size))
        scales.append(np.full(len(q), np.log(half)))
    return SpotImages(np.concatenate(images), np.concatenate(scales))


def spot_images(place: Floats, intensity: Floats, size: int) -> Singles:
    """(B, n, n) images of (B, N, 2) spots, x and y in half sides from the middle.

    Where spots overlap the brighter one shows.
    """
    top = intensity.max(1, keepdims=True, initial=1e-30)
    level = (1 - np.log(np.maximum(intensity / top, FLOOR)) / np.log(FLOOR)) * (intensity > 0)
    centre = (place[..., ::-1] + 1) * (size / 2) - 0.5
    cell = np.rint(centre).astype(np.int64)
    near = cell[:, :, None, None] + np.stack(np.meshgrid(_SIDE, _SIDE, indexing="ij"), -1)
    square = ((near - centre[:, :, None, None]) ** 2).sum(-1)
    value = (level[:, :, None, None] * np.exp(-square / (2 * BLUR**2))).astype(np.float32)
    inside = ((near >= 0) & (near < size)).all(-1) & (value > 0)
    image = np.zeros((len(place), size, size), dtype=np.float32)
    row = np.broadcast_to(np.arange(len(place))[:, None, None, None], inside.shape)
    np.maximum.at(image, (row[inside], near[inside][:, 0], near[inside][:, 1]), value[inside])
    return image
