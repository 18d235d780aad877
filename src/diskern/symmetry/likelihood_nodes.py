"""How probable the intensities of a net are, node class by node class.

A node is allowed (its intensity follows Wilson's law about a smooth envelope, now and then it is
accidentally weak), forbidden but lit by double diffraction, or dark.  Whether a pattern shows
double diffraction, and whether it is near enough to the exact zone for Gjønnes–Moodie rows to
stay dark, is unknown and summed over.  Equivalent nodes share one intensity, up to a scatter
that Friedel pairs measure: a tilted pattern thus carries little evidence of symmetry.

Sources: Wilson, Acta Cryst. 2, 318 (1949), doi:10.1107/S0365110X49000813; Camalli, Carrozzini,
Cascarano & Giacovazzo, J. Appl. Cryst. 45, 351 (2012) treat extinction symbols alike in 3-D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.hypotheses_zones import Row

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = np.linspace(np.log(1e-6), np.log(40.0), 70)
"""Logarithm of normalised intensity at which the unknown true intensity is summed over."""


@dataclass(frozen=True)
class NodeModel:
    """The stated probabilities of the node mixture.

    Attributes
    ----------
    weak : share of allowed nodes that the structure makes weak (special positions).
    spurious : probability that a truly dark node looks lit (noise, another grain, a HOLZ spot).
    pseudo : probability that a structure darkens a row (every second node) for no symmetry's
        sake; it bounds what one dark row can prove.
    thick : probability that a pattern shows double diffraction.
    tilted : given that, the probability that Gjønnes–Moodie rows are lit too.
    lit : share of forbidden nodes lit where there is double diffraction.
    lit_level : their mean intensity relative to the envelope.
    stray : share of forbidden nodes lit weakly in a pattern without double diffraction.
    uneven : probability that equivalent nodes of a pattern share no intensity at all, for the
        crystal is tilted or bent; Friedel mates that agree make it improbable.
    power : of the likelihood of a pattern's nodes: their intensities are not independent.
    """

    weak: float = 0.12
    spurious: float = 0.01
    pseudo: float = 0.01
    thick: float = 0.4
    tilted: float = 0.5
    lit: float = 0.8
    lit_level: float = 0.15
    stray: float = 0.02
    uneven: float = 0.3
    power: float = 0.5


ALONE = np.eye(2, dtype=np.int64)[None]
"""The symmetry under which every node stands for itself."""


class Latent(NamedTuple):
    """A state of the whole pattern: are forbidden and Gjønnes–Moodie nodes dark?"""

    log_prior: float
    double: bool
    rows_lit: bool


def log_sum(values: Floats, axis: int | None = None) -> Floats:
    """ln Σ exp of an array; scipy's does the same with more ceremony."""
    top = np.max(values, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(values - top).sum(axis=axis, keepdims=True)) + top
    return np.asarray(total.squeeze() if axis is None else total.squeeze(axis))


def log_sum_of_few(values: Sequence[float]) -> float:
    """ln Σ exp of finite numbers, without the ceremony of arrays."""
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def _wilson() -> Floats:
    """ln density over `GRID` of Wilson intensities, half centric and half acentric."""
    x = np.exp(GRID)
    acentric = x * np.exp(-x)
    centric = np.sqrt(x / (2 * np.pi)) * np.exp(-x / 2)
    density = 0.5 * (acentric + centric)
    return np.asarray(np.log(density / density.sum()))


WILSON = _wilson()
"""ln probability of each `GRID` value of an allowed, ordinary intensity."""


def scaled_wilson(level: float) -> Floats:
    """`WILSON` with another mean."""
    return np.asarray(np.interp(GRID - np.log(level), GRID, WILSON, left=WILSON[0], right=-60.0))


