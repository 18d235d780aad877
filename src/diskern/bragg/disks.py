"""Disks measured in a block of patterns, and the candidates they start from, as flat columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DiskOptions:
    """What may be chosen; nothing needs to be.

    Attributes
    ----------
    false_alarms : disks per pattern that noise alone may make; sets the threshold.
    gain : counts per electron; estimated from the noise by default.
    dark : counts of a pixel that no electron meets; by default 0, or what negative counts tell.
    read_noise : their standard deviation; estimated where the gain is, else none by default.
    orders : largest polynomial order inside a disk; chosen from the radius by default.
    spacing : least distance of two disks in disk radii.
    limit : most disks of a pattern, strongest first.
    """

    false_alarms: float = 0.05
    gain: float | None = None
    dark: float | None = None
    read_noise: float | None = None
    orders: int | None = None
    spacing: float = 1.0
    limit: int = 1000


@dataclass(frozen=True, eq=False)
class Disks:
    """N disks of a block of patterns; NaN stands for "nobody said".

    Attributes
    ----------
    pattern : (N,) index of the pattern in the block, ascending.
    row, col : (N,) centre in px of the detector.
    intensity : (N,) counts in the disk, background taken off.
    sigma_row, sigma_col : (N,) standard uncertainties of the centre in px.
    covariance : (N,) of row and column in px².
    sigma_intensity : (N,) standard uncertainty of the intensity in counts.
    background : (N,) counts per px under the disk.
    chi2 : (N,) reduced chi-square of the fit.
    order : (N,) order of the polynomial inside the disk.
    visibility : (N,) 0 invisible to 1 certain, see `visibility_of`.
    v_g, sigma_v_g : (N,) amplitude of the structure factor in V.
    q_z, sigma_q_z : (N,) excitation error in 1/Å, positive inside the Ewald sphere.
    contrast : (N, K) what diffraction draws inside the disk: coefficients of
        `diskern.bragg.disk_basis.DiskBasis` about the centre, as shares of the first, the mean
        level, which is left out; 0 where nobody said.
    """

    pattern: Ints
    row: Floats
    col: Floats
    intensity: Floats
    sigma_row: Floats
    sigma_col: Floats
    covariance: Floats
    sigma_intensity: Floats
    background: Floats
    chi2: Floats
    order: Ints
    visibility: Floats
    v_g: Floats
    sigma_v_g: Floats
    q_z: Floats
    sigma_q_z: Floats
    contrast: Floats

    def __len__(self) -> int:
        return len(self.pattern)

    def __repr__(self) -> str:
        patterns = len(np.unique(self.pattern))
        return f"Disks({len(self)} in {patterns} patterns)"

    @classmethod
    def from_columns(cls, pattern: ArrayLike, row: ArrayLike, col: ArrayLike, **more: Any) -> Self:
        """Disks of which only some columns are known: NaN elsewhere, and order -1.

        Raises
        ------
        DiskernError : for columns of different lengths or of unknown names.
        """
        given = {"pattern": pattern, "row": row, "col": col, **more}
        unknown = set(given) - {f.name for f in fields(cls)}
        if unknown:
            raise DiskernError(f"disks have no column {min(unknown)!r}")
        size = np.size(pattern)
        contrast = np.asarray(given.pop("contrast", np.zeros((size, CONTRAST))), dtype=np.float64)
        if contrast.shape != (size, CONTRAST):
            raise DiskernError(
                f"column 'contrast' has shape {contrast.shape}, ({size}, {CONTRAST}) is asked for"
            )
        columns: dict[str, Any] = {"contrast": contrast}
        for item in fields(cls):
            if item.name == "contrast":
                continue
            whole = item.name in ("pattern", "order")
            kind: type[Any] = np.int64 if whole else np.float64
            value = given.get(item.name, -1 if whole else np.nan)
            column = np.asarray(value, dtype=kind)
            columns[item.name] = np.full(size, column) if column.ndim == 0 else column
            if columns[item.name].shape != (size,):
                raise DiskernError(
                    f"column {item.name!r} has shape {column.shape}, {size} disks are given"
                )
        return cls(**columns)

    @classmethod
    def empty(cls) -> Self:
        """No disks."""
        return cls.from_columns([], [], [])

    def select(self, keep: NDArray[np.bool_] | Ints) -> Self:
        """The disks of a boolean mask or index array, in that order."""
        return replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)})

    @classmethod
    def concatenate(cls, blocks: Sequence[Disks], first: Sequence[int] | None = None) -> Self:
        """The disks of several blocks, ``first[i]`` added to the pattern index of block i."""
        if not blocks:
            return cls.empty()
        names = [f.name for f in fields(cls)]
        columns = {n: np.concatenate([getattr(b, n) for b in blocks]) for n in names}
        if first is not None:
            columns["pattern"] = np.concatenate(
                [b.pattern + start for b, start in zip(blocks, first, strict=True)]
            )
        return cls(**columns)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Where disks may be, from a proposer; NaN stands for "nobody said".

    Attributes
    ----------
    pattern : (N,) index of the pattern in the block.
    row, col : (N,) centre in px, good to about a quarter of the disk's radius.
    probability : (N,) that it is a disk.
    v_g, sigma_v_g : (N,) amplitude of the structure factor in V.
    q_z, sigma_q_z : (N,) excitation error in 1/Å.
    """

    pattern: Ints
    row: Floats
    col: Floats
    probability: Floats
    v_g: Floats
    sigma_v_g: Floats
    q_z: Floats
    sigma_q_z: Floats

    def __len__(self) -> int:
        return len(self.pattern)

    @classmethod
    def at(
        cls, pattern: ArrayLike, row: ArrayLike, col: ArrayLike, probability: ArrayLike = 1.0
    ) -> Self:
        """Candidates of whom only the place is known."""
        index = np.asarray(pattern, dtype=np.int64)
        none = np.full(index.shape, np.nan)
        return cls(
            index,
            np.asarray(row, dtype=np.float64),
            np.asarray(col, dtype=np.float64),
            np.broadcast_to(np.asarray(probability, dtype=np.float64), index.shape),
            none,
            none,
            none,
            none,
        )

    def select(self, keep: NDArray[np.bool_] | Ints) -> Self:
        """The candidates of a boolean mask or index array, in that order."""
        return replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)})


