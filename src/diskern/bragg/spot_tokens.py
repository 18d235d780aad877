"""Spots of a pattern as tokens in the pattern's own frame, for simulated and real ones alike.

The frame is a reduced basis of the net, its first vector along +x and as unit of length.  Of
the bases that are equally reduced (two for an oblique net, four for a square, six for a
hexagonal one) the one is taken along which the spots are brightest, so that tokens do not
change when a pattern is turned or magnified; frames are never mirrored, so handedness stays.

A token is a Friedel pair of nodes, lit or dark, or one spot off the net.  Dark nodes within
reach are told as well, for what is absent is half of the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice_reduce import reduction
from diskern.bragg.spot_facts import GRID_FIELDS, SHAPE_FIELDS, grid_facts, shape_facts
from diskern.bragg.spot_symmetry import SYMMETRY_FIELDS, net_symmetry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

PAIRS, STRAYS = 28, 8
"""Tokens of a pattern: Friedel pairs of nodes, nearest first, and spots off the net, strongest
first."""
REACH = 6
"""Largest index of a node that has a token."""
LIKE = 0.06
"""Relative difference of squared lengths below which bases count as equally reduced."""
NEAR = 0.18
"""Largest distance of a spot from its node along either basis vector, in that vector's length."""
FLOOR = 1e-4
"""Intensities, relative to the strongest spot, that stand for all weaker ones."""
_LOG_FLOOR = np.log(FLOOR)

TOKEN_FIELDS = 30
INDICES = 11
"""First column of what a token's indices, or its place between the nodes, say by themselves."""
SHAPE = 12
"""First column of `diskern.bragg.spot_facts.shape_facts`: whether there is a net, lengths in it."""
PATTERN_FIELDS = SHAPE + SHAPE_FIELDS + SYMMETRY_FIELDS + GRID_FIELDS

_PAIR_NODES = np.array(
    [(m, n) for n in range(REACH + 1) for m in range(-REACH, REACH + 1) if n > 0 or m > 0],
    dtype=np.float64,
)
_PAIR_TIES = _PAIR_NODES @ [3e-6, 2**0.5 * 1e-6]
"""What is added to their distances: a tie between symmetric nodes is not left to rounding."""
_SIDE = 2 * REACH + 1
_PAIR_PLACES: Ints = np.stack(
    [(REACH + sign * _PAIR_NODES) @ [_SIDE, 1] for sign in (1, -1)], 1
).astype(np.int64)
"""Where both nodes of each pair stand among all nodes."""
_PAIR_FACTS = np.zeros((len(_PAIR_NODES), TOKEN_FIELDS - INDICES))
"""What a token says of its indices alone: themselves, and waves that tell classes of them apart.

Turned by half a turn, a pattern shows the same pairs the other way round; the frame's choice
undoes that.
"""
_PAIR_FACTS[:, :14] = np.stack(
    [*(_PAIR_NODES / 3).T]
    + [f(2 * np.pi * _PAIR_NODES[:, i] / p)
       for p in (2, 3, 4) for i in (0, 1) for f in (np.cos, np.sin)
       if not (p == 2 and f is np.sin)]
    + [np.cos(np.pi * _PAIR_NODES.sum(1)), np.ones(len(_PAIR_NODES))],
    1,
)  # fmt: skip
_NODES = np.stack(np.meshgrid(*[np.arange(-REACH, REACH + 1.0)] * 2, indexing="ij"), -1)
_NODES = _NODES.reshape(-1, 2)
_SHORT = np.array(
    [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)], dtype=np.float64
)
"""What vectors of all equally reduced bases are in one of them."""
_QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
"""Turns rows (a, b) into (b, -a)."""
_FIRST, _SECOND = np.nonzero(_SHORT @ -_QUARTER @ _SHORT.T == 1)
"""Rows of `_SHORT` that make proper changes of a reduced basis."""


