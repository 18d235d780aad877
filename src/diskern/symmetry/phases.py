"""Which of many candidate phases made these patterns.

Every pattern is indexed against every candidate; patterns of one specimen share the phase and the
calibration, so their evidence is added at a common scale.  The answer is a share of evidence among
all candidates and "some other phase", which any good two-dimensional lattice supports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.bragg.analysis import Analysis
from diskern.bragg.recentre import recentred
from diskern.crystal.common import check_elements, stated_space_group
from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.patterns.geometry import Ellipse
from diskern.symmetry.identification import PhaseMatch
from diskern.symmetry.indexing import (
    COUNTED,
    Indexing,
    covering,
    describe,
    empty_fit,
    fit_pattern,
    loose_likelihood,
    refined,
)
from diskern.symmetry.indexing_view import SpotView, spot_view
from diskern.symmetry.kinematic_table import G_MAX, KinematicTable, kinematic_table
from diskern.symmetry.orientation_fit import FLAT_SCALE, Fit
from diskern.symmetry.phases_joint import Geometry, joint_fit
from diskern.symmetry.phases_unknown import unknown_evidence
from diskern.symmetry.zone_names import nearest_zone

Floats = NDArray[np.float64]

TEMPERATURE, TEMPERATURE_UNSCALED = 2.0, 5.0
"""Divides the evidence before shares are taken: the model of a pattern is only a model, and without
a scale more of it rests on intensities.  Both from ``benchmarks/phase_calibration.py``."""
SCREENED = 60
"""Candidates whose missing reflections are counted: those whose best proposal covers the spots
best."""
REFINED = 30
"""Candidates whose proposals are refined: those whose best one is likeliest as it stands."""
SEARCHED_DEEPLY = 8
"""Candidates that get a second, thorough search."""
KEPT = 12
"""Candidates whose further patterns are indexed, at least."""
KEPT_WITHIN = 12.0
"""… and all whose first pattern falls short of the best by less than this (natural log)."""
ORIENTATIONS = 6
"""Orientations per pattern and candidate that are carried along."""
JOINT = 6
"""Candidates that are indexed once more with the stage angles."""
TIE = 0.25
"""Candidates whose score is at least this share of the best one's are reported as near-ties."""


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One candidate with its best choice of orientations."""

    crystal: Crystal
    table: KinematicTable
    fits: tuple[Fit, ...]
    evidence: float
    log_scale: float


def search_phases(
    analyses: Sequence[Analysis],
    candidates: Sequence[Crystal],
    *,
    pixel_size: float | None = None,
    energy: float | None = None,
    elements: Iterable[str] | None = None,
    limit: int = 10,
    relations: Sequence[Rotation] | None = None,
    tilts: Sequence[float] | None = None,
    pixel_size_error: float | None = None,
    ellipse: Ellipse | None = None,
) -> list[PhaseMatch]:
    """Index the spot patterns of one crystal against candidate phases.

    Patterns of another kind are passed over (rings: `search_ring_phases`).

    Parameters
    ----------
    pixel_size : 1/Å per px for all patterns; each pattern's own by default, unknown where it has
        none.
    energy : eV; each pattern's own by default.
    elements : only phases made of nothing but these are tried.
    limit : how many phases to return.
    relations : rotation of the crystal from the first pattern to each, where it is known.
    tilts : stage angle of each pattern in degrees about one common axis in the image plane, whose
        direction is found; patterns that alone leave the crystal free to turn are resolved.
    pixel_size_error : relative standard uncertainty of the pixel size.
    ellipse : distortion of the setting, measured elsewhere.

    Returns
    -------
    Best first; ``score`` is the share of the evidence among all candidates and "unknown phase",
    so scores that add up to much less than one mean that no candidate fits.

    Raises
    ------
    DiskernError
        For an unknown element, an impossible pixel size, or as many ``relations`` or ``tilts`` as
        there are not patterns.
    """
    for name, given in (("relations", relations), ("tilts", tilts)):
        if given is not None and len(given) != len(analyses):
            raise DiskernError(
                f"{name} holds {len(given)} entries for {len(analyses)} patterns; give one each"
            )
    if pixel_size is not None and not (np.isfinite(pixel_size) and 1e-6 < pixel_size < 10):
        raise DiskernError(f"pixel_size={pixel_size} 1/Å is not between 1e-6 and 10 1/Å")
    if elements is not None:
        allowed = check_elements(elements)
        candidates = [c for c in candidates if set(c.elements) <= allowed]
    used = [i for i, a in enumerate(analyses) if a.kind == "spots" and len(a.spots)]
    if not used or not candidates:
        return []

    def view_of(analysis: Analysis) -> SpotView:
        return spot_view(
            analysis,
            pixel_size=pixel_size,
            pixel_size_error=pixel_size_error,
            energy=energy,
            ellipse=ellipse,
        )

    placed = [_about_the_right_beam(analyses[i], candidates, view_of) for i in used]
    views = [view for view, _ in placed]
    geometry = Geometry.from_stage(
        None if tilts is None else [tilts[i] for i in used],
        None if relations is None else [relations[i] for i in used],
    )
    # Of a single pattern the choice of the beam has already indexed everything.
    tried = placed[0][1] if len(placed) == 1 else None
    if tried is None:
        tried = _index_all(views, candidates)
    found = _ranked(tried, views, limit, geometry)
    return [_for_all(match, used, len(analyses)) for match in found]


def _for_all(match: PhaseMatch, used: Sequence[int], count: int) -> PhaseMatch:
    """The match with an entry for every pattern, empty for those that were passed over."""
    if len(used) == count:
        return match
    orientations = np.full((count, 3, 3), np.nan)
    orientations[list(used)] = match.orientations
    zone_axes: list[tuple[tuple[int, int, int], float] | None] = [None] * count
    hkl = [np.zeros((0, 3), dtype=np.int64)] * count
    for place, zone, indices in zip(used, match.zone_axes, match.hkl, strict=True):
        zone_axes[place], hkl[place] = zone, indices
    return replace(match, orientations=orientations, zone_axes=tuple(zone_axes), hkl=tuple(hkl))


def search_views(
    views: Sequence[SpotView],
    candidates: Sequence[Crystal],
    *,
    limit: int = 10,
    geometry: Geometry | None = None,
) -> list[PhaseMatch]:
    """`search_phases` of spot vectors already in hand."""
    return _ranked(_index_all(views, candidates), views, limit, geometry)


def _ranked(
    tried: list[_Candidate], views: Sequence[SpotView], limit: int, geometry: Geometry | None
) -> list[PhaseMatch]:
    """The candidates' shares of the evidence, best first."""
    if geometry is not None and len(views) > 1:
        tried = [_with_geometry(c, views, geometry) for c in tried[:JOINT]] + tried[JOINT:]
    tried = sorted(tried, key=lambda c: -c.evidence)
    unknown = sum(unknown_evidence(view) for view in views)
    values = np.array([*(c.evidence for c in tried), unknown])
    temperature = TEMPERATURE_UNSCALED if views[0].scale is None else TEMPERATURE
    shares = np.exp((values - values.max()) / temperature)
    shares /= shares.sum()
    ties = [c.crystal.name for c, s in zip(tried, shares[:-1], strict=True) if s > TIE * shares[0]]
    return [
        _report(c, views, float(share), ties if c.crystal.name in ties else [])
        for c, share in zip(tried[:limit], shares[:limit], strict=False)
        if np.isfinite(c.evidence)
    ]


