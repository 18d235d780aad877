"""What two overlapping crystals explain together that two lattices alone do not.

Twins and other intergrown crystals share a row of nodes more often than chance would have it, and
a beam diffracted by one crystal is diffracted again by the other, which lights sums of a node of
each.  Without both, one net fine enough to catch all of these spots outbids the two true ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice_evidence import Verdict
from diskern.bragg.lattice_nets import clutter_evidence, occupancy_evidence
from diskern.bragg.lattice_reduce import reduced
from diskern.bragg.lattice_sight import Sight

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SHORT = np.array([[1, 0], [0, 1], [1, -1], [1, 1], [-1, 0], [0, -1], [-1, 1], [-1, -1]])
_ROWS = 3  # shortest rows of a lattice that another may share
_CAUGHT = 3.0  # standard deviations within which a spot lies on a sum of nodes


def shared_row(first: Verdict, second: Verdict) -> float:
    """ln of how much likelier the second lattice is if crystals grow together as often as not.

    Half of all pairs then share one of their shortest vectors; those of the others lie anywhere
    in the disc of that radius.  0 for rows.
    """
    if first.net.rank[0] != 2 or second.net.rank[0] != 2:
        return 0.0
    one, other = _shell(first)[:_ROWS], _shell(second)
    squared = ((one[:, None] - other[None]) ** 2).sum(axis=2)
    variance = _doubt(first) + _doubt(second)
    disc = np.pi * (one**2).sum(axis=1)[:, None]
    density = np.exp(-squared / (2 * variance)) / (2 * np.pi * variance)
    return float(np.log(0.5 + 0.5 * (disc * density).max() / _ROWS**2))


def twice_diffracted(chain: list[Verdict], rest: Sight) -> tuple[float, Bools]:
    """Spots left, (N,), that lie at sums of the first two lattices' short vectors, and their ln
    evidence over clutter; none where it is small.

    The lattices fix these places, so no parameter is spent; an unlit one counts like any node.
    """
    none = np.zeros(len(rest), dtype=bool)
    pair = [verdict for verdict in chain if verdict.net.rank[0] == 2][:2]
    if len(pair) < 2 or not len(rest):
        return 0.0, none
    variance = float(np.median(rest.isotropic)) + sum(_doubt(verdict) for verdict in pair)
    reach = _CAUGHT * float(np.sqrt(variance)) + 0.5 * rest.width
    place = _sums(pair[0], pair[1], rest, reach)
    if not len(place):
        return 0.0, none
    away = ((rest.position[:, None] - place[None]) ** 2).sum(axis=2)
    caught = (away == away.min(axis=0)) & (away < _CAUGHT**2 * variance)
    squared = away[caught]
    shown, count, area = len(squared), len(rest), rest.region.area
    total = float((-np.log(2 * np.pi * variance) - squared / (2 * variance)).sum())
    total += float(occupancy_evidence(shown, len(place)))
    total += float(clutter_evidence(max(count - shown, 0), count, area))
    total -= float(clutter_evidence(count, count, area))
    evidence = float(np.logaddexp(total, 0.0) - np.log(2))  # crystals may lie side by side
    return evidence, caught.any(axis=1) if total > 0 else none


def _sums(first: Verdict, second: Verdict, rest: Sight, reach: float) -> Floats:
    """(K, 2) distinct visible places at sums of short vectors that are nodes of neither."""
    origin = first.net.origin[0]
    place = (origin + _shell(first)[:, None] + _shell(second)[None]).reshape(-1, 2)
    keep = rest.region.contains(place) & (np.linalg.norm(place - origin, axis=1) > reach)
    for net in (first.net, second.net):
        fraction = (place - net.origin[0]) @ np.linalg.inv(net.basis[0])
        miss = (fraction - np.rint(fraction)) @ net.basis[0]
        keep &= np.linalg.norm(miss, axis=1) > reach
    place = place[keep]
    gap = np.linalg.norm(place[:, None] - place[None], axis=2)
    return np.asarray(place[~(np.tril(gap < reach, -1).any(axis=1))])


def _shell(verdict: Verdict) -> Floats:
    """(6, 2) shortest vectors of the lattice, three of them and their opposites."""
    vector = _SHORT @ reduced(verdict.net.basis[0])
    order = np.argsort((vector[:4] ** 2).sum(axis=1), kind="stable")[:3]
    return np.concatenate([vector[order], vector[order + 4]])


def _doubt(verdict: Verdict) -> float:
    """Variance in px² of a coordinate of a short vector: distortion shifts it like a spot."""
    net = verdict.net
    return float(net.excess[0] + np.diagonal(net.covariance[0]).max())
