"""Correlation of patterns with a probe: the classical disk detector, and a layer without weights.

The value of a map at a pixel is the overlap of the pattern with the probe centred there,
computed by one exact real FFT per pattern, periodic at the borders.
"""

from __future__ import annotations

import torch
from torch import nn

from diskern.errors import DiskernError


def correlation_spectrum(
    patterns: torch.Tensor, probe: torch.Tensor, power: float = 1.0
) -> torch.Tensor:
    """(B, H, W // 2 + 1) half spectrum of `correlate`, for sub-pixel evaluation.

    Parameters
    ----------
    patterns : (B, H, W) counts.
    probe : (H, W), or (B, H, W) for one probe each, centred on pixel (H // 2, W // 2).
    power : 1 cross-correlation, 0 phase correlation, between them hybrid: the modulus of the
        cross spectrum is raised to it, the phase kept.

    Raises
    ------
    DiskernError : when the shapes differ or the power is not within 0 to 1.
    """
    if patterns.ndim != 3 or probe.shape not in {patterns.shape, patterns.shape[1:]}:
        raise DiskernError(
            f"patterns {tuple(patterns.shape)} and probe {tuple(probe.shape)} do not fit together: "
            "give (B, H, W) and (H, W)"
        )
    if not 0 <= power <= 1:
        raise DiskernError(f"correlation power {power} is not within 0 (phase) to 1 (cross)")
    spectrum = torch.fft.rfft2(patterns) * kernel_spectrum(probe.to(patterns.dtype))
    return spectrum if power == 1 else flattened(spectrum, power)


def kernel_spectrum(kernel: torch.Tensor) -> torch.Tensor:
    """(…, H, W // 2 + 1) by which to multiply the half spectrum of a pattern to correlate it.

    Parameters
    ----------
    kernel : (…, H, W) centred on pixel (H // 2, W // 2).
    """
    spectrum: torch.Tensor = torch.fft.rfft2(torch.fft.ifftshift(kernel, dim=(-2, -1))).conj()
    return spectrum


def flattened(spectrum: torch.Tensor, power: float) -> torch.Tensor:
    """The cross spectra with their moduli raised to a power."""
    modulus = spectrum.abs()
    # Where a probe has no power there is rounding only, whose phase means nothing.
    floor = torch.finfo(modulus.dtype).eps * modulus.amax((1, 2), keepdim=True)
    weight = torch.where(modulus > floor, modulus.clamp(min=1e-30) ** (power - 1), 0.0)
    return spectrum * weight


def correlate(patterns: torch.Tensor, probe: torch.Tensor, power: float = 1.0) -> torch.Tensor:
    """(B, H, W) cross- (power 1), hybrid or phase (power 0) correlation with a probe.

    Parameters
    ----------
    patterns : (B, H, W) counts.
    probe : (H, W), or (B, H, W) for one probe each, centred on pixel (H // 2, W // 2).  A map's
        value at a pixel belongs to a disk centred on that pixel.
    power : exponent of the modulus of the cross spectrum.

    Raises
    ------
    DiskernError : when the shapes differ or the power is not within 0 to 1.
    """
    spectrum = correlation_spectrum(patterns, probe, power)
    height, width = patterns.shape[1:]
    maps: torch.Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return maps


class Correlation(nn.Module):
    """`correlate` as a layer without weights.

    Parameters
    ----------
    power : exponent of the modulus of the cross spectrum, 0 to 1.
    """

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, patterns: torch.Tensor, probe: torch.Tensor) -> torch.Tensor:
        """(B, H, W) maps of (B, H, W) patterns with (H, W) or (B, H, W) probes."""
        return correlate(patterns, probe, self.power)

    def extra_repr(self) -> str:
        """What `repr` shows between the brackets."""
        return f"power={self.power}"


