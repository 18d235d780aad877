"""Look-alike labels of measured spots, by rule: shape of the net, and which of its nodes are dark.

Every look of a table is laid over the spots: its net turned and scaled to fit, its dark nodes
compared with what is seen.  Nothing is learned, so that no structure type is better known than
another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice_reduce import reduced, sublattices
from diskern.symmetry.lookalike import REACH, LookAlikeTable, Shape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DISTORTION = 0.004
"""Typical relative misfit of a net in an ordinary microscope."""
NEAR = 0.2
"""Distance of a spot from a node, in units of the net, within which it is that node's."""
FORBIDDEN = (0.03, 0.003)
"""Probability that a node that must be dark shows a faint (below `FAINT`) and a bright spot."""
FAINT = 0.05
STRAY = 0.03
"""Probability that a spot of the fitted net lies off the true one."""
CLOSEST = 8
"""Ways of laying each look over a pattern, best fitting first, whose nodes are compared."""
MOST_DISTORTED = 0.03
"""Misfit beyond which a net is another one."""
COARSE = 2
"""Largest index of a sublattice that a fit may have taken for the net, and of a finer net."""
CHANGED = 0.01
"""Probability that a fit took a sublattice or a finer net for the net."""


@dataclass(frozen=True, eq=False)
class LookAlikeNamer:
    """Looks of a table, laid over patterns.

    Parameters
    ----------
    table : every member of it is held for equally likely.
    distortion : typical relative misfit of a net; larger ones are rarer, not excluded.
    """

    table: LookAlikeTable
    distortion: float = DISTORTION

    def log_probabilities(self, position: Floats, intensity: Floats, basis: Floats) -> Floats:
        """(L,) ln of the probability of each look.

        Parameters
        ----------
        position : (N, 2) row and column of the spots from the direct beam.
        intensity : (N,).
        basis : (2, 2) rows (row, column) of the net that was fitted.
        """
        basis = reduced(basis)
        # Spots off the net are of higher zones or other grains.
        index = position @ np.linalg.inv(basis)
        node = np.rint(index)
        own = (intensity > 0) & (np.abs(index - node).max(1) < NEAR) & node.any(1)
        if not own.any():
            return np.full(len(self.table), -np.log(len(self.table)))
        seen = _Seen.of(position[own], intensity[own] / intensity[own].max())
        misfit = self._misfits(basis)
        # Heavy tails: cameras differ.
        total = np.log(self._odds) - 1.5 * np.log1p((misfit / self.distortion) ** 2)
        total += np.log([len(c.members) for c in self.table.classes])[self._look]
        order = np.argsort(-total, kind="stable")
        order = order[misfit[order] < max(MOST_DISTORTED, 1.2 * float(misfit.min()))]
        found = np.full(len(self.table), -np.inf)
        asked: dict[int, int] = {}
        for way in order.tolist():
            look = int(self._look[way])
            asked[look] = asked.get(look, 0) + 1
            if asked[look] <= CLOSEST:
                score = total[way] + seen.nodes(self._dark[look], self._change[way] @ basis)
                found[look] = max(found[look], score)
        found = np.maximum(found, found.max() - 60)
        return np.asarray(found - np.logaddexp.reduce(found))

    def name(self, position: Floats, intensity: Floats, basis: Floats) -> str:
        """The most probable label."""
        best = int(self.log_probabilities(position, intensity, basis).argmax())
        return self.table.classes[best].label

    # --- the net ----------------------------------------------------------------------------
    @cached_property
    def _ways(self) -> tuple[Floats, Ints, Floats, Floats]:
        """Changes of basis (W, 2, 2), the look of each, its template as complex numbers, odds."""
        entries = (-1, 0, 1)
        whole = [
            np.array([[a, b], [c, d]])
            for a, b, c, d in product(entries, repeat=4)
            if a * d - b * c == 1
        ]
        coarse = [h for index in range(2, COARSE + 1) for h in sublattices(index)]
        forms = [(np.eye(2), 1.0)]
        forms += [(np.linalg.inv(h), CHANGED) for h in coarse]
        forms += [(h.astype(float), CHANGED) for h in coarse]
        changes, looks, templates, odds = [], [], [], []
        for look, entry in enumerate(self.table.classes):
            template = template_of(entry.shape)
            for form, chance in forms:
                for turn in whole:
                    changes.append(turn @ form)
                    looks.append(look)
                    templates.append(template)
                    odds.append(chance)
        return np.array(changes), np.array(looks), np.array(templates), np.array(odds)

    @property
    def _change(self) -> Floats:
        return self._ways[0]

    @property
    def _look(self) -> Ints:
        return self._ways[1]

    @property
    def _odds(self) -> Floats:
        return self._ways[3]

    def _misfits(self, basis: Floats) -> Floats:
        """(W,) relative misfit of the net to each way."""
        change, _, template, _ = self._ways
        # Columns are x, rows y and the beam points away: (row, column) -> column + i row.
        net = (change @ basis) @ np.array([1j, 1])
        scale = (net * template.conj()).sum(1) / (np.abs(template) ** 2).sum(1)
        apart = np.abs(net - scale[:, None] * template) ** 2
        return np.asarray(np.sqrt(apart.sum(1) / (np.abs(net) ** 2).sum(1)))

    # --- its nodes --------------------------------------------------------------------------
    @cached_property
    def _dark(self) -> NDArray[np.bool_]:
        """(L, K) which nodes of `_window` are dark in each look."""
        nodes = list(map(tuple, _window().tolist()))
        return np.array([[n in c.absent for n in nodes] for c in self.table.classes])