class Proposer(Protocol):
    """Whatever names candidates: the classical search, or a network."""

    def __call__(self, patterns: NDArray[np.float32], probe: Floats) -> Candidates:
        """Candidates in (B, H, W) patterns for an (H, W) probe of sum 1."""


@runtime_checkable
class Reader(Proposer, Protocol):
    """A proposer that reads q_z of the measured disks from what the fits found inside them."""

    def read(self, disks: Disks, patterns: NDArray[np.float32], radius: float) -> Disks:
        """The disks of (B, H, W) patterns in electrons, of a round probe of ``radius`` px."""


CONTRAST = 27
"""Coefficients of the contrast inside a disk: all of degree 1 to 6."""
EVEN_ODDS = 5.0
"""Signal-to-noise ratio at which a disk counts as half visible: above the largest of the
thousands of noise maxima of one pattern."""


CENTRED = 0.12
"""Share of a pattern's width by which the direct beam usually lies off its middle."""


def directness(position: ArrayLike, intensity: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """(N,) how likely disks are the direct beam, as a logarithm: bright, and near the middle.

    In thick crystals a diffracted beam often outshines it; and some patterns lie far off the
    middle, so that distances count with the long tails of Cauchy's density in two dimensions.

    Parameters
    ----------
    position : (N, 2) row and column in px.
    shape : of the pattern in px.
    """
    away = np.asarray(position, dtype=np.float64) - (np.array(shape) - 1) / 2
    square = (away**2).sum(1) / (CENTRED * min(shape)) ** 2
    bright = np.maximum(np.nan_to_num(np.asarray(intensity, dtype=np.float64)), 1e-3)
    return np.asarray(np.log(bright) - 1.5 * np.log1p(square))


def visibility_of(ratio: ArrayLike) -> Floats:
    """Visibility within 0 to 1 of a signal-to-noise ratio: ½ at `EVEN_ODDS`, 0.94 at twice that."""
    safe = np.maximum(np.asarray(ratio, dtype=np.float64), 1e-6)
    return np.asarray(1 / (1 + (EVEN_ODDS / safe) ** 4))
