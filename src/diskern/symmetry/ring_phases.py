"""Which phase made these rings, and how large a pixel is by rings of a known phase.

Radii are compared with powder lines at every scale the calibration allows.  A strong line without
a ring counts against a phase, a ring without a line may be stray, and ring heights are weak
evidence: texture, grain statistics and dynamical diffraction move them by a factor of two.
Phases whose lines differ by a scale alone (aluminium, silver, gold …) are told apart by the
calibration and by heights only; near-ties are said to be such.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from diskern.bragg.analysis import Analysis
from diskern.bragg.rings import Rings
from diskern.crystal.common import check_elements
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.patterns.geometry import Ellipse
from diskern.symmetry.identification import PhaseMatch
from diskern.symmetry.kinematic_table import kinematic_table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DISTORTION = 0.004
"""Relative error of a radius that no ellipse takes up (spiral and barrel distortion)."""
MIN_SIGMA = 0.5
"""px; a ring on a sloping background is located no better."""
INNER, OUTER = 0.8, 1.08
"""Rings are expected between these multiples of the innermost and the outermost radius."""
HEIGHT_SIGMA = 0.7
"""Standard deviation of ln(height) about the kinematic one."""
STRAY_HEIGHT_SIGMA = 1.5
MISSED = 0.05
"""Least probability that a ring of any strength is overlooked (beam stop, texture)."""
EXPOSURES = (0.2, 0.08, 0.03, 0.012, 0.005)
"""Line heights, relative to the strongest, that are found every other time."""
SCALE_STEP = 1e-3
UNKNOWN_RANGE = (0.3, 8.0)
"""Å, spacings that the innermost ring may have where the scale is unknown."""
MATCHED = 3.0
"""Standard deviations within which a ring is a line's."""
TEMPERATURE = 2.0
"""Divides the evidence before shares are taken (see `diskern.symmetry.phases`)."""
TIE = 0.25
MAX_CALIBRATION_SIGMA = 0.02


class RingCalibration(NamedTuple):
    """Pixel size in 1/Å per px, its standard uncertainty, and the ellipse of the setting."""

    pixel_size: float
    sigma: float
    ellipse: Ellipse


@dataclass(frozen=True, eq=False)
class RingFit:
    """One phase against the rings of one pattern.

    Attributes
    ----------
    evidence : natural log against "all rings are stray", the scale integrated out.
    scale : best 1/Å per px.
    sigma : its standard uncertainty, relative.
    hkl : (N, 3) indices of the rings, -999 where not indexed.
    residual : rms relative misfit of the indexed radii, NaN where there are none.
    log_scale, curve : (S,) ln(scale) and the evidence density along it, for joint fits.
    """

    evidence: float
    scale: float
    sigma: float
    hkl: Ints
    residual: float
    log_scale: Floats
    curve: Floats

    @property
    def explained(self) -> float:
        """Share of the rings that are indexed."""
        return float((self.hkl[:, 0] != -999).mean()) if len(self.hkl) else 0.0


def search_ring_phases(
    analyses: Sequence[Analysis],
    candidates: Sequence[Crystal],
    *,
    pixel_size: float | None = None,
    pixel_size_error: float | None = None,
    elements: Iterable[str] | None = None,
    limit: int = 10,
) -> list[PhaseMatch]:
    """Rank candidate phases by the rings of one specimen, best first.

    Parameters
    ----------
    analyses : patterns; those without rings are passed over.
    pixel_size : 1/Å per px; each pattern's own by default, unknown where it has none.
    pixel_size_error : relative standard uncertainty of it; the pattern's own by default.
    elements : only phases made of nothing but these are tried.

    Returns
    -------
    Matches whose ``score`` is the share of the evidence among all candidates and "no known
    phase"; ``scale`` is the fitted over the stated pixel size.
    """
    if elements is not None:
        allowed = check_elements(elements)
        candidates = [c for c in candidates if set(c.elements) <= allowed]
    used = [(i, a, a.rings) for i, a in enumerate(analyses) if a.rings is not None]
    used = [(i, a, r) for i, a, r in used if len(r.radius)]
    if not used or not candidates:
        return []
    fits = []
    for crystal in candidates:
        per_pattern = [
            fit_rings(
                rings,
                crystal,
                pixel_size if pixel_size is not None else a.pattern.pixel_size,
                a.pattern.pixel_size_error if pixel_size_error is None else pixel_size_error,
            )
            for _, a, rings in used
        ]
        fits.append(per_pattern)
    evidence = np.array([sum(f.evidence for f in per_pattern) for per_pattern in fits])
    values = np.append(evidence, 0.0) / TEMPERATURE
    shares = np.exp(values - logsumexp(values))
    order = np.argsort(-evidence, kind="stable")
    best_share = shares[order[0]]
    ties = [candidates[i].name for i in order if shares[i] > TIE * best_share]
    stated = pixel_size if pixel_size is not None else used[0][1].pattern.pixel_size
    return [
        _report(candidates[i], fits[i], float(shares[i]), stated, ties, float(evidence[i]))
        for i in order[:limit]
    ]


