"""The order in which samples that are kept are seen: every pass draws it anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Passes:
    """Passes over ``count`` samples, one beginning where the one before ends.

    Attributes
    ----------
    shuffled : every pass in an order of its own; else all in one random order.
    """

    count: int
    seed: int
    shuffled: bool = True

    def at(self, row: Ints) -> Ints:
        """(N,) samples at places counted from the first pass on, which ascend."""
        epoch, place = np.divmod(row, self.count)
        order = np.stack([self._order(int(e)) for e in np.unique(epoch)])
        return np.asarray(order[epoch - epoch[:1], place])

    def _order(self, epoch: int) -> Ints:
        return _permutation(self.count, self.seed, epoch if self.shuffled else 0)


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> Ints:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)
