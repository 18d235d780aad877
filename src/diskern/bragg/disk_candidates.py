"""The classical search: where a disk stands out of its surroundings, without thresholds by hand."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.stats import norm

from diskern.bragg.disk_neighbours import strongest
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disks import Candidates, DiskOptions
from diskern.nets.correlation import kernel_spectrum, parabolic_peaks

Floats = NDArray[np.float64]
BLOCK = 8
"""Patterns searched at once: their maps stay in the processor's cache."""
INDEPENDENT = 7.0
"""Pixels to one independent value of the search, counted in pure noise; radii 2.5 to 9 px."""


def search_disks(
    patterns: NDArray[np.float32],
    probe: Probe,
    *,
    mask: NDArray[np.bool_] | None = None,
    options: DiskOptions | None = None,
) -> Candidates:
    """Places where a disk stands out of its surroundings.

    The counts within the probe are compared with those of a ring of equal area around it: a
    likelihood ratio of two Poisson rates, right for single electrons and for thousands.  The
    ring makes texture inside a bright disk, and the skirt around one, dimmer than their
    surroundings.  What passes the largest deviate of noise in a pattern is proposed, the
    strongest first, each clearing its neighbourhood.

    Parameters
    ----------
    patterns : (B, H, W) electrons.
    probe : what one disk looks like.
    mask : (H, W) or (B, H, W) True where a pixel may be used.
    options : false alarms, spacing, limit.
    """
    chosen = options or DiskOptions()
    shape = patterns.shape[1:]
    good = np.ones((1, *shape), bool) if mask is None else mask.reshape(-1, *shape)
    size, *kernels = _kernels(probe, (shape[0], shape[1]))
    floor = noise_floor(patterns.shape, chosen)
    spectra = [kernel_spectrum(k) for k in kernels]

    def sums(images: NDArray[np.float32]) -> list[torch.Tensor]:
        spectrum = torch.fft.rfft2(_padded(images, size))
        maps = [torch.fft.irfft2(spectrum * k, s=size) for k in spectra]
        return [m[:, : shape[0], : shape[1]] for m in maps]

    parts = []
    for start in range(0, len(patterns), BLOCK):
        block = patterns[start : start + BLOCK]
        seen = good[start : start + BLOCK] if len(good) > 1 else good
        if start == 0 or len(good) > 1:
            areas = [a.clamp(min=1e-3) for a in sums(seen.astype(np.float32))]
        enough = (areas[0] > 0.4 * kernels[0].sum()) & (areas[1] > 0.1 * kernels[1].sum())
        inside, outside = sums(block * seen)
        peaks = _peaks(inside, outside, areas[0], areas[1], enough.float(), floor)
        keep = strongest(*peaks, chosen.spacing * least_size(probe), chosen.limit)
        pattern, row, col, deviate = (p[keep] for p in peaks)
        parts.append((pattern + start, row, col, deviate))
    pattern, row, col, deviate = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Candidates.at(pattern, row, col, 1 / (1 + np.exp(np.minimum(floor - deviate, 50))))


def noise_floor(shape: tuple[int, ...], options: DiskOptions) -> float:
    """Standard deviations that noise passes in no more places than allowed."""
    places = shape[1] * shape[2] / INDEPENDENT
    return float(norm.isf(min(options.false_alarms / places, 0.5)))


def least_size(probe: Probe) -> float:
    """Radius in px, at least that of a pixel's neighbours."""
    return max(probe.radius, 1.5)


def _kernels(
    probe: Probe, shape: tuple[int, int]
) -> tuple[tuple[int, int], torch.Tensor, torch.Tensor]:
    """Size that keeps the borders apart, the disk, and the ring around it of about equal area."""
    rows, cols = (np.arange(n) - n // 2 for n in shape)
    r = np.hypot(rows[:, None], cols)
    open_part = probe.image / np.quantile(probe.image[probe.image > probe.image.max() / 2], 0.5)
    extent = float(r[open_part > 0.5].max(initial=0.5))
    inner = extent + 1.5 * probe.edge + 0.5
    outer = math.hypot(inner, least_size(probe))
    ring = np.clip(r - inner + 0.5, 0, 1) * np.clip(outer - r + 0.5, 0, 1)
    margin = math.ceil(outer) + 1
    size = (next_fast_len(shape[0] + margin, True), next_fast_len(shape[1] + margin, True))
    return size, _centred(np.clip(open_part, 0, 1.5), size), _centred(ring, size)


def _centred(image: Floats, size: tuple[int, int]) -> torch.Tensor:
    """The image in a larger one, centre on centre."""
    out = np.zeros(size, np.float32)
    r, c = (n // 2 - m // 2 for n, m in zip(size, image.shape, strict=True))
    out[r : r + image.shape[0], c : c + image.shape[1]] = image
    return torch.from_numpy(out)


def _padded(block: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    """(B, *size) the patterns with zeros beyond their last rows and columns."""
    padded = torch.zeros(len(block), *size)
    padded[:, : block.shape[1], : block.shape[2]] = torch.from_numpy(np.ascontiguousarray(block))
    return padded


def _peaks(
    inside: torch.Tensor,
    outside: torch.Tensor,
    area_in: torch.Tensor,
    area_out: torch.Tensor,
    allowed: torch.Tensor,
    floor: float,
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Pattern, row, column and normal deviate of local maxima of the contrast."""
    contrast = torch.addcmul(inside * allowed, outside, allowed * (-area_in / area_out))
    pattern, row, col = _summits(contrast)
    # A quick bound on the deviate first: the likelihood ratio only where it may pass.
    height, electrons = contrast[pattern, row, col], inside[pattern, row, col]
    hopeful = (height > 0.5 * floor) & (height**2 > (0.3 * floor) ** 2 * electrons.clamp(min=0))
    pattern, row, col = pattern[hopeful], row[hopeful], col[hopeful]
    n_in, n_out = (x[pattern, row, col].double().clamp(min=1e-6) for x in (inside, outside))
    a_in, a_out = (
        a.expand(len(inside), -1, -1)[pattern, row, col].double() for a in (area_in, area_out)
    )
    pooled = (n_in + n_out) / (a_in + a_out)
    ratio = n_in * torch.log(n_in / (a_in * pooled)) + n_out * torch.log(n_out / (a_out * pooled))
    deviate = torch.sqrt(2 * ratio.clamp(min=0))
    passed = deviate > floor
    pattern, row, col = pattern[passed], row[passed], col[passed]
    down, across = parabolic_peaks(contrast, pattern, row, col)
    return (
        pattern.numpy(),
        down.double().numpy(),
        across.double().numpy(),
        deviate[passed].numpy(),
    )


def _summits(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pattern, row and column where a map is positive and above its eight neighbours."""
    values = maps.numpy()
    rises_down = values[:, 1:] > values[:, :-1]
    rises_across = values[:, :, 1:] > values[:, :, :-1]
    top = np.zeros(values.shape, bool)
    inner = top[:, 1:-1, 1:-1]
    np.greater(rises_down[:, :-1, 1:-1], rises_down[:, 1:, 1:-1], out=inner)
    inner &= rises_across[:, 1:-1, :-1]
    inner &= ~rises_across[:, 1:-1, 1:]
    place = np.flatnonzero(top)
    flat, width = values.reshape(-1), values.shape[2]
    here, good = flat[place], flat[place] > 0
    for step in (width + 1, width - 1, -width - 1, 1 - width):
        good &= flat[place + step] <= here
    pattern, row, col = np.unravel_index(place[good], values.shape)
    return torch.from_numpy(pattern), torch.from_numpy(row), torch.from_numpy(col)
