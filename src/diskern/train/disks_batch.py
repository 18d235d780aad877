"""Blocks of patterns as tensors that a disk finder is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diskern.train.samples import Block


@dataclass(frozen=True, eq=False)
class DiskBatch:
    """B patterns.

    Attributes
    ----------
    images, probes : (B, H, W) electrons, and probes of sum 1 centred on (H // 2, W // 2).
    radius, edge, fill : (B,) px, px, share of the outer disk.
    disks : (B, K, 6), see `diskern.train.disks.DiskSet`.
    """

    images: torch.Tensor
    probes: torch.Tensor
    radius: torch.Tensor
    edge: torch.Tensor
    fill: torch.Tensor
    disks: torch.Tensor


def to_batch(blocks: Sequence[Block], device: str = "cpu") -> DiskBatch:
    """Blocks one after the other."""
    stacked = {
        name: np.concatenate([b[name] for b in blocks])
        for name in ("image", "radius", "edge", "hole", "disks")
    }
    shape = stacked["image"].shape[1:]
    probes = [
        np.broadcast_to(
            probe_image(
                (shape[0], shape[1]), *(float(b[n][0]) for n in ("radius", "edge", "hole"))
            ),
            b["image"].shape,
        )
        for b in blocks
    ]

    def tensor(array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return DiskBatch(
        tensor(stacked["image"]),
        tensor(np.concatenate(probes)),
        tensor(stacked["radius"]),
        tensor(stacked["edge"]),
        tensor(1 - stacked["hole"] ** 2),
        tensor(stacked["disks"]),
    )


def probe_image(
    shape: tuple[int, int], radius: float, edge: float, hole: float
) -> NDArray[np.float32]:
    """(H, W) soft disk or ring of sum 1, centred on (H // 2, W // 2)."""
    rows, cols = (np.arange(n, dtype=np.float32) - n // 2 for n in shape)
    r = np.hypot(rows[:, None], cols[None, :])
    image = 0.5 - 0.5 * np.tanh((r - radius) / edge)
    if hole:
        image *= 0.5 + 0.5 * np.tanh((r - hole * radius) / edge)
    return np.asarray(image / image.sum(), dtype=np.float32)