@dataclass(frozen=True, eq=False)
class SpotTokens:
    """Tokens of B patterns.

    Attributes
    ----------
    token : (B, T, `TOKEN_FIELDS`) float32, pairs first, then spots off the net.
    place : (B, T, 2) position of each token in the pattern's frame.
    there : (B, T) which tokens stand for something.
    pattern : (B, `PATTERN_FIELDS`) float32 facts of the pattern as a whole; its scale is
        column `SCALE`, ln|a| in the unit of the spots.
    source : (B, T, 2) rows of the spots that made each token, -1 for none.
    """

    token: Singles
    place: Singles
    there: NDArray[np.bool_]
    pattern: Singles
    source: Ints

    def __len__(self) -> int:
        return len(self.token)


SCALE = 0


def spot_tokens(position: Floats, intensity: Floats, basis: Floats) -> SpotTokens:
    """Tokens of B patterns.

    Parameters
    ----------
    position : (B, N, 2) row and column of each spot from the direct beam, in any unit.
    intensity : (B, N), zero where padded.
    basis : (B, 2, 2) rows of the net's basis, (row, column) in the same unit; NaN where no net
        was found.  The frame then is a square one, its first vector the shortest strong spot.
    """
    if intensity.shape[1] < STRAYS:
        more = STRAYS - intensity.shape[1]
        intensity = np.pad(intensity, ((0, 0), (0, more)))
        position = np.pad(position, ((0, 0), (0, more), (0, 0)))
    seen = (intensity > 0) & np.isfinite(position).all(-1)
    bright = np.where(seen, intensity, 0.0)
    share = bright / np.maximum(bright.max(1, keepdims=True, initial=0.0), 1e-30)
    place = np.where(seen[..., None], position, 0.0)
    found = np.asarray(np.isfinite(basis).all((1, 2)))
    frame = _frames(place, share, basis, found)
    index = place @ np.linalg.inv(frame)
    node = np.rint(index).astype(np.int64)
    on_net = seen & (np.abs(index - node).max(-1) < NEAR) & node.any(-1)
    to_frame = np.swapaxes(_turned(frame[:, 0]), 1, 2)
    to_frame = to_frame / (frame[:, :1] ** 2).sum(2, keepdims=True)
    plane, basis_there = place @ to_frame, frame @ to_frame
    distance = _length(plane)
    reach = distance.max(1, initial=0.0)
    spot = _spot_of_node(node, share, on_net)
    level, within = _nodes(basis_there, spot, share, reach)
    pairs = _pairs(basis_there, spot, level, reach)
    strays = _strays(plane, share, index, seen & ~on_net & (distance > 0))
    token, where, there, source = (
        np.concatenate([a, b], 1) for a, b in zip(pairs, strays, strict=True)
    )
    facts = _pattern_facts(frame, reach, share, on_net, seen, found)
    more = [shape_facts(frame), net_symmetry(level, within, frame), grid_facts(level, within)]
    facts = np.concatenate([facts, np.concatenate(more, 1) * found[:, None]], 1)
    return SpotTokens(
        (token * there[..., None]).astype(np.float32),
        (where * there[..., None]).astype(np.float32),
        there,
        facts.astype(np.float32),
        source,
    )


# --- the frame ------------------------------------------------------------------------------
def _frames(place: Floats, share: Floats, basis: Floats, found: NDArray[np.bool_]) -> Floats:
    """(B, 2, 2) rows (row, column) of the basis that each pattern is told in."""
    out = np.empty((len(place), 2, 2))
    if found.any():
        given = basis[found]
        out[found] = _brightest(reduction(given) @ given, place[found], share[found])
    if not found.all():
        out[~found] = _turned(_nearest(place[~found], share[~found]))
    return out


def _nearest(place: Floats, share: Floats) -> Floats:
    """(B, 2) the strong spot nearest to the beam; along +x where there is none."""
    length = _length(place)
    first = np.where((share > 0.05) & (length > 0), length, np.inf).argmin(1)
    found = place[np.arange(len(place)), first]
    return np.where(found.any(1, keepdims=True), found, [0.0, 1.0])


def _turned(vector: Floats) -> Floats:
    """(B, 2, 2) vectors, each with what is as long and lies 90° clockwise of it on the screen."""
    return np.stack([vector, vector @ _QUARTER], 1)


