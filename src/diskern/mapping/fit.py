"""Least-squares fit of one lattice to each pattern of a scan, all patterns at once.

Every disk is a node of the lattice, a node that something pulled aside (its error is a few times
what it says), or clutter that may lie anywhere in the cell.  The fit starts from a lattice that
is nearly right and takes in a disk as soon as the fit so far can tell its indices, from the
beam outwards; the last steps use the disks alone, no prior, so the result is unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.mapping.points import Points, per_pattern_sum

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_BLOCK = 40_000  # disks worked on at a time: the arrays stay within a few tens of MB
_GUIDED, _FREE = 4, 2  # steps with the prior, and without
_SURE = 6.0  # the shortest lattice vector must be this many sigma: then indices are certain
_PULLED = 16.0  # variance of a disk pulled aside, over its own
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True)
class Noise:
    """What the positions scatter beyond their own uncertainties.

    Attributes
    ----------
    excess : variance in px² added to each disk's own, per coordinate.
    pulled : share of the disks whose error is four times as large.
    clutter : share of the disks that belong to no node of the lattice.
    deformation : rms of each component of the deformation between the start lattice and the
        pattern's own (strain and rotation, without unit).
    """

    excess: float = 0.04
    pulled: float = 0.05
    clutter: float = 0.2
    deformation: float = 0.02


@dataclass(frozen=True, eq=False)
class LatticeFits:
    """One lattice a pattern.

    Attributes
    ----------
    parameters : (P, 3, 2) rows origin, a, b as (row, column) in px.
    covariance : (P, 6, 6) of (o_row, o_col, a_row, a_col, b_row, b_col) in px².
    evidence : (P,) ln odds of the lattice against disks scattered at random.
    chi2 : (P,) weighted sum of squared residuals of the members.
    count : (P,) members, by their weights.
    indices : (N, 2) nearest node (m, n) of each disk.
    member : (N,) probability that the disk is that node.
    residual : (N, 2) distance from it in px.
    """

    parameters: Floats
    covariance: Floats
    evidence: Floats
    chi2: Floats
    count: Floats
    indices: Ints
    member: Floats
    residual: Floats


def fit_lattice(
    points: Points,
    start: Floats,
    origin_sigma: Floats,
    noise: Noise,
    eligible: Floats | None = None,
) -> LatticeFits:
    """Fit one lattice to each pattern.

    Parameters
    ----------
    start : (P, 3, 2) rows origin, a, b: nearly the pattern's lattice, a its shortest vector.
    origin_sigma : (P,) standard uncertainty of the start's origin in px.
    eligible : (N,) 0 to 1, share of each disk that may belong to this lattice.
    """
    free = np.ones(len(points)) if eligible is None else eligible
    n, count = len(points), points.patterns
    out = LatticeFits(
        start.copy(),
        np.full((count, 6, 6), np.nan),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count),
        np.zeros((n, 2), dtype=np.int64),
        np.zeros(n),
        np.zeros((n, 2)),
    )
    for first, last in _blocks(points.offsets):
        disks = slice(points.offsets[first], points.offsets[last])
        here = _Block(
            points.position[disks],
            points.covariance[disks],
            free[disks],
            points.offsets[first : last + 1] - points.offsets[first],
            start[first:last],
            origin_sigma[first:last],
            noise,
        )
        here.run()
        out.parameters[first:last], out.covariance[first:last] = here.theta, here.covariance
        out.evidence[first:last], out.chi2[first:last] = here.evidence, here.chi2
        out.count[first:last] = here.count
        out.indices[disks], out.member[disks] = here.indices, here.member
        out.residual[disks] = here.residual
    return out


def _blocks(offsets: Ints) -> list[tuple[int, int]]:
    """First and past-the-last pattern of blocks of about `_BLOCK` disks."""
    last = len(offsets) - 1
    cuts = np.searchsorted(offsets, np.arange(_BLOCK, offsets[-1], _BLOCK))
    edges = np.unique(np.concatenate([[0], cuts, [last]]))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


class _Block:
    """The fit of a block of patterns; arrays of disks end in N, of patterns begin with P."""

    def __init__(
        self,
        position: Floats,
        covariance: Floats,
        free: Floats,
        offsets: Ints,
        start: Floats,
        origin_sigma: Floats,
        noise: Noise,
    ) -> None:
        self.position, self.free, self.offsets, self.noise = position, free, offsets, noise
        self.pattern = np.repeat(np.arange(len(start)), np.diff(offsets))
        self.own = covariance.T + np.array([[noise.excess], [noise.excess], [0.0]])
        self.theta = start.copy()
        self.start = start
        self.shortest = np.linalg.norm(start[:, 1:], axis=2).min(axis=1)
        self.area = np.abs(np.linalg.det(start[:, 1:]))
        self.prior = _prior(start, origin_sigma, noise.deformation)
        self.covariance: Floats = np.asarray(np.linalg.inv(self.prior), dtype=np.float64)

    def run(self) -> None:
        """Iterate, then keep what the last step says."""
        for _ in range(_GUIDED):
            self._step(guided=True)
        self.evidence = self._evidence()
        for _ in range(_FREE):
            self._step(guided=False)
        nodes = self._look(guided=False)
        weight = nodes.member + nodes.pulled
        counted = np.stack([weight, (nodes.member + nodes.pulled / _PULLED) * nodes.squared])
        self.count, self.chi2 = per_pattern_sum(counted, self.offsets)
        self.indices, self.member, self.residual = nodes.indices, weight, nodes.residual

    def _step(self, guided: bool) -> None:
        nodes = self._look(guided)
        share = nodes.member + nodes.pulled / _PULLED
        weight = _inverse(self.own) * share
        u = np.stack([np.ones(len(share)), *nodes.indices.T.astype(np.float64)])
        normal = _normal(u, weight, self.offsets)
        pull = _pull(u, weight, nodes.residual, self.offsets)
        if guided:
            normal = normal + self.prior
            back = (self.start - self.theta).reshape(-1, 6, 1)
            pull = pull + (self.prior @ back)[..., 0]
        else:
            # A pattern that cannot tell all six numbers keeps a hair of the prior, and its
            # covariance says so; callers flag it.
            normal = normal + self.prior * 1e-6
        self.covariance = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        self.theta = self.theta + (self.covariance @ pull[..., None]).reshape(-1, 3, 2)

    def _look(self, guided: bool) -> _Nodes:
        """Nearest nodes and what each disk is, as the present lattice sees it."""
        relative = self.position - self.theta[self.pattern, 0]
        indices = np.rint(_times(relative, _inverse_bases(self.theta[:, 1:])[self.pattern]))
        residual = relative - _times(indices, self.theta[self.pattern, 1:])
        spread, sure = self.own, np.ones(len(residual), dtype=bool)
        if guided:
            predicted = _predicted(indices, self.covariance, self.pattern)
            spread = self.own + predicted
            sure = np.sqrt(_largest(predicted)) * _SURE < self.shortest[self.pattern]
        squared = _squared(residual, _inverse(spread))
        member, pulled, log = self._shares(squared, spread)
        keep = self.free * sure
        return _Nodes(
            indices.astype(np.int64), residual, squared, member * keep, pulled * keep, log
        )

    def _shares(self, squared: Floats, spread: Floats) -> tuple[Floats, Floats, Floats]:
        """Probabilities of node and of pulled node, and the ln likelihood over clutter."""
        determinant = np.maximum(spread[0] * spread[1] - spread[2] ** 2, 1e-30)
        noise = self.noise
        density = self.area[self.pattern] / (2 * np.pi * np.sqrt(determinant))
        good = (1 - noise.clutter) * density
        node = (1 - noise.pulled) * good * np.exp(-squared / 2)
        pulled = noise.pulled * good / _PULLED * np.exp(-squared / (2 * _PULLED))
        total = node + pulled + noise.clutter
        return node / total, pulled / total, np.log(total)

    def _evidence(self) -> Floats:
        """(P,) ln evidence over clutter, Laplace: fit, prior and the room the data left of it."""
        nodes = self._look(guided=False)
        log = np.maximum(nodes.log, np.log(self.noise.clutter))
        sure = nodes.member + nodes.pulled > 0
        fit = per_pattern_sum(log * self.free * sure, self.offsets)
        away = (self.theta - self.start).reshape(-1, 6)
        cost = np.einsum("pi,pij,pj->p", away, self.prior, away) / 2
        room = (np.linalg.slogdet(self.covariance)[1] + np.linalg.slogdet(self.prior)[1]) / 2
        return np.asarray(fit - cost + room, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Nodes:
    indices: Ints
    residual: Floats
    squared: Floats
    member: Floats
    pulled: Floats
    log: Floats


def _prior(start: Floats, origin_sigma: Floats, deformation: float) -> Floats:
    """(P, 6, 6) inverse covariance of origin and basis before the disks are looked at."""
    gram = start[:, 1:] @ np.swapaxes(start[:, 1:], 1, 2) * deformation**2
    blocks = np.zeros((len(start), 3, 3))
    blocks[:, 0, 0] = 1 / np.maximum(origin_sigma, 1e-3) ** 2
    blocks[:, 1:, 1:] = np.linalg.inv(gram)
    return np.asarray(np.einsum("pij,kl->pikjl", blocks, np.eye(2)).reshape(-1, 6, 6))


def _normal(u: Floats, weight: Floats, offsets: Ints) -> Floats:
    """(P, 6, 6) normal matrices from (3, N) design and (3, N) inverse covariances."""
    products = np.stack([u[j] * u[k] for j, k in _PAIRS])[:, None] * weight[None]
    sums = per_pattern_sum(products.reshape(18, -1), offsets).reshape(6, 3, -1)
    out = np.empty((len(offsets) - 1, 3, 2, 3, 2))
    for (j, k), (rr, cc, rc) in zip(_PAIRS, sums, strict=True):
        for one, other in ((j, k), (k, j)):
            out[:, one, 0, other, 0], out[:, one, 1, other, 1] = rr, cc
            out[:, one, 0, other, 1] = out[:, one, 1, other, 0] = rc
    return out.reshape(-1, 6, 6)


def _pull(u: Floats, weight: Floats, residual: Floats, offsets: Ints) -> Floats:
    """(P, 6) right-hand sides."""
    row, col = residual.T
    force = np.stack([weight[0] * row + weight[2] * col, weight[2] * row + weight[1] * col])
    sums = per_pattern_sum((u[:, None] * force[None]).reshape(6, -1), offsets)
    return np.asarray(sums.T)


def _predicted(indices: Floats, covariance: Floats, pattern: Ints) -> Floats:
    """(3, N) variance of row and of column, and covariance, of the nodes' predicted positions."""
    m, n = indices.T
    products = (np.ones_like(m), 2 * m, 2 * n, m * m, 2 * m * n, n * n)
    blocks = covariance.reshape(-1, 3, 2, 3, 2)
    out = np.empty((3, len(m)))
    for total, (d, e) in zip(out, ((0, 0), (1, 1), (0, 1)), strict=True):
        # (…, j, d, k, e) and (…, k, d, j, e) share the product u_j u_k: their mean counts.
        part = (blocks[:, :, d, :, e] + blocks[:, :, e, :, d]) / 2
        parts = np.stack([part[:, j, k] for j, k in _PAIRS])[:, pattern]
        total[:] = sum(p * w for p, w in zip(products, parts, strict=True))
    return out


