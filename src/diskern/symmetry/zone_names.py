"""The low-index zone axis nearest to the beam."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import gcd

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LIMIT = 6
DEGREES_PER_INDEX = 0.4
"""How much nearer (in degrees) an axis must be for each unit its indices grow."""


def nearest_zone(lattice: Floats, matrix: Floats) -> tuple[tuple[int, int, int], float]:
    """Nearest low-index [uvw] to the beam and its distance in degrees.

    Parameters
    ----------
    lattice : (3, 3) cell rows in Å.
    matrix : (3, 3) rotation crystal → lab.
    """
    uvw = _axes()
    direction = uvw @ lattice
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip(direction @ matrix[2], -1, 1)))
    best = int(np.argmin(angle + DEGREES_PER_INDEX * np.abs(uvw).sum(1)))
    u, v, w = uvw[best].tolist()
    return (u, v, w), float(angle[best])


@cache
def _axes() -> NDArray[np.int64]:
    triples = product(range(-LIMIT, LIMIT + 1), repeat=3)
    return np.array([t for t in triples if gcd(gcd(t[0], t[1]), t[2]) == 1], dtype=np.int64)