class NodeLikelihood:
    """Log-likelihoods of the nodes of one pattern under each class and symmetry."""

    def __init__(self, evidence: PatternEvidence, model: NodeModel | None = None) -> None:
        self.model = model or NodeModel()
        self._known: dict[bytes, ClassLikelihood] = {}
        keep = evidence.visible
        self.indices = evidence.indices[keep]
        self.observed = evidence.observed[keep]
        self._position = self.indices @ evidence.basis / max(evidence.radius, 1e-9)
        self._intensity = np.maximum(evidence.intensity[keep], 1e-12)
        self._sigma = evidence.sigma[keep]
        lowest = self._intensity[self.observed].min(initial=1.0) if len(self.indices) else 1.0
        self._limit = np.maximum(evidence.limit[keep], 1e-3 * lowest)
        self.envelope = self._fit_envelope()
        self.scatter, self.pairs = self._friedel()
        m = self.model
        exact, tilted = np.log(m.thick * (1 - m.tilted)), np.log(m.thick * m.tilted)
        self.latents = (
            Latent(float(np.log1p(-m.thick)), double=False, rows_lit=False),
            Latent(float(exact), double=True, rows_lit=False),
            Latent(float(tilted), double=True, rows_lit=True),
        )

    # --- one node ---------------------------------------------------------------------
    def _fit_envelope(self) -> Floats:
        """(N,) mean intensity as exp of a paraboloid: a Wilson plot that may lean sideways."""
        x, y = self._position.T if len(self.indices) else np.zeros((2, 0))
        design = np.stack([np.ones(len(x)), x**2 + y**2 - 0.5, x, y], 1)
        value = np.where(self.observed, self._intensity, self._limit / 3)
        if not len(x):
            return value
        scale = value.mean()
        value = value / scale
        beta = np.array([0.0, -1.0, 0.0, 0.0])
        ridge = np.diag([1e-3, 0.1, 1.0, 1.0])
        centre = np.array([0.0, -1.0, 0.0, 0.0])
        for _ in range(30):
            ratio = np.minimum(value * np.exp(-np.clip(design @ beta, -30, 30)), 50.0)
            gradient = design.T @ (ratio - 1) - ridge @ (beta - centre)
            hessian = (design * ratio[:, None]).T @ design + ridge + 0.05 * design.T @ design
            step = np.linalg.solve(hessian, gradient)
            beta = beta + step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-9))
        return np.asarray(scale * np.exp(np.clip(design @ beta, -30, 30)))

    def _friedel(self) -> tuple[float, int]:
        """Scatter of ln I between Friedel mates beyond a common one, and how many pairs."""
        place = {tuple(i): n for n, i in enumerate(self.indices.tolist())}
        pairs = [
            (n, place[-i[0], -i[1]])
            for n, i in enumerate(map(tuple, self.indices.tolist()))
            if (-i[0], -i[1]) in place and i > (0, 0)
        ]
        seen = [(a, b) for a, b in pairs if self.observed[a] or self.observed[b]]
        if not seen:
            return 0.5, 0
        # Of a dark node only a bound is known, so that of two mates one may be fainter still.
        level = np.log(np.where(self.observed, self._intensity, self._limit))
        first, second = np.array(seen).T
        first, second = (
            np.where(self.observed[first], first, second),
            np.where(self.observed[first], second, first),
        )
        ratio = level[first] - level[second]
        ratio = np.where(self.observed[second], ratio, np.maximum(ratio, 0.0))
        # A prior of three pairs at 0.3 steadies the estimate; 0.1 is as alike as spots get.
        spread = np.sqrt((np.minimum(np.abs(ratio), 6.0) ** 2).sum() / 2 + 3 * 0.3**2)
        return float(max(spread / np.sqrt(len(seen) + 3), 0.1)), len(seen)

    @cached_property
    def _on_grid(self) -> Floats:
        """(N, grid) ln probability of what was measured, given the true normalised intensity."""
        noise = np.sqrt(self.scatter**2 + (self._sigma / self._intensity) ** 2)[:, None]
        width = np.where(self.observed[:, None], np.maximum(noise, 0.12), self.scatter)
        centre = np.log(np.where(self.observed, self._intensity, self._limit) / self.envelope)
        z = (centre[:, None] - GRID) / width
        seen = np.logaddexp(
            np.log(0.97) - 0.5 * z**2 - np.log(width * np.sqrt(2 * np.pi)), np.log(0.03 / 17.0)
        )
        dark = np.logaddexp(np.log(0.97) + log_ndtr(z), np.log(0.03))
        return np.asarray(np.where(self.observed[:, None], seen, dark))

    @cached_property
    def _if_dark(self) -> Floats:
        """(N,) ln probability of what was measured at a truly dark node."""
        lit = np.log(self.model.spurious / (GRID[-1] - GRID[0]))
        return np.asarray(np.where(self.observed, lit, np.log1p(-self.model.spurious)))

    # --- nodes under a symmetry ---------------------------------------------------------
    def orbits(self, group: Ints) -> Ints:
        """(N,) label shared by nodes that the (G, 2, 2) group relates."""
        if not len(self.indices):
            return np.zeros(0, dtype=np.int64)
        reach = int(np.abs(self.indices).max()) * 2 + 3
        images = self.indices @ group
        code = (images[..., 0] + reach) * (2 * reach + 1) + images[..., 1] + reach
        _, label = np.unique(code.min(0), return_inverse=True)
        return np.asarray(label, dtype=np.int64).reshape(-1)

    def under(self, group: Ints, rows: tuple[Row, ...]) -> float:
        """Log-likelihood of all nodes under the symmetry of a net and its thinned rows."""
        uneven = self.model.uneven
        even = math.log1p(-uneven) + self.classes(group).rows(rows)
        odd = math.log(uneven) + self.classes(ALONE).rows(rows)
        return self.model.power * log_sum_of_few((even, odd))

    def classes(self, group: Ints) -> ClassLikelihood:
        """Likelihoods of every node class where the group's equivalents share intensities."""
        key = group.tobytes()
        if key not in self._known:
            self._known[key] = self._classes(group)
        return self._known[key]

    def _classes(self, group: Ints) -> ClassLikelihood:
        label = self.orbits(group)
        count = int(label.max(initial=-1)) + 1
        joint = np.zeros((count, len(GRID)))
        np.add.at(joint, label, self._on_grid)
        dark = np.bincount(label, self._if_dark, count)
        size = np.bincount(label, minlength=count).astype(float)
        m = self.model
        wilson = np.log1p(-m.weak) + log_sum(joint + WILSON, axis=1)
        low = int(np.searchsorted(GRID, np.log(0.03)))
        weak = np.log(m.weak / low) + log_sum(joint[:, :low], axis=1)
        allowed = np.logaddexp(wilson, weak)
        lit = log_sum(joint + scaled_wilson(m.lit_level), axis=1)
        double = np.logaddexp(np.log(m.lit) + lit, np.log1p(-m.lit) + dark)
        thin = np.logaddexp(np.log(m.stray) + lit, np.log1p(-m.stray) + dark)
        return ClassLikelihood(
            self,
            allowed=(allowed / size)[label],
            dark=(thin / size)[label],
            double=(double / size)[label],
        )

    @cached_property
    def directions(self) -> dict[tuple[int, int], tuple[Ints, Ints]]:
        """For each primitive row: positions of its nodes in the arrays, and their multiples."""
        divisor = np.gcd(self.indices[:, 0], self.indices[:, 1])
        primitive = self.indices // np.maximum(divisor, 1)[:, None]
        flip = (primitive[:, 0] < 0) | ((primitive[:, 0] == 0) & (primitive[:, 1] < 0))
        primitive = np.where(flip[:, None], -primitive, primitive)
        table: dict[tuple[int, int], list[int]] = {}
        for n, (a, b) in enumerate(primitive.tolist()):
            table.setdefault((a, b), []).append(n)
        return {key: (np.array(n), divisor[np.array(n)]) for key, n in table.items()}


