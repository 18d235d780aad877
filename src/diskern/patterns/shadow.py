"""Where no electrons could arrive: beam stop, and outside a round or masked detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from diskern.patterns.geometry import Flaw
from diskern.patterns.levels import Image, block_mean, quantum
from diskern.patterns.polar import group_quantiles
from diskern.patterns.symmetry import gradient_centre

Bools = NDArray[np.bool_]

WORKING_SIZE = 192
"""Shadows are large: they are sought on an image reduced to about this many pixels a side."""
GAP, LEAST_GAP = 0.45, 0.002
"""Part of its ring's level below which a pixel is in a shadow, and the least part of the image that
a shadow covers."""
SIZABLE = 0.1
"""Part of the largest lit region from which on another is detector as well."""
BEYOND = 20
"""px about an edge that decide whether it is a shadow's: means over 19 px, of masks 10 px deep."""


def find_shadows(image: Image, good: Bools) -> NDArray[np.uint16]:
    """Bits `Flaw.BEAM_STOP` and `Flaw.MISSING` of the parts of an image left dark.

    A shadow is a region at the dark level that reaches the image's border and whose edge is
    sharp: within a few pixels the level falls from that of the lit image to nearly nothing.
    A background that fades out has no such edge.  What lies inside the convex hull of the lit
    part is a beam stop, what lies outside is not detector.

    Parameters
    ----------
    image : (Q_y, Q_x) finite grey levels, electrons bright.
    good : (Q_y, Q_x) pixels not yet known to be flawed.
    """
    flags = np.zeros(image.shape, dtype=np.uint16)
    factor = max(1, round(min(image.shape) / WORKING_SIZE))
    small, share = block_mean(image, good, factor)
    use = share > 0.5
    if use.sum() < 200 or not use.any():
        return flags
    level = _smooth(small, use)
    noise = _noise_of(small, level, use)
    # Rounding makes a sharp step of one grey level out of any gentle slope.
    least_step = 1.5 * quantum(image)
    dark = _dark_regions(level, use, noise, least_step)
    outside = np.zeros(level.shape, dtype=bool)
    if dark.any():
        dark = _grow(level, use, dark, noise)
        outside = _outside_hull(use & ~dark) & dark
    stop = (dark & ~outside) | _pointer(level, use & ~outside, max(8 * noise, 2 * least_step))
    for region, flaw in ((stop, Flaw.BEAM_STOP), (outside, Flaw.MISSING)):
        if region.any():
            flags[_enlarge(region, factor, image.shape)] |= np.uint16(flaw)
    return flags


def _pointer(level: Image, use: Bools, least: float) -> Bools:
    """A beam stop whose shaft is lost in the dark: a gap in the rings about the beam.

    Only near the beam is the background bright enough to show the shadow.  It begins near the
    rings' centre, goes out to where they end, lies to one side, and has sharp edges.

    Parameters
    ----------
    level : (h, w) smoothed and reduced image.
    use : (h, w) pixels of the detector.
    least : level of a ring in whose gap a shadow is told.
    """
    nothing = np.zeros(level.shape, dtype=bool)
    meeting = gradient_centre(level, use, 1.5)
    if meeting is None:
        return nothing
    zero = float(np.percentile(level[use], 0.5))
    rows, cols = np.indices(level.shape) - meeting.position[:, None, None]
    away = np.hypot(rows, cols)
    expected, known = _rings(level - zero, use, away, 0.6)
    tested = use & known & (expected > least)
    labels, count = ndimage.label(tested & (level - zero < GAP * expected))
    if count == 0:
        return nothing
    side, farthest = min(level.shape), float(away[tested].max())
    direction = (rows + 1j * cols) / np.maximum(away, 1)
    found = nothing.copy()
    for part, area in enumerate(np.bincount(labels.ravel())[1:], start=1):
        if area < LEAST_GAP * level.size:
            continue
        region = labels == part
        edge = ndimage.binary_dilation(region) & ~region & tested
        if (
            away[region].min() < 0.1 * side
            and away[region].max() > 0.65 * min(farthest, 0.4 * side)
            and abs(direction[region].mean()) > 0.5
            and edge.any()
            and _sharp_edge(level, use, region, edge, zero, 0.5 * least) > 0.4
        ):
            found |= region
    return found


def _rings(
    level: Image, use: Bools, away: NDArray[np.float64], share: float
) -> tuple[NDArray[np.float64], Bools]:
    """(h, w) quantile of the levels as far from a centre, and whether enough of them are seen."""
    ring = np.minimum(away.astype(np.int64), 4 * max(level.shape))
    middle, count = group_quantiles(level[use], ring[use], int(ring.max()) + 1, (share,))
    return np.nan_to_num(middle[0])[ring], (count > 6)[ring]


def _smooth(small: Image, use: Bools) -> Image:
    weight = ndimage.gaussian_filter(use.astype(np.float32), 0.8)
    value = ndimage.gaussian_filter(np.where(use, small, 0), 0.8)
    return np.asarray(value / np.maximum(weight, 1e-3), dtype=np.float32)


def _noise_of(small: Image, level: Image, use: Bools) -> float:
    """Standard deviation of ``level`` in the darkest quarter, where shadows are sought."""
    cut = np.percentile(level[use], 25)
    rest = (small - level)[use & (level <= cut)]
    spread = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    # Levels rounded to the same number hide noise below the rounding.
    return max(0.5 * spread, 0.2 * float(np.std(rest)), 1e-6 * float(np.ptp(level)), 1e-12)


