"""Where the direct beam falls, seen or hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.patterns.geometry import Centre, Flaw
from diskern.patterns.levels import Image, block_mean
from diskern.patterns.masks import as_float, usable
from diskern.patterns.symmetry import Symmetry, friedel_map, gradient_centre

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

WORKING_SIZE = 256
"""Symmetry is sought on an image reduced to about this many pixels a side."""


LEAST_SYMMETRY, MORE_SYMMETRY = 0.75, 0.1
"""Friedel correlation about a dark place, and how much it is above that about the brightest peak,
where the direct beam was left out of the image."""
LEEWAY, TAIL = 0.04, 2.5
"""How far the diffuse background's centre is off the beam, over the image's side, and the exponent
with which that grows rare: Bragg spots have diffuse haloes too, and now and then they pull."""
OFF_MIDDLE = 0.2
"""How far the beam is off the middle of the image, over its side."""
RIVAL = 2.5
"""Log-likelihood by which another bright peak may be less and still be named."""
BEHIND = 4.0
"""Times that distance at which a saturated peak beside a beam stop is no direct beam any more, and
at which a stop hides none."""
SPOTS = 0.08
"""Part of the pixels of independent texture by which two centres of symmetry differ: a lattice is
symmetric about every node and halfway between two, but for what fades outwards."""
LEAST_WORTH = -4.0
"""Log-likelihood, against the brightest peak at the likeliest place, that is still a beam's."""


@dataclass(frozen=True, eq=False)
class _Reduced:
    """The image at working size; ``to_full`` maps its positions to the full image."""

    level: Image
    good: Bools
    factor: int

    def to_full(self, position: Floats) -> Floats:
        return np.asarray((position + 0.5) * self.factor - 0.5)

    def from_full(self, position: Floats) -> Floats:
        return np.asarray((position + 0.5) / self.factor - 0.5)


def find_centre(image: NDArray[Any], flaws: NDArray[np.uint16]) -> Centre:
    """Position of the direct beam.

    The diffuse background tells the neighbourhood: its gradients all aim at the beam, and a
    Bragg spot that outshines it does not turn them.  There, a bright compact peak is the beam
    itself; with none (a beam stop hides it) the pattern is turned by 180° about every point
    and the best self-match near by is taken, on logarithms so that Friedel pairs may differ.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels or counts, electrons bright.
    flaws : (Q_y, Q_x) bits of `Flaw`.

    Returns
    -------
    centre : with method "direct beam", "Friedel symmetry", "diffuse background" or
        "image centre" (nothing to go by; sigma is then a third of the image).
    """
    array, good = as_float(image, flaws), usable(flaws)
    if good.sum() < 100 or float(np.ptp(array[good])) == 0:
        return _image_centre(array)
    factor = max(1, round(min(array.shape) / WORKING_SIZE))
    level, share = block_mean(array, good, factor)
    small = _Reduced(level, share > 0.5, factor)
    if small.good.sum() < 100:
        return _image_centre(array)
    aim = _aim(array, good, small)
    beam = _direct_beam(array, good, flaws, small, aim)
    if beam is not None:
        return beam
    return _by_symmetry(small, aim, array)


def _aim(image: Image, good: Bools, small: _Reduced) -> Symmetry | None:
    """Centre of the diffuse background in px of ``small``."""
    factor = max(1, round(min(image.shape) / (WORKING_SIZE / 2)))
    level, share = block_mean(image, good, factor)
    coarse = _Reduced(level, share > 0.5, factor)
    if coarse.good.sum() < 100:
        return None
    found = gradient_centre(coarse.level, coarse.good)
    if found is None:
        return None
    scale = factor / small.factor
    position = small.from_full(coarse.to_full(found.position))
    return Symmetry(position, found.covariance * scale**2, found.score)


def diffuse_centre(image: NDArray[Any], flaws: NDArray[np.uint16]) -> Floats | None:
    """(2,) row and column in px that the background's gradients aim at; None without background.

    Parameters
    ----------
    image, flaws : as for `find_centre`.
    """
    array, good = as_float(image, flaws), usable(flaws)
    whole = _Reduced(array, good, 1)
    found = _aim(array, good, whole)
    return None if found is None else found.position