def _about_the_right_beam(
    analysis: Analysis, candidates: Sequence[Crystal], view_of: Callable[[Analysis], SpotView]
) -> tuple[SpotView, list[_Candidate] | None]:
    """The spots about the centre, or about its likeliest rival where a candidate fits better.

    Returns
    -------
    The view, and what indexing it gave, None where there was no need to try.
    """
    view = view_of(analysis)
    if not analysis.centre.rivals:
        return view, None
    other = view_of(recentred(analysis, analysis.centre.rivals[0]))
    tried, rival = (_index_all([v], candidates) for v in (view, other))
    return (other, rival) if rival[0].evidence > tried[0].evidence else (view, tried)


def _index_all(views: Sequence[SpotView], candidates: Sequence[Crystal]) -> list[_Candidate]:
    """All candidates on the fullest pattern, the better ones on all; most evident first."""
    lead = int(np.argmax([len(view) for view in views]))
    reach = max(_reach(view) for view in views)
    tables = [kinematic_table(c, reach) for c in candidates]
    first = _screened(tables, views[lead])
    score = np.array([fit.evidence[0] if len(fit) else -np.inf for fit in first])
    for c in np.argsort(-score, kind="stable")[:SEARCHED_DEEPLY]:
        first[c] = fit_pattern(tables[c], views[lead], ORIENTATIONS, deep=True)
        score[c] = first[c].evidence[0] if len(first[c]) else -np.inf
    order = np.argsort(-score, kind="stable")
    out = []
    for place, c in enumerate(order):
        promising = place < KEPT or score[c] > score[order[0]] - KEPT_WITHIN
        fits = tuple(
            first[c]
            if i == lead
            else fit_pattern(tables[c], view, ORIENTATIONS)
            if promising
            else empty_fit()
            for i, view in enumerate(views)
        )
        evidence, scale, chosen = combine(views, fits)
        out.append(_Candidate(candidates[c], tables[c], chosen, evidence, scale))
    return sorted(out, key=lambda c: -c.evidence)