def _dark_regions(level: Image, use: Bools, noise: float, least_step: float) -> Bools:
    """Regions below some threshold whose edges are sharp; nested ones by their best threshold."""
    zero = float(np.percentile(level[use], 0.5))
    top = float(np.percentile(level[use], 75))
    found = np.zeros(level.shape, dtype=bool)
    if top - zero < max(4 * noise, least_step):
        return found
    candidates: list[tuple[float, Bools]] = []
    low = ndimage.minimum_filter(level, size=7) - zero
    high = ndimage.maximum_filter(level, size=7) - zero
    steep = (high > max(4 * noise, least_step)) & (low < 0.45 * high)
    for threshold in zero + np.geomspace(max(3 * noise, 2e-3 * (top - zero)), top - zero, 14):
        labels, count = ndimage.label((level < threshold) & use)
        boxes = ndimage.find_objects(labels)
        for index in _large_border_labels(labels, count):
            box = boxes[index - 1]
            about = tuple(slice(max(s.start - BEYOND, 0), s.stop + BEYOND) for s in box)
            region = labels[about] == index
            edge = ndimage.binary_dilation(region) & ~region & use[about]
            length = int(edge.sum())
            if length < 0.1 * min(level.shape) or steep[about][edge].mean() < 0.5:
                continue
            least = max(4 * noise, least_step)
            share = _sharp_edge(level[about], use[about], region, edge, zero, least)
            if share > 0.55:
                candidates.append((share * np.sqrt(length), labels == index))
    for _, region in sorted(candidates, key=lambda c: -c[0]):
        if not (found & region).any():
            found |= region
    return found


def _sharp_edge(
    level: Image, use: Bools, region: Bools, edge: Bools, zero: float, least_step: float
) -> float:
    """Share of a region's edge that is a shadow's.

    Across a shadow's edge the level jumps from near the dark level to a plateau; where the
    light merely fades, it goes on rising outside as it did before.
    """
    inward = ndimage.distance_transform_cdt(region, "chessboard")
    outward = ndimage.distance_transform_cdt(~region, "chessboard")
    here = np.nonzero(edge)

    def mean_near(part: Bools, size: int) -> NDArray[np.float32]:
        weight = ndimage.uniform_filter(part.astype(np.float32), size)[here]
        total = ndimage.uniform_filter(np.where(part, level, 0), size)[here]
        return np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), np.nan)

    inside = mean_near((inward >= 2) & (inward < 6), 11) - zero
    near = mean_near(use & (outward >= 2) & (outward < 5), 9) - zero
    far = mean_near(use & (outward >= 5) & (outward < 10), 19) - zero
    step = near - inside
    sharp = (step > least_step) & (inside < 0.4 * near) & (np.abs(far - near) < 0.6 * step)
    return float(np.mean(sharp))


def _large_border_labels(labels: NDArray[Any], count: int) -> list[int]:
    """Labels of regions that touch the border and are not slivers."""
    area = np.bincount(labels.ravel(), minlength=count + 1)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.unique(border[border > 0])
    return [int(i) for i in touching if area[i] > 0.002 * labels.size]


def _grow(level: Image, use: Bools, dark: Bools, noise: float) -> Bools:
    """Add the stop's brighter tip: connected to it, yet under half of the ring it lies on."""
    lit = use & ~ndimage.binary_dilation(dark, iterations=3)
    meeting = gradient_centre(level, lit, 1.5)
    if meeting is None:
        return dark
    zero = float(np.median(level[dark]))
    away = np.hypot(*(np.indices(level.shape) - meeting.position[:, None, None]))
    expected, known = _rings(level - zero, lit, away, 0.4)
    shaded = known & (level - zero < 0.5 * expected) & (expected > 10 * noise) & use
    reach = ndimage.binary_dilation(dark, iterations=16)
    grown = ndimage.binary_propagation(dark, mask=dark | (shaded & reach))
    closed = ndimage.binary_closing(np.pad(grown, 4, mode="edge"), iterations=3)[4:-4, 4:-4]
    return _fill_small_holes(closed | grown)


def _fill_small_holes(region: Bools) -> Bools:
    """Fill holes; the lit part of a round detector, ringed by darkness, is none."""
    holes = ndimage.binary_fill_holes(region) & ~region
    labels, _ = ndimage.label(holes)
    area = np.bincount(labels.ravel())
    return np.asarray(region | (holes & (area < 0.02 * region.size)[labels]))


def _outside_hull(lit: Bools) -> Bools:
    """Pixels outside the convex hull of all large lit regions."""
    labels, count = ndimage.label(ndimage.binary_opening(lit, iterations=2))
    if count == 0:
        return np.zeros(lit.shape, dtype=bool)
    area = np.bincount(labels.ravel())
    area[0] = 0
    # Lines between chips part what is lit.
    lit = (area > SIZABLE * area.max())[labels]
    points = np.argwhere(lit ^ ndimage.binary_erosion(lit, border_value=0))
    try:
        hull = ConvexHull(points)
    except QhullError:
        return np.zeros(lit.shape, dtype=bool)
    y, x = np.ogrid[: lit.shape[0], : lit.shape[1]]
    outside = np.zeros(lit.shape, dtype=bool)
    for a, b, c in hull.equations:
        outside |= a * y + b * x + c > 1.5
    return outside


def _enlarge(region: Bools, factor: int, shape: tuple[int, ...]) -> Bools:
    """To full size, grown over the penumbra (one reduced pixel and a half, at least 2 px)."""
    grown = ndimage.binary_dilation(region, iterations=2 if factor == 1 else 1)
    full = np.zeros(shape, dtype=bool)
    rows, cols = (
        np.minimum(np.arange(n) // factor, m - 1) for n, m in zip(shape, region.shape, strict=True)
    )
    full[:] = grown[np.ix_(rows, cols)]
    return full
