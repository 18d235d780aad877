"""Starting orientations for indexing: spot pairs and spot rows matched to reflections."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import PAIR_FIRST, PAIR_SECOND, KinematicTable
from diskern.symmetry.orientation_fit import ewald_vectors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Effort:
    """How many spot pairs are tried.

    Attributes
    ----------
    pool : spots from which pairs are drawn.
    pairs : pairs at most.
    uses : pairs that one spot may be in, so that a stray spot spoils no more.
    work : reflection pairs looked at for all spot pairs together.
    """

    pool: int
    pairs: int
    uses: int
    work: int


SHALLOW = Effort(10, 16, 5, 200_000)
DEEP = Effort(16, 48, 8, 1_000_000)
LEAST_PAIRS = 3
FEW_PAIRS = 8
"""With fewer spot pairs than this, rows are tried as well."""
MATCHES = 120
"""Reflection pairs kept for each spot pair, best first."""
ANGLE_RANGE = (18.0, 162.0)
"""Degrees between the two spots of a pair."""
ANGLE_SIGMA = np.radians(1.0)
LENGTH_SIGMA = 0.01
"""Relative error of a length that noise, distortion and s_g leave."""
WINDOW = 3.0
"""Standard deviations within which a reflection pair matches a spot pair."""
ROW_STEP = 4.0
"""Degrees between the trial turns about a row of spots."""
ROWS = 2
ROW_REFLECTIONS = 12
LOW_INDEX_PREFERENCE = 4.0
"""Weight of ln(|g|/|g|min) against squared deviations where the scale is unknown: chance finds
matches in proportion to the number of reflections, which grows as |g|³."""


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """(H, 3, 3) rotations crystal → lab and (H,) scales in 1/Å per px."""

    matrix: Floats
    scale: Floats

    def __len__(self) -> int:
        return len(self.scale)

    def select(self, keep: Ints) -> Hypotheses:
        """Some of them, in that order."""
        return Hypotheses(self.matrix[keep], self.scale[keep])

    @classmethod
    def join(cls, parts: list[Hypotheses]) -> Hypotheses:
        """All of several, in order."""
        if not parts:
            return cls(np.zeros((0, 3, 3)), np.zeros(0))
        return cls(
            np.concatenate([h.matrix for h in parts]), np.concatenate([h.scale for h in parts])
        )


def propose(table: KinematicTable, view: SpotView, effort: Effort = DEEP) -> Hypotheses:
    """Orientations worth scoring: from spot pairs, and from rows where there is little else."""
    if not len(view) or not len(table):
        return Hypotheses.join([])
    pairs = spot_pairs(view, effort)
    parts = [_match_pairs(table, view, pairs, effort)]
    if len(pairs) < FEW_PAIRS:
        parts += [_match_row(table, view, p) for p in _row_spots(view)]
    return Hypotheses.join(parts)


@lru_cache(maxsize=16)
def spot_pairs(view: SpotView, effort: Effort = DEEP) -> Floats:
    """(K, 2, 2) pairs of spot vectors in px, the shortest first, lattice bases leading."""
    radius = np.hypot(*view.p.T)
    # Strong spots near the beam are the least likely to be stray.
    rank = np.argsort(np.argsort(-view.intensity)) + np.argsort(np.argsort(radius))
    shortest = np.argsort(radius)[: effort.pool // 2]
    pool = np.array(list(dict.fromkeys([*shortest, *np.argsort(rank)]))[: effort.pool])
    first, second = np.triu_indices(len(pool), 1)
    pairs = np.stack([view.p[pool[first]], view.p[pool[second]]], axis=1)
    order = np.argsort(np.linalg.norm(pairs, axis=2).sum(1), kind="stable")
    uses = np.zeros(len(pool), dtype=np.int64)
    chosen = []
    for n in order[_open_angle(pairs[order])].tolist():
        if max(uses[first[n]], uses[second[n]]) < effort.uses:
            uses[[first[n], second[n]]] += 1
            chosen.append(n)
    return np.concatenate([view.pairs[:4], pairs[chosen]])[: effort.pairs]


def _open_angle(pairs: Floats) -> NDArray[np.bool_]:
    a, b = pairs[:, 0], pairs[:, 1]
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return np.asarray((angle > ANGLE_RANGE[0]) & (angle < ANGLE_RANGE[1]))


def _length_sigma(view: SpotView, length: float) -> float:
    blur = view.blur / max(length, 1.0)
    return float(np.sqrt(LENGTH_SIGMA**2 + view.distortion**2 + blur**2))


def _match_pairs(
    table: KinematicTable, view: SpotView, pairs: Floats, effort: Effort
) -> Hypotheses:
    """Reflection pairs with the lengths and the angle of each spot pair, as orientations."""
    lengths = np.linalg.norm(pairs, axis=2)
    dots = (pairs[:, 0] * pairs[:, 1]).sum(1)
    angles = np.arccos(np.clip(dots / lengths.prod(1), -1, 1))
    windows = [_windows(table, view, p1, p2) for p1, p2 in lengths.tolist()]
    # Far spots may be too many reflections to tell apart; near ones come first anyway.
    work = np.array([len(first) * len(second) for first, second in windows])
    cheapest = np.argsort(work, kind="stable")
    cheapest = cheapest[
        (np.cumsum(work[cheapest]) < effort.work) | (np.arange(len(work)) < LEAST_PAIRS)
    ]
    which: list[Ints] = []
    rows: list[tuple[Ints, Ints]] = []
    for n in cheapest.tolist():
        p1, p2 = lengths[n].tolist()
        first, second = _match_pair(table, view, windows[n], p1, p2, float(angles[n]))
        which.append(np.full(len(first), n))
        rows.append((first, second))
    if not rows:
        return Hypotheses.join([])
    at = np.concatenate(which)
    first = np.concatenate([r[0] for r in rows])
    second = np.concatenate([r[1] for r in rows])
    scale = np.sqrt((table.length[first] * table.length[second]) / lengths[at].prod(1))
    k = ewald_vectors(pairs[at], scale, view.wavelength)
    matrix = _align_pairs(table.g[first], table.g[second], k[:, 0], k[:, 1])
    return Hypotheses(matrix, scale)


def _windows(table: KinematicTable, view: SpotView, p1: float, p2: float) -> tuple[Ints, Ints]:
    """Rows of the table that the two spots of a pair may be, by length alone."""
    if view.scale is None:
        return table.representatives[:PAIR_FIRST], table.allowed[:PAIR_SECOND]
    first = _in_window(table, view, p1, _length_sigma(view, p1))
    second = _in_window(table, view, p2, _length_sigma(view, p2))
    return first[table.is_representative[first]], second[table.strength[second] > 0]


def _match_pair(
    table: KinematicTable,
    view: SpotView,
    rows: tuple[Ints, Ints],
    p1: float,
    p2: float,
    angle: float,
) -> tuple[Ints, Ints]:
    """Rows of the table that two spots p1 and p2 px away and ``angle`` rad apart may be."""
    s1, s2 = _length_sigma(view, p1), _length_sigma(view, p2)
    first, second = rows
    log1, log2 = table.log_length[first], table.log_length[second]
    log_ratio, length_sigma = np.log(p2 / p1), float(np.hypot(s1, s2))
    # A strain e along one axis and -e across opens an angle between them by up to 2 e.
    turn_sigma = float(np.hypot(ANGLE_SIGMA, np.sqrt(2) * view.distortion))
    if view.scale is None:
        ratio, at, between = table.pair_geometry
        spread = np.sqrt(2) * WINDOW * length_sigma
        near = slice(*np.searchsorted(ratio, [log_ratio - spread, log_ratio + spread]).tolist())
        ratio, at, between = ratio[near], at[near], between[near]
        misfit = ((ratio - log_ratio) / length_sigma) ** 2 + ((between - angle) / turn_sigma) ** 2
        kept = np.flatnonzero(misfit < 2 * WINDOW**2)
        kept = kept[np.argsort(at[kept])]
        i, j = np.divmod(at[kept], max(len(second), 1))
        cost = misfit[kept] + LOW_INDEX_PREFERENCE * (log1[i] - log1[:1])
    else:
        cosine = table.direction[first] @ table.direction[second].T
        between = np.arccos(np.clip(cosine, -1, 1))
        off, turn = log2 - log1[:, None] - log_ratio, between - angle
        misfit = (off / length_sigma) ** 2 + (turn / turn_sigma) ** 2
        i, j = np.nonzero(misfit < 2 * WINDOW**2)
        spread = np.hypot(view.scale_error, length_sigma / 2)
        scale = 0.5 * (log1[i] + log2[j] - np.log(p1 * p2)) - np.log(view.scale)
        cost = misfit[i, j] + (scale / spread) ** 2
    if len(cost) > MATCHES:
        keep = np.argpartition(cost, MATCHES)[:MATCHES]
        i, j = i[keep], j[keep]
    return first[i], second[j]


def _in_window(table: KinematicTable, view: SpotView, length: float, sigma: float) -> Ints:
    """Rows whose length fits a spot ``length`` px from the beam."""
    assert view.scale is not None
    spread = WINDOW * float(np.hypot(view.scale_error, sigma))
    bounds = view.scale * length * np.exp([-spread, spread])
    low, high = np.searchsorted(table.length, bounds)
    return np.arange(low, high)


def _align_pairs(g1: Floats, g2: Floats, k1: Floats, k2: Floats) -> Floats:
    """(H, 3, 3) rotations that bring two crystal vectors nearest to two lab vectors."""
    crystal, lab = _bisector_frame(g1, g2), _bisector_frame(k1, k2)
    return np.swapaxes(lab, 1, 2) @ crystal


def _bisector_frame(a: Floats, b: Floats) -> Floats:
    """(H, 3, 3) orthonormal rows from two directions; splits an error of their angle evenly."""
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    x, y = a + b, a - b
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _row_spots(view: SpotView) -> Floats:
    """Spots that stand for a row of their own: strong and short, one for each direction."""
    radius = np.hypot(*view.p.T)
    rank = np.argsort(np.argsort(-view.intensity)) + np.argsort(np.argsort(radius))
    return view.p[np.argsort(rank)[:ROWS]]


def _match_row(table: KinematicTable, view: SpotView, p: Floats) -> Hypotheses:
    """One spot matched by length; the turn about it is tried all round."""
    length = float(np.hypot(*p))
    rows = table.representatives
    if view.scale is not None:
        rows = _in_window(table, view, length, _length_sigma(view, length))
        rows = rows[table.is_representative[rows]]
    rows = rows[:ROW_REFLECTIONS]
    if not len(rows):
        return Hypotheses.join([])
    scale = table.length[rows] / length
    k = ewald_vectors(p[None], scale, view.wavelength)[:, 0]
    turns = np.radians(np.arange(0.0, 360.0, ROW_STEP))
    crystal, lab = _axis_frame(table.g[rows]), _axis_frame(k)
    c, s = np.cos(turns), np.sin(turns)
    zero, one = np.zeros_like(c), np.ones_like(c)
    about = np.array([[one, zero, zero], [zero, c, -s], [zero, s, c]]).transpose(2, 0, 1)
    matrix = np.swapaxes(lab, 1, 2)[:, None] @ about @ crystal[:, None]
    return Hypotheses(matrix.reshape(-1, 3, 3), np.repeat(scale, len(turns)))


def _axis_frame(a: Floats) -> Floats:
    """(H, 3, 3) orthonormal rows, the first along each vector."""
    x = a / np.linalg.norm(a, axis=1, keepdims=True)
    least = np.eye(3)[np.argmin(np.abs(x), axis=1)]
    y = np.cross(x, least)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=1)
