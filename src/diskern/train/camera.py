"""What the instrument does to spot lists, drawn and applied to many patterns at once.

The ranges are those of `diskern.simulate.instrument`, whose transforms do the same to images;
here only their effect on the list a spot finder would report is kept: distortion, scale, a
wrong centre, the detector's edge, beam stop, counting noise, background, saturation, a grey
scale that is no power of one, neighbours that run together, a second grain, false spots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.train.exposures import draw
from diskern.train.recipe import Range

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST = 96
"""Spots of a pattern that are followed, strongest first."""
DRAWN = 3 * MOST
"""Spots that the instrument sees of a pattern, strongest first: enough to replace those that the
stop or the detector's edge hides.  Large cells diffract into thousands."""


@dataclass(frozen=True, eq=False)
class SpotLists:
    """Spots of B patterns, padded with zero intensity.

    Attributes
    ----------
    q : (B, N, 2) in 1/Å.
    intensity : (B, N).
    hkl : (B, N, 3), zeros where a spot is no reflection of the crystal.
    """

    q: Floats
    intensity: Floats
    hkl: NDArray[np.int64]

    def at(self, places: NDArray[np.int64]) -> SpotLists:
        """The spots at (B, M) places of each pattern."""
        b, n = self.intensity.shape
        rows = np.arange(b)[:, None] * n + places
        # Whole rows are taken several times quicker than they are indexed.
        q, intensity, hkl = (
            a.reshape(b * n, *a.shape[2:]).take(rows, axis=0)
            for a in (self.q, self.intensity, self.hkl)
        )
        return SpotLists(q, intensity, hkl)


@dataclass(frozen=True)
class Exposing:
    """What is drawn for a pattern and can be held within bounds.

    Attributes
    ----------
    dose : electrons in all diffracted beams.
    scale_error : standard deviation of the scale's relative error, cut off at 2.5 of it.
    """

    dose: Range
    scale_error: float


USUAL = Exposing(Range(low=3e3, high=3e6), 0.02)


def record(
    lists: SpotLists, rng: np.random.Generator, session: int = 1, exposing: Exposing = USUAL
) -> SpotLists:
    """Everything that happens between the diffracted beams and a spot list.

    Parameters
    ----------
    session : patterns in a row that were taken at one camera length, so that the error of their
        scale is one and the same but for 0.4 %.
    """
    lists = _second_grain(lists, rng)
    lists = _distort(lists, rng, session, exposing.scale_error)
    edge = np.exp(rng.uniform(np.log(0.7), np.log(1.8), len(lists.q)))
    lists = _hide(lists, _off_detector(lists.q, edge, rng) | _behind_stop(lists.q, edge, rng))
    lists = _run_together(lists, 0.012 * edge)
    lists = _count(lists, edge, rng, exposing.dose)
    return _false_spots(lists, edge, rng)


def _second_grain(lists: SpotLists, rng: np.random.Generator) -> SpotLists:
    """One pattern in ten has that of a neighbour under it, turned and weaker."""
    b = len(lists.q)
    share = np.where(rng.random(b) < 0.1, rng.uniform(0.02, 0.3, b), 0.0)
    if not share.any() or b < 2:
        return lists
    angle = rng.uniform(0, 2 * np.pi, b)
    other = np.roll(np.arange(b), 1)
    most = min(lists.intensity.shape[1], 40)
    q = _turned(lists.q[other, :most], angle)
    extra = lists.intensity[other, :most] * share[:, None]
    return SpotLists(
        np.concatenate([lists.q, q], 1),
        np.concatenate([lists.intensity, extra], 1),
        np.concatenate([lists.hkl, np.zeros_like(lists.hkl[:, :most])], 1),
    )


def _turned(q: Floats, angle: Floats) -> Floats:
    return _pairs(_complex(q) * np.exp(1j * angle)[:, None])


def _complex(q: Floats) -> NDArray[np.complex128]:
    """(B, N) q_x + i q_y."""
    return np.ascontiguousarray(q, dtype=np.float64).view(np.complex128)[..., 0]


def _pairs(z: NDArray[np.complex128]) -> Floats:
    """(B, N, 2) real and imaginary parts."""
    return z[..., None].view(np.float64)


def _distort(lists: SpotLists, rng: np.random.Generator, session: int, error: float) -> SpotLists:
    """Ellipse (0–4 %, mostly below 1.5), scale, and the error of the centre."""
    b = len(lists.q)
    ratio = np.sqrt(1 + np.minimum(0.04, rng.exponential(0.010, b)))
    scale = 1 + np.clip(rng.normal(0, error, b), -2.5 * error, 2.5 * error)
    if session > 1:
        scale = np.repeat(scale[::session], session)[:b] * (1 + rng.normal(0, 0.004, b))
    axis = rng.uniform(0, np.pi, b)
    # A stretch along the axis is z → a z + b z* in the complex plane.
    round_part = 0.5 * scale * (ratio + 1 / ratio)
    oval_part = 0.5 * scale * (ratio - 1 / ratio) * np.exp(2j * axis)
    z = _complex(lists.q)
    z = round_part[:, None] * z + oval_part[:, None] * z.conj()
    q = _pairs(z) + rng.normal(0, 0.002, (b, 1, 2))
    return SpotLists(q, lists.intensity, lists.hkl)


