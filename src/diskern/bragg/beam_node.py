"""Which node of a lattice is the direct beam, where the image alone misled.

A hidden beam is sought by symmetry, and a lattice is symmetric about many points; a seen one by
brightness, and a Bragg spot may outshine it.  Once there is a lattice, the beam is one of its
nodes: near where the diffuse background aims, hidden or bright, and with spots on both sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.spots import Spots
from diskern.patterns.centre import LEEWAY, OFF_MIDDLE, TAIL
from diskern.patterns.geometry import Centre, Flaw

Floats = NDArray[np.float64]

COVERED = Flaw.BEAM_STOP | Flaw.MISSING | Flaw.OVERLAY | Flaw.SATURATED | Flaw.BLOOMING | Flaw.CROSS
"""Where a direct beam may be that is not among the spots."""
FARTHEST = -7.5
"""Log-likelihood of the distance from there at which no node is the beam any more."""
DARK = -1.5
"""Log-likelihood of a direct beam that is not seen where nothing is known to hide it."""
MATES = 4.0
"""Log-likelihood of a beam about which every strong spot has its mate, over one with none."""
STRONG = 24
"""Spots whose mates are looked for."""
SURER = 1.5
"""By how much another node must be more likely than the one nearest the centre."""
SEEN = 1.8
"""How much more for a centre that was seen as a bright peak: five in six of these are right on
simulated images in which a third of the beams is hidden."""


def beam_node(
    lattice: Lattice2D,
    spots: Spots,
    centre: Centre,
    aim: Floats | None,
    flaws: NDArray[np.uint16],
) -> Floats | None:
    """(2,) row and column in px of the direct beam; None where the centre stands.

    Parameters
    ----------
    lattice : of rank 2, its origin the node nearest to the centre.
    spots : that it was fitted to.
    centre : the direct beam so far.
    aim : (2,) what the diffuse background aims at; None without one.
    flaws : (Q_y, Q_x) bits of `Flaw`.
    """
    index, place = lattice.nodes((flaws.shape[0], flaws.shape[1]))
    worth = _nearness(place, aim, flaws)
    near = worth > FARTHEST
    index, place, worth = index[near], place[near], worth[near]
    if not len(place):
        return None
    worth = worth + _seen(index, place, lattice, spots, centre, flaws)
    worth = worth + MATES * _mates(index, lattice, spots, flaws)
    own = (index == 0).all(1)
    best = int(worth.argmax())
    surer = SURER + (SEEN if centre.method == "direct beam" else 0.0)
    if own.any() and worth[best] < worth[own][0] + surer:
        best = int(np.flatnonzero(own)[0])
    off = np.linalg.norm(place[best] - centre.as_array())
    tolerance = 3 * float(np.hypot(centre.sigma, lattice.residual)) + 1.0
    return place[best] if off > tolerance else None


def _nearness(place: Floats, aim: Floats | None, flaws: NDArray[np.uint16]) -> Floats:
    """(K,) log-likelihood of the distance from where the background aims.

    Without a background who records a pattern still points the camera at the beam, roughly.
    """
    side = min(flaws.shape)
    if aim is None:
        middle = (np.array(flaws.shape) - 1) / 2
        return np.asarray(-0.5 * ((place - middle) ** 2).sum(1) / (OFF_MIDDLE * side) ** 2)
    square = ((place - aim) ** 2).sum(1) / (LEEWAY * side) ** 2
    return np.asarray(-TAIL * np.log1p(square / 2))


def _seen(
    index: NDArray[np.int64],
    place: Floats,
    lattice: Lattice2D,
    spots: Spots,
    centre: Centre,
    flaws: NDArray[np.uint16],
) -> Floats:
    """(K,) log-likelihood of what is seen at each node: little speaks for a faint one."""
    row, col = np.rint(place).astype(np.int64).T
    hidden = (flaws[row, col] & np.uint16(COVERED)) != 0
    bright = np.full(len(place), DARK)
    level = spots.intensity / spots.intensity.max(initial=1e-30)
    lit = {
        tuple(i): float(level[m])
        for i, m in zip(lattice.indices.tolist(), lattice.members, strict=True)
    }
    for k, node in enumerate(map(tuple, index.tolist())):
        if node in lit:
            bright[k] = max(0.5 * np.log(max(lit[node], 1e-30)), DARK)
    if centre.method == "direct beam":
        # It was seen there, brighter than all that is near.
        bright[np.linalg.norm(place - centre.as_array(), axis=1) < max(3.0, centre.radius)] = 0.0
    return np.asarray(np.where(hidden, 0.0, bright))


def _mates(
    index: NDArray[np.int64], lattice: Lattice2D, spots: Spots, flaws: NDArray[np.uint16]
) -> Floats:
    """(K,) part of the strong spots that have a Friedel mate about each node, by intensity."""
    order = np.argsort(-spots.intensity[lattice.members], kind="stable")[:STRONG]
    strong = lattice.indices[order]
    weight = np.sqrt(spots.intensity[lattice.members[order]])
    known = {tuple(i) for i in lattice.indices.tolist()}
    out = np.zeros(len(index))
    for k, node in enumerate(index):
        mates = 2 * node - strong
        place = lattice.origin + mates @ lattice.basis
        row, col = np.rint(place).astype(np.int64).T
        inside = (row >= 0) & (col >= 0) & (row < flaws.shape[0]) & (col < flaws.shape[1])
        shown = inside.copy()
        shown[inside] = (flaws[row[inside], col[inside]] & np.uint16(COVERED)) == 0
        shown &= (strong != node).any(1)
        there = np.array([tuple(m) in known for m in mates.tolist()])
        total = float(weight[shown].sum())
        out[k] = float(weight[shown & there].sum()) / total if total > 0 else 0.5
    return out