def _brightest(reduced: Floats, place: Floats, share: Floats) -> Floats:
    """Of the equally reduced bases of each net the one along which the spots are brightest."""
    short = _SHORT @ reduced
    dot = short @ np.swapaxes(short, 1, 2)
    uu, vv, uv = dot[:, _FIRST, _FIRST], dot[:, _SECOND, _SECOND], dot[:, _FIRST, _SECOND]
    cost = uu + vv
    fits = (cost < cost.min(1, keepdims=True) * (1 + LIKE)) & (uu < vv * (1 + LIKE))
    angle = np.arccos(np.maximum(np.minimum(uv / np.sqrt(uu * vv), 1), -1))
    score = _brightness_along(short, place, share)[:, _FIRST] + 1e-3 * angle
    best = np.where(fits, score, -np.inf).argmax(1)
    chosen = np.stack([_FIRST[best], _SECOND[best]], 1)
    return np.asarray(short[np.arange(len(short))[:, None], chosen])


def _brightness_along(vector: Floats, place: Floats, share: Floats) -> Floats:
    """(B, V) how bright the spots are along each of (B, V, 2) vectors."""
    direction = vector / _length(vector)[..., None]
    # Columns are x and rows y, and the second axis lies clockwise: (row, col) -> (x, y).
    columns = np.swapaxes(place, 1, 2)
    along = direction @ columns
    across = direction @ _QUARTER @ columns
    square = np.maximum(along**2 + across**2, 1e-30)
    even = (along**2 - across**2 + along * across) / square
    odd = (along + 0.5 * across) / np.sqrt(square)
    weight = np.sqrt(share)[:, None]
    return np.asarray((weight * (even + odd)).sum(-1) / np.maximum(weight.sum(-1), 1e-30))


# --- tokens ---------------------------------------------------------------------------------
_Part = tuple[Floats, Floats, NDArray[np.bool_], Ints]


def _pairs(basis: Floats, spot: Ints, level: Floats, reach: Floats) -> _Part:
    """Nodes near the beam in Friedel pairs, lit or dark.

    Parameters
    ----------
    basis : (B, 2, 2) rows of the basis in the pattern's frame.
    spot, level : of `_spot_of_node` and `_nodes`.
    reach : (B,) distance of the outermost spot.
    """
    row = np.arange(len(basis))[:, None]
    where = _PAIR_NODES @ basis
    radius = _length(where)
    order = np.argsort(radius + _PAIR_TIES, axis=1)[:, :PAIRS]
    where, radius = where[row, order], radius[row, order]
    there = radius <= 1.02 * reach[:, None]
    both = row[..., None], _PAIR_PLACES[order]
    source, bright = spot.reshape(len(spot), -1)[both], level.reshape(len(level), -1)[both]
    lit = source >= 0
    token = np.empty((*order.shape, TOKEN_FIELDS))
    token[..., :2] = where / 3
    token[..., 2] = radius / 3
    token[..., 3] = np.log(np.maximum(radius, 1e-3))
    token[..., 4] = 0.5 * (bright[..., 0] + bright[..., 1])
    token[..., 5:7] = bright
    token[..., 7] = bright[..., 0] - bright[..., 1]
    token[..., 8:10] = lit
    token[..., 10] = ~(lit[..., 0] | lit[..., 1])
    token[..., INDICES:] = _PAIR_FACTS[order]
    return token, where, there, np.where(there[..., None], source, -1)


