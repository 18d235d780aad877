"""A small U-Net that finds diffraction disks and reads V_g and q_z off them.

Real space throughout: the correlation with the probe comes first (`diskern.nets.disk_inputs`),
what follows is local and equivariant to shifts.  The output grid is half the pattern's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from diskern.nets.disk_inputs import CHANNELS, FROM_DIRECT_BEAM, disk_maps

STRIDE = 2
"""px of the pattern per cell of the output."""
DEEPEST = 16
"""Patterns must be multiples of this many px."""
Q_SOFT = 4.0
"""Excitation errors, in λ k_R², are learned as asinh(Q/Q_SOFT)."""
OFFSET = (1, 2)
"""Channels of the output that hold the row and the column of the centre in its cell."""
SIGMA_RANGE = (-4.5, 2.5)
"""Natural logarithms between which the network may put a standard deviation."""
APART = 0.1
"""Noise of a widened layer's weights, of their standard deviation."""


@dataclass(frozen=True)
class DiskMaps:
    """What the network says of every cell; all (B, h, w) unless noted.

    Attributes
    ----------
    heat : logit that a disk's centre lies in the cell.
    offset : (B, 2, h, w) row and column of that centre from the cell's middle, in cells.
    log_w : logarithm of the coupling W (see `diskern.nets.disk_units`).
    soft_q : asinh(Q/`Q_SOFT`) of the excitation error.
    log_sigma_offset, log_sigma_w, log_sigma_q : logarithms of their standard deviations.
    """

    heat: torch.Tensor
    offset: torch.Tensor
    log_w: torch.Tensor
    soft_q: torch.Tensor
    log_sigma_offset: torch.Tensor
    log_sigma_w: torch.Tensor
    log_sigma_q: torch.Tensor


class DiskUNet(nn.Module):
    """(B, H, W) electrons and probes to `DiskMaps`; H and W are multiples of 16.

    Parameters
    ----------
    width : channels of the finest level; the others have 2, 3 and 4 times as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        sizes = [width, 2 * width, 3 * width, 4 * width]
        wide = [STRIDE * STRIDE * CHANNELS, *sizes]
        self.down = nn.ModuleList(
            nn.Sequential(_Conv(wide[i], sizes[i]), _Conv(sizes[i], sizes[i])) for i in range(4)
        )
        self.up = nn.ModuleList(
            nn.Sequential(_Conv(sizes[i + 1] + sizes[i], sizes[i]), _Conv(sizes[i], sizes[i]))
            for i in range(3)
        )
        self.film = nn.ModuleList(_Film(size) for size in sizes)
        self.head = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1), nn.ReLU(), nn.Conv2d(2 * width, 8, 1)
        )
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(torch.tensor([-4.0, 0, 0, -1.0, 1.5, 0.5, 0, 0.5]))  # type: ignore[union-attr]
        # A third quicker on CPUs.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        patterns: torch.Tensor,
        probes: torch.Tensor,
        radius: torch.Tensor,
        edge: torch.Tensor,
        fill: torch.Tensor,
        *,
        twice: bool = False,
    ) -> DiskMaps:
        """Read patterns.

        Parameters
        ----------
        probes : (B, H, W), or (1, H, W) for all, sum 1, centred on (H // 2, W // 2).
        radius, edge : (B,) or (1,) px.
        fill : likewise, share of the outer disk that the probe fills, 1 for a round one.
        twice : whether to read every pattern upside down as well, and average.  How a pattern
            lies says nothing of its disks, but a trained network depends on it a little: the mean
            is right more often.
        """
        maps = disk_maps(patterns, probes, radius, edge)
        condition = torch.stack([torch.log2(radius / 4), edge / radius, fill], 1)
        said = self._read(maps, condition)
        if twice:
            other = self._read(half_turned(maps, FROM_DIRECT_BEAM), condition)
            said = (said + half_turned(other, OFFSET)) / 2
        return _named(said)

    def _read(self, maps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, 8, h, w) of (B, 7, H, W) maps."""
        x = nn.functional.pixel_unshuffle(maps, STRIDE)
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for i, (block, film) in enumerate(zip(self.down, self.film, strict=True)):
            x = film(block(nn.functional.max_pool2d(x, 2) if i else x), condition)
            skips.append(x)
        for i in (2, 1, 0):
            wide = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[i](torch.cat([wide, skips[i]], 1))
        # Maxima of what comes out must not tie: all digits, whatever the layers before had.
        with torch.autocast(x.device.type, enabled=False):
            out: torch.Tensor = self.head(x.float())
        return out

    def grows_to(self, width: int) -> bool:
        """Whether a width is a multiple of this network's."""
        return width > self.width and width % self.width == 0

    def widened(self, width: int, seed: int = 0) -> DiskUNet:
        """A network of more channels that says nearly the same, to be trained on.

        Every channel has copies that share its work (Net2Net, arXiv:1511.05641), and a little
        noise that lets them part ways.

        Parameters
        ----------
        width : see `grows_to`.
        """
        times = width // self.width
        noise = torch.Generator().manual_seed(seed)
        state = {k: _wider(k, v, times, noise) for k, v in self.state_dict().items()}
        wide = DiskUNet(width)
        wide.load_state_dict(state)
        return wide


def half_turned(maps: torch.Tensor, vector: tuple[int, int]) -> torch.Tensor:
    """(B, C, H, W) maps upside down, ``vector`` being the channels of a row and a column."""
    out = maps.flip(-2, -1)
    out[:, list(vector)] *= -1
    return out


def _named(out: torch.Tensor) -> DiskMaps:
    low, high = SIGMA_RANGE
    return DiskMaps(
        heat=out[:, 0],
        offset=out[:, 1:3],
        log_w=out[:, 4],
        soft_q=out[:, 6],
        log_sigma_offset=out[:, 3].clamp(low, high),
        log_sigma_w=out[:, 5].clamp(low, high),
        log_sigma_q=out[:, 7].clamp(low, high),
    )


def _wider(name: str, weight: torch.Tensor, times: int, noise: torch.Generator) -> torch.Tensor:
    """Weights of a widened network; see `DiskUNet.widened`."""
    if name.startswith("film"):
        # What is known of the probe has no channels; scale and shift of every channel have.
        halves = [half.repeat_interleave(times, 0) for half in weight.chunk(2)]
        return torch.cat(halves) if ".layers.2." in name else weight.clone()
    reads_maps, speaks = name.startswith("down.0.0.0"), name.startswith("head.2")
    out = weight if speaks else weight.repeat_interleave(times, 0)
    if weight.ndim == 4 and not reads_maps:
        out = out.repeat_interleave(times, 1) / times
    if weight.ndim == 4 and not speaks:
        out = out + APART * out.std() * torch.randn(out.shape, generator=noise)
    return out.clone()


class _Conv(nn.Sequential):
    """3×3 convolution, group norm, rectifier."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(
            nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False),
            nn.GroupNorm(4, fan_out),
            nn.ReLU(inplace=True),
        )


class _Film(nn.Module):
    """Scale and shift of every channel by what is known of the probe (arXiv:1709.07871)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2 * channels))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.layers(condition)[:, :, None, None].chunk(2, 1)
        out: torch.Tensor = x * (1 + scale) + shift
        return out