def fit_rings(
    rings: Rings, crystal: Crystal, pixel_size: float | None = None, error: float = 0.03
) -> RingFit:
    """Fit the scale of one phase's powder lines to the rings of one pattern.

    Parameters
    ----------
    pixel_size : stated 1/Å per px, or None where unknown.
    error : its relative standard uncertainty.
    """
    length, height, names = kinematic_table(crystal).powder
    log_scale, prior = _scale_grid(rings, pixel_size, error)
    if not len(length) or not len(rings.radius):
        nothing = np.full((len(rings.radius), 3), -999)
        return RingFit(-50.0, np.nan, np.nan, nothing, np.nan, log_scale, prior - 50.0)
    resolution = float(np.median(rings.width / rings.radius))
    length, height, names = _merged(length, height, names, resolution)
    curve = _likelihood(rings, length, height, log_scale) + prior
    evidence = float(logsumexp(curve) + np.log(SCALE_STEP))
    return _refined(rings, length, names, log_scale, curve, evidence, (pixel_size, error))


def calibrate_from_rings(
    rings: Rings,
    crystal: Crystal,
    *,
    pixel_size: float | None = None,
    pixel_size_error: float = 0.1,
) -> RingCalibration:
    """Pixel size and ellipse of a setting from the rings of a known phase.

    Parameters
    ----------
    pixel_size : a rough 1/Å per px where one is known, which keeps the fit from taking one
        series of rings for another.

    Raises
    ------
    DiskernError
        Where the rings do not belong to this phase at any scale.
    """
    fit = fit_rings(rings, crystal, pixel_size, pixel_size_error)
    if not (fit.evidence > 0 and fit.explained > 0.5 and fit.sigma < MAX_CALIBRATION_SIGMA):
        raise DiskernError(
            f"{len(rings.radius)} rings do not fit {crystal.name or crystal.formula}; "
            "choose another phase or pattern"
        )
    return RingCalibration(fit.scale, fit.scale * fit.sigma, rings.ellipse)


def _scale_grid(rings: Rings, pixel_size: float | None, error: float) -> tuple[Floats, Floats]:
    """(S,) ln(scale) to try and the log prior density there."""
    if pixel_size is not None:
        half = max(4.0 * error, 5 * SCALE_STEP)
        u = np.arange(-half, half + SCALE_STEP, SCALE_STEP)
        width = max(error, SCALE_STEP)
        density = -0.5 * (u / width) ** 2 - np.log(np.sqrt(2 * np.pi) * width)
        return np.log(pixel_size) + u, density
    inner = float(rings.radius.min(initial=1e9))
    low, high = (np.log(1.0 / (d * inner)) for d in UNKNOWN_RANGE[::-1])
    grid = np.arange(low, high, SCALE_STEP)
    return grid, np.full(len(grid), -np.log(high - low))


def _merged(
    length: Floats, height: Floats, names: Ints, resolution: float
) -> tuple[Floats, Floats, Ints]:
    """Lines closer than the rings are wide, as one at their centre of gravity."""
    gap = np.diff(length) > max(resolution, 2e-3) * length[1:]
    group = np.concatenate([[0], np.cumsum(gap)])
    total = np.bincount(group, height)
    centre = np.bincount(group, height * length) / total
    strongest = np.lexsort((-height, group))[np.searchsorted(group, np.arange(len(total)))]
    return centre, total / total.max(), names[strongest]


def _sigma(rings: Rings) -> Floats:
    return np.asarray(np.sqrt(np.maximum(rings.sigma, MIN_SIGMA) ** 2 + _drift(rings) ** 2))


def _drift(rings: Rings) -> Floats:
    return DISTORTION * rings.radius


def _likelihood(rings: Rings, length: Floats, height: Floats, log_scale: Floats) -> Floats:
    """(S,) log likelihood against "all rings are stray", at the best exposure."""
    radius, sigma = rings.radius, _sigma(rings)
    low, high = INNER * radius.min(), OUTER * radius.max()
    line = length / np.exp(log_scale)[:, None]
    offset = (radius - line[..., None]) / sigma
    nearest_ring = np.abs(offset).argmin(-1)
    near = np.take_along_axis(np.abs(offset), nearest_ring[..., None], -1)[..., 0] < MATCHED
    in_sight = (line > low) & (line < high)
    # Each ring goes to the strongest line within reach of it.
    weighted = np.log(np.maximum(height, 1e-9))[:, None] - 0.5 * offset**2
    weighted = np.where(np.abs(offset) < MATCHED, weighted, -np.inf)
    owner = weighted.argmax(1)
    owned = np.isfinite(weighted.max(1))
    distance = np.take_along_axis(offset, owner[:, None], 1)[:, 0]
    rate = max(len(radius), 1) / (high - low)
    position = -0.5 * distance**2 - np.log(np.sqrt(2 * np.pi) * sigma) - np.log(rate)
    position = np.where(owned, position, np.log(0.3))
    heights = _height_evidence(rings.intensity, height[owner], owned)
    total = position.sum(-1) + heights
    best = np.full(len(log_scale), -np.inf)
    for exposure in EXPOSURES:
        found = height / (height + exposure)
        seen = np.log(found[owner])
        missed = np.where(in_sight & ~near, np.log1p(-(1 - MISSED) * found), 0.0)
        best = np.maximum(best, np.where(owned, seen, 0.0).sum(-1) + missed.sum(-1))
    return np.asarray(total + best)


