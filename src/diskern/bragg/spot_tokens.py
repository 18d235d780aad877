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

TOKEN_FIELDS = 30
INDICES = 11
"""First column of what a token's indices, or its place between the nodes, say by themselves."""
SHAPE = 12
"""First column of `diskern.bragg.spot_facts.shape_facts`: whether there is a net, lengths in it."""
PATTERN_FIELDS = SHAPE + SHAPE_FIELDS + SYMMETRY_FIELDS + GRID_FIELDS

_PAIR_NODES: Ints = np.array(
    [(m, n) for n in range(REACH + 1) for m in range(-REACH, REACH + 1) if n > 0 or m > 0]
)
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
_TURNS: Ints = np.array(
    [
        [u, v]
        for u in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
        for v in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
        if u[0] * v[1] - u[1] * v[0] == 1
    ]
)
"""Proper changes of a reduced basis among which all equally reduced ones are."""


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
    top = np.maximum(np.where(seen, intensity, 0).max(1, initial=0.0), 1e-30)
    share = np.where(seen, intensity, 0.0) / top[:, None]
    place = np.where(seen[..., None], position, 0.0)
    found = np.asarray(np.isfinite(basis).all((1, 2)))
    frame = _frames(place, share, basis, found)
    index = place @ np.linalg.inv(frame)
    node = np.rint(index).astype(np.int64)
    on_net = seen & (np.abs(index - node).max(-1) < NEAR) & node.any(-1)
    rows = _rotation_rows(frame)
    plane = place @ np.swapaxes(rows, 1, 2)
    reach = np.where(share > 0, _length(plane), 0).max(1, initial=0.0)
    spot = _spot_of_node(node, share, on_net)
    basis_there = frame @ np.swapaxes(rows, 1, 2)
    pairs = _pairs(basis_there, spot, share, reach)
    strays = _strays(plane, share, index, seen & ~on_net & (plane**2).sum(-1).astype(bool))
    token, where, there, source = (
        np.concatenate([a, b], 1) for a, b in zip(pairs, strays, strict=True)
    )
    facts = _pattern_facts(frame, reach, share, on_net, seen, found)
    level, within = _nodes(basis_there, spot, share, reach)
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
    length = _length(place)
    strong = (share > 0.05) & (length > 0)
    first = np.where(strong, length, np.inf).argmin(1)
    a = place[np.arange(len(place)), first]
    a = np.where(np.abs(a).sum(1, keepdims=True) > 0, a, [0.0, 1.0])
    # A square net: the second vector lies clockwise on the screen, as in reduced bases.
    out[:] = np.stack([a, np.stack([a[:, 1], -a[:, 0]], 1)], 1)
    if found.any():
        reduced = reduction(basis[found]) @ basis[found]
        out[found] = _brightest(reduced, place[found], share[found])
    return out


def _brightest(reduced: Floats, place: Floats, share: Floats) -> Floats:
    """Of the equally reduced bases of each net the one along which the spots are brightest."""
    options = _TURNS[None] @ reduced[:, None]
    u, v = options[:, :, 0], options[:, :, 1]
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    cost = uu + vv
    fits = (cost < cost.min(1, keepdims=True) * (1 + LIKE)) & (uu < vv * (1 + LIKE))
    direction = u / np.sqrt(uu)[..., None]
    # Columns are x and rows y, and the second axis lies clockwise: (row, col) -> (x, y).
    columns = np.swapaxes(place, 1, 2)
    along = direction @ columns
    across = np.stack([direction[..., 1], -direction[..., 0]], -1) @ columns
    square = np.maximum(along**2 + across**2, 1e-30)
    radius = np.sqrt(square)
    weight = np.sqrt(share)[:, None]
    even = (along**2 - across**2 + along * across) / square
    odd = (along + 0.5 * across) / radius
    score = (weight * (even + odd)).sum(-1) / np.maximum(weight.sum(-1), 1e-30)
    angle = np.arccos(np.clip(uv / np.sqrt(uu * vv), -1, 1))
    best = np.where(fits, score + 1e-3 * angle, -np.inf).argmax(1)
    return np.asarray(options[np.arange(len(options)), best])


def _rotation_rows(frame: Floats) -> Floats:
    """(B, 2, 2) maps (row, column) into (x, y) with the first basis vector as (1, 0)."""
    a = frame[:, 0]
    square = (a * a).sum(1, keepdims=True)
    return np.asarray(np.stack([a, np.stack([a[:, 1], -a[:, 0]], 1)], 1) / square[..., None])


