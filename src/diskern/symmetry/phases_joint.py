"""Several patterns of one crystal whose mutual turns are known: one orientation for all.

A row of spots leaves the crystal free to turn about the row; the same crystal seen at another
stage angle does not.  All patterns share one orientation, one calibration and, for a single-tilt
holder, one tilt axis in the image plane, whose direction is found with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.symmetry.indexing import empty_fit, starting_orientations
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import KinematicTable
from diskern.symmetry.orientation_fit import (
    RODS,
    Fit,
    log_likelihood,
    normal_equations,
    prior_and_volume,
    priors,
    quick_score,
    refine,
    turn_matrices,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AXIS_STEP = 3.0
"""Degrees between the trial directions of the tilt axis."""
ANCHORS = 60
ANCHOR_PATTERNS = 2
SCORED = 300
REFINED = 16
ROUNDS = 6
STAGE_ERROR = np.radians(0.7)
"""Standard deviation of a stage angle as read."""
TILT_ERROR = np.radians(1.0)
"""Systematic error of a tilt read off the intensities of one pattern: dynamical diffraction and
bending move what is lit by about a rod's width, 0.01 1/Å at |g| = 0.6 1/Å."""
"""Error of a stage angle per axis: backlash, bending, the goniometer's scale."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """How the crystal is turned from the first pattern to each.

    Attributes
    ----------
    tilts : (P,) stage angles in rad about a common axis in the image plane, or None.
    relations : (P, 3, 3) rotations in the lab frame from the first pattern, or None.
    """

    tilts: Floats | None
    relations: Floats | None

    @classmethod
    def from_stage(
        cls, tilts: Sequence[float] | None, relations: Sequence[Rotation] | None
    ) -> Geometry | None:
        """From degrees and rotations; None where neither is known.  Relations win over tilts."""
        if relations is not None:
            return cls(None, np.array([r.as_matrix() for r in relations]))
        if tilts is None:
            return None
        return cls(np.radians(np.asarray(tilts, dtype=np.float64)), None)

    def directions(self) -> Floats:
        """(A,) trial directions of the tilt axis in rad from +x."""
        if self.relations is not None:
            return np.zeros(1)
        return np.asarray(np.radians(np.arange(0.0, 360.0, AXIS_STEP)))

    def turn(self, pattern: int, direction: Floats) -> Floats:
        """(H, 3, 3) rotation from the first pattern to this one for (H,) axis directions."""
        if self.relations is not None:
            one = self.relations[pattern] @ self.relations[0].T
            return np.broadcast_to(one, (len(direction), 3, 3))
        assert self.tilts is not None
        angle = self.tilts[pattern] - self.tilts[0]
        axis = np.stack([np.cos(direction), np.sin(direction), np.zeros(len(direction))], axis=-1)
        return np.asarray(Rotation.from_rotvec(angle * axis).as_matrix())


def joint_fit(
    table: KinematicTable, views: Sequence[SpotView], geometry: Geometry, relative_scale: float
) -> tuple[tuple[Fit, ...], float]:
    """The best common orientation of all patterns, as a fit of each, and its evidence.

    Parameters
    ----------
    relative_scale : start of the common scale, over the stated one or itself where none is.
    """
    scales = np.array([relative_scale * (view.scale or 1.0) for view in views])
    first, direction = _starts(table, views, geometry)
    if not len(first):
        return tuple(empty_fit() for _ in views), -np.inf
    score = np.zeros(len(first))
    for i, view in enumerate(views):
        matrix = geometry.turn(i, direction) @ first
        score += quick_score(table, view, matrix, np.full(len(first), scales[i]))
    best = np.argsort(-score, kind="stable")[:SCORED]
    first, direction = first[best], direction[best]
    score = np.zeros(len(first))
    for i, view in enumerate(views):
        matrix = geometry.turn(i, direction) @ first
        scale = np.full(len(first), scales[i])
        score += log_likelihood(table, view, matrix, scale, distortion=0.015, rods=RODS[:1])[0]
    best = np.argsort(-score, kind="stable")[:REFINED]
    return _refine(table, views, geometry, first[best], direction[best], scales)


def _starts(
    table: KinematicTable, views: Sequence[SpotView], geometry: Geometry
) -> tuple[Floats, Floats]:
    """(H, 3, 3) orientations of the first pattern and (H,) axis directions to try."""
    directions = geometry.directions()
    order = np.argsort([-len(view) for view in views])[:ANCHOR_PATTERNS]
    firsts, axes = [], []
    for i in order.tolist():
        matrix = starting_orientations(table, views[i], ANCHORS).matrix
        back = np.swapaxes(geometry.turn(i, directions), 1, 2)
        firsts.append((back[None] @ matrix[:, None]).reshape(-1, 3, 3))
        axes.append(np.tile(directions, len(matrix)))
    return np.concatenate(firsts), np.concatenate(axes)


def _refine(
    table: KinematicTable,
    views: Sequence[SpotView],
    geometry: Geometry,
    first: Floats,
    direction: Floats,
    scales: Floats,
) -> tuple[tuple[Fit, ...], float]:
    """Gauss-Newton over rotation (3), axis direction, ln scale and residual ellipse (2)."""
    n = len(first)
    direction = direction.copy()
    log_scale, strain = np.zeros(n), np.zeros((n, 2))
    covariance: Floats = np.zeros((n, 7, 7))
    for width in [*np.geomspace(2.5, 1.0, ROUNDS), 1.0]:
        normal, right = np.zeros((n, 7, 7)), np.zeros((n, 7))
        for i, view in enumerate(views):
            turn = geometry.turn(i, direction)
            scale = scales[i] * np.exp(log_scale)
            own, pull = normal_equations(table, view, turn @ first, scale, strain, float(width))
            chain = _chain(turn)
            normal += np.swapaxes(chain, 1, 2) @ own @ chain
            right += np.einsum("hij,hi->hj", chain, pull)
        precision, pull = priors(views[0], scales[0] * np.exp(log_scale), strain)
        normal[:, _SHARED, _SHARED] += precision
        normal[:, 3, 3] += 1.0
        right[:, _SHARED] += pull
        covariance = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        step = np.einsum("hij,hj->hi", covariance, right)
        first = turn_matrices(step[:, :3]) @ first
        direction = direction + np.clip(step[:, 3], -0.2, 0.2)
        log_scale = log_scale + np.clip(step[:, 4], -0.1, 0.1)
        strain = strain + step[:, 5:]
    return _best(table, views, geometry, first, direction, scales, log_scale, strain, covariance)


_SHARED = np.array([0, 1, 2, 4, 5, 6])
"""Parameters of the joint fit that every pattern has too; the third is the axis direction."""


def _chain(turn: Floats) -> Floats:
    """(H, 6, 7) derivative of a pattern's own parameters by the joint ones.

    The pattern's rotation vector follows that of the first pattern through the turn between them;
    swinging the tilt axis by φ adds (1 - T) z φ.
    """
    out = np.zeros((len(turn), 6, 7))
    out[:, :3, :3] = turn
    out[:, :3, 3] = np.array([0.0, 0.0, 1.0]) - turn[:, :, 2]
    out[:, range(3, 6), range(4, 7)] = 1.0
    return out


def _best(
    table: KinematicTable,
    views: Sequence[SpotView],
    geometry: Geometry,
    first: Floats,
    direction: Floats,
    scales: Floats,
    log_scale: Floats,
    strain: Floats,
    covariance: Floats,
) -> tuple[tuple[Fit, ...], float]:
    parts = []
    for i, view in enumerate(views):
        scale = scales[i] * np.exp(log_scale)
        matrix = geometry.turn(i, direction) @ first
        parts.append((matrix, scale, *log_likelihood(table, view, matrix, scale, strain)))
    evidence = np.sum([likelihood for _, _, likelihood, _ in parts], axis=0)
    shared = covariance[:, _SHARED][:, :, _SHARED]
    evidence += prior_and_volume(table, views[0], *parts[0][:2], strain, shared)
    if geometry.relations is None:
        evidence += 0.5 * np.log(covariance[:, 3, 3] / (2 * np.pi))
    best = np.array([int(np.argmax(evidence))])
    total = float(evidence[best[0]])
    fits = []
    for view, (matrix, scale, likelihood, _) in zip(views, parts, strict=True):
        # Stage angles are read to a degree or so: let each pattern settle.
        own = refine(table, view, matrix[best], scale[best], strain[best], leash=STAGE_ERROR)
        total += float(own.evidence[0] - likelihood[best[0]])
        fits.append(replace(own, matrix=_settled(matrix[best], own.matrix)))
    return tuple(fits), total


def _settled(stage: Floats, own: Floats) -> Floats:
    """(H, 3, 3) mean of the orientation by the stage and the pattern's own, by their errors.

    The turn about the beam is the pattern's: positions tell it far better than any stage.
    """
    turn = Rotation.from_matrix(own @ np.swapaxes(stage, 1, 2)).as_rotvec()
    turn[:, :2] *= STAGE_ERROR**2 / (STAGE_ERROR**2 + TILT_ERROR**2)
    return np.asarray(Rotation.from_rotvec(turn).as_matrix() @ stage)