def _times(vectors: Floats, matrices: Floats) -> Floats:
    """(N, 2) rows times (N, 2, 2)."""
    one, other = vectors.T
    return np.asarray(one[:, None] * matrices[:, 0] + other[:, None] * matrices[:, 1])


def _inverse_bases(basis: Floats) -> Floats:
    """(P, 2, 2) inverses, in closed form: quicker than a general solver by far."""
    a, b, c, d = basis.reshape(-1, 4).T
    determinant = a * d - b * c
    return np.asarray((np.stack([d, -b, -c, a]) / determinant).T.reshape(-1, 2, 2))


def _inverse(spread: Floats) -> Floats:
    """(3, N) inverse of (3, N) symmetric 2 × 2 matrices (rr, cc, rc)."""
    row, col, mixed = spread
    determinant = np.maximum(row * col - mixed**2, 1e-30)
    return np.asarray(np.stack([col, row, -mixed]) / determinant)


def _squared(residual: Floats, inverse: Floats) -> Floats:
    row, col = residual.T
    return np.asarray(inverse[0] * row**2 + inverse[1] * col**2 + 2 * inverse[2] * row * col)


def _largest(spread: Floats) -> Floats:
    """(N,) larger eigenvalue of symmetric 2 × 2 matrices."""
    row, col, mixed = spread
    return np.asarray((row + col) / 2 + np.sqrt(((row - col) / 2) ** 2 + mixed**2))