def _image_centre(image: Image) -> Centre:
    rows, cols = image.shape
    return Centre((rows - 1) / 2, (cols - 1) / 2, min(rows, cols) / 3, "image centre")


def _prior(small: _Reduced, aim: Symmetry | None, leeway: float) -> tuple[Floats, float]:
    """Neighbourhood of the beam in reduced px: middle and standard deviation.

    Strong Bragg beams have diffuse haloes too and pull: ``leeway`` is that, over the image's side.
    """
    side = min(small.level.shape)
    if aim is None:
        # Brightness itself: the beam is where most electrons are.
        weight = np.where(small.good, small.level - np.percentile(small.level[small.good], 60), 0)
        weight = np.maximum(weight, 0)
        if weight.sum() <= 0:
            return (np.array(small.level.shape) - 1) / 2, side / 4
        y, x = np.indices(weight.shape)
        return np.array([(y * weight).sum(), (x * weight).sum()]) / weight.sum(), side / 6
    spread = float(np.sqrt(np.trace(aim.covariance) / 2))
    return aim.position, float(np.hypot(2 * spread, leeway * side))


def _direct_beam(
    image: Image, good: Bools, flaws: NDArray[np.uint16], small: _Reduced, aim: Symmetry | None
) -> Centre | None:
    """The direct beam where it is seen, else None."""
    middle, spread = _prior(small, aim, LEEWAY)
    stopped = _stop_within(flaws, small.to_full(middle), BEHIND * spread * small.factor)
    plateau = _largest_plateau(flaws)
    if plateau is not None and not stopped:
        return plateau
    fill = float(np.percentile(small.level[small.good], 20))
    level = ndimage.gaussian_filter(np.where(small.good, small.level, fill), 1.0)
    peak = (level == ndimage.maximum_filter(level, 5)) & small.good
    places = np.argwhere(peak)
    base = float(np.median(level[small.good]))
    height = level[peak] - base
    spread_of_levels = 1.4826 * float(np.median(np.abs(level[small.good] - base)))
    if height.size == 0 or height.max() <= max(6 * spread_of_levels, 0):
        return None
    distance = np.linalg.norm(places - middle, axis=1)
    # Who records a pattern points the camera at the beam, roughly.
    y, x = np.nonzero(small.good)
    off_middle = np.linalg.norm(places - [y.mean(), x.mean()], axis=1) / min(level.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = (
            np.where(height > 0, np.log(np.maximum(height, 1e-30) / height.max()), -np.inf)
            - TAIL * np.log1p((distance / spread) ** 2 / 2)
            - 0.5 * (off_middle / OFF_MIDDLE) ** 2
        )
    best = int(np.argmax(worth))
    start = np.round(small.to_full(places[best].astype(float))).astype(int)
    blob = _blob(image, good, start)
    if blob is None or worth[best] < LEAST_WORTH:
        return None
    position, sigma, radius, hidden = blob
    if stopped:
        # Behind a stop the beam is hidden, and what is brightest is mostly the glow round the
        # stop's tip; a beam that missed the stop is round, and floods the detector.
        at = tuple(np.round(position).astype(int))
        flooded = bool(flaws[at] & np.uint16(Flaw.SATURATED))
        if (
            distance[best] > BEHIND * spread
            or not flooded
            or hidden > 0.2
            or sigma > 1.5
            or radius > 0.04 * min(image.shape)
        ):
            return None
    absent = _left_out(small, level - base, small.from_full(position))
    if absent is not None:
        return absent
    if radius > 0.04 * min(image.shape):
        near = _friedel(small, small.from_full(position), radius / small.factor / 2)
        if near is not None and near.score > 0.5:
            place = small.to_full(near.position)
            error = float(np.sqrt(np.trace(near.covariance) / 2)) * small.factor
            return Centre(float(place[0]), float(place[1]), max(error, 0.05), "direct beam", radius)
    order = np.argsort(-worth)[:4]
    others = [
        small.to_full(places[i].astype(float)) for i in order
        if worth[i] > worth[best] - RIVAL and np.linalg.norm(places[i] - places[best]) > 4
    ]  # fmt: skip
    rivals = tuple((float(p[0]), float(p[1])) for p in others)
    return Centre(float(position[0]), float(position[1]), sigma, "direct beam", radius, rivals)


def _stop_within(flaws: NDArray[np.uint16], place: Floats, distance: float) -> bool:
    """Whether a beam stop comes as near to a place as that; elsewhere it hides no beam."""
    rows, cols = np.nonzero(flaws & np.uint16(Flaw.BEAM_STOP))
    return bool((np.hypot(rows - place[0], cols - place[1]) < distance).any())


def _left_out(small: _Reduced, height: NDArray[Any], peak: Floats) -> Centre | None:
    """The centre of a pattern drawn or recorded without its direct beam.

    Then the brightest peak is a reflection, the pattern is much more symmetric about another
    place, and that place is dark.

    Parameters
    ----------
    height : of the smoothed image above its background, in px of ``small``.
    peak : where the beam was taken to be, likewise.
    """
    y, x = np.nonzero(small.good)
    found = _friedel(small, np.array([y.mean(), x.mean()]), 0.15 * min(height.shape))
    if found is None or found.score < LEAST_SYMMETRY:
        return None
    row, col = np.round(found.position).astype(int)
    at, bright = height[row - 2 : row + 3, col - 2 : col + 3], height[small.good].max()
    if at.size == 0 or at.max() > 0.05 * bright:
        return None
    there = _friedel(small, peak, 1.0)
    if there is not None and there.score > found.score - MORE_SYMMETRY:
        return None
    return _of_symmetry(small, found)


def _of_symmetry(small: _Reduced, found: Symmetry) -> Centre:
    place = small.to_full(found.position)
    error = float(np.sqrt(np.trace(found.covariance) / 2)) * small.factor
    return Centre(float(place[0]), float(place[1]), max(error, 0.05), "Friedel symmetry")


def _largest_plateau(flaws: NDArray[np.uint16]) -> Centre | None:
    """A saturated disk of more than half a percent of the image is the direct beam's."""
    full = (flaws & np.uint16(Flaw.SATURATED)) != 0
    if full.mean() < 0.005:
        return None
    labels, count = ndimage.label(ndimage.binary_opening(full, iterations=2))
    if count == 0:
        return None
    area = np.bincount(labels.ravel())[1:]
    region = labels == np.argmax(area) + 1
    y, x = np.nonzero(region)
    box = (np.ptp(y) + 1) * (np.ptp(x) + 1)
    if area.max() < 0.005 * flaws.size or area.max() < 0.6 * box:
        return None
    radius = float(np.sqrt(area.max() / np.pi))
    return Centre(float(y.mean()), float(x.mean()), 0.05 * radius, "direct beam", radius)


def _blob(
    image: Image, good: Bools, start: NDArray[np.int64]
) -> tuple[Floats, float, float, float] | None:
    """Centroid, its sigma, radius and hidden share of rim of the blob at ``start``.

    The outlines at several heights are each centred on the beam, saturated or not; their
    scatter is the uncertainty.
    """
    reach = max(3, min(image.shape) // 40)
    window = tuple(slice(max(s - reach, 0), s + reach + 1) for s in start)
    local = np.where(good[window], image[window], -np.inf)
    if not np.isfinite(local).any():
        return None
    top = np.unravel_index(int(np.argmax(local)), local.shape)
    peak = (window[0].start + int(top[0]), window[1].start + int(top[1]))
    value = float(image[peak])
    half = max(8, min(image.shape) // 5)
    rows, cols = (slice(max(p - half, 0), p + half + 1) for p in peak)
    view, valid = image[rows, cols], good[rows, cols]
    inside = (peak[0] - rows.start, peak[1] - cols.start)
    base = float(np.median(view[valid]))
    if value <= base:
        return None
    centres, area, hidden = [], 0, 0.0
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        labels, _ = ndimage.label((view > base + share * (value - base)) & valid)
        region = labels == labels[inside]
        if labels[inside] == 0 or region.sum() < 3:
            continue
        y, x = np.nonzero(region)
        depth = np.minimum(view[region] - (base + share * (value - base)), 0.2 * (value - base))
        centres.append([np.average(y, weights=depth), np.average(x, weights=depth)])
        if share == 0.5:
            area = int(region.sum())
            rim = ndimage.binary_dilation(region) & ~region
            hidden = float(np.mean(~valid[rim])) if rim.any() else 0.0
    if not centres:
        return np.array(peak, float), 0.5, 1.0, 0.0
    found = np.array(centres)
    spread = float(found.std(0).max()) if len(found) > 1 else 0.3
    position = np.median(found, axis=0) + np.array([rows.start, cols.start])
    return position, float(np.hypot(0.05, spread)), float(np.sqrt(max(area, 1) / np.pi)), hidden


def _texture(small: _Reduced) -> Image:
    """Spots and rings without the background, each to the scale of its surroundings."""
    zero = float(np.percentile(small.level[small.good], 0.5))
    above = np.maximum(small.level - zero, 0)
    offset = max(0.05 * float(np.median(above[small.good])), 1e-6 * float(above.max()), 1e-12)
    value = np.log(above + offset)

    def smooth(width: float) -> Image:
        weight = ndimage.gaussian_filter(small.good.astype(np.float32), width)
        total = ndimage.gaussian_filter(np.where(small.good, value, 0), width)
        return np.asarray(total / np.maximum(weight, 1e-3), dtype=np.float32)

    return smooth(1.0) - smooth(0.03 * min(small.level.shape))


def _friedel(small: _Reduced, middle: Floats, spread: float) -> Symmetry | None:
    """Best centre of two-fold symmetry about ``middle`` (reduced px) within a few ``spread``."""
    correlation, overlap = friedel_map(_texture(small), small.good)
    y, x = np.ogrid[: correlation.shape[0], : correlation.shape[1]]
    square = (y / 2 - middle[0]) ** 2 + (x / 2 - middle[1]) ** 2
    # ln p of a correlation c over n independent pixels is about n c²/2; texture is smooth over
    # some 10 px and much of it is noise: count one pixel in 100.
    independent = max(20.0, 0.01 * float(small.good.sum()))
    alike = 0.5 * SPOTS * independent * overlap * np.maximum(correlation, 0) ** 2
    worth = alike - square / (2 * spread**2)
    worth[square > (4 * spread) ** 2] = -np.inf
    at = np.unravel_index(int(np.argmax(worth)), worth.shape)
    score = float(correlation[at])
    if not (0 < at[0] < worth.shape[0] - 1 and 0 < at[1] < worth.shape[1] - 1) or score <= 0:
        return None
    patch = correlation[at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2]
    offset, curvature = _parabola(patch)
    position = (np.array(at) + offset) / 2
    covariance = np.diag((1 - min(score, 0.99) ** 2) / (independent * 4 * curvature))
    return Symmetry(position, covariance, score)


def _parabola(patch: Floats) -> tuple[Floats, Floats]:
    """Sub-pixel maximum of a 3 × 3 patch along each axis, and the (negated) curvatures."""
    lines = np.stack([patch[:, 1], patch[1, :]])
    curvature = np.maximum(2 * lines[:, 1] - lines[:, 0] - lines[:, 2], 1e-3)
    return np.clip((lines[:, 2] - lines[:, 0]) / (2 * curvature), -0.7, 0.7), curvature


def _by_symmetry(small: _Reduced, aim: Symmetry | None, image: Image) -> Centre:
    """Centre of a pattern whose direct beam is hidden."""
    middle, spread = _prior(small, aim, 0.015)
    near = _friedel(small, middle, spread)
    if near is not None and near.score > 0.25:
        return _of_symmetry(small, near)
    if aim is None:
        return _image_centre(image)
    place = small.to_full(aim.position)
    error = float(np.sqrt(np.trace(aim.covariance) / 2)) * small.factor
    return Centre(float(place[0]), float(place[1]), error, "diffuse background")
