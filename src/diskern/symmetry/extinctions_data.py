"""Indexed intensities made ready: checks, possible crystal systems, orbit likelihoods."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter1d

from diskern.crystal.crystal import lattice_from_parameters
from diskern.crystal.spacegroups import SYSTEMS
from diskern.errors import DiskernError
from diskern.symmetry.likelihood_nodes import GRID, WILSON, NodeModel, log_sum, scaled_wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SCATTER = 0.3
"""Usual relative scatter between equivalents in electron data (dynamical, partial)."""
FLOOR = 0.003
"""Intensity, relative to the mean at that resolution, that a dark reflection may still show."""
OUTLIER = 0.02
"""Share of measurements that are simply wrong (overlap, misindexed)."""
LEVELS = ((0.5, 0.02), (0.25, 0.05), (0.25, 0.2))
"""Prior and relative mean intensity of multiple scattering into forbidden reflections."""


def checked(hkl: ArrayLike, intensity: ArrayLike, sigma: ArrayLike) -> tuple[Ints, Floats, Floats]:
    """Arrays of indices, intensities and uncertainties, or one clear line why not."""
    indices = np.asarray(hkl)
    value = np.asarray(intensity, dtype=np.float64)
    error = np.asarray(sigma, dtype=np.float64)
    if indices.ndim != 2 or indices.shape[1] != 3 or not len(value) == len(error) == len(indices):
        raise DiskernError(
            f"hkl {indices.shape}, intensity {value.shape} and sigma {error.shape} disagree; "
            "give (N, 3), (N,) and (N,)"
        )
    if not (np.isfinite(value).all() and np.isfinite(error).all()):
        raise DiskernError("intensity or sigma holds a value that is not finite; drop those rows")
    whole = np.rint(indices.astype(np.float64))
    if not np.isfinite(whole).all() or np.abs(indices - whole).max(initial=0) > 1e-6:
        raise DiskernError("hkl must be whole numbers; round and drop what does not index")
    keep = whole.any(1) & (error > 0)
    if keep.sum() < 10:
        raise DiskernError(
            f"{int(keep.sum())} reflections with a positive sigma are too few; give at least 10"
        )
    return whole[keep].astype(np.int64), value[keep], error[keep]


def resolution(hkl: Ints, cell: ArrayLike | None) -> Floats:
    """(N,) 1/d in 1/Å; relative to a unit cube where there is no cell."""
    lattice = np.eye(3) if cell is None else _lattice(cell)
    return np.asarray(np.linalg.norm(hkl @ np.linalg.inv(lattice).T, axis=1))


def _lattice(cell: ArrayLike) -> Floats:
    values = np.asarray(cell, dtype=np.float64)
    if values.shape != (6,):
        raise DiskernError(f"cell has shape {values.shape}; give a, b, c in Å and α, β, γ")
    return lattice_from_parameters(*values.tolist())


def possible_systems(
    cell: ArrayLike | None, system: str | None, tolerance: float
) -> tuple[str, ...]:
    """Crystal systems whose conventional metric a cell meets, or just the one that is stated."""
    if system is not None:
        if system not in SYSTEMS:
            raise DiskernError(f"crystal system {system!r} is none of {', '.join(SYSTEMS)}")
        return (system,)
    if cell is None:
        raise DiskernError("give a cell (a, b, c, α, β, γ) or a crystal system")
    _lattice(cell)
    a, b, c, alpha, beta, gamma = np.asarray(cell, dtype=np.float64).tolist()

    def equal(x: float, y: float) -> bool:
        return abs(x / y - 1) < tolerance / 100

    def angle(x: float, y: float) -> bool:
        return abs(x - y) < tolerance

    right = [angle(x, 90) for x in (alpha, beta, gamma)]
    found = ["triclinic"]
    if sum(right) >= 2:
        found.append("monoclinic")
    if all(right):
        found.append("orthorhombic")
        if equal(a, b):
            found.append("tetragonal")
            if equal(b, c):
                found.append("cubic")
    if right[0] and right[1] and angle(gamma, 120) and equal(a, b):
        found += ["trigonal", "hexagonal"]
    return tuple(found)


class Reflections:
    """Likelihoods of orbits of reflections, allowed or forbidden."""

    def __init__(self, hkl: Ints, value: Floats, error: Floats, q: Floats, turns: Ints) -> None:
        """``turns`` is the (G, 3, 3) Laue group whose orbits share an intensity."""
        code = ((hkl @ turns) + 512) @ np.array([1 << 20, 1 << 10, 1])
        _, first, label = np.unique(code.min(0), return_index=True, return_inverse=True)
        self._first = first
        level = _envelope(q, value, error)
        count = len(first)
        grid = np.zeros((count, len(GRID)))
        np.add.at(grid, label.reshape(-1), _given(GRID, value, error, level))
        dark = np.bincount(label.reshape(-1), _given(None, value, error, level)[:, 0], count)
        weak = NodeModel().weak
        low = int(np.searchsorted(GRID, np.log(0.03)))
        wilson = np.log1p(-weak) + log_sum(grid + WILSON, axis=1)
        low_part = np.log(weak / low) + log_sum(grid[:, :low], axis=1)
        self.allowed = np.logaddexp(wilson, low_part)
        lit = [log_sum(grid + scaled_wilson(x), axis=1) for _, x in LEVELS]
        self.forbidden = np.array([np.logaddexp(np.log(0.5) + f, np.log(0.5) + dark) for f in lit])

    def log_likelihood(self, absent: Bools) -> float:
        """Of all data when the (N,) reflections ``absent`` are forbidden."""
        orbit = absent[self._first]
        prior = np.log([p for p, _ in LEVELS])
        forbidden = self.forbidden[:, orbit].sum(1) + prior
        return float(self.allowed[~orbit].sum() + log_sum(forbidden))


def _envelope(q: Floats, value: Floats, error: Floats) -> Floats:
    """(N,) mean intensity at each resolution: a running mean, smooth and positive."""
    order = np.argsort(q, kind="stable")
    width = max(20, len(q) // 15)
    mean = uniform_filter1d(np.maximum(value[order], 0.0), width, mode="nearest")
    level = np.empty(len(q))
    level[order] = uniform_filter1d(mean, width, mode="nearest")
    return np.maximum(level, np.median(error))


def _given(grid: Floats | None, value: Floats, error: Floats, level: Floats) -> Floats:
    """(N, grid) ln density of I/⟨I⟩ given its true value; of a dark one without a grid."""
    x = np.zeros(1) if grid is None else np.exp(grid)
    noise = (error / level)[:, None]
    spread = np.sqrt(noise**2 + FLOOR**2 + (SCATTER * x) ** 2)
    z = ((value / level)[:, None] - x) / spread
    good = np.log1p(-OUTLIER) - 0.5 * z**2 - np.log(spread * np.sqrt(2 * np.pi))
    # Wrong measurements are spread like ordinary intensities.
    size = np.maximum(value / level, 0.0)[:, None]
    return np.asarray(np.logaddexp(good, np.log(OUTLIER) - size))
