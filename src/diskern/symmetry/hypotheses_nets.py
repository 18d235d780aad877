"""Which bases of a net can be the reduced one that is measured, for any cell of the prior."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from diskern.symmetry.likelihood_shapes import Cell

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_UNIMODULAR = [
    ((a, b), (c, d))
    for a, b, c, d in product((-1, 0, 1), repeat=4)
    # (a, b) and (-a, -b) are the same by Friedel's law; one of each pair is enough.
    if a * d - b * c in (-1, 1) and (a, b) > (0, 0)
]
_SLACK_LENGTH = 1.06
_SLACK_COSINE = 0.53


def identifications(bases: Ints, cell: Cell, turns: list[Ints]) -> tuple[Ints, Ints, Floats]:
    """All reduced bases that nets can have for some cell of the prior.

    Parameters
    ----------
    bases : (B, 2, 3) hkl of a basis of each net.
    turns : for each net its (G, 2, 2) symmetry; identifications it relates count once.

    Returns
    -------
    (N,) index of the net, sorted; (N, 2, 2) the observed basis in terms of the net's;
    (N,) how many equivalent identifications it stands for.
    """
    wide = bases.astype(np.float64)
    gram = wide[:, None] @ cell.samples() @ wide[:, None].swapaxes(-1, -2)
    codes = [np.zeros(0, dtype=np.int64)]
    change, g0, g1, g01 = _reduce(gram)
    number = np.arange(len(bases))[:, None]
    for (a, b), (c, d) in _UNIMODULAR:
        length0 = a * a * g0 + 2 * a * b * g01 + b * b * g1
        length1 = c * c * g0 + 2 * c * d * g01 + d * d * g1
        dot = a * c * g0 + (a * d + b * c) * g01 + b * d * g1
        keep = (length0 <= length1 * _SLACK_LENGTH**2) & (
            dot**2 <= _SLACK_COSINE**2 * length0 * length1
        )
        option = np.array([[a, b], [c, d]]) @ change[keep]
        pair = np.broadcast_to(number, keep.shape)[keep]
        codes.append(np.unique(pair * _RADIX**4 + _code(option.reshape(-1, 4))))
    code = np.unique(np.concatenate(codes))
    pair, transform = code // _RADIX**4, _decode(code % _RADIX**4)
    starts = np.searchsorted(pair, np.arange(len(bases) + 1))
    weight = np.array([len(turn) for turn in turns], dtype=np.float64)
    for i, turn in enumerate(turns):
        nets = slice(starts[i], starts[i + 1])
        images = _code((transform[nets, None] @ turn).reshape(-1, len(turn), 4))
        code[nets] = i * _RADIX**4 + images.min(1)
    code = np.unique(code)
    pair = code // _RADIX**4
    return pair, _decode(code % _RADIX**4), weight[pair]


_RADIX = 129


def _code(matrices: Ints) -> Ints:
    """One integer for each (…, 4) matrix of small entries."""
    powers = np.array([_RADIX**3, _RADIX**2, _RADIX, 1])
    return np.asarray((matrices + _RADIX // 2) @ powers)


def _decode(code: Ints) -> Ints:
    digits = [code // _RADIX**i % _RADIX - _RADIX // 2 for i in (3, 2, 1, 0)]
    return np.stack(digits, -1).reshape(-1, 2, 2)


def _reduce(gram: Floats) -> tuple[Ints, Floats, Floats, Floats]:
    """Lagrange–Gauss reduction of (…, 2, 2) Gram matrices.

    Returns the unimodular change of basis and the reduced a·a, b·b, a·b.
    """
    change = np.broadcast_to(np.eye(2, dtype=np.int64), gram.shape).copy()
    g0, g1, g01 = gram[..., 0, 0].copy(), gram[..., 1, 1].copy(), gram[..., 0, 1].copy()
    for _ in range(30):
        swap = g0 > g1 * (1 + 1e-9)
        change[swap] = change[swap][:, ::-1]
        g0, g1 = np.where(swap, g1, g0), np.where(swap, g0, g1)
        step = np.rint(g01 / g0 * (1 - 1e-9)).astype(np.int64)
        if not (swap.any() or step.any()):
            break
        change[..., 1, :] -= step[..., None] * change[..., 0, :]
        g1 = g1 + step**2 * g0 - 2 * step * g01
        g01 = g01 - step * g0
    return change, g0, g1, g01


def inverse_unimodular(matrices: Ints) -> Ints:
    """Inverse of (…, 2, 2) integer matrices of determinant ±1."""
    a, b, c, d = (matrices[..., i, j] for i in (0, 1) for j in (0, 1))
    adjugate = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
    return np.asarray(adjugate * (a * d - b * c)[..., None, None])


def symmetries(transform: Ints, turns: list[Ints], pair: Ints) -> tuple[tuple[Ints, ...], Ints]:
    """The symmetry of each net in its observed basis.

    Parameters
    ----------
    transform : (N, 2, 2) observed basis in terms of the net's own.
    turns : (G, 2, 2) symmetry of each net in its own basis.
    pair : (N,) sorted index of the net.

    Returns
    -------
    Each distinct group once, as (G, 2, 2) matrices, and (N,) which one holds.
    """
    known: dict[bytes, int] = {}
    groups: list[Ints] = []
    label = np.zeros(len(transform), dtype=np.int64)
    back = inverse_unimodular(transform)
    starts = np.searchsorted(pair, np.arange(len(turns) + 1))
    for p, turn in enumerate(turns):
        nets = slice(starts[p], starts[p + 1])
        turned = transform[nets, None] @ turn @ back[nets, None]
        code = np.sort(_code(turned.reshape(*turned.shape[:2], 4)), axis=1)
        for n, one in enumerate(code, start=int(starts[p])):
            key = one.tobytes()
            if key not in known:
                known[key] = len(groups)
                groups.append(_decode(one))
            label[n] = known[key]
    return tuple(groups), label