def _off_detector(q: Floats, edge: Floats, rng: np.random.Generator) -> Bools:
    """Beyond a square detector whose middle is not quite the direct beam."""
    offset = rng.normal(0, 0.04, (len(q), 1, 2)) * edge[:, None, None]
    away = np.abs(q - offset)
    return np.asarray(np.maximum(away[..., 0], away[..., 1]) > edge[:, None])


def _behind_stop(q: Floats, edge: Floats, rng: np.random.Generator) -> Bools:
    """Behind a bar or wedge from the middle to the edge, in about a third of the patterns."""
    b = len(q)
    there = rng.random(b) < 0.35
    angle = rng.uniform(0, 2 * np.pi, b)
    half = rng.uniform(0.01, 0.08, b) * edge
    slope = np.where(rng.random(b) < 0.4, 0.0, np.tan(np.radians(rng.uniform(0.5, 6, b))))
    tip = -rng.uniform(0.3, 1.5, b) * half
    hidden = np.zeros(q.shape[:2], dtype=bool)
    turned = _turned(q[there], angle[there])
    half, slope, tip = (a[there, None] for a in (half, slope, tip))
    shaft = half + slope * np.maximum(turned[..., 0], 0)
    hidden[there] = (np.abs(turned[..., 1]) < shaft) & (turned[..., 0] > tip)
    return hidden


def _hide(lists: SpotLists, hidden: Bools) -> SpotLists:
    return SpotLists(lists.q, np.where(hidden, 0.0, lists.intensity), lists.hkl)


def _run_together(lists: SpotLists, distance: Floats) -> SpotLists:
    """Of two spots nearer than ``distance`` (B,) the weaker is lost in the stronger."""
    lists = lists.at(np.argsort(-lists.intensity, axis=1, kind="stable")[:, :MOST])
    # Patterns come last, so that each step runs along them; single precision is enough.
    x, y = np.ascontiguousarray(lists.q.transpose(2, 1, 0), dtype=np.float32)
    seen = lists.intensity.T > 0
    limit = (distance**2).astype(np.float32)
    swallowed = np.zeros_like(seen)
    for ranks in range(1, int(seen.sum(0).max(initial=0))):
        dx, dy = x[ranks:] - x[:-ranks], y[ranks:] - y[:-ranks]
        swallowed[ranks:] |= (dx * dx + dy * dy < limit) & seen[:-ranks]
    return _hide(lists, swallowed.T)


def _count(lists: SpotLists, edge: Floats, rng: np.random.Generator, dose: Range) -> SpotLists:
    """Electrons, background, detection, errors of position, saturation and grey scale."""
    b, n = lists.intensity.shape
    total = draw(dose, rng, b)
    share = lists.intensity / np.maximum(lists.intensity.sum(1, keepdims=True), 1e-30)
    mean = share * total[:, None]
    radius = np.hypot(lists.q[..., 0], lists.q[..., 1])
    fall = np.exp(-radius / np.exp(rng.uniform(np.log(0.3), np.log(1.5), b))[:, None])
    # Background electrons under one spot: the frame's diffuse share over a hundredth of it.
    below = (total * rng.uniform(0.2, 3.0, b) * 1e-3)[:, None] * fall
    counts = rng.poisson(mean + below) - below
    noise = np.sqrt(below + 1.0)
    seen = (counts > rng.uniform(3, 6, (b, 1)) * noise) & (lists.intensity > 0)
    blur = (0.004 * edge)[:, None] / np.sqrt(np.maximum(counts, 1)) + (5e-4 * edge)[:, None]
    q = lists.q + rng.normal(0, 1, (b, n, 2)) * blur[..., None]
    level = np.where(rng.random(b) < 0.25, rng.uniform(0.1, 0.9, b), 1.0)[:, None]
    measured = np.where(seen, counts, 0.0)
    top = np.maximum(measured.max(1, keepdims=True, initial=0.0), 1e-30)
    gamma = np.where(rng.random(b) < 0.3, rng.uniform(0.4, 1.2, b), 1.0)[:, None]
    # Integration windows, flat field and bending: 1 to 15 % from spot to spot.
    scatter = np.exp(rng.uniform(np.log(0.01), np.log(0.15), (b, 1)))
    grey = np.minimum(measured / top, level) ** gamma * np.exp(rng.normal(0, 1, (b, n)) * scatter)
    return SpotLists(q, np.where(seen, grey, 0.0), lists.hkl)


def _false_spots(lists: SpotLists, edge: Floats, rng: np.random.Generator) -> SpotLists:
    """Up to six spots that are none: defects, cosmic rays, a halo's grain."""
    b, most = len(lists.q), 6
    number = np.minimum(rng.poisson(np.where(rng.random(b) < 0.5, 1.5, 0.0)), most)
    q = rng.uniform(-1, 1, (b, most, 2)) * edge[:, None, None]
    size = np.exp(rng.uniform(np.log(2e-3), np.log(0.3), (b, most)))
    there = np.arange(most) < number[:, None]
    faint = lists.intensity.max(1, keepdims=True, initial=0.0)
    return SpotLists(
        np.concatenate([lists.q, q], 1),
        np.concatenate([lists.intensity, np.where(there, size * faint, 0.0)], 1),
        np.concatenate([lists.hkl, np.zeros((b, most, 3), dtype=np.int64)], 1),
    )
