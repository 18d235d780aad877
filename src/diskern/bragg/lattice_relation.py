"""How two lattices of one pattern are related: rotation, twin, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.lattice_reduce import reduced
from diskern.errors import DiskernError

Floats = NDArray[np.float64]

RelationKind = Literal["same", "rotation", "mirror", "twin", "unrelated"]

_STRETCH = 0.02  # difference of metrics that image distortion alone explains
_ROTATION = 1.0  # degrees below which two lattices are one, seen twice
_COINCIDENT = 0.015  # of its distance: how near a node of one comes to a common one of the other
_NEAREST = 0.05  # the same in spacings, for distant nodes
_LARGEST_SIGMA = 11  # coincidence index beyond which a common net is chance
_REACH = 6  # nodes along a and b that are tried for a coincidence


@dataclass(frozen=True)
class LatticeRelation:
    """How the second lattice follows from the first.

    Attributes
    ----------
    kind : "same"; "rotation" of one and the same net; "mirror" image that no rotation gives;
        "twin": a rotation or mirror image that shares a net of low coincidence index, as of two
        crystals joined along a common lattice direction; "unrelated" where the metrics differ.
    angle : smallest rotation in degrees that carries the first onto the second, positive from
        +column towards +row; NaN for a mirror image and for unrelated lattices.
    axis : direction in degrees, [0, 180), from +column towards +row, of the mirror line that
        carries the first onto the second (for a twin the one along the common row of spots);
        NaN where there is none.
    sigma : coincidence index, nodes of one lattice per common node; 0 where none is small.
    stretch : largest relative strain between the lattices after the rotation or mirror.
    """

    kind: RelationKind
    angle: float
    axis: float
    sigma: int
    stretch: float


def relation(a: Lattice2D, b: Lattice2D) -> LatticeRelation:
    """Compare two rank-2 lattices of one pattern.

    Raises
    ------
    DiskernError
        If one of them is only a row.
    """
    if a.rank != 2 or b.rank != 2:
        raise DiskernError("a row of spots has no orientation to compare; give lattices of rank 2")
    maps = _maps(reduced(a.basis), reduced(b.basis))
    stretches = np.abs(np.linalg.svd(maps, compute_uv=False) - 1).max(axis=1)
    allowed = max(_STRETCH, 3 * _relative_sigma(a), 3 * _relative_sigma(b))
    if stretches.min() > allowed:
        return LatticeRelation("unrelated", np.nan, np.nan, 0, float(stretches.min()))
    near = stretches <= allowed
    maps, stretches = maps[near], stretches[near]
    proper = np.linalg.det(maps) > 0
    rotations = _angles(maps[proper])
    angle = float(rotations[np.argmin(np.abs(rotations))]) if len(rotations) else np.nan
    if abs(angle) < _ROTATION:
        return LatticeRelation("same", angle, np.nan, 1, float(stretches.min()))
    sigma, shared = _coincidence(a.basis, b.basis)
    lines = _lines(maps[~proper])
    axis = _nearest(lines, shared) if len(lines) else np.nan
    if sigma:
        kind: RelationKind = "twin"
    else:
        kind = "rotation" if np.isfinite(angle) else "mirror"
    return LatticeRelation(kind, angle, axis, sigma, float(stretches.min()))


def _maps(first: Floats, second: Floats) -> Floats:
    """(K, 2, 2) linear maps T (x → x @ T, x = (row, column)) of one lattice onto the other that
    take reduced vectors to short vectors."""
    step = np.mgrid[-2:3, -2:3].reshape(2, -1).T
    short = step[(step != 0).any(axis=1)] @ second
    i, j = np.meshgrid(np.arange(len(short)), np.arange(len(short)), indexing="ij")
    pair = np.stack([short[i.ravel()], short[j.ravel()]], axis=1)
    area = np.abs(np.linalg.det(pair))
    whole = np.abs(area / abs(np.linalg.det(second)) - 1) < 0.01
    return np.asarray(np.linalg.inv(first) @ pair[whole])


def _relative_sigma(lattice: Lattice2D) -> float:
    variance = np.diag(lattice.covariance)[2:]
    return float(np.sqrt(np.nanmax(variance)) / min(lattice.lengths))


def _angles(maps: Floats) -> Floats:
    """(K,) rotation in degrees, in (−90, 90], of near-rotations; lattices have inversion."""
    angle = np.degrees(np.arctan2(maps[:, 1, 0] - maps[:, 0, 1], maps[:, 0, 0] + maps[:, 1, 1]))
    return np.asarray(90.0 - np.mod(90.0 - angle, 180.0))


def _lines(maps: Floats) -> Floats:
    """(K,) directions in degrees [0, 180) of the mirror lines of near-reflections."""
    twice = np.arctan2(maps[:, 0, 1] + maps[:, 1, 0], maps[:, 1, 1] - maps[:, 0, 0])
    return np.asarray(np.mod(np.degrees(twice) / 2, 180.0))


def _nearest(lines: Floats, shared: Floats) -> float:
    """The line along the common row, else the first; directions compared modulo 180°."""
    if not np.isfinite(shared).all():
        return float(lines.min())
    along = np.degrees(np.arctan2(shared[0], shared[1]))
    away = np.abs(np.mod(lines - along + 90.0, 180.0) - 90.0)
    return float(lines[np.argmin(away)])


def _coincidence(first: Floats, second: Floats) -> tuple[int, Floats]:
    """Coincidence index and the shortest common vector; (0, NaN) where no small net is common."""
    step = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1].reshape(2, -1).T
    step = step[(step != 0).any(axis=1)]
    node = step @ first
    fraction = node @ np.linalg.inv(second)
    miss = np.linalg.norm((fraction - np.rint(fraction)) @ second, axis=1)
    spacing = min(np.linalg.norm(first, axis=1).min(), np.linalg.norm(second, axis=1).min())
    reach = np.linalg.norm(node, axis=1)
    common = miss < np.minimum(_COINCIDENT * reach, _NEAREST * spacing)
    step, node, reach = step[common], node[common], reach[common]
    if len(step) < 4:
        return 0, np.full(2, np.nan)
    order = np.argsort(reach, kind="stable")
    step, node = step[order], node[order]
    index = np.abs(step[0, 0] * step[:, 1] - step[0, 1] * step[:, 0])
    index = index[index > 0]
    if not len(index) or index.min() > _LARGEST_SIGMA:
        return 0, np.full(2, np.nan)
    return int(index.min()), node[0]
