"""The probe from images of single disks: one in vacuum, or many of one scan together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.optimize import least_squares

from diskern.bragg.disk_probe import Probe
from diskern.errors import DiskernError

Floats = NDArray[np.float64]

OPEN = 0.5
"""Share of a disk's level that its outline is drawn at."""
UNEVEN = 0.12
"""rms departure from a round, evenly lit disk, in its level, from which a probe is kept as it was
measured."""
FRINGES = 0.3
"""rms contrast of dynamical diffraction inside a disk, of its level."""
FEW = 4
"""Disks from which those of odd and even number are compared."""
SECTORS = 16


def measure_probe(image: ArrayLike) -> Probe:
    """The probe of an image of the direct beam in vacuum.

    A round, evenly lit disk is described by its radius and the width of its rim; any other shape
    is kept as it was measured, background taken off.

    Parameters
    ----------
    image : (H, W) counts; the beam may lie anywhere.

    Raises
    ------
    DiskernError
        For an image that shows no disk, or one that its border cuts.
    """
    array = np.asarray(image)
    if array.ndim != 2 or min(array.shape) < 8 or array.dtype.kind not in "biuf":
        raise DiskernError(
            f"the probe has shape {array.shape} and type {array.dtype}; give one image (Q_y, Q_x)"
        )
    calm = without_hot_pixels(array.astype(np.float64))
    centre, reach = _beam(calm)
    room = min(*centre, *(np.array(calm.shape) - 1 - centre))
    if room < 1.05 * reach + 1:
        raise DiskernError(
            f"the beam at row {centre[0]:.0f}, column {centre[1]:.0f} reaches beyond the border of "
            "the probe's image; give one with the whole disk on it"
        )
    half = int(min(np.ceil(1.5 * reach) + 4, room))
    middle = np.rint(centre).astype(int)
    window = cut_windows(calm[None], np.zeros(1, int), middle[None], half)
    window = window - np.median(_border(window))
    flux = np.maximum(window.sum((1, 2)), 1e-12)
    offset = (centre - middle)[None]
    fitted, measured = probe_of_windows(window, offset, flux, calm.shape, contrast=0.0)
    return measured or fitted


def without_hot_pixels(image: Floats) -> Floats:
    """The image, what is no number or stands alone far above its neighbours by their median."""
    calm = np.where(np.isfinite(image), image, np.nan)
    if not np.isfinite(calm).any():
        raise DiskernError("the probe's image has no finite pixel")
    calm = np.where(np.isfinite(calm), calm, np.nanmedian(calm))
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    # The second highest neighbour: one hot pixel must not hide another.
    high = ndimage.rank_filter(calm, -2, footprint=ring)
    far = calm - high > high - ndimage.minimum_filter(calm, footprint=ring)
    far &= calm - high > 8 * np.sqrt(np.maximum(high, 1))
    return np.where(far, ndimage.median_filter(calm, footprint=ring), calm)