class ClassLikelihood:
    """Node log-likelihoods under one symmetry, and what thinned rows change.

    ``allowed``, ``dark`` and ``double`` are (N,): the share of each node in the likelihood of
    its orbit when it is allowed, forbidden without, and forbidden with double diffraction.
    """

    def __init__(
        self, nodes: NodeLikelihood, allowed: Floats, dark: Floats, double: Floats
    ) -> None:
        self._nodes = nodes
        self.allowed, self.dark, self.double = allowed, dark, double
        self._priors = tuple(latent.log_prior for latent in nodes.latents)
        self._bonus = {key: self._pseudo(*row) for key, row in nodes.directions.items()}
        self.base = float(allowed.sum() + sum(self._bonus.values()))
        self._row: dict[Row, tuple[float, ...]] = {}
        self._rows: dict[tuple[Row, ...], float] = {}

    def _pseudo(self, node: Ints, multiple: Ints) -> float:
        odd = node[multiple % 2 == 1]
        if not len(odd):
            return 0.0
        gain = float((self.dark[odd] - self.allowed[odd]).sum())
        share = self._nodes.model.pseudo
        return float(np.logaddexp(np.log1p(-share), np.log(share) + gain))

    def row(self, row: Row) -> tuple[float, ...]:
        """Of each latent: change of the log-likelihood when a row is thinned rather than full."""
        if row not in self._row:
            self._row[row] = tuple(self._thinned(row).tolist())
        return self._row[row]

    def _thinned(self, row: Row) -> Floats:
        m, n, period, guarded = row
        found = self._nodes.directions.get((m, n))
        change = np.zeros(len(self._nodes.latents))
        if found is None:
            return change
        node, multiple = found
        forbidden = multiple % period != 0
        node, multiple = node[forbidden], multiple[forbidden]
        safe = multiple % guarded != 0
        full = self.allowed[node]
        for t, latent in enumerate(self._nodes.latents):
            stays_dark = ~np.full(len(node), latent.double) | (safe & (not latent.rows_lit))
            change[t] = (np.where(stays_dark, self.dark[node], self.double[node]) - full).sum()
        return change - (self._bonus[m, n] if len(node) else 0.0)

    def rows(self, rows: tuple[Row, ...]) -> float:
        """Log-likelihood of the pattern when exactly these rows are thinned."""
        if rows not in self._rows:
            changes = [self.row(row) for row in rows]
            latents = [p + sum(c[t] for c in changes) for t, p in enumerate(self._priors)]
            self._rows[rows] = self.base + log_sum_of_few(latents)
        return self._rows[rows]
