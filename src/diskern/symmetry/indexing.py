"""Index one single-crystal spot pattern against one crystal: orientation, scale, and evidence.

Spot pairs propose orientations (`indexing_hypotheses`), every proposal is scored at once, the
best are refined (`orientation_fit`) and ranked by their evidence.  Nothing is assumed about a zone
axis: tilted patterns, two-beam rows and slices of a rotation series are cases of one search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.symmetry.indexing_hypotheses import DEEP, SHALLOW, Hypotheses, propose
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import KinematicTable
from diskern.symmetry.orientation_fit import (
    EXPOSURES,
    RODS,
    Fit,
    log_likelihood,
    match_spots,
    position_density,
    quick_score,
    refine,
    strained,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNTED, COUNTED_DEEP = (64, 16), (300, 64)
"""Proposals whose missing reflections are counted, and those that are refined: to rank many
crystals, and to leave no orientation of one untried."""
QUICK_SPOTS = 36
"""Spots that proposals are first ranked by."""
SAME_ORIENTATION = np.radians(0.7)
FREE_TURN = np.radians(5.0)
"""An orientation known worse than this about some axis is flagged as degenerate."""
ASSIGNED = 0.5
"""Probability above which a spot is indexed."""


@dataclass(frozen=True, eq=False)
class Indexing:
    """One way to index a pattern.

    Attributes
    ----------
    matrix : (3, 3) rotation crystal → lab.
    scale : 1/Å per px.
    covariance : (3, 3) of the orientation as a rotation vector in the lab frame, rad².
    evidence : natural log against "all spots are stray".
    hkl : (N, 3) indices of the view's spots, -999 where not indexed.
    s_g : (N,) excitation errors in 1/Å, NaN where not indexed.
    residual : rms distance of the indexed spots from their reflections over |q|.
    explained : share of the spots that is indexed.
    degenerate : whether the pattern leaves the crystal free to turn by more than 5° about some
        axis, as a row of spots does about itself; ``free_axis`` is that axis in the lab.
    """

    matrix: Floats
    scale: float
    covariance: Floats
    evidence: float
    log_likelihood: float
    hkl: Ints
    s_g: Floats
    residual: float
    explained: float
    degenerate: bool
    free_axis: Floats | None

    @property
    def orientation(self) -> Rotation:
        """The rotation crystal → lab."""
        return Rotation.from_matrix(self.matrix)


def index_pattern(table: KinematicTable, view: SpotView, limit: int = 5) -> list[Indexing]:
    """The best orientations of a crystal for a pattern, most evident first; may be empty."""
    fit = fit_pattern(table, view, limit, deep=True)
    return [describe(table, view, fit, i) for i in range(len(fit))]


def fit_pattern(
    table: KinematicTable, view: SpotView, limit: int = 5, *, deep: bool = False
) -> Fit:
    """As `index_pattern`, as arrays and without the indices; shallow unless ``deep``."""
    return refined(table, view, starting_orientations(table, view, deep=deep), limit)


def refined(table: KinematicTable, view: SpotView, starts: Hypotheses, limit: int) -> Fit:
    """The starts fitted, the most evident first, symmetry's copies left out."""
    if not len(starts):
        return empty_fit()
    fit = refine(table, view, starts.matrix, starts.scale)
    fit = fit.select(np.argsort(-fit.evidence))
    return fit.select(distinct(table, fit.matrix, limit))


def empty_fit() -> Fit:
    """No orientation at all."""
    none = np.zeros(0)
    return Fit(np.zeros((0, 3, 3)), none, np.zeros((0, 2)), np.zeros((0, 6, 6)), none, none, none)


def starting_orientations(
    table: KinematicTable, view: SpotView, limit: int | None = None, *, deep: bool = True
) -> Hypotheses:
    """The proposals most worth refining, best first."""
    counted, refined = COUNTED_DEEP if deep else COUNTED
    limit = refined if limit is None else limit
    best = covering(table, view, max(counted, limit), deep=deep).hypotheses
    if len(best) <= limit:
        return best
    likelihood = loose_likelihood(table, view, best)
    return best.select(np.argsort(-likelihood, kind="stable")[:limit])