def probe_of_windows(
    windows: Floats,
    offset: Floats,
    flux: Floats,
    shape: tuple[int, ...],
    *,
    contrast: float = FRINGES,
    alike: NDArray[np.int64] | None = None,
) -> tuple[Probe, Probe | None]:
    """The probe that single disks show: the nearest round one, and what is shared beyond it.

    Parameters
    ----------
    windows : (N, n, n) counts around disks, background taken off; what lies in their corners,
        further from the middle than from a side, is not looked at.
    offset : (N, 2) px from the middle of the windows to the disks' centres.
    flux : (N,) counts of the disks.
    shape : (H, W) of the patterns.
    contrast : rms that dynamical diffraction may draw inside a disk, of its level.
    alike : (N,) numbers of the disks' reflections: what diffraction draws in disks of one number
        is the same.  By default every disk is one of its own.

    Returns
    -------
    round, and the probe as measured where the disks share another shape, else None.
    """
    kind = np.arange(len(flux)) if alike is None else np.unique(alike, return_inverse=True)[1]
    size = (shape[0], shape[1])
    half = windows.shape[1] // 2
    grid = np.arange(-half, half + 1.0)
    kept = np.hypot(grid[:, None], grid) <= half
    seen = windows * kept / flux[:, None, None]
    moved = aligned(seen, offset)
    stack = np.average(moved, axis=0, weights=_trust(flux, 0.3 * half**2, contrast, kind))
    area = float((stack > OPEN * _top(stack)).sum())
    start = max(float(np.sqrt(area / np.pi)), 0.8)
    trust = _trust(flux, np.pi * start**2, contrast, kind)
    radius, edge, level, shift = _round_fit(seen, kept, trust, offset, start)
    fitted = Probe.synthetic(size, radius, min(edge, radius))
    r = np.hypot(grid[:, None] - shift[0], grid - shift[1])
    model = edge_profile(r, radius, edge, 0.0) * level
    near = kept & (r < radius + 2 * edge + 1)
    limit = level * np.sqrt(UNEVEN**2 + 4 / trust.sum())
    if _uneven(moved, trust, model, near) < limit:
        return fitted, None
    mean = np.average(moved, axis=0, weights=trust)
    return fitted, _as_measured(mean / _level(mean), size)


def _trust(flux: Floats, area: float, contrast: float, kind: NDArray[np.int64]) -> Floats:
    """(N,) weights of disks: noise falls with the counts, a reflection's own contrast does not."""
    return np.asarray(1 / (np.bincount(kind)[kind] * contrast**2 + area / flux))


def cut_windows(
    patterns: NDArray[Any], pattern: NDArray[np.int64], middle: NDArray[np.int64], half: int
) -> Floats:
    """(N, 2 half + 1, 2 half + 1) patterns around (N, 2) pixels."""
    side = np.arange(-half, half + 1)
    rows = middle[:, 0, None, None] + side[:, None]
    cols = middle[:, 1, None, None] + side
    return np.asarray(patterns[pattern[:, None, None], rows, cols], dtype=np.float64)


def aligned(windows: Floats, offset: Floats) -> Floats:
    """Windows moved so that the disks' centres lie in their middles, by cubic splines."""
    moves = zip(windows, offset, strict=True)
    return np.stack([ndimage.shift(w, -o, order=3, mode="nearest") for w, o in moves])


def edge_profile(r: Floats, radius: float, edge: float, curve: float) -> Floats:
    """A disk of level 1 + curve (r/radius)² behind its rim."""
    inside = np.minimum(r / radius, 1)
    return np.asarray((1 + curve * inside**2) * (0.5 - 0.5 * np.tanh((r - radius) / edge)))


def _beam(image: Floats) -> tuple[Floats, float]:
    """Centre and reach in px of what is brighter than half of the brightest place."""
    smooth = ndimage.gaussian_filter(image, 1.0)
    ground = float(np.median(smooth))
    top = float(smooth.max())
    noise = 1.4826 * float(np.median(np.abs(smooth - ground)))
    if not top - ground > 6 * noise + 1e-9 * abs(top):
        raise DiskernError("the probe's image shows no disk; give one of the beam in vacuum")
    lit = np.argwhere(smooth > ground + OPEN * (top - ground)).astype(np.float64)
    middle = np.median(lit, axis=0)
    far = np.hypot(*(lit - middle).T)
    kept = lit[far <= 3 * max(float(np.median(far)), 1.0)]
    middle = (kept.min(0) + kept.max(0)) / 2
    return middle, max(float(np.hypot(*(kept - middle).T).max()), 1.0)


def _border(windows: Floats) -> Floats:
    """(N, m) the outermost pixels of windows."""
    inside = np.ones(windows.shape[1:], bool)
    inside[1:-1, 1:-1] = False
    return windows[:, inside]


def _top(image: Floats) -> float:
    """Brightest place of an image, single pixels apart."""
    return float(ndimage.gaussian_filter(image, 0.7).max())


def _level(mean: Floats) -> float:
    """Level of the open part of an image."""
    smooth = ndimage.gaussian_filter(mean, 0.7)
    return float(np.median(mean[smooth > OPEN * smooth.max()]))


