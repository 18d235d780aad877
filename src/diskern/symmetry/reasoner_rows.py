"""Do two nets of one crystal agree on the rows that they share?

The planes of two zones meet in a row of reciprocal nodes, h = u × g v for every rotation g of the
Laue class, and each net tells the length of h by itself.  So two nets can be compared without
their cell: all of them in the time in which a cell is fitted to a few.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.spacegroups import laue_operations
from diskern.symmetry.hypotheses import Block
from diskern.symmetry.likelihood_metric import TAIL

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class CommonRows:
    """Lengths of common rows as the nets of each pattern tell them.

    Parameters
    ----------
    block : of the nets.
    shape : (K, 3) measured ln|a|, ln|b|, γ.
    covariance : (K, 3, 3) of the shapes.
    """

    def __init__(self, block: Block, shape: Floats, covariance: Floats) -> None:
        self.block = block
        self._shape = shape
        self._variance = 0.5 * (covariance[:, 0, 0] + covariance[:, 1, 1])
        self._rows, self._back = _shared_rows(block)
        self._known: dict[int, tuple[Singles, Bools]] = {}

    def agreement(self, first: int, own: Ints, second: int, other: Ints) -> Singles:
        """(L, R) log-likelihood, but for a constant, that nets of two patterns share their rows.

        Parameters
        ----------
        first, second : the two patterns.
        own, other : (L,) and (R,) nets of the block; what is negative agrees with all.
        """
        nets, place = np.unique(own, return_inverse=True)
        real = nets >= 0
        table = np.zeros((len(nets), len(other)), dtype=np.float32)
        if real.any() and len(other):
            table[real] = self._agreement(first, nets[real], second, other)
        return np.asarray(table[place.reshape(-1)])

    def _agreement(self, first: int, own: Ints, second: int, other: Ints) -> Singles:
        here, there = self._lengths(first, own), self._lengths(second, other)
        zone, second_zone = self.block.zone[own], self.block.zone[other]
        worst = np.zeros((len(own), len(other)), dtype=np.float32)
        for g, back in enumerate(self._back.tolist()):
            apart = here[g][own][:, second_zone] - there[back][other][:, zone].T
            # Two views of one zone share more than a row: their lengths are NaN here.
            np.fmax(worst, apart * apart, out=worst)
        variance = self._variance[first] + self._variance[second]
        return np.asarray(-0.5 * (TAIL + 1) * np.log1p(worst / np.float32(TAIL * variance)))

    def _lengths(self, pattern: int, nets: Ints) -> Singles:
        """(G, N, Z) lengths by a pattern; of all nets of the block that were ever asked for."""
        if pattern not in self._known:
            size = len(self._back), len(self.block), len(self.block.zones)
            empty = np.empty(size, dtype=np.float32), np.zeros(len(self.block), dtype=bool)
            self._known[pattern] = empty
        lengths, known = self._known[pattern]
        new = np.unique(nets[~known[nets]])
        lengths[:, new], known[new] = self._measured(pattern, new), True
        return lengths

    def _measured(self, pattern: int, nets: Ints) -> Singles:
        """(G, M, Z) ln of the length of the row that nets share with each image of each zone."""
        basis = self.block.basis[nets].astype(np.float64)
        rows = self._rows[self.block.zone[nets]]
        inverse = basis.swapaxes(1, 2) @ np.linalg.inv(basis @ basis.swapaxes(1, 2))
        m, n = np.moveaxis(rows @ inverse[:, None], -1, 0)
        first, second, angle = self._shape[pattern]
        a, b = np.exp(first), np.exp(second)
        square = (m * a) ** 2 + (n * b) ** 2 + 2 * m * n * a * b * np.cos(angle)
        with np.errstate(divide="ignore"):
            length = 0.5 * np.log(np.maximum(square, 0.0))
        length[~np.isfinite(length)] = np.nan
        return np.asarray(length.transpose(2, 0, 1), dtype=np.float32)


@lru_cache(maxsize=32)
def _shared_rows(block: Block) -> tuple[Ints, Ints]:
    """(Z, Z, G, 3) hkl that each zone shares with the images of each; (G,) inverse rotations."""
    every = laue_operations(block.laue_class)
    turns = every[np.linalg.det(every) > 0]
    uvw = block.zones.uvw
    images = np.einsum("gij,zj->zgi", turns, uvw)
    rows = np.cross(uvw[:, None, None], images[None])
    product = np.einsum("gij,hjk->ghik", turns, turns)
    back = (product == np.eye(3, dtype=np.int64)).all((2, 3)).argmax(1)
    return rows, back
