"""Indexing and strain: patterns per second, and how near the strain error is to its bound.

    python benchmarks/mapping_speed.py [SIDE]

Bragg vectors of a SIDE × SIDE scan (128 by default) of a smoothly strained crystal are made with
known errors: about 20 disks a pattern, position errors of 0.05 px ± 50 %, a tenth of clutter, a
drifting beam.  The bound is the error of a weighted least-squares fit that is told which disks
belong and what their indices are (the Cramér–Rao bound for normal errors).
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from diskern.mapping.index import index_vectors
from diskern.mapping.points import Points
from diskern.mapping.strain import strain_map

BASIS = np.array([[3.0, 37.0], [37.0, -3.0]])  # px, rows a and b as (row, column)
Floats = NDArray[np.float64]


def made(side: int, seed: int = 0) -> tuple[Points, Floats, Floats]:
    """Disks, true (P, 4) strain and rotation (rad), and (P, 4) the bound of their errors."""
    rng = np.random.default_rng(seed)
    y, x = (np.indices((side, side)).reshape(2, -1) / side - 0.5) * 6
    truth = 0.01 * np.stack([np.sin(x), np.cos(y), np.sin(x + y) / 2, np.cos(x - y)], axis=1)
    stretch = np.empty((side**2, 2, 2))
    stretch[:, 0, 0], stretch[:, 1, 1] = 1 + truth[:, 0], 1 + truth[:, 1]
    stretch[:, 0, 1] = stretch[:, 1, 0] = truth[:, 2]
    c, s = np.cos(truth[:, 3]), np.sin(truth[:, 3])
    turn = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    bases = (BASIS[:, ::-1] @ np.linalg.inv(stretch @ turn))[..., ::-1]
    mn = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 2), -1).reshape(-1, 2)
    mn = mn[np.linalg.norm(mn @ BASIS, axis=1) < 115]
    shown = rng.random((side**2, len(mn))) < 0.7
    shown[:, (mn == 0).all(axis=1)] = True
    sigma = 0.05 * rng.uniform(0.5, 1.5, shown.shape)
    beam = 128 + np.stack([y, x], axis=1)
    place = beam[:, None] + np.einsum("ki,pij->pkj", mn, bases)
    place = place + sigma[..., None] * rng.normal(size=place.shape)
    light = np.where((mn == 0).all(axis=1), 1e5, 1e3) * rng.lognormal(0, 0.3, shown.shape)
    design = np.concatenate([np.ones((len(mn), 1)), mn], axis=1)
    weight = np.where(shown, sigma**-2.0, 0)
    inner = np.linalg.inv(np.einsum("ki,pk,kj->pij", design, weight, design))[:, 1:, 1:]
    # With equal errors along rows and columns F has the covariance A ⊗ 1, A = B⁻¹ C B⁻ᵀ.
    inverse = np.linalg.inv(BASIS[:, ::-1])
    a = inverse @ inner @ inverse.T
    shear = (a[:, 0, 0] + a[:, 1, 1]) / 4
    bound = np.sqrt(np.stack([a[:, 0, 0], a[:, 1, 1], shear, shear], axis=1))
    which = np.repeat(np.arange(side**2), shown.sum(axis=1))
    clutter = len(which) // 10
    columns = {
        "row": np.concatenate([place[..., 0][shown], rng.uniform(0, 255, clutter)]),
        "col": np.concatenate([place[..., 1][shown], rng.uniform(0, 255, clutter)]),
        "intensity": np.concatenate([light[shown], rng.uniform(10, 500, clutter)]),
    }
    columns["sigma_row"] = np.concatenate([sigma[shown], np.full(clutter, 0.05)])
    columns["sigma_col"] = columns["sigma_row"]
    pattern = np.concatenate([which, rng.integers(0, side**2, clutter)])
    return Points.from_columns((side, side), (256, 256), pattern, columns), truth, bound


def main(side: int) -> None:
    """Print one table."""
    points, truth, bound = made(side)
    out = sys.stdout.write
    out(f"{side} × {side} patterns, {len(points)} disks\n")
    start = time.process_time()
    lattices = index_vectors(points)
    middle = time.process_time()
    strain = strain_map(lattices, BASIS)
    end = time.process_time()
    out(f"indexing {side**2 / (middle - start):8.0f} patterns per CPU-second\n")
    out(f"strain   {side**2 / (end - middle):8.0f} patterns per CPU-second\n")
    out(f"indexed  {lattices.indexed.mean():8.2%}\n")
    error = strain.values[0].reshape(-1, 4) - truth
    sigma = np.sqrt(np.diagonal(strain.covariance[0], axis1=-2, axis2=-1)).reshape(-1, 4)
    out("            rms error   bound       rms/bound   bias/rms    rms z\n")
    for k, name in enumerate(("e_xx", "e_yy", "e_xy", "rotation")):
        e = error[:, k][np.isfinite(error[:, k])]
        rms, least = np.sqrt(np.mean(e**2)), np.sqrt(np.mean(bound[:, k] ** 2))
        z = np.sqrt(np.nanmean((error[:, k] / sigma[:, k]) ** 2))
        out(f"{name:10}  {rms:.3e}   {least:.3e}   {rms / least:.3f}       "
            f"{abs(e.mean()) / rms:.3f}       {z:.3f}\n")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