@dataclass(frozen=True, eq=False)
class _Seen:
    """Spots of a pattern, and how bright they usually are at a distance from the beam.

    Attributes
    ----------
    place : (N, 2) ; ``bright`` : (N,) relative to the strongest.
    fall : ln of the mean brightness at the beam, and its slope with the distance squared.
    """

    place: Floats
    bright: Floats
    fall: tuple[float, float]

    @classmethod
    def of(cls, place: Floats, bright: Floats) -> _Seen:
        square = (place**2).sum(1)
        square = square / square.max()
        design = np.stack([np.ones_like(square), square], 1)
        level = np.log(bright)
        fit = np.linalg.solve(design.T @ design + np.diag([1e-9, 0.1]), design.T @ level)
        slope = float(np.clip(fit[1], -15.0, 0.0))
        spread = level - fit[0] - slope * square
        # The mean of a log-normal.
        return cls(place, bright, (float(fit[0]) + 0.5 * min(float(spread.var()), 4.0), slope))

    def nodes(self, dark: NDArray[np.bool_], net: Floats) -> float:
        """Log-probability of what the nodes of a net show, were those of `_window` ``dark``."""
        window = _window()
        index = self.place @ np.linalg.inv(net)
        node = np.rint(index)
        on = np.abs(index - node).max(1) < NEAR
        reach = float((self.place**2).sum(1).max())
        square = ((window @ net) ** 2).sum(1) / reach
        inside = (square < 1.002) & window.any(1)
        level = np.zeros(len(window))
        own = on & (np.abs(node).max(1) <= REACH)
        row = ((node[own] + REACH) @ [2 * REACH + 1, 1]).astype(np.int64)
        np.maximum.at(level, row, self.bright[own])
        usual = np.exp(self.fall[0] + self.fall[1] * np.minimum(square, 1.0))
        unseen = np.clip(1 - np.exp(-self.bright.min() / usual), 0.02, 0.95)
        lit = level > 0
        chance = np.where(
            dark,
            np.where(lit, np.where(level < FAINT, *FORBIDDEN), 0.97),
            np.where(lit, 1 - unseen, unseen),
        )
        stray = int((~on).sum()) * np.log(STRAY)
        # A node and its Friedel mate say the same.
        return float(0.5 * (np.log(chance[inside]).sum() + stray))


@cache
def _window() -> Ints:
    side = range(-REACH, REACH + 1)
    return np.array(list(product(side, repeat=2)))


def template_of(shape: Shape) -> NDArray[np.complex128]:
    """(2,) the reduced basis that a shape stands for, as complex numbers x + i y, |a| = 1.

    y points down, as rows of images do, and the second vector lies on the side that the
    look-alike table's bases have it: right-handed about the beam.
    """
    if shape.category == "A":
        return np.array([1, 1j])
    if shape.category == "C":
        return np.array([1, np.exp(1j * np.pi / 3)])
    if shape.category == "B":
        return np.array([1, 1j / np.tan(np.radians(shape.angles[0]))])
    boa, oab = np.radians(shape.angles)
    # The triangle O, A = 1, B: its angle at O is boa and that at A is oab.
    length = np.sin(oab) / np.sin(np.pi - boa - oab)
    turn = boa if shape.chirality >= 0 else np.pi - boa
    return np.array([1, length * np.exp(1j * turn)])
