"""The sampled plane on which waves and potentials live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diskern.errors import DiskernError

if TYPE_CHECKING:
    import torch

_MOST_PIXELS = 1 << 26


@dataclass(frozen=True)
class Grid:
    """A periodic rectangle of pixels; arrays are (ny, nx), rows along +y, columns along +x.

    Attributes
    ----------
    shape : (ny, nx) pixels.
    extent : (Ly, Lx) edges in Å.
    """

    shape: tuple[int, int]
    extent: tuple[float, float]

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.shape[0] * self.shape[1] > _MOST_PIXELS:
            raise DiskernError(f"a wave of {self.shape} px is impossible; use 1 to 2^26 pixels")
        if not min(self.extent) > 0:
            raise DiskernError(f"extent={self.extent} Å must be positive")

    @property
    def pixel(self) -> tuple[float, float]:
        """(dy, dx) in Å."""
        return self.extent[0] / self.shape[0], self.extent[1] / self.shape[1]

    @property
    def area(self) -> float:
        """Area of the rectangle in Å²."""
        return self.extent[0] * self.extent[1]

    @property
    def k_max(self) -> float:
        """Largest wave number in 1/Å that products of two waves carry without aliasing."""
        return 1.0 / (3.0 * max(self.pixel))

    def wave_numbers(self, device: torch.device | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """``(k_y (ny, 1), k_x (1, nx))`` in 1/Å, float64, in FFT order."""
        import torch

        (dy, dx), (ny, nx) = self.pixel, self.shape
        k_y = torch.fft.fftfreq(ny, dy, dtype=torch.float64, device=device)
        k_x = torch.fft.fftfreq(nx, dx, dtype=torch.float64, device=device)
        return k_y[:, None], k_x[None, :]

    def mesh(self, device: torch.device | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """``(k_y, k_x)``, both (ny, nx), in 1/Å, float64, in FFT order."""
        k_y, k_x = self.wave_numbers(device)
        return k_y.expand(self.shape), k_x.expand(self.shape)

    def antialias(self, device: torch.device | None = None) -> torch.Tensor:
        """(ny, nx) float64 mask: 1 inside `k_max`, 0 outside, in FFT order.

        Products of two functions that both end at 2/3 of the Nyquist frequency alias only into
        the outer third, which this mask removes.
        """
        k_y, k_x = self.wave_numbers(device)
        return (k_y**2 + k_x**2 <= self.k_max**2 * (1 + 1e-9)).double()

    @classmethod
    def covering(cls, extent: tuple[float, float], k_max: float) -> Grid:
        """The smallest quickly transformed grid over ``extent`` (Å) that carries ``k_max``."""
        from scipy.fft import next_fast_len

        ny, nx = (max(4, next_fast_len(int(-(-3 * k_max * e // 1)), real=True)) for e in extent)
        return cls((ny, nx), extent)
