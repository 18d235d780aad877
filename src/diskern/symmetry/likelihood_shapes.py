"""What shape a zone net has in a cell, and how it changes with the cell.

The shape of a net is y = (ln|a|, ln|b|, γ) of its basis vectors.  Products of reciprocal vectors
are sums of a few terms in the free parameters of a cell, one for a cubic cell and three for an
orthorhombic one.  Arrays have hypotheses last: whole nets are then a handful of long sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TYPICAL_AXIS = 6.5
"""Median of a conventional cell edge in Å in the prior."""
LENGTH_SPREAD = 0.45
"""Standard deviation of the logarithm of a cell edge."""
ANGLE_SPREAD = np.radians(15.0)
"""Standard deviation of a free cell angle about 90°."""
STRAIGHT = 0.999999
"""Cosines of the angle of a net are kept below this, for its derivative is infinite at 1."""
COMPONENTS = ((0, 0), (1, 1), (2, 2), (1, 2), (2, 0), (0, 1))
"""Axes of the components of a metric; the angle between two axes has the number 6 - i - j of x."""
NO_ANGLE = -1
"""In place of that number."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The reciprocal cell of a crystal system as a function of its free parameters.

    The six parameters x = (ln a*, ln b*, ln c*, α*, β*, γ*) are ``base + free @ φ``.

    Attributes
    ----------
    base : (6,) values at φ = 0.
    free : (F, 6) one row for each free parameter.
    mean, spread : (F,) of the normal prior of φ.
    """

    base: Floats
    free: Floats
    mean: Floats
    spread: Floats

    @cached_property
    def terms(self) -> Terms:
        """What products of reciprocal vectors are sums of."""
        return _terms(self)

    def parameters(self, phi: Floats) -> Floats:
        """(…, 6) x from (…, F) φ."""
        return np.asarray(self.base + phi @ self.free)

    def samples(self) -> Floats:
        """(S, 3, 3) reciprocal metrics that span the prior, the overall length left out."""
        grid = [-2.4, -1.4, -0.6, 0.0, 0.6, 1.4, 2.4]
        axes = [[0.0], *([grid] * (len(self.mean) - 1))]
        phi = np.array(list(product(*axes))) * self.spread + self.mean
        return reciprocal_metric(self.parameters(phi))


@cache
def cell_of(laue_class: str, lattice: str = "P") -> Cell:
    """The `Cell` of a Laue class; ``lattice`` is ``"R"`` for hexagonal axes of R lattices."""
    right = np.pi / 2
    along = np.eye(6)
    hexagonal = laue_class.startswith(("-3", "6"))
    free = {
        "-1": [along[0], along[1], along[5]],
        "2/m": [along[0], along[1], along[2], along[4]],
        "mmm": [along[0], along[1], along[2]],
        "m-3": [along[0] + along[1] + along[2]],
        "m-3m": [along[0] + along[1] + along[2]],
    }.get(laue_class, [along[0] + along[1], along[2]])
    base = np.array([0, 0, 0, right, right, np.pi / 3 if hexagonal else right])
    size = -np.log(TYPICAL_AXIS)
    angular = np.array([row[3:].any() for row in free])
    mean = np.where(angular, 0.0, size)
    if lattice == "R":
        mean[1] -= np.log(2.4)  # the hexagonal cell of an R lattice is three layers high
    spread = np.where(angular, ANGLE_SPREAD, LENGTH_SPREAD)
    return Cell(base, np.array(free), mean, spread)


def reciprocal_metric(x: Floats) -> Floats:
    """(…, 3, 3) reciprocal metric tensors from (…, 6) ln a*, ln b*, ln c*, α*, β*, γ*."""
    length, cosine = np.exp(x[..., :3]), np.cos(x[..., 3:])
    unit = np.ones((*x.shape[:-1], 3, 3))
    for i, j, k in ((1, 2, 0), (2, 0, 1), (0, 1, 2)):
        unit[..., i, j] = unit[..., j, i] = cosine[..., k]
    return np.asarray(unit * length[..., :, None] * length[..., None, :])


@dataclass(frozen=True, eq=False)
class Terms:
    """T terms whose sums are the products of reciprocal vectors, and those sums' derivatives.

    A term is exp(rate · φ) cos(start + turn · φ).

    Attributes
    ----------
    rate, turn : (T, F), and start : (T,) of each term.
    weight : (T, 6) how much of each of `COMPONENTS` goes with each.
    slope : (1 + F, T) how often each is in a product, and in its derivatives.
    """

    rate: Floats
    turn: Floats
    start: Floats
    weight: Floats
    slope: Floats

    def values(self, phi: Floats) -> Floats:
        """(T, N) terms from (F, N) free parameters."""
        size = np.exp(self.rate @ phi)
        if self.turn.any():
            size *= np.cos(self.start[:, None] + self.turn @ phi)
        return np.asarray(size)


def _terms(cell: Cell) -> Terms:
    weight: dict[tuple[tuple[float, ...], int], Floats] = {}
    for component, (i, j) in enumerate(COMPONENTS):
        angle = 6 - i - j if i != j else NO_ANGLE
        free = angle != NO_ANGLE and bool(cell.free[:, angle].any())
        share = 1.0 if free or angle == NO_ANGLE else float(np.cos(cell.base[angle]))
        key = tuple((cell.free[:, i] + cell.free[:, j]).tolist()), angle if free else NO_ANGLE
        if abs(share) > 1e-9:
            weight.setdefault(key, np.zeros(len(COMPONENTS)))[component] += share
    still = np.zeros(len(cell.free))
    rows: list[tuple[Floats, Floats, float, Floats, Floats]] = []
    for (own, angle), part in weight.items():
        rate = np.array(own)
        turn = still if angle == NO_ANGLE else cell.free[:, angle]
        start = 0.0 if angle == NO_ANGLE else float(cell.base[angle])
        rows.append((rate, turn, start, part, np.r_[1.0, rate]))
        if angle != NO_ANGLE:
            # The derivative of the cosine is a cosine, a quarter turn on.
            rows.append((rate, turn, start + np.pi / 2, part, np.r_[0.0, turn]))
    rates, turns, starts, parts, slopes = map(np.array, zip(*rows, strict=True))
    return Terms(rates, turns, starts, parts, slopes.T.copy())


def quadratic_forms(basis: Ints | Floats, terms: Terms) -> Floats:
    """(3, K, T, N) how often each term is in a·a, b·b and a·b of (N, K, 2, 3) basis vectors."""
    vector = np.ascontiguousarray(basis.transpose(2, 3, 1, 0), dtype=np.float64)
    used = np.flatnonzero(terms.weight.any(0))
    weight = terms.weight[:, used]
    nets, count = vector.shape[2:]
    forms = np.empty((3, nets, len(weight), count))
    parts = np.empty((len(used), nets, count))
    for row, (u, v) in enumerate(((0, 0), (1, 1), (0, 1))):
        for part, (i, j) in zip(parts, (COMPONENTS[c] for c in used), strict=True):
            np.multiply(vector[u, i], vector[v, j], out=part)
            if i != j:
                part += vector[u, j] * vector[v, i]
        found = weight @ parts.reshape(len(used), -1)
        forms[row] = found.reshape(-1, nets, count).swapaxes(0, 1)
    return forms


def shapes_of_forms(forms: Floats, terms: Terms, phi: Floats) -> Floats:
    """(K, 3, 1 + F, N) shapes of nets, and behind each value its derivatives by φ.

    Parameters
    ----------
    forms : (3, K, T, N) of `quadratic_forms`.
    phi : (F, N) free parameters of the cell.
    """
    sums = terms.slope @ (forms * terms.values(phi))
    value, slope = sums[:, :, 0], sums[:, :, 1:]
    root = np.sqrt(value[0] * value[1])
    cosine = np.clip(value[2] / root, -STRAIGHT, STRAIGHT)
    sine = np.sqrt(1 - cosine * cosine)
    out = np.empty((sums.shape[1], 3, *sums.shape[2:]))
    for row in (0, 1):
        np.multiply(np.log(value[row]), 0.5, out=out[:, row, 0])
        np.multiply(slope[row], (0.5 / value[row])[:, None], out=out[:, row, 1:])
    np.arccos(cosine, out=out[:, 2, 0])
    np.add(out[:, 0, 1:], out[:, 1, 1:], out=out[:, 2, 1:])
    out[:, 2, 1:] *= (cosine / sine)[:, None]
    out[:, 2, 1:] -= slope[2] / (root * sine)[:, None]
    return out


def shapes(basis: Ints | Floats, cell: Cell, phi: Floats) -> tuple[Floats, Floats]:
    """Shapes of nets and their derivatives.

    Parameters
    ----------
    basis : (N, K, 2, 3) hkl of the two basis vectors of K nets.
    phi : (N, F) free parameters of the cell.

    Returns
    -------
    (N, K, 3) ln|a|, ln|b|, γ (rad), lengths in 1/Å, and (N, K, 3, F) ∂/∂φ.
    """
    found = shapes_of_forms(quadratic_forms(basis, cell.terms), cell.terms, phi.T)
    found = found.transpose(3, 0, 1, 2)
    return found[..., 0], found[..., 1:]