def parabolic_peaks(
    maps: torch.Tensor, pattern: torch.Tensor, row: torch.Tensor, col: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) rows and columns of maxima, from parabolas through three pixels each way.

    Parameters
    ----------
    maps : (B, H, W) correlation.
    pattern, row, col : (N,) whole-pixel local maxima.
    """
    height, width = maps.shape[1:]
    middle = maps[pattern, row, col]

    def shift(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        curvature = before - 2 * middle + after
        step = 0.5 * (before - after) / torch.where(curvature < 0, curvature, -torch.inf)
        return step.clamp(-0.5, 0.5)

    down = shift(
        maps[pattern, (row - 1) % height, col],
        maps[pattern, (row + 1) % height, col],
    )
    across = shift(
        maps[pattern, row, (col - 1) % width],
        maps[pattern, row, (col + 1) % width],
    )
    return row + down, col + across


def upsampled_peaks(
    spectrum: torch.Tensor,
    shape: tuple[int, int],
    pattern: torch.Tensor,
    row: torch.Tensor,
    col: torch.Tensor,
    *,
    factor: int = 16,
    chunk: int = 64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) rows and columns of maxima on a grid ``factor`` times finer than the pixels.

    The correlation is evaluated within 0.75 px of each start by the Fourier sum itself, as a
    product of matrices (Guizar-Sicairos, Thurman & Fienup, Opt. Lett. 33 (2008) 156,
    doi:10.1364/OL.33.000156), and the best node is refined by parabolas.

    Parameters
    ----------
    spectrum : (B, H, W // 2 + 1) of `correlation_spectrum`.
    shape : (H, W) of the patterns.
    pattern : (N,) index of the spectrum.
    row, col : (N,) starts, best from `parabolic_peaks`.
    factor : nodes per px.
    chunk : peaks done at once.
    """
    reach = int(0.75 * factor)
    nodes = torch.arange(-reach, reach + 1, device=spectrum.device) / factor
    rows, cols = [], []
    for start in range(0, len(row), chunk):
        part = slice(start, start + chunk)
        at_row = row[part, None] + nodes
        at_col = col[part, None] + nodes
        fine = _evaluate(spectrum[pattern[part]], shape, at_row, at_col)
        best = fine.flatten(1).argmax(1)
        n = torch.arange(len(best), device=best.device)
        i, j = best // len(nodes), best % len(nodes)
        inside_i, inside_j = i.clamp(1, 2 * reach - 1), j.clamp(1, 2 * reach - 1)
        down, across = parabolic_peaks(fine, n, inside_i, inside_j)
        # A maximum on the rim has no parabola: it stays on its node.
        down = torch.where(inside_i == i, down, i.to(down.dtype))
        across = torch.where(inside_j == j, across, j.to(across.dtype))
        rows.append(row[part] + (down - reach) / factor)
        cols.append(col[part] + (across - reach) / factor)
    if not rows:
        return row, col
    return torch.cat(rows), torch.cat(cols)


def _evaluate(
    spectrum: torch.Tensor, shape: tuple[int, int], rows: torch.Tensor, cols: torch.Tensor
) -> torch.Tensor:
    """(n, K, L) correlation of (n, H, W // 2 + 1) spectra at (n, K) rows × (n, L) columns."""
    height, width = shape
    device, kind = spectrum.device, spectrum.real.dtype
    k_row = torch.fft.fftfreq(height, device=device, dtype=kind)
    k_col = torch.fft.rfftfreq(width, device=device, dtype=kind)
    # A half spectrum stands for both signs, except where they are the same frequency.
    both = torch.full_like(k_col, 2.0)
    both[0] = 1.0
    if width % 2 == 0:
        both[-1] = 1.0
    turn_row = 2 * torch.pi * rows[:, :, None].to(kind) * k_row
    turn_col = 2 * torch.pi * cols[:, None, :].to(kind) * k_col[:, None]
    left = torch.polar(torch.ones_like(turn_row), turn_row)
    right = torch.polar(torch.ones_like(turn_col), turn_col) * both[:, None]
    value: torch.Tensor = (left @ spectrum @ right).real / (height * width)
    return value
