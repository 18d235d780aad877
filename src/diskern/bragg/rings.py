"""Rings of a polycrystal: radii, widths, and the ellipse they share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diskern.bragg.peaks import find_peaks_1d
from diskern.bragg.ring_fit import (
    SECTORS,
    Bump,
    Polar,
    clipped_mean,
    robust_fit,
    sector_radii,
    unroll,
)
from diskern.bragg.ring_grains import grain_rings
from diskern.patterns.geometry import Centre, Ellipse
from diskern.patterns.levels import Noise, block_mean, estimate_noise
from diskern.patterns.masks import as_float, usable

Floats = NDArray[np.float64]

BROADEST = 0.11
"""Full width over radius beyond which a bump is the halo of an amorphous solid, not a ring.

A first halo of carbon, silicon or a metallic glass is 15 to 30 % wide; grains of 3 nm, whose
rings are 0.03 1/Å wide, give 7 % at a spacing of 2.3 Å.
"""
MOST_ELLIPTIC = 0.06
"""Larger distortion than any projector lens has: then it is no ring that was fitted."""
WORKING_SIZE = 640
"""Rings are measured on an image reduced to at most about this many pixels a side."""
DRIFT = 0.005
"""How far a ring may sit off the common centre, over its radius: coma and the like do that."""
SHOULDER = 0.35
"""Least height of a shoulder over that of the ring it leans on; tails are lower."""
LEAST_COVERAGE = 0.6
"""Share of the visible sectors in which a ring must stand above its surroundings."""


@dataclass(frozen=True, eq=False)
class Rings:
    """Rings of one pattern, innermost first.

    Attributes
    ----------
    radius : (N,) mean radius in px after the ellipse is taken out (geometric mean of the axes).
    sigma : (N,) standard uncertainty of the radius in px.
    intensity : (N,) height above the background of the radial profile.
    width : (N,) rms width in px.
    profile : (R,) background-subtracted radial profile, one value a pixel.
    """

    radius: Floats
    sigma: Floats
    intensity: Floats
    width: Floats
    profile: Floats
    centre: Centre
    ellipse: Ellipse


def find_rings(
    image: NDArray[Any],
    flaws: NDArray[np.uint16],
    centre: Centre,
    ellipse: Ellipse | None = None,
) -> Rings | None:
    """Find the rings of a pattern, and refine centre and ellipse on all of them together.

    A bump of the radial profile is a ring if it is narrow (`BROADEST`) and stands above both
    sides in most sectors (`LEAST_COVERAGE`): the spots of a single crystal fill few sectors,
    an amorphous halo is broad.  Beside such rings, spots of one radius in several directions
    are rings of few grains.  In each sector the ring's radius is measured; centre offset
    and ellipse shared by all rings, and one radius each, are their robust weighted fit.

    Parameters
    ----------
    image : (Q_y, Q_x) grey levels or counts, electrons bright.
    flaws : (Q_y, Q_x) bits of `Flaw`.
    centre : first estimate, good to a few px.
    ellipse : distortion known beforehand; it is then kept.

    Returns
    -------
    rings : or None where there are none.
    """
    array, good = as_float(image, flaws), usable(flaws)
    if good.sum() < 500 or min(array.shape) < 48:
        return None
    noise = estimate_noise(array, good)
    factor = int(np.ceil(min(array.shape) / WORKING_SIZE))
    if factor > 1:
        array, share = block_mean(array, good, factor)
        good = share > 0.5
    found = _refine(array, good, _scaled(centre, 1 / factor), ellipse, noise)
    return (
        None
        if found is None
        else _enlarged(_with_grains(_with_shoulders(found), array, good), factor)
    )


def _refine(
    image: NDArray[np.float32],
    good: NDArray[np.bool_],
    centre: Centre,
    known: Ellipse | None,
    noise: Noise,
) -> Rings | None:
    """Unroll about the centre, find, fit, and again about the better centre."""
    shared, tried, start = known or Ellipse(), [], centre
    # Contours of a smooth image of few grey levels look like rings half a level high.
    quantum = noise.quantum if noise.floor < 0.3 else 0.0
    for _ in range(5):
        polar = unroll(image, good, centre, shared)
        bumps = _candidates(polar, quantum)
        found = _joint_fit(polar, bumps, centre, shared, free=known is None) if bumps else None
        if found is None:
            return None
        tried.append(found)
        moved = np.hypot(found.centre.row - centre.row, found.centre.col - centre.col)
        change = abs(found.ellipse.ratio - shared.ratio)
        centre, shared = found.centre, found.ellipse
        strayed = np.hypot(centre.row - start.row, centre.col - start.col)
        if strayed > max(6 * start.sigma, 0.06 * min(image.shape)):
            return None
        if moved < max(0.03, 0.1 * centre.sigma) and change < max(3e-4, 0.1 * shared.sigma):
            return found
    # Bumps that pass now and then keep it from settling: of the fits about a centre that rings gave
    # the one whose rings agree best counts.
    return min(tried[1:], key=lambda rings: rings.centre.sigma)


def _with_grains(found: Rings, image: NDArray[np.float32], good: NDArray[np.bool_]) -> Rings:
    """Beside rings that are sure, those of few grains, which no profile shows."""
    more = grain_rings(image, good, found.centre, found.ellipse, found.radius)
    if not more:
        return found
    radius = np.concatenate([found.radius, [g.radius for g in more]])
    height = [_prominence(found.profile, g.radius) for g in more]
    order = np.argsort(radius)
    return replace(
        found,
        radius=radius[order],
        sigma=np.concatenate([found.sigma, [g.sigma for g in more]])[order],
        intensity=np.concatenate([found.intensity, height])[order],
        width=np.concatenate([found.width, [g.width for g in more]])[order],
    )


def _prominence(profile: Floats, radius: float) -> float:
    """Height of the mean profile above a straight line between the troughs beside a radius."""
    at, reach = int(radius), max(int(0.15 * radius), 4)
    inner, outer = profile[max(at - reach, 0) : at + 1], profile[at : at + reach + 1]
    low, high = at - len(inner) + 1 + int(inner.argmin()), at + int(outer.argmin())
    line = np.interp(at, [low, high], [inner.min(), outer.min()]) if high > low else profile[at]
    return float(max(profile[at] - line, 0.0))


def _with_shoulders(rings: Rings) -> Rings:
    """The rings and those that show only as a shoulder of a stronger neighbour.

    What Gaussians of the found rings leave of the radial profile is searched for peaks beside
    them: 200 of a face-centred cubic powder often hides so behind 111.
    """
    at = np.arange(len(rings.profile)) + 0.5
    off = at[:, None] - rings.radius
    rest = rings.profile - (rings.intensity * np.exp(-0.5 * (off / rings.width) ** 2)).sum(1)
    peaks = find_peaks_1d(rest, SHOULDER * float(rings.intensity.min()))
    found = []
    for place, height in zip(peaks.at + 0.5, peaks.prominence, strict=True):
        host = int(np.argmin(np.abs(rings.radius - place)))
        apart = abs(place - rings.radius[host]) / rings.width[host]
        if 2.0 < apart < 4.0 and height > SHOULDER * rings.intensity[host]:
            found.append((place, 0.3 * rings.width[host], height, rings.width[host]))
    if not found:
        return rings
    radius, sigma, intensity, width = (
        np.concatenate([old, new])
        for old, new in zip(
            (rings.radius, rings.sigma, rings.intensity, rings.width),
            np.array(found).T,
            strict=True,
        )
    )
    order = np.argsort(radius)
    return replace(
        rings,
        radius=radius[order],
        sigma=sigma[order],
        intensity=intensity[order],
        width=width[order],
    )


def _scaled(centre: Centre, factor: float) -> Centre:
    """The same place in pixels ``factor`` times as small."""
    return replace(
        centre,
        row=(centre.row + 0.5) * factor - 0.5,
        col=(centre.col + 0.5) * factor - 0.5,
        sigma=centre.sigma * factor,
    )


def _enlarged(rings: Rings, factor: int) -> Rings:
    """Rings of a reduced image in pixels of the full one."""
    if factor == 1:
        return rings
    size = len(rings.profile)
    at = (np.arange(size * factor) + 0.5) / factor - 0.5
    return Rings(
        rings.radius * factor,
        rings.sigma * factor,
        rings.intensity,
        rings.width * factor,
        np.interp(at, np.arange(size), rings.profile),
        _scaled(rings.centre, factor),
        rings.ellipse,
    )


def _candidates(polar: Polar, quantum: float) -> list[Bump]:
    """Bumps of the mean profile that are rings."""
    known = np.isfinite(polar.value)
    enough = known.sum(0) >= 6
    mean = np.where(known, polar.value, 0).sum(0) / np.maximum(known.sum(0), 1)
    # Spotty rings show in the mean, smooth ones best in the clipped mean.
    line = np.where(enough, 0.5 * (mean + np.nan_to_num(clipped_mean(polar.value))), 0.0)
    line = ndimage.gaussian_filter1d(line, 0.8)
    noise = 1.48 * float(np.median(np.abs(np.diff(line, 2)[enough[1:-1]]))) / np.sqrt(6) + 1e-12
    least = max(8 * noise, 0.005 * float(line.max()), 0.5 * quantum)
    peaks = find_peaks_1d(line, least)
    bumps = [
        Bump.from_half_widths(float(at) + 0.5, float(height), float(at - low), float(high - at))
        for at, low, high, height in zip(
            peaks.at, peaks.left, peaks.right, peaks.prominence, strict=True
        )
        if at >= 12 and enough[at] and high - low < 0.25 * at
    ]
    evidence = [_evidence(polar, bump) for bump in bumps]
    narrow = [bump.full <= BROADEST * bump.radius + 1.5 for bump in bumps]
    sure = [
        bump for bump, fine, (cover, solid) in zip(bumps, narrow, evidence, strict=True)
        if fine and cover > LEAST_COVERAGE and solid > LEAST_COVERAGE
    ]  # fmt: skip
    if not sure:
        return []
    # Beside sure rings, spottier ones count too, and ones broad only because two overlap.
    usual = float(np.median([b.width for b in sure]))
    found = []
    for bump, fine, (cover, solid) in zip(bumps, narrow, evidence, strict=True):
        spotty = fine and cover > LEAST_COVERAGE and solid > 0.35
        merged = bump.full < 4 * usual and min(cover, solid) > 0.8 and len(sure) > 1
        if bump in sure or spotty or merged:
            found.append(bump)
    return found


def _evidence(polar: Polar, bump: Bump) -> tuple[float, float]:
    """Shares of the visible sectors in which a bump stands above both of its sides.

    The first counts an excess above twice its own uncertainty, the second one above 0.3 of
    the mean excess: spots of a single crystal raise the mean, and few sectors come near it.
    """
    at = np.arange(polar.value.shape[1]) + 0.5
    distance = np.abs(at - bump.radius)
    core = distance <= 1.2 * bump.width + 0.5
    side = (distance > 2.5 * bump.width + 1) & (distance < 5 * bump.width + 4)

    def average(part: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        known = np.isfinite(polar.value) & part
        count = known.sum(1)
        total = np.where(known, polar.value, 0).sum(1) / np.maximum(count, 1)
        error = np.where(known, polar.sigma**2, 0).sum(1) ** 0.5 / np.maximum(count, 1)
        return np.where(count >= 0.6 * part.sum(), total, np.nan), error

    inner, error = average(core)
    outer, outer_error = average(side)
    visible = np.isfinite(inner) & np.isfinite(outer)
    if visible.sum() < 8:
        return 0.0, 0.0
    excess = (inner - outer)[visible]
    bar = 2 * np.hypot(error, outer_error)[visible]
    mean = float(excess.mean())
    cover = float(np.mean(excess > np.maximum(bar, 0.1 * mean)))
    return cover, float(np.mean(excess > 0.3 * mean)) if mean > 0 else 0.0


def _joint_fit(
    polar: Polar, bumps: list[Bump], centre: Centre, ellipse: Ellipse, free: bool
) -> Rings | None:
    """Ring radius in each sector, and the robust fit that all rings share."""
    measured = [(bump, sector_radii(polar, bump)) for bump in bumps]
    measured = [(bump, row) for bump, row in measured if len(row[0]) >= SECTORS // 4]
    bumps, rows = [bump for bump, _ in measured], [row for _, row in measured]
    if not bumps:
        return None
    number = np.concatenate([np.full(len(r[0]), i) for i, r in enumerate(rows)])
    turn = np.concatenate([r[0] for r in rows])
    radius = np.concatenate([r[1] for r in rows])
    error = np.concatenate([r[2] for r in rows])
    scale = np.array([b.radius for b in bumps])[number]
    # Columns: centre shift (row, col), then the ellipse's change (cos 2φ, sin 2φ), then radii.
    shape = np.stack([np.cos(2 * turn), np.sin(2 * turn)], 1) * scale[:, None] / 2
    shift = np.stack([np.sin(turn), np.cos(turn)], 1)
    each = (number[:, None] == np.arange(len(bumps))).astype(float)
    design = np.concatenate([shift, shape, each] if free else [shift, each], axis=1)
    solution, covariance, chi = _mixed_fit(design, shift, each, radius, error, bumps)
    rest = radius - design @ solution
    astray = _disagreement(rest, np.concatenate([shift, shape], axis=1), number)
    row, col = centre.row + solution[0], centre.col + solution[1]
    sigma = float(np.sqrt(max(np.trace(covariance[:2, :2]) / 2, 1e-6) + astray[0] ** 2))
    new_centre = Centre(float(row), float(col), sigma, "rings", centre.radius, centre.rivals)
    if free:
        spread = np.trace(covariance[2:4, 2:4]) / 2 + astray[1] ** 2
        ellipse = _changed(ellipse, solution[2], solution[3], float(np.sqrt(spread)))
    skip = 4 if free else 2
    radii, radii_sigma = solution[skip:], np.sqrt(np.maximum(np.diag(covariance)[skip:], 1e-6))
    known = np.isfinite(polar.value)
    profile = np.where(known, polar.value, 0).sum(0) / np.maximum(known.sum(0), 1)
    order = np.argsort(radii)
    if not np.isfinite(chi) or sigma > 0.1 * radii.min() or ellipse.ratio > 1 + MOST_ELLIPTIC:
        return None
    return Rings(
        radius=radii[order],
        sigma=radii_sigma[order],
        intensity=np.array([b.height for b in bumps])[order],
        width=np.array([b.width for b in bumps])[order],
        profile=profile,
        centre=new_centre,
        ellipse=ellipse,
    )


def _mixed_fit(
    design: Floats, shift: Floats, each: Floats, radius: Floats, error: Floats, bumps: list[Bump]
) -> tuple[Floats, Floats, float]:
    """The common fit, with rings free to sit a little off the common centre (`DRIFT`).

    Without that freedom the offset of one ring passes for ellipticity of another.
    """
    count, fixed = len(bumps), design.shape[1]
    own = np.concatenate([each * shift[:, :1], each * shift[:, 1:]], axis=1)
    prior = np.concatenate([np.zeros((2 * count, fixed)), np.eye(2 * count)], axis=1)
    spread = np.tile([DRIFT * b.radius for b in bumps], 2)
    number = np.concatenate([each.argmax(1), np.full(2 * count, count)])
    solution, covariance, chi = robust_fit(
        np.concatenate([np.concatenate([design, own], axis=1), prior]),
        np.concatenate([radius, np.zeros(2 * count)]),
        np.concatenate([error, spread]),
        number,
    )
    return solution[:fixed], covariance[:fixed, :fixed], chi


def _disagreement(rest: Floats, design: Floats, number: NDArray[np.int64]) -> tuple[float, float]:
    """How far the rings, one by one, would move the common centre (px) and ellipse.

    Rings of one pattern may disagree by more than their errors: projector lenses distort in
    more ways than one ellipse.  The scatter of their mean is what the fit itself cannot see.
    """
    moves = []
    for ring in range(int(number.max()) + 1):
        mine = number == ring
        inlier = np.abs(rest) < 4 * 1.4826 * np.median(np.abs(rest[mine])) + 1e-6
        if (mine & inlier).sum() >= 12:
            moves.append(np.linalg.lstsq(design[mine & inlier], rest[mine & inlier], rcond=None)[0])
    if len(moves) < 2:
        return 0.0, 0.0
    square = np.mean(np.array(moves) ** 2, axis=0) / len(moves)
    return float(np.sqrt(square[:2].mean())), float(np.sqrt(square[2:].mean()))


def _changed(ellipse: Ellipse, cosine: float, sine: float, sigma: float) -> Ellipse:
    """An ellipse with (ε cos 2φ0, ε sin 2φ0) changed by the fit."""
    tilt, old = 2 * np.radians(ellipse.angle), ellipse.ratio - 1
    x, y = old * np.cos(tilt) + cosine, old * np.sin(tilt) + sine
    return Ellipse(float(1 + np.hypot(x, y)), float(np.degrees(np.arctan2(y, x)) / 2 % 180), sigma)
