"""The two-dimensional reciprocal lattice of a pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lattice2D:
    """A fitted reciprocal lattice: node (m, n) lies at origin + (m, n) @ basis.

    Attributes
    ----------
    origin : (2,) row and column in px of node (0, 0), the direct beam.
    basis : (2, 2) rows are the two reduced basis vectors (row, column) in px, |a| ≤ |b|,
        60° ≤ angle ≤ 120°.  With columns +x, rows +y and the beam +z, (a, b, beam) is
        right-handed: a_col b_row − a_row b_col > 0, b clockwise of a on a screen whose rows run
        down.  a points to the right half of the image.
    covariance : (6, 6) of (origin_row, origin_col, a_row, a_col, b_row, b_col) in px².
    members : (M,) indices into the spots it was fitted to.
    indices : (M, 2) the (m, n) of each member.
    residual : robust rms distance of the members to their nodes in px.
    evidence : natural-log evidence over "these spots are scattered at random"; for a second
        lattice, over "the spots that the first leaves are".
    rank : 2, or 1 where only one row of spots (a two-beam or systematic-row frame) is seen; then
        ``basis[1]`` is NaN, and so is its part of the covariance.
    coverage : part of the given spots that are members.
    coverage_intensity : the same weighted by intensity.  A lattice that leaves much unexplained
        (clutter, a second crystal, a quasicrystal) has a low coverage however high its evidence.
    """

    origin: Floats
    basis: Floats
    covariance: Floats
    members: NDArray[np.int64]
    indices: NDArray[np.int64]
    residual: float
    evidence: float
    rank: int = 2
    coverage: float = float("nan")
    coverage_intensity: float = float("nan")

    @property
    def lengths(self) -> tuple[float, float]:
        """|a|, |b| in px."""
        a, b = np.linalg.norm(self.basis, axis=1)
        return float(a), float(b)

    @property
    def angle(self) -> float:
        """Angle between a and b in degrees."""
        a, b = self.basis
        return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))

    def nodes(self, shape: tuple[int, int]) -> tuple[NDArray[np.int64], Floats]:
        """All nodes inside an image: (K, 2) indices and (K, 2) positions in px."""
        if self.rank == 1:
            reach = int(np.hypot(*shape) / np.linalg.norm(self.basis[0])) + 1
            indices = np.stack([np.arange(-reach, reach + 1), np.zeros(2 * reach + 1, int)], 1)
            position = self.origin + indices[:, :1] * self.basis[0]
        else:
            height, width = shape
            corners = np.array([[0, 0], [0, width], [height, 0], [height, width]])
            mn = (corners - self.origin) @ np.linalg.inv(self.basis)
            low, high = np.floor(mn.min(0)).astype(int), np.ceil(mn.max(0)).astype(int)
            grid = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)))
            indices = np.stack(grid, -1).reshape(-1, 2)
            position = self.origin + indices @ self.basis
        inside = ((position >= 0) & (position <= np.array(shape) - 1)).all(1)
        return indices[inside].astype(np.int64), position[inside]