def _reach(view: SpotView) -> float:
    """1/Å as far as a view shows reflections, whatever its scale within its error."""
    if view.scale is None:
        return G_MAX
    error = np.hypot(view.scale_error, 2 * view.distortion)
    return float(view.reach * view.scale * np.exp(4 * error))


def _screened(tables: Sequence[KinematicTable], view: SpotView) -> list[Fit]:
    """A fit of each candidate to one pattern; empty for those that others promise to beat.

    Cheap tests come first: how well the proposals of a candidate cover the spots, then what
    missing reflections leave of that.
    """
    counted, limit = COUNTED
    covers = [covering(table, view, counted, deep=False) for table in tables]
    worth = np.argsort([-c.best for c in covers], kind="stable")[:SCREENED]
    likelihood = {
        c: loose_likelihood(tables[c], view, covers[c].hypotheses)
        for c in worth.tolist()
        if len(covers[c].score)
    }
    best = sorted(likelihood, key=lambda c: -float(likelihood[c].max()))[:REFINED]
    fits = [empty_fit()] * len(tables)
    for c in best:
        order = np.argsort(-likelihood[c], kind="stable")[:limit]
        fits[c] = refined(tables[c], view, covers[c].hypotheses.select(order), ORIENTATIONS)
    return fits


def combine(views: Sequence[SpotView], fits: Sequence[Fit]) -> tuple[float, float, tuple[Fit, ...]]:
    """Choose an orientation for every pattern so that all agree on the calibration.

    Returns
    -------
    Evidence, ln of the common scale (over the stated one, or itself where none is stated), and
    the chosen orientation of each pattern, empty where all its spots are better called stray.
    """
    free = [_without_scale(view, fit) for view, fit in zip(views, fits, strict=True)]
    best: tuple[float, float, tuple[Fit, ...]] = (-np.inf, np.nan, tuple(empty_fit() for _ in fits))
    for anchors, _, _ in free:
        for anchor in anchors.tolist():
            choice = [_choose(anchor, *one) for one in free]
            evidence, common = _joint_scale(views[0], free, choice)
            if evidence > best[0]:
                chosen = tuple(
                    empty_fit() if i is None else fit.select(np.array([i]))
                    for i, fit in zip(choice, fits, strict=True)
                )
                best = evidence, common, chosen
    return best


def _without_scale(view: SpotView, fit: Fit) -> tuple[Floats, Floats, Floats]:
    """ln scale over the stated one, its σ, and the evidence with prior and volume of it undone."""
    sigma = np.sqrt(fit.covariance[:, 3, 3])
    width = np.log(np.sqrt(2 * np.pi) * sigma)
    if view.scale is None:
        return np.log(fit.scale), sigma, fit.evidence + np.log(FLAT_SCALE) - width
    deviation = np.log(fit.scale / view.scale)
    prior = -0.5 * (deviation / view.scale_error) ** 2
    prior = prior - np.log(np.sqrt(2 * np.pi) * view.scale_error)
    return deviation, sigma, fit.evidence - prior - width