# --- tokens ---------------------------------------------------------------------------------
_Part = tuple[Floats, Floats, NDArray[np.bool_], Ints]


def _pairs(basis: Floats, spot: Ints, share: Floats, reach: Floats) -> _Part:
    """Nodes near the beam in Friedel pairs, lit or dark.

    Parameters
    ----------
    basis : (B, 2, 2) rows of the basis in the pattern's frame.
    spot : of `_spot_of_node`.
    reach : (B,) distance of the outermost spot.
    """
    b = len(basis)
    where = _PAIR_NODES.astype(np.float64) @ basis
    radius = _length(where)
    # A tie between symmetric nodes is not left to rounding.
    order = np.argsort(radius + _PAIR_NODES @ [3e-6, 2**0.5 * 1e-6], axis=1)[:, :PAIRS]
    row = np.arange(b)[:, None]
    where, radius = where[row, order], radius[row, order]
    there = radius <= 1.02 * reach[:, None]
    mn = _PAIR_NODES[order]
    source = np.empty((*order.shape, 2), dtype=np.int64)
    source[..., 0] = spot[row, mn[..., 0] + REACH, mn[..., 1] + REACH]
    source[..., 1] = spot[row, REACH - mn[..., 0], REACH - mn[..., 1]]
    lit = source >= 0
    bright = np.where(lit, share[row[..., None], np.maximum(source, 0)], 0.0)
    level = _level(bright)
    token = np.empty((*order.shape, TOKEN_FIELDS))
    token[..., :2] = where / 3
    token[..., 2] = radius / 3
    token[..., 3] = np.log(np.maximum(radius, 1e-3))
    token[..., 4] = 0.5 * (level[..., 0] + level[..., 1])
    token[..., 5:7] = level
    token[..., 7] = level[..., 0] - level[..., 1]
    token[..., 8:10] = lit
    token[..., 10] = ~(lit[..., 0] | lit[..., 1])
    token[..., INDICES:] = _PAIR_FACTS[order]
    return token, where, there, np.where(there[..., None], source, -1)


def _nodes(
    basis: Floats, spot: Ints, share: Floats, reach: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """(B, 2R+1, 2R+1) brightness of the nodes, and which lie within the pattern."""
    row = np.arange(len(share))[:, None, None]
    bright = np.where(spot >= 0, share[row, spot.clip(0)], 0.0)
    radius = _length(_NODES @ basis).reshape(bright.shape)
    return _level(bright), radius <= 1.02 * reach[:, None, None]


def _length(vector: Floats) -> Floats:
    """(...) lengths of (..., 2) vectors."""
    return np.asarray(np.hypot(vector[..., 0], vector[..., 1]))


def _spot_of_node(node: Ints, share: Floats, on_net: NDArray[np.bool_]) -> Ints:
    """(B, 2R+1, 2R+1) row of the strongest spot at each node, -1 where it is dark."""
    b = len(share)
    near = on_net & (np.abs(node).max(-1) <= REACH)
    spot = np.full((b, 2 * REACH + 1, 2 * REACH + 1), -1, dtype=np.int64)
    order = np.argsort(share, axis=1, kind="stable")
    row, column = np.nonzero(np.take_along_axis(near, order, 1))
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
    return np.asarray(1 - np.log(np.maximum(share, FLOOR)) / np.log(FLOOR))


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
    cosine = (frame[:, 0] * frame[:, 1]).sum(1) / (la * lb)
    total = np.maximum(share.sum(1), 1e-30)
    faintest = np.where(seen, share, np.inf).min(1, initial=np.inf)
    faintest = np.where(np.isfinite(faintest), faintest, 1.0)
    some = seen.any(1)
    out = np.zeros((len(frame), 12))
    out[:, SCALE] = np.log(la)
    out[:, 1] = np.where(found, np.log(lb / la), 0)
    out[:, 2] = np.where(found, cosine, 0)
    out[:, 3] = found
    out[:, 4] = np.log1p(seen.sum(1)) / 4
    out[:, 5] = (share * on_net).sum(1) / total
    out[:, 6] = on_net.sum(1) / np.maximum(seen.sum(1), 1)
    out[:, 7] = _level(faintest) * some
    out[:, 8] = np.log(np.maximum(reach, 1e-3)) * some
    out[:, 9] = np.where(found, np.sqrt(np.maximum(1 - cosine**2, 0)) * lb / la, 0) / 3
    out[:, 10] = found & (np.abs(cosine) < 0.02)
    out[:, 11] = found & (np.abs(lb / la - 1) < 0.02)
    return out
