"""The shape of a disk at any place, and the pixels around the disks of a block of patterns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom

from diskern.bragg.disk_fit import Tables
from diskern.bragg.disk_probe import Probe

FINE = 4
"""Nodes per px at which a measured probe is tabulated."""


@dataclass(frozen=True, eq=False)
class Rim:
    """The shape S of a disk and its derivatives to the position, at any offset.

    Attributes
    ----------
    radius, edge : px of a round disk.
    extent : px beyond which S vanishes.
    table : (1, 3, n, n) S, dS/drow, dS/dcol on a fine grid, of a probe that is not round.
    """

    radius: float
    edge: float
    extent: float
    table: torch.Tensor | None

    @classmethod
    def of(cls, probe: Probe) -> Rim:
        """The rim of a probe."""
        if probe.round:
            return cls(probe.radius, probe.edge, probe.radius + 1.5 * probe.edge, None)
        image = probe.image / np.quantile(probe.image[probe.image > probe.image.max() / 2], 0.5)
        rows, cols = (np.arange(n) - n // 2 for n in image.shape)
        lit = image > 0.02
        extent = float(np.hypot(rows[:, None], cols)[lit].max())
        half = min(int(extent) + 6, min(image.shape) // 2 - 1)
        middle = [n // 2 for n in image.shape]
        cut = image[
            middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1
        ]
        fine = zoom(cut, (2 * half * FINE + 1) / (2 * half + 1), order=3, grid_mode=False)
        slope_row, slope_col = np.gradient(fine, 1 / FINE)
        table = torch.from_numpy(np.stack([fine, -slope_row, -slope_col])).float()[None]
        return cls(probe.radius, probe.edge, extent, table)

    def __call__(
        self, tables: Tables, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, n) S and its derivatives to row and column of (N, 2) positions in a window."""
        down = tables.row - position[:, :1].float()
        across = tables.col - position[:, 1:].float()
        if self.table is None:
            r = torch.hypot(down, across).clamp_(min=1e-3)
            t = torch.tanh((r - self.radius) / self.edge)
            slope = (0.5 / self.edge) * (1 - t * t) / r
            return 0.5 - 0.5 * t, slope * down, slope * across
        half = (self.table.shape[-1] - 1) / 2 / FINE
        where = torch.stack([across, down], dim=-1)[None] / half
        read = torch.nn.functional.grid_sample(
            self.table, where, mode="bilinear", padding_mode="zeros", align_corners=True
        )[0]
        return read[0], read[1], read[2]


@dataclass(frozen=True, eq=False)
class Windows:
    """Pixels around the disks of a chunk of patterns.

    Attributes
    ----------
    index : (N, n) into the flat padded patterns.
    counts, valid : (N, n).
    pixels : number of padded pixels.
    """

    index: torch.Tensor
    counts: torch.Tensor
    valid: torch.Tensor
    pixels: int

    def select(self, keep: torch.Tensor) -> Self:
        """The windows of some disks."""
        return replace(
            self, index=self.index[keep], counts=self.counts[keep], valid=self.valid[keep]
        )


def windows_at(
    patterns: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    pattern: NDArray[np.int64],
    middle: NDArray[np.int64],
    tables: Tables,
) -> Windows:
    """The pixels around the middles; those off the detector are not valid."""
    first, last = int(pattern.min()), int(pattern.max())
    reach = int(tables.row.max())
    height, width = patterns.shape[1:]
    block = patterns[first : last + 1]
    margin = ((reach, reach), (reach, reach))
    padded = np.pad(block, ((0, 0), *margin))
    usable = np.pad(np.ones((height, width), bool) if mask is None else mask, margin)
    wide, area = width + 2 * reach, usable.size
    at = (middle[:, 0] + reach) * wide + middle[:, 1] + reach
    offsets = (tables.row * wide + tables.col).long()
    here = torch.from_numpy(at)[:, None] + offsets
    index = here + torch.from_numpy((pattern - first) * area)[:, None]
    valid = torch.from_numpy(usable.reshape(-1))[here].float()
    counts = torch.from_numpy(padded.reshape(-1))[index] * valid
    return Windows(index, counts, valid, padded.size)
