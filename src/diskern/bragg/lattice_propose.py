"""First guesses of the basis from the differences between spots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diskern.bragg.lattice_nets import Nets, concatenate, grow, quick_evidence, rows, start
from diskern.bragg.lattice_reduce import reduced
from diskern.bragg.lattice_sight import Sight

Floats = NDArray[np.float64]

_STRONGEST = 120  # spots whose differences are formed
_VECTORS = 26  # difference vectors that are combined to bases
_FIRST_LOOK = 40  # spots that trials are first grown on
_KEPT = 20
_FEW = 8  # up to so many spots, differences that occur once are tried too


def doubt_of(sight: Sight) -> float:
    """Uncertainty in px of a difference vector, by the spots' own sigma or by distortion."""
    own = float(np.median(np.sqrt(sight.isotropic)))
    return max(2.0 * own, 0.04 * sight.spacing)


def difference_vectors(sight: Sight, count: int = _VECTORS) -> Floats:
    """(V, 2) the most repeated differences between points, direct beam included, of each ±pair one.

    In a lattice a short vector between nodes recurs between many pairs, whatever part of the
    lattice is lit and wherever its origin.
    """
    strongest = np.argsort(-sight.intensity, kind="stable")[:_STRONGEST]
    point = np.concatenate([sight.centre[None], sight.position[strongest]])
    first, second = np.triu_indices(len(point), 1)
    vector = point[second] - point[first]
    flip = (vector[:, 1] < 0) | ((vector[:, 1] == 0) & (vector[:, 0] < 0))
    vector[flip] *= -1
    length = np.linalg.norm(vector, axis=1)
    reach = np.quantile(length, min(1.0, 40 * count / len(length)))
    doubt = doubt_of(sight)
    use = (length > max(sight.width, 2 * doubt)) & (length <= max(reach, 2.5 * sight.spacing))
    vector, length = vector[use], length[use]
    if not len(vector):
        return np.zeros((0, 2))
    order = np.argsort(length, kind="stable")[:4000]
    vector = vector[order]
    both = np.concatenate([vector, -vector])  # a cluster may straddle the ± boundary
    pairs = cKDTree(both).query_pairs(1.5 * doubt, output_type="ndarray")
    pairs = pairs[pairs[:, 0] < len(vector)]
    votes: Floats = np.ones(len(vector))
    total: Floats = vector.copy()
    for own, other in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
        keep = own < len(vector)
        votes += np.bincount(own[keep], minlength=len(vector))
        for axis in (0, 1):
            total[:, axis] += np.bincount(
                own[keep], weights=both[other[keep], axis], minlength=len(vector)
            )
    repeated = votes > 1.5
    if len(sight) > _FEW and repeated.any():
        total, votes = total[repeated], votes[repeated]
    return _distinct(total / votes[:, None], votes, doubt, count)


def _distinct(mean: Floats, votes: Floats, doubt: float, count: int) -> Floats:
    """The most voted cluster means, none within a vote's reach of a better one."""
    length = np.linalg.norm(mean, axis=1)
    order = np.lexsort([length, -votes])
    chosen: list[int] = []
    open_ = np.ones(len(mean), dtype=bool)
    for i in order:
        if not open_[i]:
            continue
        chosen.append(int(i))
        if len(chosen) == count:
            break
        away = np.minimum(((mean - mean[i]) ** 2).sum(1), ((mean + mean[i]) ** 2).sum(1))
        open_ &= away > (1.5 * doubt) ** 2
    return np.asarray(mean[chosen])


def bases(vectors: Floats, smallest: float, doubt: float) -> Floats:
    """(B, 2, 2) distinct reduced bases from all pairs of (V, 2) vectors."""
    first, second = np.triu_indices(len(vectors), 1)
    pair = np.stack([vectors[first], vectors[second]], axis=1)
    sine = np.abs(np.linalg.det(pair)) / np.linalg.norm(pair, axis=2).prod(axis=1)
    pair = reduced(pair[sine > 0.1])
    pair = pair[np.linalg.norm(pair[:, 0], axis=1) > smallest]
    _, keep = np.unique(np.rint(pair.reshape(-1, 4) / doubt), axis=0, return_index=True)
    return np.asarray(pair[np.sort(keep)])


def propose(sight: Sight) -> Nets:
    """Trial lattices and rows for these spots, the best of many, best first."""
    vectors = difference_vectors(sight)
    if not len(vectors):
        return _none()
    doubt = doubt_of(sight)
    plane = bases(vectors, sight.width, doubt)
    basis = np.concatenate([plane, rows(vectors)])
    rank = np.repeat([2, 1], [len(plane), len(vectors)])
    anchors = _anchors(sight)
    trials = [
        start(np.broadcast_to(place, (len(basis), 2)), basis, rank, max(doubt, own))
        for place, own in anchors
    ]
    few = np.zeros(len(sight), dtype=bool)
    for place, _ in anchors:
        away = ((sight.position - place) ** 2).sum(axis=1)
        few[np.argsort(away, kind="stable")[: _FIRST_LOOK // len(anchors)]] = True
    subset = sight.select(few)
    nets = grow(concatenate(trials), subset, 3)
    nets = nets[np.argsort(-quick_evidence(nets, subset), kind="stable")[: 2 * _KEPT]]
    nets = grow(nets, sight, 4)
    return nets[np.argsort(-quick_evidence(nets, sight), kind="stable")[:_KEPT]]


def _anchors(sight: Sight) -> list[tuple[Floats, float]]:
    """Where trials start to grow, with the uncertainty of the node there in px: the direct beam,
    and, where it is in doubt or lies away from the lit part, the spot with most neighbours."""
    reach = 2 * sight.spacing
    crowd = cKDTree(sight.position).query_ball_point(
        np.concatenate([sight.centre[None], sight.position]), reach, return_length=True
    )
    doubt = float(np.sqrt(sight.centre_variance))
    hub = int(np.argmax(crowd[1:]))
    out = [(sight.position[hub], float(np.sqrt(sight.isotropic[hub])))]
    if doubt < 0.1 * sight.spacing and 2 * crowd[0] >= crowd[1 + hub]:
        return [(sight.centre, doubt)]
    if doubt < 0.5 * sight.spacing:
        out.append((sight.centre, doubt))
    return out


def _none() -> Nets:
    return start(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0, dtype=np.int64), 1.0)
