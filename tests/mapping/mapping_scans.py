"""Bragg disks of a scan with known lattice, strain, descan, clutter and noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.vectors import BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.mapping.points import Points

Floats = NDArray[np.float64]
SQUARE = np.array([[0.0, 30.0], [30.0, 0.0]])
HEXAGONAL = np.array([[0.0, 28.0], [28 * np.sqrt(0.75), -14.0]])


@dataclass(frozen=True)
class Truth:
    points: Points
    deformation: Floats  # (Y, X, 2, 2) F in (x, y)
    origin: Floats  # (Y, X, 2)
    basis: Floats  # (Y, X, 2, 2) px, (row, col)
    indices: Floats  # (N, 2), NaN for spurious disks
    extras: dict[str, Floats] = field(default_factory=dict)


def rotated(basis: Floats, degrees: float) -> Floats:
    """Basis rows (row, col) turned from +x (columns) towards +y (rows)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    xy = basis[..., ::-1] @ np.array([[c, s], [-s, c]])
    return xy[..., ::-1]


def deformed(basis: Floats, deformation: Floats) -> Floats:
    """(…, 2, 2) reciprocal basis in (row, col) after real space is deformed by F in (x, y)."""
    xy = basis[..., ::-1] @ np.linalg.inv(deformation)
    return xy[..., ::-1]


def deformations(shape, e_xx=0.0, e_yy=0.0, e_xy=0.0, rotation=0.0) -> Floats:
    """F = (I + e) R(rotation) in (x, y), fields or numbers; rotation in radians."""
    e = np.zeros((*shape, 2, 2))
    e[..., 0, 0], e[..., 1, 1] = 1 + np.asarray(e_xx), 1 + np.asarray(e_yy)
    e[..., 0, 1] = e[..., 1, 0] = e_xy
    c, s = np.cos(np.broadcast_to(rotation, shape)), np.sin(np.broadcast_to(rotation, shape))
    turn = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    return e @ turn


def scan(
    shape=(12, 12),
    basis=SQUARE,
    deformation=None,
    *,
    sigma=0.05,
    size=256,
    reach=100.0,
    missing=0.0,
    spurious=0.0,
    descan=(0.0, 0.0),
    direct=True,
    seed=0,
    noise=True,
    unequal=True,
) -> Truth:
    """Disks within ``reach`` px of the beam; sigma varies between disks by ±50 %."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    f = deformations(shape) if deformation is None else deformation
    bases = deformed(np.broadcast_to(basis, (*shape, 2, 2)), f)
    y, x = np.indices(shape)
    middle = np.array([size / 2 + 0.3, size / 2 - 0.2])
    origin = middle + np.stack([(y - ny / 2) * descan[0], (x - nx / 2) * descan[1]], -1)
    n = int(np.ceil(reach / np.linalg.norm(basis, axis=1).min())) + 2
    mn = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    mn = mn[np.linalg.norm(mn @ basis, axis=1) < reach]
    count = len(mn)
    which = np.repeat(np.arange(ny * nx), count)
    indices = np.tile(mn, (ny * nx, 1)).astype(float)
    g = np.einsum("pki,pij->pkj", indices.reshape(ny * nx, count, 2), bases.reshape(-1, 2, 2))
    position = (origin.reshape(-1, 1, 2) + g).reshape(-1, 2)
    length = np.linalg.norm(g.reshape(-1, 2), axis=1)
    intensity = 1e4 * np.exp(-((length / reach) ** 2)) * rng.lognormal(0, 0.5, len(length))
    zero = (indices == 0).all(1)
    intensity[zero] = 1e5
    keep = (rng.random(len(which)) >= missing) | (zero & direct)
    if not direct:
        keep &= ~zero
    which, indices, position, intensity = (a[keep] for a in (which, indices, position, intensity))
    extra = int(spurious * len(which))
    if extra:
        which = np.concatenate([which, rng.integers(0, ny * nx, extra)])
        indices = np.concatenate([indices, np.full((extra, 2), np.nan)])
        position = np.concatenate([position, rng.uniform(10, size - 10, (extra, 2))])
        intensity = np.concatenate([intensity, rng.uniform(1e2, 5e3, extra)])
    order = np.argsort(which, kind="stable")
    which, indices, position, intensity = (a[order] for a in (which, indices, position, intensity))
    s = sigma * (rng.uniform(0.5, 1.5, (len(which), 2)) if unequal else np.ones((len(which), 2)))
    if noise:
        position = position + s * rng.normal(size=s.shape)
    columns = {
        "row": position[:, 0],
        "col": position[:, 1],
        "intensity": intensity,
        "sigma_row": s[:, 0],
        "sigma_col": s[:, 1],
        "covariance": np.zeros(len(s)),
        "sigma_intensity": np.sqrt(intensity),
    }
    points = Points.from_columns(shape, (size, size), which, columns)
    return Truth(points, f, origin, bases, indices)


def combine(parts: list[tuple[Truth, NDArray[np.bool_]]]) -> Points:
    """Disks of several truths, each where its (Y, X) mask says; the direct beam only once."""
    fields = ("position", "covariance", "intensity", "sigma_intensity", "v_g", "sigma_v_g")
    fields += ("q_z", "sigma_q_z")
    which, columns = [], {name: [] for name in fields}
    covered = np.zeros_like(parts[0][1])
    for truth, mask in parts:
        points = truth.points
        keep = mask.reshape(-1)[points.pattern]
        keep &= ~(covered.reshape(-1)[points.pattern] & (truth.indices == 0).all(axis=1))
        covered |= mask
        which.append(points.pattern[keep])
        for name in fields:
            columns[name].append(getattr(points, name)[keep])
    pattern = np.concatenate(which)
    order = np.argsort(pattern, kind="stable")
    first = parts[0][0].points
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pattern, minlength=first.patterns))])
    data = [np.concatenate(columns[name])[order] for name in fields]
    return Points(first.scan_shape, first.pattern_shape, offsets.astype(np.int64), *data)


def vectors(points: Points, **calibration: object) -> BraggVectors:
    """The same disks as Bragg vectors."""
    row, col, mixed = points.covariance.T
    columns = {
        "row": points.position[:, 0],
        "col": points.position[:, 1],
        "intensity": points.intensity,
        "sigma_row": np.sqrt(row),
        "sigma_col": np.sqrt(col),
        "covariance": mixed,
        "sigma_intensity": points.sigma_intensity,
        "v_g": points.v_g,
        "sigma_v_g": points.sigma_v_g,
        "q_z": points.q_z,
        "sigma_q_z": points.sigma_q_z,
    }
    known = VectorCalibration(**calibration)
    return BraggVectors.from_columns(
        points.scan_shape, points.pattern_shape, points.pattern, columns, known
    )
