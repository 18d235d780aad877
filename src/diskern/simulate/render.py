"""Draw simulated spots on a detector: Gaussian peaks integrated over each pixel.

Pixel (row, col) is centred on whole numbers; the direct beam falls on ``centre``, by default
(H // 2, W // 2), the zero frequency of a shifted Fourier transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.arrays import (
    erf,
    index_like,
    is_torch,
    like,
    namespace,
    scatter_add,
    to_numpy,
)
from diskern.simulate.spot_pattern import SpotBatch, SpotPattern

REACH = 4.5
"""Spots are drawn out to this many sigmas (7e-6 of the intensity lies outside)."""
CHUNK = 2**20
"""Window pixels drawn at a time."""

Normalisation = Literal["flux", "peak", "max"]


@dataclass(frozen=True)
class Detector:
    """Where reciprocal space falls on pixels.

    Attributes
    ----------
    shape : (H, W) in px.
    pixel_size : 1/Å per px, or None where ``camera_length`` says it.
    camera_length : m, with ``detector_pixel`` in µm: positions are then L tan 2θ on a flat
        detector, which needs the beam energy in eV.
    centre : (row, col) of the direct beam in px, default (H // 2, W // 2).
    """

    shape: tuple[int, int]
    pixel_size: float | None = None
    camera_length: float | None = None
    detector_pixel: float | None = None
    energy: float | None = None
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or any(int(n) != n or not 1 <= n <= 65536 for n in self.shape):
            raise DiskernError(f"shape={self.shape} must be two pixel counts, e.g. (256, 256)")
        by_length = self.camera_length is not None and self.detector_pixel is not None
        if (self.pixel_size is None) != by_length:
            raise DiskernError(
                "give either pixel_size in 1/Å, or camera_length in m with detector_pixel in µm"
            )
        for name in ("pixel_size", "camera_length", "detector_pixel"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise DiskernError(f"{name}={value} must be a positive number")
        if by_length and self.energy is None:
            raise DiskernError("camera_length needs the beam energy; give energy in eV")

    @property
    def origin(self) -> tuple[float, float]:
        """(row, col) of the direct beam in px."""
        return self.centre or (self.shape[0] // 2, self.shape[1] // 2)

    @property
    def scale(self) -> float:
        """1/Å per px at the direct beam."""
        if self.pixel_size is not None:
            return self.pixel_size
        if self.camera_length is None or self.detector_pixel is None or self.energy is None:
            raise DiskernError("the detector has neither pixel_size nor camera_length")
        return self.detector_pixel * 1e-6 / (self.camera_length * wavelength(self.energy))

    def pixels(self, q: Any) -> tuple[Any, Any]:
        """Rows and columns in px of (..., 2) detector positions (q_x, q_y) in 1/Å."""
        stretch = 1.0 / self.scale
        if self.camera_length is not None and self.energy is not None:
            # q = sin 2θ/λ is thrown to tan 2θ/λ by a flat detector.
            xp = namespace(q)
            sine2 = (wavelength(self.energy) ** 2) * (q * q).sum(-1)
            stretch = stretch / xp.sqrt(1 - sine2)
        row, col = self.origin
        return row + q[..., 1] * stretch, col + q[..., 0] * stretch


def render_spots(
    pattern: SpotPattern | SpotBatch,
    shape: tuple[int, int],
    pixel_size: float | None = None,
    sigma: float = 1.5,
    *,
    centre: tuple[float, float] | None = None,
    camera_length: float | None = None,
    detector_pixel: float | None = None,
    energy: float | None = None,
    normalisation: Normalisation = "flux",
    direct_beam: float | None = None,
) -> Any:
    """Render spots as Gaussians.

    Parameters
    ----------
    pattern : one pattern, or a batch that is drawn without a loop over patterns.
    shape : (H, W) in px.
    pixel_size : 1/Å per px; or ``camera_length`` in m with ``detector_pixel`` in µm.
    sigma : rms radius of a spot in px.
    centre : (row, col) of the direct beam, default (H // 2, W // 2).
    energy : eV, where the pattern does not carry it; used with ``camera_length``.
    normalisation : "flux" each spot sums to its intensity; "peak" each spot's maximum is its
        intensity; "max" the image's maximum is 1.
    direct_beam : flux of a direct beam to draw, in the pattern's units; None draws none.

    Returns
    -------
    (H, W) float32; (B, H, W) for a batch, a torch tensor where the batch is one.

    Raises
    ------
    DiskernError
        For an impossible shape, scale or sigma.
    """
    known = pattern.energy if energy is None else energy
    detector = Detector(shape, pixel_size, camera_length, detector_pixel, known, centre)
    if not (math.isfinite(sigma) and 0 < sigma <= max(shape)):
        raise DiskernError(f"sigma={sigma} px must be above 0 and at most the image")
    if normalisation not in ("flux", "peak", "max"):
        raise DiskernError(f"normalisation={normalisation!r} is unknown; use flux, peak or max")
    q, intensity = pattern.q, pattern.intensity
    single = isinstance(pattern, SpotPattern)
    if single:
        q, intensity = q[None], intensity[None]
    if direct_beam is not None:
        q, intensity = _with_direct_beam(q, intensity, direct_beam)
    images = draw_gaussians(*detector.pixels(q), intensity, shape, sigma)
    if normalisation == "peak":
        images = images / math.erf(0.5 / (math.sqrt(2) * sigma)) ** 2
    elif normalisation == "max":
        xp = namespace(images)
        brightest = xp.amax(images.reshape(len(images), -1), 1)[:, None, None]
        images = images / xp.where(brightest > 0, brightest, xp.ones_like(brightest))
    return to_numpy(images[0]) if single else images


def draw_gaussians(
    rows: Any, columns: Any, weights: Any, shape: tuple[int, int], sigma: float
) -> Any:
    """(B, H, W) float32 images of (B, N) peaks at px positions with (B, N) fluxes.

    Each peak is integrated over the pixels, so its flux is kept at any sigma.
    """

    def window(r: Any, c: Any, dy: Any, dx: Any) -> Any:
        return _shares(r, dy, sigma)[:, :, None] * _shares(c, dx, sigma)[:, None, :]

    return _draw(rows, columns, weights, shape, math.ceil(REACH * sigma), window)


def draw_disks(rows: Any, columns: Any, weights: Any, shape: tuple[int, int], radius: float) -> Any:
    """(B, H, W) float32 images of (B, N) disks of height ``weights``, soft over one pixel."""

    def window(r: Any, c: Any, dy: Any, dx: Any) -> Any:
        y, x = (dy - r[:, None])[:, :, None], (dx - c[:, None])[:, None, :]
        return (radius + 0.5 - namespace(r).sqrt(y * y + x * x)).clip(0, 1)

    return _draw(rows, columns, weights, shape, math.ceil(radius + 1), window)


def _draw(
    rows: Any,
    columns: Any,
    weights: Any,
    shape: tuple[int, int],
    half: int,
    window: Callable[[Any, Any, Any, Any], Any],
) -> Any:
    """Add a window of 2·half + 1 pixels around every peak, many images at a time."""
    height, width = shape
    if len(rows) * height * width > 2**33:
        raise DiskernError(f"{len(rows)} images of {height}×{width} do not fit in memory; split")
    images = _canvas((len(rows), height * width), weights)
    drawn = (weights != 0) & (abs(rows - height / 2) < height / 2 + half + 1)
    drawn = drawn & (abs(columns - width / 2) < width / 2 + half + 1)
    most = max(1, int(drawn.sum(1).max())) if len(rows) and drawn.shape[1] else 1
    step = max(1, CHUNK // max(most * (2 * half + 1) ** 2, height * width))
    xp = namespace(weights)
    for i in range(0, len(rows), step):
        block = slice(i, i + step)
        keep, flat = drawn[block], images[block].reshape(-1)
        image, _ = xp.where(keep)
        r, c, w = (like(a[block][keep], flat) for a in (rows, columns, weights))
        iy, dy, r = _around(r, half)
        ix, dx, c = _around(c, half)
        values = window(r, c, dy, dx) * w[:, None, None]
        values = values * ((iy >= 0) & (iy < height))[:, :, None]
        values = values * ((ix >= 0) & (ix < width))[:, None, :]
        base = (image[:, None] * height + iy.clip(0, height - 1)) * width
        index = base[:, :, None] + ix.clip(0, width - 1)[:, None, :]
        flat = scatter_add(flat, index.reshape(-1), values.reshape(-1))
        images[block] = flat.reshape(-1, height * width)
    return images.reshape(len(rows), height, width)


def _around(centre: Any, half: int) -> tuple[Any, Any, Any]:
    """(M, 2h+1) pixel indices, (1, 2h+1) offsets and (M,) remainders of positions in px."""
    xp = namespace(centre)
    nearest = xp.round(centre)
    offsets = index_like(np.arange(-half, half + 1), centre)[None]
    indices = index_like(nearest, centre)[:, None] + offsets
    return indices, offsets, centre - nearest


def _shares(remainder: Any, offsets: Any, sigma: float) -> Any:
    """(M, 2h+1) shares of a unit Gaussian in each pixel around it."""
    xp = namespace(remainder)
    edges = xp.concatenate([offsets - 0.5, offsets[:, -1:] + 0.5], 1)
    x = (edges - remainder[:, None]) / (sigma * math.sqrt(2))
    cumulative = 0.5 * erf(like(x, remainder))
    return cumulative[:, 1:] - cumulative[:, :-1]


def _canvas(shape: tuple[int, int], reference: Any) -> Any:
    if is_torch(reference):
        import torch

        return torch.zeros(shape, dtype=torch.float32, device=reference.device)
    return np.zeros(shape, dtype=np.float32)


def _with_direct_beam(q: Any, intensity: Any, direct: float) -> tuple[Any, Any]:
    xp = namespace(q)
    if not (math.isfinite(direct) and direct >= 0):
        raise DiskernError(f"direct_beam={direct} must be a non-negative number")
    zero, one = xp.zeros_like(q[:, :1]), xp.ones_like(intensity[:, :1])
    if q.shape[1] == 0:
        zero, one = xp.zeros((len(q), 1, 2)), xp.ones((len(q), 1))
    return xp.concatenate([zero, q], 1), xp.concatenate([one * direct, intensity], 1)