@dataclass(frozen=True, eq=False)
class Covering:
    """Proposals, best first, by how well they cover the spots.

    Attributes
    ----------
    score : (H,) gain over stray spots, missing reflections not counted.
    """

    hypotheses: Hypotheses
    score: Floats

    @property
    def best(self) -> float:
        """Of the first, -inf where there is none."""
        return float(self.score[0]) if len(self.score) else -np.inf


def covering(table: KinematicTable, view: SpotView, limit: int, *, deep: bool) -> Covering:
    """The proposals that cover the spots best."""
    proposals = propose(table, view, DEEP if deep else SHALLOW)
    if not len(proposals):
        return Covering(proposals, np.zeros(0))
    score = quick_score(table, view.thinned(QUICK_SPOTS), proposals.matrix, proposals.scale)
    best = np.argsort(-score, kind="stable")[:limit]
    return Covering(proposals.select(best), score[best])


def loose_likelihood(table: KinematicTable, view: SpotView, hypotheses: Hypotheses) -> Floats:
    """(H,) likelihood of proposals as they stand, places taken loosely."""
    matrix, scale = hypotheses.matrix, hypotheses.scale
    distortion = 1.5 * max(view.distortion, 0.008)
    return log_likelihood(table, view, matrix, scale, distortion=distortion, rods=RODS[:1])[0]


def distinct(table: KinematicTable, matrix: Floats, limit: int) -> Ints:
    """Indices of the first ``limit`` orientations that no symmetry rotation makes alike."""
    kept: list[int] = []
    for i in range(len(matrix)):
        if kept and misorientation(table, matrix[kept], matrix[i]).min() < SAME_ORIENTATION:
            continue
        kept.append(i)
        if len(kept) == limit:
            break
    return np.array(kept, dtype=np.int64)


def misorientation(table: KinematicTable, a: Floats, b: Floats) -> Floats:
    """(...) smallest angle in rad between orientations, over the crystal's rotations."""
    # trace(a R bᵀ) for all symmetry rotations R.
    relative = np.swapaxes(b, -1, -2) @ a
    trace = np.einsum("...ij,rji->...r", relative, table.rotations)
    return np.asarray(np.arccos(np.clip((trace.max(-1) - 1) / 2, -1, 1)))


def describe(table: KinematicTable, view: SpotView, fit: Fit, i: int) -> Indexing:
    """One refined orientation with the indices of its spots."""
    one = fit.select(np.array([i]))
    match = match_spots(table, view, one.matrix, one.scale, one.strain)
    density = position_density(view, match, one.scale, max(view.distortion, 0.008))
    intensity = match.intensity(RODS[-1])
    hits = density * intensity / (intensity + EXPOSURES[-1])
    rate = 0.3 * max(len(view), 1) / view.area
    member = (hits / (hits + rate) > ASSIGNED)[0]
    hkl = np.where(member[:, None], table.hkl[match.row[0]], -999)
    q = np.hypot(*(strained(view.p, one.strain)[0] * one.scale[0]).T)
    relative = np.hypot(*match.offset[0].T) / np.maximum(q, 1e-9)
    residual = float(np.sqrt(np.mean(relative[member] ** 2))) if member.any() else np.nan
    turn = one.covariance[0, :3, :3]
    variance, axes = np.linalg.eigh(turn)
    degenerate = bool(variance[-1] > FREE_TURN**2)
    return Indexing(
        one.matrix[0],
        float(one.scale[0]),
        turn,
        float(one.evidence[0]),
        float(one.log_likelihood[0]),
        hkl.astype(np.int64),
        np.where(member, match.s_g[0], np.nan),
        residual,
        float(member.mean()),
        degenerate,
        axes[:, -1] if degenerate else None,
    )
