"""Rocking curves inside convergent-beam disks, in the units of `diskern.nets.disk_units`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

SPAN = 1.25
"""Half-width of the tables in aperture radii: soft edges reach beyond 1."""


@dataclass(frozen=True, eq=False)
class RockedDisks:
    """The disks of B patterns, those of one pattern side by side, in calibration-free units.

    Attributes
    ----------
    frame : (N,) pattern of each diffracted disk, ascending.
    G : (N, 2) places (row, column) in aperture radii from the direct beam.
    Q : (N,) excitation errors in λ k_R².
    W : (N,) couplings 1/(ξ_g λ k_R²).
    curves : (N, M, M) intensity, a fraction of the incident beam at the same direction, on a
        square grid of directions over ±`SPAN` aperture radii (rows, columns).
    direct : (B, M, M) the same of the direct beam.
    """

    frame: Ints
    G: Floats
    Q: Floats
    W: Floats
    curves: Singles
    direct: Singles

    def __len__(self) -> int:
        return len(self.frame)


def axis(nodes: int) -> Singles:
    """(nodes,) directions of a table's rows and columns in aperture radii."""
    return np.linspace(-SPAN, SPAN, nodes, dtype=np.float32)


def two_beam(
    frame: Ints,
    G: Floats,
    Q: Floats,
    W: Floats,
    depth: Floats,
    nodes: int,
    fade: Floats | float = 1.0,
) -> RockedDisks:
    """Each disk as if alone with the direct beam, which loses what the disks gain.

    Two-beam dynamical theory without absorption (Williams & Carter, Transmission Electron
    Microscopy, ch. 13).  Where the disks of a pattern take more than 95 % of some direction all
    are scaled down.

    Parameters
    ----------
    depth : (B,) thicknesses τ.
    fade : (N,) factor on each disk's intensity.
    """
    k = axis(nodes)
    G32, Q32, W32 = (a.astype(np.float32) for a in (G, Q, W))
    s = Q32[:, None, None] - (G32[:, :1, None] * k[:, None] + G32[:, 1:, None] * k[None, :])
    effective = np.sqrt(s * s + (W32 * W32)[:, None, None])
    swing = np.sin(np.float32(math.pi) * depth.astype(np.float32)[frame, None, None] * effective)
    curves = (W32[:, None, None] / np.maximum(effective, np.float32(1e-20)) * swing) ** 2
    curves *= np.broadcast_to(np.asarray(fade, dtype=np.float32), (len(frame),))[:, None, None]
    lost = np.zeros((len(depth), nodes, nodes), dtype=np.float32)
    starts = np.flatnonzero(np.diff(frame, prepend=-1))
    if len(frame):
        lost[frame[starts]] = np.add.reduceat(curves, starts, axis=0)
    room = np.float32(0.95) / np.maximum(lost.max(axis=(1, 2)), np.float32(0.95))
    curves *= room[frame, None, None]
    return RockedDisks(frame, G, Q, W, curves, 1 - lost * room[:, None, None])
