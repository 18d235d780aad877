"""How large the disks of patterns are, before anything else is known of them.

A small network looks at each pattern as a whole and gives probabilities of radii; a scan has one
probe, so that what it says of many patterns is put together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import avg_pool2d, pad

if TYPE_CHECKING:
    from diskern.nets.registry import Model

Floats = NDArray[np.float64]

SMALLEST, LARGEST, COUNT = 1.5, 18.0, 40
"""px: the radii that the network knows, and how many of them, at equal ratios."""
SIDE, MOST = 128, 192
"""px of the patterns that it was trained on, and of those that are looked at whole."""
FINE, WIDE = 3.0, 15.0
"""px: disks that look smaller on binned pixels are looked at again on finer ones, and larger ones
on coarser ones: the network knows none beyond its last class."""
ASTRAY = 0.02
"""Share of patterns of which the network may say anything: none rules a radius out by itself."""
PLAIN = 4
"""One in so many patterns must show disks."""
STRIDE = 8
"""px of a pattern to one of the network's coarsest level."""
CHANNELS = 3
"""Maps of `_maps`."""
AT_ONCE = 16


def radii() -> Floats:
    """(R,) px, in the order of the network's classes; one more says that there is no disk."""
    return np.geomspace(SMALLEST, LARGEST, COUNT)


class ProbeRadiusNet(nn.Module):
    """(B, H, W) electrons to (B, R + 1) logarithms of probabilities, see `radii`.

    Parameters
    ----------
    width : channels of the finest level; the others have two and three times as many.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        sizes = (width, 2 * width, 3 * width)
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        before = 4 * CHANNELS
        for i, size in enumerate(sizes):
            layers += [nn.MaxPool2d(2)] if i else []
            layers += [_layer(before, size), _layer(size, size)]
            before = size
        self.body = nn.Sequential(*layers)
        self.look = nn.Conv2d(before, before, 1)
        self.head = nn.Sequential(
            nn.Linear(3 * before, 2 * before), nn.ReLU(), nn.Linear(2 * before, COUNT + 1)
        )
        # A third quicker on CPUs.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        x = _maps(patterns).contiguous(memory_format=torch.channels_last)
        x = self.body(x).flatten(2)
        share = torch.softmax(self.look(x[..., None]).flatten(2), 2)
        told = torch.cat([x.mean(2), x.amax(2), (x * share).sum(2)], 1)
        return torch.log_softmax(self.head(told.float()), 1)


def _layer(fan_in: int, fan_out: int) -> nn.Sequential:
    """3×3 convolution, group norm, rectifier."""
    return nn.Sequential(
        nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False),
        nn.GroupNorm(4, fan_out),
        nn.ReLU(inplace=True),
    )


def _maps(patterns: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W): how bright, and how far above the surroundings in units of the noise."""
    counts = patterns.clamp(min=0)
    # Variance-stabilised (Anscombe 1948, doi:10.1093/biomet/35.3-4.246).
    stable = 2 * torch.sqrt(counts + 0.375)
    above = [_compressed(stable - _mean(stable, side)) / 2 for side in (9, 25)]
    return torch.stack([torch.log1p(counts) / 4, *above], 1)


def _mean(x: torch.Tensor, side: int) -> torch.Tensor:
    """Means over squares of a side in px about every pixel."""
    half = side // 2
    rows = avg_pool2d(x[:, None], (side, 1), 1, (half, 0), count_include_pad=False)
    return avg_pool2d(rows, (1, side), 1, (0, half), count_include_pad=False)[:, 0]


def _compressed(x: torch.Tensor) -> torch.Tensor:
    """Linear near zero, logarithmic far from it."""
    return torch.copysign(torch.log1p(x.abs()), x)


def probe_radius(model: Model, patterns: NDArray[np.float32]) -> tuple[float, float]:
    """Radius in px of the disks of (B, H, W) patterns in electrons, and how sure it is.

    Large patterns are binned, and large disks once more; where disks then look small, the
    brightest part is looked at again on finer pixels.

    Returns
    -------
    radius, and the probability within 0 to 1 that there are disks, and of about this radius.
    """
    block = torch.from_numpy(np.maximum(patterns, 0))
    binning = max(1, -(-min(block.shape[1:]) // MOST))
    radius, sure = _judged(model, _shown(block, binning))
    if radius > WIDE:
        binning *= 2
        radius, sure = _judged(model, _shown(block, binning))
    while binning > 1 and radius < FINE:
        binning //= 2
        radius, sure = _judged(model, _shown(block, binning))
    return radius * binning, sure


def _shown(block: torch.Tensor, binning: int) -> torch.Tensor:
    """Binned; of a large detector the part about what is brightest on it."""
    if binning > 1:
        block = avg_pool2d(block[:, None], binning)[:, 0] * binning**2
    height, width = block.shape[1:]
    if max(height, width) > MOST:
        smooth = _mean(block.sum(0, keepdim=True), 9)[0]
        at = divmod(int(smooth.argmax()), width)
        row, col = (
            min(max(middle - SIDE // 2, 0), max(n - SIDE, 0))
            for middle, n in zip(at, (height, width), strict=True)
        )
        block = block[:, row : row + SIDE, col : col + SIDE]
    # What is mirrored has no border, which a round or square rim of a large disk would be.
    below, right = (-n % STRIDE for n in block.shape[1:])
    return pad(block[:, None], (0, right, 0, below), mode="reflect")[:, 0]


def _judged(model: Model, block: torch.Tensor) -> tuple[float, float]:
    """Radius on the pixels of the block, and how sure it is."""
    with torch.inference_mode():
        said = torch.cat([model.net(part) for part in torch.split(block, AT_ONCE)]).double().numpy()
    p = (1 - ASTRAY) * np.exp(said) + ASTRAY / said.shape[1]
    some = 1 - p[:, COUNT]
    # Patterns of a scan err alike, so that many say little more than their mean does; those
    # without disks say nothing of the radius.
    of_some = np.exp(np.average(np.log(p[:, :COUNT] / some[:, None]), axis=0, weights=some))
    of_some /= of_some.sum()
    best = int(of_some.argmax())
    near = slice(max(best - 2, 0), min(best + 3, COUNT))
    weight = of_some[near] / of_some[near].sum()
    plain = np.sort(some)[-max(1, len(some) // PLAIN) :].mean()
    radius = math.exp(float(weight @ np.log(radii()[near])))
    return radius, float(plain * of_some[near].sum())
