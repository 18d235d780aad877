"""Draw simulated spots on a detector: Gaussian peaks integrated over each pixel.

Pixel (row, col) is centred on whole numbers; the direct beam falls on ``centre``, by default
(H // 2, W // 2), the zero frequency of a shifted Fourier transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
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
    scatter_sum,
    to_numpy,
    zeros,
)
from diskern.simulate.spot_pattern import SpotBatch, SpotPattern

REACH = 4.5
"""Spots are drawn out to this many sigmas (7e-6 of the intensity lies outside)."""
CHUNK = 2**21
"""Pixels of peak profiles or windows held at a time (8 MB of float32)."""

_NODES = 256
"""Sub-pixel positions of a peak of sigma 1 px or more for which its profile is tabulated."""

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
    if not (math.isfinite(sigma) and 0 < sigma <= max(4, max(shape) / 8)):
        raise DiskernError(f"sigma={sigma} px must be above 0 and at most an eighth of the image")
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

    Each peak is integrated over the pixels, so its flux is kept at any sigma.  A Gaussian is the
    product of a row and a column profile: an image is one matrix product where peaks are wide or
    the arrays are tensors; narrow ones are added window by window.
    """
    half = min(math.ceil(REACH * sigma), 2 * max(shape))
    keep = _in_reach(rows, columns, weights, shape, half)
    images = _canvas((len(rows), *shape), weights)
    # A pixel of a window costs about as much as a hundred of the matrix product.
    if not is_torch(weights) and 100 * (2 * half + 1) ** 2 < shape[0] * shape[1]:
        image, row, col, flux = np.where(keep)[0], rows[keep], columns[keep], weights[keep]
        step = max(1, CHUNK // (2 * half + 1) ** 2)
        for i in range(0, len(image), step):
            part = slice(i, i + step)
            _add_windows(images, image[part], row[part], col[part], flux[part], half, sigma)
        return images
    rows, columns, weights = _packed(keep, rows, columns, weights)
    step = max(1, CHUNK // (max(1, weights.shape[1]) * (max(shape) + 2 * half)))
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        down = _profiles(like(rows[part], images), shape[0], half, sigma)
        across = _profiles(like(columns[part], images), shape[1], half, sigma)
        flux = like(weights[part], images)[..., None]
        images[part] = (down * flux).swapaxes(1, 2) @ across
    return images


def _add_windows(
    images: Any, image: Any, rows: Any, columns: Any, weights: Any, half: int, sigma: float
) -> None:
    """Add (M,) peaks to the (B, H, W) ``images`` they belong to, each in its own window."""
    _, height, width = images.shape
    first_row, down = _window_profile(rows, half, sigma)
    first_col, across = _window_profile(columns, half, sigma)
    steps = np.arange(2 * half + 1)
    row, col = first_row[:, None] + steps, first_col[:, None] + steps
    # What falls outside is added as nothing to the nearest pixel inside.
    down *= np.asarray(weights, dtype=np.float32)[:, None] * ((row >= 0) & (row < height))
    across *= (col >= 0) & (col < width)
    start = (image[:, None] * height + row.clip(0, height - 1)) * width
    place = start[:, :, None] + col.clip(0, width - 1)[:, None, :]
    np.add.at(images.reshape(-1), place.reshape(-1), (down[:, :, None] * across[:, None]).ravel())


def _in_reach(rows: Any, columns: Any, weights: Any, shape: tuple[int, int], half: int) -> Any:
    """(B, N) whether a peak has flux and a window that touches the image."""
    height, width = shape
    keep = (weights != 0) & (abs(rows - (height - 1) / 2) < height / 2 + half)
    return keep & (abs(columns - (width - 1) / 2) < width / 2 + half)


def _packed(keep: Any, rows: Any, columns: Any, weights: Any) -> tuple[Any, Any, Any]:
    """(B, M) positions and fluxes of what is kept of (B, N) peaks, padded without flux."""
    most = int(keep.sum(1).max()) if math.prod(keep.shape) else 0
    order = namespace(weights).argsort(~keep)[:, :most]
    image = index_like(np.arange(len(order))[:, None], weights)
    flux = weights[image, order] * keep[image, order]
    return rows[image, order], columns[image, order], flux


def _window_profile(centre: Any, half: int, sigma: float) -> tuple[Any, Any]:
    """First pixel (M,) and float32 shares (M, 2h+1) of unit Gaussians at centres in px."""
    nearest = namespace(centre).round(centre)
    first = index_like(nearest, centre) - half
    remainder = centre - nearest
    if is_torch(centre):
        return first, _shares(remainder, half, sigma)
    nodes = _NODES * max(1, math.ceil(1 / sigma))
    if len(remainder) <= 2 * nodes:
        return first, _shares(remainder.astype(np.float32), half, sigma)
    # Linear between tabulated remainders: within 2e-6 of the peak.
    table = _tabulated_shares(half, sigma, nodes)
    place = (remainder + 0.5) * nodes
    node = np.minimum(place.astype(np.int64), nodes - 1)
    share = (place - node).astype(np.float32)[:, None]
    low = table[node]
    return first, low + share * (table[node + 1] - low)


@lru_cache(maxsize=16)
def _tabulated_shares(half: int, sigma: float, nodes: int) -> Any:
    """(nodes + 1, 2h+1) shares at remainders from -1/2 to 1/2 px."""
    return _shares(np.linspace(-0.5, 0.5, nodes + 1), half, sigma).astype(np.float32)


def _profiles(centre: Any, size: int, half: int, sigma: float) -> Any:
    """(..., size) shares of unit Gaussians at centres in px, zero beyond their windows."""
    shape = tuple(centre.shape)
    # Far peaks carry no flux; they are moved to the margin so that the window has a place.
    flat = centre.reshape(-1).clip(-half, size - 1 + half)
    first, shares = _window_profile(flat, half, sigma)
    wide = zeros((len(flat), size + 4 * half), shares)
    at = index_like(np.arange(2 * half + 1), shares) + (first + 2 * half)[:, None]
    wide[index_like(np.arange(len(flat)), shares)[:, None], at] = shares
    return wide[:, 2 * half : 2 * half + size].reshape(*shape, size)


def draw_disks(rows: Any, columns: Any, weights: Any, shape: tuple[int, int], radius: float) -> Any:
    """(B, H, W) float32 images of (B, N) disks of height ``weights``, soft over one pixel."""
    height, width = shape
    half = math.ceil(radius + 1)
    keep = _in_reach(rows, columns, weights, shape, half)
    images = _canvas((len(rows), height, width), weights)
    # A margin as wide as any window reaches, so that no pixel needs a test of its own.
    margin = 2 * half + 1
    wide = width + 2 * margin
    area = (height + 2 * margin) * wide
    offsets = index_like(np.arange(-half, half + 1), weights)
    place = (offsets[:, None] * wide + offsets).reshape(1, -1)
    most = max(1, int(keep.sum(1).max())) if len(rows) and keep.shape[1] else 1
    step = max(1, CHUNK // max(most * (2 * half + 1) ** 2, area))
    xp = namespace(weights)
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        seen = keep[part]
        image, _ = xp.where(seen)
        r, c = rows[part][seen], columns[part][seen]
        near_r, near_c = xp.round(r), xp.round(c)
        y, x = offsets - (r - near_r)[:, None], offsets - (c - near_c)[:, None]
        radii = xp.sqrt(y[:, :, None] ** 2 + x[:, None, :] ** 2)
        values = (radius + 0.5 - radii).clip(0, 1) * weights[part][seen][:, None, None]
        corner = (image * (height + 2 * margin) + index_like(near_r, weights) + margin) * wide
        index = (corner + index_like(near_c, weights) + margin)[:, None] + place
        flat = scatter_sum(len(seen) * area, index.reshape(-1), values.reshape(-1))
        canvas = flat.reshape(len(seen), height + 2 * margin, wide)
        images[part] = canvas[:, margin : margin + height, margin : margin + width]
    return images


def _shares(remainder: Any, half: int, sigma: float) -> Any:
    """(M, 2h+1) shares of a unit Gaussian in each pixel around it."""
    offsets = like(np.arange(-half, half + 2) - 0.5, remainder)
    cumulative = 0.5 * erf((offsets - remainder[:, None]) / (sigma * math.sqrt(2)))
    return cumulative[:, 1:] - cumulative[:, :-1]


def _canvas(shape: tuple[int, ...], reference: Any) -> Any:
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
