"""The published network: a complex U-Net on the Fourier transform of the correlation.

FCU-Net of Munshi et al., npj Comput. Mater. 8 (2022) 254 (doi:10.1038/s41524-022-00939-9), of
any size: pattern and probe meet as a product of spectra, a U-Net with complex convolutions and
a real norm and rectifier works on Fourier coefficients, the inverse transform and a real head
give images of V_g and q_z.  Two outputs on one decoder instead of the published two decoders;
group instead of batch norm, no Monte-Carlo dropout.  Here for comparison only.
"""

from __future__ import annotations

import torch
from torch import nn


class FourierUNet(nn.Module):
    """(B, H, W) patterns and probes to (B, 2, H, W) images of V_g and V_g-weighted q_z.

    H and W are multiples of 2**(levels − 1).

    Parameters
    ----------
    width : complex channels of the first level; each level doubles them up to ``most``.
    levels : resolutions of the U-Net; the published one goes down to 2×2.
    depth : convolutions in a block.
    """

    def __init__(self, width: int = 8, levels: int = 4, depth: int = 2, most: int = 64) -> None:
        super().__init__()
        sizes = [min(width * 2**i, most) for i in range(levels)]
        inputs = [1, *sizes[:-1]]
        self.down = nn.ModuleList(_Block(a, b, depth) for a, b in zip(inputs, sizes, strict=True))
        self.up = nn.ModuleList(
            _Block(sizes[i + 1] + sizes[i], sizes[i], depth) for i in range(levels - 1)
        )
        self.last = _ComplexConv(width, width)
        self.head = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2, 3, padding=1),
        )

    def forward(self, patterns: torch.Tensor, probes: torch.Tensor) -> torch.Tensor:
        """Images of V_g and q_z in units of the training's labels."""
        x = _spectrum(patterns, probes)
        skips = []
        for i, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if i else x)
            skips.append(x)
        for i in range(len(self.up) - 1, -1, -1):
            wide = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[i](_joined(wide, skips[i]))
        real, imaginary = self.last(x).chunk(2, 1)
        image = torch.fft.ifft2(torch.fft.ifftshift(torch.complex(real, imaginary), dim=(2, 3)))
        # Spectra have unit rms; so do images after this.
        scale = (patterns.shape[1] * patterns.shape[2]) ** 0.5
        out: torch.Tensor = self.head(image.real * scale)
        return out


def _spectrum(patterns: torch.Tensor, probes: torch.Tensor) -> torch.Tensor:
    """(B, 2, H, W) real and imaginary part of the correlation's spectrum, zero in the middle."""
    kernel = torch.fft.fft2(torch.fft.ifftshift(probes, dim=(1, 2))).conj()
    product = torch.fft.fftshift(torch.fft.fft2(patterns) * kernel, dim=(1, 2))
    product = product / product.abs().square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-20)
    return torch.stack([product.real, product.imag], 1)


def _joined(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Complex channels of both: real parts first, imaginary parts after."""
    (ar, ai), (br, bi) = a.chunk(2, 1), b.chunk(2, 1)
    return torch.cat([ar, br, ai, bi], 1)


class _ComplexConv(nn.Module):
    """3×3 convolution of complex channels, real parts first (Trabelsi et al., arXiv:1705.09792)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.real = nn.Conv2d(fan_in, fan_out, 3, padding=1)
        self.imaginary = nn.Conv2d(fan_in, fan_out, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([self.real(a) - self.imaginary(b), self.real(b) + self.imaginary(a)], 1)


class _Block(nn.Sequential):
    """Complex convolutions, each with a norm and a rectifier on both parts."""

    def __init__(self, fan_in: int, fan_out: int, depth: int) -> None:
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [
                _ComplexConv(fan_in if i == 0 else fan_out, fan_out),
                nn.GroupNorm(2, 2 * fan_out),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)