def _round_fit(
    seen: Floats, kept: NDArray[np.bool_], trust: Floats, offset: Floats, radius: float
) -> tuple[float, float, float, Floats]:
    """Radius, width of the rim, level over flux, and centre of the nearest round disk.

    The pixels are taken where they are, without interpolation.
    """
    half = seen.shape[1] // 2
    row, col = (index - half for index in np.nonzero(kept))
    rows, cols = row - offset[:, :1], col - offset[:, 1:]
    weight = np.sqrt(trust / trust.sum())[:, None]
    target = np.pi * radius**2 * seen[:, kept] * weight

    def miss(x: Floats) -> Floats:
        r = np.hypot(rows - x[4], cols - x[5])
        return np.asarray(x[3] * edge_profile(r, x[0], x[1], x[2]) * weight - target).ravel()

    most = float(half)
    low = [0.5, 0.05, -0.9, 0.1, -1.5, -1.5]
    high = [most, 0.5 * most + 1, 3.0, 8.0, 1.5, 1.5]
    start = np.clip([radius, 0.7, 0.0, 1.0, 0.0, 0.0], low, high)
    found = least_squares(miss, start, bounds=(low, high), x_scale=[1, 0.3, 0.3, 1, 0.3, 0.3]).x
    return float(found[0]), float(found[1]), float(found[3] / (np.pi * radius**2)), found[4:]


def _uneven(moved: Floats, trust: Floats, model: Floats, near: NDArray[np.bool_]) -> float:
    """rms of what images (N, n, n) share beyond a model; noise and fringes taken off.

    Neighbouring pixels share a shape, not their noise; so do different disks.
    """
    rest = (moved - model) * near
    if len(rest) >= FEW:
        odd, even = (np.average(rest[k::2], axis=0, weights=trust[k::2]) for k in (0, 1))
        shared = float((odd * even).sum())
    else:
        mean = np.average(rest, axis=0, weights=trust)
        shared = float((mean[1:] * mean[:-1]).sum() + (mean[:, 1:] * mean[:, :-1]).sum()) / 2
    return float(np.sqrt(max(shared, 0.0) / near.sum()))


def _as_measured(image: Floats, shape: tuple[int, int]) -> Probe:
    """A probe that is an image of level 1 in a window, the middle of its outline in the middle."""
    half = image.shape[0] // 2
    rows, cols = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    filled = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 0.7) > OPEN)
    if not filled.any():
        raise DiskernError("the probe's image shows no disk; give one of the beam in vacuum")
    middle = np.array([(rows * filled).sum(), (cols * filled).sum()]) / filled.sum()
    image = aligned(image[None], middle[None])[0]
    lit = ndimage.gaussian_filter(image, 0.7) > OPEN
    r = np.hypot(rows, cols)
    sector = np.floor((np.arctan2(rows, cols) / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    outline = np.array([r[lit & (sector == s)].max(initial=0.0) for s in range(SECTORS)])
    edge = _edge_width(image, r - outline[sector] - 0.5)
    image = np.where(r < outline.max() + 3 * edge + 1, np.maximum(image, 0), 0.0)
    kept = min(half, *((n - 1) // 2 for n in shape))
    out = np.zeros(shape)
    target = tuple(slice(n // 2 - kept, n // 2 + kept + 1) for n in shape)
    out[target] = image[half - kept : half + kept + 1, half - kept : half + kept + 1]
    return Probe(out / out.sum(), float(outline.mean()) + 0.5, edge, False)


def _edge_width(image: Floats, beyond: Floats) -> float:
    """Width of the rim from the levels at distances (px) beyond the outline."""
    near = np.abs(beyond) < 2.5

    def miss(x: Floats) -> Floats:
        return np.asarray(x[1] * (0.5 - 0.5 * np.tanh((beyond[near] - x[2]) / x[0])) - image[near])

    return float(least_squares(miss, [0.7, 1.0, 0.0], bounds=([0.2, 0.2, -2], [4, 3, 2])).x[0])
