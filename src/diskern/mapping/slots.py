"""The arrays of a lattice map while indexing fills them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.mapping.fit import LatticeFits, Noise
from diskern.mapping.lattice_map import LatticeMap, Reason
from diskern.mapping.points import Points

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(eq=False)
class Slots:
    """As `LatticeMap`, with the scan flattened and origin, a, b in one array of parameters."""

    label: Ints
    parameters: Floats
    covariance: Floats
    evidence: Floats
    chi2: Floats
    count: Floats
    reason: Ints
    slot: Ints
    indices: Ints
    residual: Floats

    @classmethod
    def empty(cls, points: Points, lattices: int) -> Slots:
        """Nothing indexed."""
        shape, n = (lattices, points.patterns), len(points)
        return cls(
            np.full(shape, -1),
            np.full((*shape, 3, 2), np.nan),
            np.full((*shape, 6, 6), np.nan),
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            np.zeros(shape),
            np.full(points.patterns, int(Reason.UNEXPLAINED)),
            np.full(n, -1),
            np.zeros((n, 2), dtype=np.int64),
            np.full((n, 2), np.nan),
        )

    def put(
        self, slot: int, which: Ints, points: Points, label: Ints, fits: LatticeFits, good: Bools
    ) -> None:
        """Keep the good fits as this slot's lattices of the patterns ``which``.

        A disk that an earlier slot has stays there.
        """
        rows = which[good]
        self.label[slot, rows] = label[good]
        self.parameters[slot, rows] = fits.parameters[good]
        self.covariance[slot, rows] = fits.covariance[good]
        self.evidence[slot, rows] = fits.evidence[good]
        freedom = 2 * fits.count[good] - 6
        self.chi2[slot, rows] = fits.chi2[good] / np.where(freedom > 0.5, freedom, np.nan)
        self.count[slot, rows] = np.rint(fits.count[good])
        disks = points.disks_of(which)
        mine = (fits.member > 0.5) & np.repeat(good, points.counts[which])
        mine &= self.slot[disks] < 0
        self.slot[disks[mine]] = slot
        self.indices[disks[mine]] = fits.indices[mine]
        self.residual[disks[mine]] = fits.residual[mine]

    def judge(self, points: Points, noise: Noise) -> None:
        """Say of each pattern whether it is indexed, and if not, why.

        A fit that knows the lattice no better than the guess it started from has seen a single
        row of disks, or too few: it is dropped.
        """
        held = self.label >= 0
        worst = np.zeros(held.shape)
        worst[held] = largest_deformation_sigma(self.parameters[held], self.covariance[held])
        vague = held & (worst > noise.deformation)
        self._drop(vague, points)
        vague[0] |= (self.reason == Reason.VAGUE) & ~held[0]
        self.reason[:] = np.where(held[0], int(Reason.INDEXED), int(Reason.UNEXPLAINED))
        self.reason[vague[0]] = int(Reason.VAGUE)
        self.reason[points.counts < 3] = int(Reason.FEW)
        self.reason[points.counts == 0] = int(Reason.EMPTY)

    def _drop(self, which: Bools, points: Points) -> None:
        self.label[which] = -1
        for array in (self.parameters, self.covariance, self.evidence, self.chi2):
            array[which] = np.nan
        self.count[which] = 0
        for slot, patterns in enumerate(which):
            disks = patterns[points.pattern] & (self.slot == slot)
            self.slot[disks] = -1
            self.indices[disks] = 0
            self.residual[disks] = np.nan

    def as_map(self, points: Points, bases: Floats, noise: Noise) -> LatticeMap:
        """The finished map, bases that no pattern has left out; grains are not told apart yet."""
        used = np.unique(self.label[self.label >= 0])
        number = np.full(len(bases) + 1, -1)
        number[used] = np.arange(len(used))
        shape = (len(self.label), *points.scan_shape)
        return LatticeMap(
            points,
            bases[used],
            number[self.label].reshape(shape),
            np.full(shape, -1),
            self.parameters[:, :, 0].reshape(*shape, 2),
            self.parameters[:, :, 1:].reshape(*shape, 2, 2),
            self.covariance.reshape(*shape, 6, 6),
            self.evidence.reshape(shape),
            self.chi2.reshape(shape),
            self.count.reshape(shape),
            self.reason.reshape(points.scan_shape),
            self.slot,
            self.indices,
            self.residual,
            noise,
        )


def largest_deformation_sigma(parameters: Floats, covariance: Floats) -> Floats:
    """(M,) standard uncertainty of the least known combination of strain and rotation.

    Parameters
    ----------
    parameters : (M, 3, 2) origin, a, b; covariance : (M, 6, 6) of them.
    """
    inverse = np.linalg.inv(parameters[:, 1:])
    jacobian = np.einsum("mij,kl->mikjl", inverse, np.eye(2)).reshape(-1, 4, 4)
    spread = jacobian @ covariance[:, 2:, 2:] @ np.swapaxes(jacobian, 1, 2)
    return np.asarray(np.sqrt(np.linalg.eigvalsh(spread)[:, -1]))
