"""What a disk-finding network sees of a pattern: no weights, all of it from the correlation.

Every map is free of the counts' scale or bounded by a logarithm, so that one network serves
patterns of 10³ and of 10⁷ electrons.
"""

from __future__ import annotations

import math

import torch

from diskern.nets.correlation import flattened, kernel_spectrum

CHANNELS = 7
"""Maps of `disk_maps`."""
FROM_DIRECT_BEAM = (5, 6)
"""Those that hold the row and the column from the direct beam."""


def kernel_ring(shape: tuple[int, int], radius: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
    """(B, H, W) rings of sum 1 just outside disks of (B,) radii, centred on (H // 2, W // 2)."""
    rows, cols = (torch.arange(n, device=radius.device) - n // 2 for n in shape)
    r = torch.hypot(rows[:, None].float(), cols[None, :].float())
    inner = (radius + 1.5 * edge + 0.5)[:, None, None]
    outer = torch.sqrt(inner * inner + radius[:, None, None] ** 2)
    ring = torch.sigmoid(2 * (r - inner)) * torch.sigmoid(2 * (outer - r))
    return ring / ring.sum((1, 2), keepdim=True)


def disk_maps(
    patterns: torch.Tensor, probes: torch.Tensor, radius: torch.Tensor, edge: torch.Tensor
) -> torch.Tensor:
    """(B, 7, H, W) maps of (B, H, W) patterns in electrons.

    In order: logarithm of the counts; signal-to-noise ratio of the probe against a ring around
    it (the matched filter of a disk on a smooth background under Poisson noise); hybrid
    correlation; variance-stabilised counts (Anscombe 1948, doi:10.1093/biomet/35.3-4.246) less
    their mean over a disk; logarithm of the share of all electrons that a disk here would hold;
    row and column from the direct beam in tens of disk radii.

    Parameters
    ----------
    probes : (B, H, W), or (1, H, W) for all: images of the probe, sum 1, centred on
        (H // 2, W // 2).
    radius, edge : (B,) or (1,) px of the probes.
    """
    counts = patterns.clamp(min=0)
    shape = (patterns.shape[1], patterns.shape[2])
    kernel = probes - kernel_ring(shape, radius, edge)
    stable = 2 * torch.sqrt(counts + 0.375)
    mean = kernel_spectrum(probes)
    spectrum = torch.fft.rfft2(counts)
    cross = spectrum * mean

    def image(product: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = torch.fft.irfft2(product, s=shape)
        return values

    signal = image(spectrum * kernel_spectrum(kernel))
    noise = image(spectrum * kernel_spectrum(kernel * kernel)).clamp(min=0).sqrt()
    # A disk of one electron has this noise; nothing may divide by less.
    floor = (kernel * kernel).sum((1, 2), keepdim=True).sqrt() / math.sqrt(50.0)
    ratio = signal / torch.maximum(noise, floor)
    hybrid = image(flattened(cross, 0.5))
    hybrid = hybrid / hybrid.std((1, 2), keepdim=True).clamp(min=1e-12)
    contrast = stable - image(torch.fft.rfft2(stable) * mean)
    # Probes have sum 1: their correlation is a mean, and one over their squares' sum an area.
    held = image(cross).clamp(min=0) / (probes * probes).sum((1, 2), keepdim=True)
    share = held / counts.sum((1, 2), keepdim=True).clamp(min=1)
    rows, cols = _from_direct_beam(signal, radius)
    maps = (
        torch.log1p(counts) / 4,
        _compressed(ratio / 2) / 2,
        _compressed(hybrid) / 2,
        _compressed(contrast) / 2,
        (torch.log(share + 1e-6) + 7) / 4,
        rows,
        cols,
    )
    return torch.stack([m.expand_as(counts) for m in maps], 1)


def _compressed(x: torch.Tensor) -> torch.Tensor:
    """Linear near zero, logarithmic far from it (asinh is many times slower)."""
    return torch.copysign(torch.log1p(x.abs()), x)


def _from_direct_beam(
    signal: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, H, 1) rows and (B, 1, W) columns from the strongest disk, in tens of radii."""
    height, width = signal.shape[1:]
    at = signal.flatten(1).argmax(1)
    rows, cols = (torch.arange(n, device=signal.device) for n in (height, width))
    unit = 10 * radius[:, None]
    down = (rows - (at // width)[:, None]) / unit
    across = (cols - (at % width)[:, None]) / unit
    return down[:, :, None], across[:, None, :]