def _choose(anchor: float, scale: Floats, sigma: Floats, evidence: Floats) -> int | None:
    if not len(scale):
        return None
    gain = evidence - 0.5 * ((scale - anchor) / np.hypot(sigma, 0.003)) ** 2
    i = int(np.argmax(gain))
    # Below nought the pattern is better explained by stray spots.
    return i if gain[i] > 0 else None


def _joint_scale(
    view: SpotView, free: list[tuple[Floats, Floats, Floats]], choice: list[int | None]
) -> tuple[float, float]:
    """Evidence and ln of the common scale of a choice of orientations."""
    chosen = [
        (f[0][i], f[1][i], f[2][i]) for f, i in zip(free, choice, strict=True) if i is not None
    ]
    if not chosen:
        return 0.0, 0.0
    scale, sigma, evidence = np.array(chosen).T
    weight = 1.0 / (sigma**2 + 0.003**2)
    prior = 0.0 if view.scale is None else 1.0 / view.scale_error**2
    common = float((weight @ scale) / (weight.sum() + prior))
    spread = 0.5 * float(weight @ (scale - common) ** 2)
    spread += 0.5 * prior * common**2
    density = (
        -np.log(FLAT_SCALE)
        if view.scale is None
        else -np.log(np.sqrt(2 * np.pi) * view.scale_error)
    )
    volume = 0.5 * np.log(2 * np.pi / (weight.sum() + prior))
    return float(evidence.sum() - spread + density + volume), common


def _with_geometry(
    candidate: _Candidate, views: Sequence[SpotView], geometry: Geometry
) -> _Candidate:
    """The candidate indexed once more with the known turns between the patterns."""
    fits, evidence = joint_fit(candidate.table, views, geometry, np.exp(candidate.log_scale))
    if not np.isfinite(evidence):
        return candidate
    return _Candidate(candidate.crystal, candidate.table, fits, evidence, candidate.log_scale)


def _report(
    candidate: _Candidate, views: Sequence[SpotView], share: float, ties: list[str]
) -> PhaseMatch:
    found = [
        describe(candidate.table, view, fit, 0) if len(fit) else None
        for view, fit in zip(views, candidate.fits, strict=True)
    ]
    indexed = [f for f in found if f is not None]
    known = views[0].scale
    pixel_size = float(np.mean([f.scale for f in indexed])) if indexed else None
    relative = np.exp(candidate.log_scale) if known is not None else np.nan
    crystal = candidate.crystal
    return PhaseMatch(
        name=crystal.name or crystal.formula,
        formula=crystal.formula,
        space_group=stated_space_group(crystal) or crystal.symmetry().number,
        score=share,
        residual=_rms([f.residual for f in indexed]),
        scale=float(relative),
        pixel_size=pixel_size,
        orientations=np.array([np.full((3, 3), np.nan) if f is None else f.matrix for f in found]),
        zone_axes=tuple(
            None if f is None else nearest_zone(candidate.table.lattice, f.matrix) for f in found
        ),
        hkl=tuple(
            np.full((len(view), 3), -999) if f is None else f.hkl
            for f, view in zip(found, views, strict=True)
        ),
        explained=_explained(found, views),
        source=crystal.source,
        notes=_notes(found, ties, candidate),
    )


def _rms(values: list[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite else np.nan


def _explained(found: list[Indexing | None], views: Sequence[SpotView]) -> float:
    hits = sum(f.explained * len(v) for f, v in zip(found, views, strict=True) if f is not None)
    return float(hits / max(1, sum(len(v) for v in views)))


def _notes(found: list[Indexing | None], ties: list[str], candidate: _Candidate) -> tuple[str, ...]:
    notes = [f"evidence {candidate.evidence:.1f} (natural log, over stray spots)"]
    others = [name for name in ties if name != candidate.crystal.name]
    if others:
        notes.append("nearly as probable: " + ", ".join(others[:6]))
    for i, f in enumerate(found):
        if f is None:
            notes.append(f"pattern {i + 1} is not explained by this phase")
        elif f.degenerate:
            notes.append(f"pattern {i + 1} leaves the crystal free to turn about one axis")
    return tuple(notes)
