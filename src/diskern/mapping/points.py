"""Disk positions of a whole scan as flat arrays, the one input of every mapping kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.vectors import BraggVectors
from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class Points:
    """Disks of all patterns, sorted by scan position, in detector pixels.

    Attributes
    ----------
    scan_shape : (scan_y, scan_x).
    pattern_shape : (Q_y, Q_x) in px.
    offsets : (P + 1,) disks of pattern p are ``offsets[p]:offsets[p + 1]``, p = y · scan_x + x.
    position : (N, 2) row and column in px.
    covariance : (N, 3) var_row, var_col and cov_row_col in px²; 0 where nobody said.
    intensity, sigma_intensity : (N,) counts.
    v_g, sigma_v_g : (N,) structure-factor amplitude in V; NaN where nobody said.
    q_z, sigma_q_z : (N,) signed excitation error in 1/Å, positive inside the Ewald sphere; NaN
        where nobody said.
    """

    scan_shape: tuple[int, int]
    pattern_shape: tuple[int, int]
    offsets: Ints
    position: Floats
    covariance: Floats
    intensity: Floats
    sigma_intensity: Floats
    v_g: Floats
    sigma_v_g: Floats
    q_z: Floats
    sigma_q_z: Floats

    @classmethod
    def of(cls, vectors: BraggVectors | Points) -> Points:
        """The columns of Bragg vectors; disks without a finite position or intensity are left
        out."""
        if isinstance(vectors, Points):
            return vectors
        return cls.from_columns(
            vectors.scan_shape, vectors.pattern_shape, vectors.pattern, vectors.columns
        )

    @classmethod
    def from_columns(
        cls,
        scan_shape: tuple[int, int],
        pattern_shape: tuple[int, int],
        pattern: ArrayLike,
        columns: Mapping[str, ArrayLike],
    ) -> Self:
        """Build from plain columns.

        Parameters
        ----------
        pattern : (N,) scan_y · scan_x_size + scan_x of each disk, in any order.
        columns : ``row``, ``col`` and ``intensity``, and any of ``sigma_row sigma_col covariance
            sigma_intensity v_g sigma_v_g q_z sigma_q_z``, each (N,).
        """
        which = np.asarray(pattern, dtype=np.int64)
        data = {k: np.asarray(v, dtype=np.float64) for k, v in columns.items()}
        count = int(np.prod(scan_shape))
        if len(which) and not (which.min() >= 0 and which.max() < count):
            raise DiskernError(f"pattern {which.max()} is outside a scan of {count} positions")
        for name, values in data.items():
            if values.shape != which.shape:
                raise DiskernError(f"column {name} has shape {values.shape}, not {which.shape}")
        good = np.isfinite(data["row"] + data["col"] + data["intensity"])
        order = np.flatnonzero(good)[np.argsort(which[good], kind="stable")]
        nan = np.full(len(order), np.nan)

        def column(name: str) -> Floats:
            return data[name][order] if name in data else nan

        offsets = np.concatenate([[0], np.cumsum(np.bincount(which[order], minlength=count))])
        sigma = np.stack([column("sigma_row"), column("sigma_col"), column("covariance")], axis=1)
        return cls(
            scan_shape,
            pattern_shape,
            offsets.astype(np.int64),
            np.stack([column("row"), column("col")], axis=1),
            _covariance(sigma),
            *(column(n) for n in ("intensity", "sigma_intensity", "v_g", "sigma_v_g")),
            *(column(n) for n in ("q_z", "sigma_q_z")),
        )

    def __len__(self) -> int:
        return len(self.position)

    @cached_property
    def pattern(self) -> Ints:
        """(N,) flat scan position of each disk."""
        return np.repeat(np.arange(self.patterns), self.counts)

    @cached_property
    def counts(self) -> Ints:
        """(P,) disks of each pattern."""
        return np.diff(self.offsets)

    @property
    def patterns(self) -> int:
        """Number of scan positions."""
        return len(self.offsets) - 1

    def select(self, keep: Bools) -> Points:
        """The disks of an (N,) mask, at the same scan positions."""
        counts = np.bincount(self.pattern[keep], minlength=self.patterns)
        columns = (self.position, self.covariance, self.intensity, self.sigma_intensity)
        network = (self.v_g, self.sigma_v_g, self.q_z, self.sigma_q_z)
        return Points(
            self.scan_shape,
            self.pattern_shape,
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            *(c[keep] for c in (*columns, *network)),
        )

    def take(self, patterns: Ints) -> Points:
        """The patterns at these flat scan positions, in this order, as a scan of one row."""
        counts = self.counts[patterns]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        disks = self.disks_of(patterns)
        columns = (self.position, self.covariance, self.intensity, self.sigma_intensity)
        network = (self.v_g, self.sigma_v_g, self.q_z, self.sigma_q_z)
        shape = (1, len(patterns))
        return Points(shape, self.pattern_shape, offsets, *(c[disks] for c in (*columns, *network)))

    def disks_of(self, patterns: Ints) -> Ints:
        """Indices of the disks of these patterns, pattern after pattern."""
        counts = self.counts[patterns]
        before = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
        shift = np.repeat(self.offsets[patterns] - before, counts)
        return np.asarray(np.arange(counts.sum()) + shift)

    def __repr__(self) -> str:
        ny, nx = self.scan_shape
        return f"Points({len(self)} disks at {ny}×{nx} scan positions)"


def _covariance(sigma: Floats) -> Floats:
    """(N, 3) variances and covariance; a lone missing one becomes the median, all missing 0."""
    row, col, mixed = sigma.T
    known = np.isfinite(row) & np.isfinite(col) & (row > 0) & (col > 0)
    if not known.any():
        return np.zeros_like(sigma)
    out = np.stack([row**2, col**2, np.nan_to_num(mixed)], axis=1)
    out[~known] = [np.median(row[known]) ** 2, np.median(col[known]) ** 2, 0.0]
    bound = 0.99 * np.sqrt(out[:, 0] * out[:, 1])
    out[:, 2] = np.clip(out[:, 2], -bound, bound)
    return out


def per_pattern_sum(values: Floats, offsets: Ints) -> Floats:
    """(…, P) sums over the disks of each pattern of (…, N) values; empty patterns give 0."""
    total = np.zeros((*values.shape[:-1], len(offsets) - 1))
    full = np.diff(offsets) > 0
    if full.any():
        total[..., full] = np.add.reduceat(values, offsets[:-1][full], axis=-1)
    return total