def _nodes(
    basis: Floats, spot: Ints, share: Floats, reach: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """(B, 2R+1, 2R+1) brightness of the nodes, and which lie within the pattern."""
    row = np.arange(len(share))[:, None, None]
    # At dark nodes, row -1, some spot is looked at and not taken.
    bright = np.where(spot >= 0, share[row, spot], 0.0)
    radius = _length(_NODES @ basis).reshape(bright.shape)
    return _level(bright), radius <= 1.02 * reach[:, None, None]


def _length(vector: Floats) -> Floats:
    """(...) lengths of (..., 2) vectors."""
    return np.asarray(np.hypot(vector[..., 0], vector[..., 1]))


def _spot_of_node(node: Ints, share: Floats, on_net: NDArray[np.bool_]) -> Ints:
    """(B, 2R+1, 2R+1) row of the strongest spot at each node, -1 where it is dark."""
    b = len(share)
    near = on_net & (np.abs(node).max(-1) <= REACH)
    spot = np.full((b, _SIDE, _SIDE), -1, dtype=np.int64)
    order = np.argsort(share, axis=1, kind="stable")
    row, column = np.nonzero(near[np.arange(b)[:, None], order])
    which = order[row, column]
    # Later assignments win: the strongest spot of a node stays.
    at = node[row, which] + REACH
    spot[row, at[:, 0], at[:, 1]] = which
    return spot


def _strays(plane: Floats, share: Floats, index: Floats, off: NDArray[np.bool_]) -> _Part:
    """The strongest spots off the net; those that share their offset form a shifted net."""
    b = len(plane)
    strength = np.where(off, share, 0.0)
    order = np.argsort(-strength, axis=1, kind="stable")[:, :STRAYS]
    row = np.arange(b)[:, None]
    there = strength[row, order] > 0
    where, bright = plane[row, order], strength[row, order]
    shift = index[row, order] - np.floor(index[row, order])
    apart = shift[:, :, None] - shift[:, None]
    apart = np.abs(apart - np.rint(apart)).max(-1)
    alike = ((apart < 0.1) & there[:, None] & there[:, :, None]).sum(-1) - 1
    radius = _length(where)
    token = np.zeros((*order.shape, TOKEN_FIELDS))
    token[..., :2] = where / 3
    token[..., 2] = radius / 3
    token[..., 3] = np.log(np.maximum(radius, 1e-3))
    token[..., 4:6] = _level(bright)[..., None]
    token[..., 8] = there
    wave = 2 * np.pi * shift
    token[..., INDICES : INDICES + 4 : 2] = np.cos(wave)
    token[..., INDICES + 1 : INDICES + 4 : 2] = np.sin(wave)
    token[..., INDICES + 4] = np.minimum(np.maximum(alike, 0), 4) / 4
    # The last column marks strays.
    token[..., -1] = 1.0
    source = np.full((*order.shape, 2), -1, dtype=np.int64)
    source[..., 0] = np.where(there, order, -1)
    return token, where, there, source


def _level(share: Floats) -> Floats:
    """Logarithm of relative intensities, 0 for the faintest or none, 1 for the strongest."""
    return np.asarray(1 - np.log(np.maximum(share, FLOOR)) / _LOG_FLOOR)


def _pattern_facts(
    frame: Floats,
    reach: Floats,
    share: Floats,
    on_net: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    found: NDArray[np.bool_],
) -> Floats:
    """(B, 12): scale, shape of the net, and how well it explains the spots."""
    la, lb = _length(frame).T
    ratio = lb / la
    cosine = (frame[:, 0] * frame[:, 1]).sum(1) / (la * lb)
    count = seen.sum(1)
    some = count > 0
    faintest = np.where(seen, share, 1.0).min(1, initial=1.0)
    out = np.empty((len(frame), 12))
    out[:, SCALE] = np.log(la)
    out[:, 1] = np.log(ratio)
    out[:, 2] = cosine
    out[:, 3] = 1
    out[:, 4] = np.log1p(count) / 4
    out[:, 5] = (share * on_net).sum(1) / np.maximum(share.sum(1), 1e-30)
    out[:, 6] = on_net.sum(1) / np.maximum(count, 1)
    out[:, 7] = _level(faintest) * some
    out[:, 8] = np.log(np.maximum(reach, 1e-3)) * some
    out[:, 9] = np.sqrt(np.maximum(1 - cosine**2, 0)) * ratio / 3
    out[:, 10] = np.abs(cosine) < 0.02
    out[:, 11] = np.abs(ratio - 1) < 0.02
    # Without a net nothing is said of its shape.
    out[:, 1:4] *= found[:, None]
    out[:, 9:] *= found[:, None]
    return out