def _height_evidence(observed: Floats, predicted: Floats, owned: NDArray[np.bool_]) -> Floats:
    """(S,) how much better kinematic heights account for the observed ones than chance."""
    log_observed = np.log(np.maximum(observed, 1e-3 * max(float(observed.max()), 1e-30)))
    ratio = np.where(owned, log_observed - np.log(predicted), 0.0)
    count = np.maximum(owned.sum(-1), 1)
    mean = ratio.sum(-1) / count
    kinematic = np.where(owned, (ratio - mean[:, None]) ** 2, 0.0).sum(-1)
    spread = np.where(owned, log_observed, 0.0).sum(-1) / count
    stray = np.where(owned, (log_observed - spread[:, None]) ** 2, 0.0).sum(-1)
    gain = -0.5 * kinematic / HEIGHT_SIGMA**2 + 0.5 * stray / STRAY_HEIGHT_SIGMA**2
    return np.asarray(gain + (count - 1) * np.log(STRAY_HEIGHT_SIGMA / HEIGHT_SIGMA))


def _refined(
    rings: Rings,
    length: Floats,
    names: Ints,
    log_scale: Floats,
    curve: Floats,
    evidence: float,
    stated: tuple[float | None, float],
) -> RingFit:
    """Least squares of ln(scale) over the rings matched at the best grid point."""
    start = float(log_scale[int(np.argmax(curve))])
    radius, relative = rings.radius, _sigma(rings) / rings.radius
    line = np.abs(np.log(length) - np.log(radius)[:, None] - start).argmin(1)
    deviation = np.log(length[line] / radius) - start
    hit = np.abs(deviation) < MATCHED * relative
    weight = hit / relative**2
    prior = 0.0 if stated[0] is None else 1.0 / stated[1] ** 2
    pull = 0.0 if stated[0] is None else prior * (np.log(stated[0]) - start)
    change = (weight @ deviation + pull) / max(weight.sum() + prior, 1e-12)
    # Distortion is shared by the rings, so their mean is no better than it.
    sigma = np.sqrt(1.0 / max(weight.sum(), 1e-12) + (DISTORTION / 2) ** 2)
    residual = float(np.sqrt(np.mean((deviation[hit] - change) ** 2))) if hit.any() else np.nan
    return RingFit(
        evidence,
        float(np.exp(start + change)),
        float(sigma),
        np.where(hit[:, None], names[line], -999),
        residual,
        log_scale,
        curve,
    )


def _report(
    crystal: Crystal,
    fits: Sequence[RingFit],
    share: float,
    stated: float | None,
    ties: list[str],
    evidence: float,
) -> PhaseMatch:
    notes = [f"evidence {evidence:.1f} (natural log, over stray rings)"]
    scale = float(np.mean([f.scale for f in fits]))
    if stated is not None and np.isfinite(scale):
        change = 100 * (scale / stated - 1)
        notes.append(
            f"the stated scale is {abs(change):.1f} % too {'small' if change > 0 else 'large'} "
            f"(± {100 * fits[0].sigma:.1f} %) if this is the phase"
        )
    others = [name for name in ties if name != crystal.name]
    if crystal.name in ties and others:
        notes.append("nearly as probable: " + ", ".join(others[:6]))
    count = sum(len(f.hkl) for f in fits)
    residuals = [f.residual for f in fits if np.isfinite(f.residual)]
    return PhaseMatch(
        name=crystal.name or crystal.formula,
        formula=crystal.formula,
        space_group=crystal.symmetry().number,
        score=share,
        residual=float(np.sqrt(np.mean(np.square(residuals)))) if residuals else np.nan,
        scale=scale / stated if stated is not None else np.nan,
        pixel_size=scale if np.isfinite(scale) else None,
        orientations=np.full((len(fits), 3, 3), np.nan),
        zone_axes=(None,) * len(fits),
        hkl=tuple(f.hkl for f in fits),
        explained=float(sum(f.explained * len(f.hkl) for f in fits) / max(count, 1)),
        source=crystal.source,
        notes=tuple(notes),
    )
