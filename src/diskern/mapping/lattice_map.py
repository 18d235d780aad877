"""The lattices of every pattern of a scan: what indexing hands on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from diskern.mapping.fit import Noise
from diskern.mapping.points import Points

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Reason(IntEnum):
    """Why a scan position has no value.

    Maps hold NaN there, never a neighbour's value.
    """

    INDEXED = 0
    EMPTY = 1
    FEW = 2
    UNEXPLAINED = 3
    VAGUE = 4
    SMALL = 5
    NO_REFERENCE = 6

    @property
    def words(self) -> str:
        """A few words for a legend or a report."""
        return _WORDS[self]


_WORDS = {
    Reason.INDEXED: "indexed",
    Reason.EMPTY: "no disks",
    Reason.FEW: "fewer than three disks",
    Reason.UNEXPLAINED: "no lattice explains the disks",
    Reason.VAGUE: "the disks hardly tell a strain: a single row of them, or too faint",
    Reason.SMALL: "grain too small to be its own reference",
    Reason.NO_REFERENCE: "no reference for this grain",
}


@dataclass(frozen=True, eq=False, repr=False)
class LatticeMap:
    """Up to L lattices per scan position, that of the larger grain first.

    Attributes
    ----------
    points : the disks that were indexed.
    bases : (K, 2, 2) reference lattices of the scan, rows a and b as (row, column) in px.
    label : (L, Y, X) which of them, −1 where none.
    grain : (L, Y, X) number of the connected grain, largest first, −1 where none.  Within a grain
        all bases are in one setting, so a and b may be compared from pixel to pixel.
    origin : (L, Y, X, 2) row and column in px of node (0, 0), NaN where not indexed.
    basis : (L, Y, X, 2, 2) in px, NaN where not indexed.
    covariance : (L, Y, X, 6, 6) of (o_row, o_col, a_row, a_col, b_row, b_col) in px².
    evidence : (L, Y, X) ln odds over disks scattered at random.
    chi2 : (L, Y, X) reduced χ² of the members; count : (L, Y, X) how many they are.
    reason : (Y, X) `Reason` of the first lattice.
    slot : (N,) which of its pattern's lattices a disk belongs to, −1 none.
    indices : (N, 2) node (m, n) of each disk in that lattice; 0 where slot is −1.
    residual : (N, 2) distance from the node in px; NaN where slot is −1.
    noise : scatter beyond the disks' own uncertainties, as found in the scan.
    """

    points: Points
    bases: Floats
    label: Ints
    grain: Ints
    origin: Floats
    basis: Floats
    covariance: Floats
    evidence: Floats
    chi2: Floats
    count: Floats
    reason: Ints
    slot: Ints
    indices: Ints
    residual: Floats
    noise: Noise

    @property
    def scan_shape(self) -> tuple[int, int]:
        """(scan_y, scan_x)."""
        return self.points.scan_shape

    @property
    def indexed(self) -> Bools:
        """(Y, X) where at least one lattice was found."""
        return np.asarray(self.label[0] >= 0)

    @property
    def grains(self) -> int:
        """How many connected grains there are."""
        return int(self.grain.max()) + 1

    def __repr__(self) -> str:
        ny, nx = self.scan_shape
        several = int((self.label >= 0).all(axis=0).sum()) if len(self.label) > 1 else 0
        lines = [
            f"LatticeMap({ny}×{nx}: {self.indexed.mean():.1%} indexed, {len(self.bases)} "
            f"lattices, {self.grains} grains, {several} positions with more than one lattice)"
        ]
        for k, (a, b) in enumerate(self.bases):
            angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
            lines.append(
                f"  {k}: |a| = {np.linalg.norm(a):.3f} px, |b| = {np.linalg.norm(b):.3f} px, "
                f"{angle:.2f}°, {int((self.label == k).sum())} positions"
            )
        for why in Reason:
            count = int((self.reason == why).sum())
            if why is not Reason.INDEXED and count:
                lines.append(f"  {count} positions without: {why.words}")
        return "\n".join(lines)
