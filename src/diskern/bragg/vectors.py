"""Bragg vectors of a scan: every disk of every pattern, as flat columns sorted by scan position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Weight = Literal["intensity", "v_g", "count"]

COLUMNS: Mapping[str, tuple[type[np.generic], str, str]] = MappingProxyType(
    {
        "row": (np.float64, "px", "centre of the disk on the detector"),
        "col": (np.float64, "px", "centre of the disk on the detector"),
        "intensity": (np.float64, "counts", "electrons in the disk, background taken off"),
        "sigma_row": (np.float32, "px", "standard uncertainty of row"),
        "sigma_col": (np.float32, "px", "standard uncertainty of col"),
        "covariance": (np.float32, "px²", "covariance of row and col"),
        "sigma_intensity": (np.float32, "counts", "standard uncertainty of intensity"),
        "background": (np.float32, "counts/px", "level under the disk"),
        "chi2": (np.float32, "", "reduced chi-square of the fit"),
        "order": (np.int16, "", "order of the polynomial inside the disk; -1 unknown"),
        "visibility": (np.float32, "", "0 invisible to 1 certain"),
        "v_g": (np.float32, "V", "amplitude of the structure factor"),
        "sigma_v_g": (np.float32, "V", "standard uncertainty of v_g"),
        "q_z": (np.float32, "1/Å", "excitation error, positive inside the Ewald sphere"),
        "sigma_q_z": (np.float32, "1/Å", "standard uncertainty of q_z"),
    }
)
"""What is kept of a disk: type, unit and meaning; NaN stands for "nobody said"."""

_NEEDED = ("row", "col", "intensity")
_TABLE = np.dtype(
    [
        ("scan_y", np.int32), ("scan_x", np.int32), ("row", np.float64), ("col", np.float64),
        ("q_y", np.float64), ("q_x", np.float64),
        *((name, kind) for name, (kind, *_) in COLUMNS.items() if name not in ("row", "col")),
    ]
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class BraggVectors:
    """The disks of all patterns of a scan.

    Attributes
    ----------
    scan_shape : (scan_y, scan_x).
    pattern_shape : (Q_y, Q_x) in px.
    offsets : (scan_y · scan_x + 1,) the disks of pattern p = y · scan_x + x are the rows
        ``offsets[p]:offsets[p + 1]``.
    columns : name → (N,) array, for every name of `COLUMNS`; not to be written to.
    calibration : what is known of the scale of the patterns.
    provenance : where the numbers come from, ready for JSON.
    """

    scan_shape: tuple[int, int]
    pattern_shape: tuple[int, int]
    offsets: Ints
    columns: Mapping[str, NDArray[Any]]
    calibration: VectorCalibration = field(default_factory=VectorCalibration)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_columns(
        cls,
        scan_shape: tuple[int, int],
        pattern_shape: tuple[int, int],
        pattern: ArrayLike,
        columns: Mapping[str, ArrayLike],
        calibration: VectorCalibration | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """Sort plain columns into scan order.

        Parameters
        ----------
        pattern : (N,) scan_y · scan_x_size + scan_x of each disk, in any order; disks of one
            pattern keep theirs.
        columns : ``row``, ``col`` and ``intensity``, and any other name of `COLUMNS`, each (N,).

        Raises
        ------
        DiskernError
            For a missing, unknown or unequally long column, or a pattern outside the scan.
        """
        which = np.asarray(pattern, dtype=np.int64).reshape(-1)
        count = _positions(scan_shape, pattern_shape)
        if len(which) and not (which.min() >= 0 and which.max() < count):
            worst = int(which.max() if which.max() >= count else which.min())
            raise DiskernError(f"pattern {worst} is outside a scan of {count} positions")
        data = _typed(columns, len(which))
        offsets = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(which, minlength=count), out=offsets[1:])
        if len(which) and (np.diff(which) < 0).any():
            order = np.argsort(which, kind="stable")
            data = {name: column[order] for name, column in data.items()}
        return cls(
            (int(scan_shape[0]), int(scan_shape[1])),
            (int(pattern_shape[0]), int(pattern_shape[1])),
            offsets,
            MappingProxyType(data),
            calibration or VectorCalibration(),
            dict(provenance or {}),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[BraggVectors]) -> Self:
        """Stack scans of the same width below each other; the first one's calibration holds.

        Raises
        ------
        DiskernError
            For no parts, or parts of unequal width or detector.
        """
        if not parts:
            raise DiskernError("there are no Bragg vectors to put together")
        first = parts[0]
        width, detector = first.scan_shape[1], first.pattern_shape
        for part in parts:
            if part.scan_shape[1] != width or part.pattern_shape != detector:
                raise DiskernError(f"{part!r} does not fit below a scan of width {width}")
        starts = np.cumsum([0, *(len(part) for part in parts)])
        offsets = [p.offsets[:-1] + s for p, s in zip(parts, starts, strict=False)]
        return cls(
            (sum(p.scan_shape[0] for p in parts), width),
            detector,
            np.concatenate([*offsets, starts[-1:]]).astype(np.int64),
            MappingProxyType({n: np.concatenate([p.columns[n] for p in parts]) for n in COLUMNS}),
            first.calibration.stacked(
                [p.calibration for p in parts], [p.scan_shape for p in parts]
            ),
            first.provenance,
        )

    # --- looking --------------------------------------------------------------------------
    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, name: str) -> NDArray[Any]:
        """(N,) column of that name, also of the derived ones of `table`."""
        if name in self.columns:
            return self.columns[name]
        if name in ("scan_y", "scan_x"):
            return np.asarray(self.pattern // self.scan_shape[1] if name == "scan_y"
                              else self.pattern % self.scan_shape[1])  # fmt: skip
        if name in ("q_y", "q_x"):
            return self._q[:, 0 if name == "q_y" else 1]
        raise DiskernError(
            f"Bragg vectors have no column {name!r}; use {', '.join(_TABLE.names or ())}"
        )

    @property
    def counts(self) -> Ints:
        """(scan_y, scan_x) disks of each pattern."""
        return np.diff(self.offsets).reshape(self.scan_shape)

    @cached_property
    def pattern(self) -> Ints:
        """(N,) flat scan position of each disk."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @cached_property
    def _q(self) -> Floats:
        position = np.stack([self.columns["row"], self.columns["col"]], axis=1)
        return self.calibration.to_reciprocal(position, self.pattern, self.scan_shape)

    def table(self) -> NDArray[np.void]:
        """One row a disk, sorted by scan position.

        Returns
        -------
        (N,) structured array with fields ``scan_y scan_x`` (scan position), ``row col``
        (detector px, raw), ``q_y q_x`` (1/Å, origin and ellipse taken off, in the axes of the
        detector; NaN without an origin and a pixel size) and the other names of `COLUMNS`.
        """
        out = np.empty(len(self), _TABLE)
        for name in _TABLE.names or ():
            out[name] = self[name]
        return out

    def at(self, y: int, x: int) -> NDArray[np.void]:
        """`table` of one scan position."""
        return self.region((y, y + 1), (x, x + 1)).table()

    # --- choosing -------------------------------------------------------------------------
    def region(self, rows: tuple[int, int], cols: tuple[int, int]) -> Self:
        """The rectangle of scan positions ``rows[0] ≤ y < rows[1]``, ``cols[0] ≤ x < cols[1]``.

        Raises
        ------
        DiskernError
            For a rectangle that is empty or reaches beyond the scan.
        """
        for (low, high), edge in zip((rows, cols), self.scan_shape, strict=True):
            if not 0 <= low < high <= edge:
                ny, nx = self.scan_shape
                raise DiskernError(
                    f"region {rows[0]}:{rows[1]},{cols[0]}:{cols[1]} does not lie in the "
                    f"{ny}×{nx} scan"
                )
        grid = np.arange(len(self.offsets) - 1).reshape(self.scan_shape)
        chosen = grid[rows[0] : rows[1], cols[0] : cols[1]]
        size = np.diff(self.offsets)[chosen.ravel()]
        offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        index = np.repeat(self.offsets[:-1][chosen.ravel()] - offsets[:-1], size)
        index += np.arange(len(index))
        return replace(
            self,
            scan_shape=(chosen.shape[0], chosen.shape[1]),
            offsets=offsets,
            columns=MappingProxyType({n: c[index] for n, c in self.columns.items()}),
            calibration=self.calibration.cut(rows, cols),
        )

    def select(self, keep: ArrayLike) -> Self:
        """The disks of an (N,) mask, at the same scan positions."""
        mask = np.asarray(keep, dtype=bool)
        if mask.shape != (len(self),):
            raise DiskernError(f"the mask has shape {mask.shape}; there are {len(self)} disks")
        size = np.bincount(self.pattern[mask], minlength=len(self.offsets) - 1)
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(size)]).astype(np.int64),
            columns=MappingProxyType({n: c[mask] for n, c in self.columns.items()}),
        )

    def with_calibration(self, **changes: Any) -> Self:
        """A copy with other fields of `VectorCalibration` (pixel_size, origin …)."""
        return replace(self, calibration=replace(self.calibration, **changes))

    # --- summing --------------------------------------------------------------------------
    def histogram(
        self, weight: Weight = "intensity", *, sampling: int = 1, centred: bool = False
    ) -> Floats:
        """Bragg vector map: the disks of all patterns as points on one detector.

        Parameters
        ----------
        weight : what a disk adds: its intensity, its ``v_g`` (disks without one add nothing),
            or one.
        sampling : bins per pixel.
        centred : take off each pattern's origin, so that the direct beam lies on pixel
            (Q_y // 2, Q_x // 2), and undo the ellipse; needs ``calibration.origin``.

        Returns
        -------
        (Q_y · sampling, Q_x · sampling) sums, each disk shared by its four nearest bins; the
        middle of pixel r lies at r · sampling + (sampling − 1) / 2.

        Raises
        ------
        DiskernError
            For an unknown weight, a sampling outside 1 to 16, or a missing origin.
        """
        if weight not in ("intensity", "v_g", "count"):
            raise DiskernError(f"weight={weight!r} is unknown; use intensity, v_g or count")
        if not 1 <= sampling <= 16:
            raise DiskernError(f"sampling={sampling} bins per pixel is not in 1 to 16")
        position = np.stack([self.columns["row"], self.columns["col"]], axis=1)
        if centred:
            offset = self.calibration.centred(position, self.pattern, self.scan_shape)
            position = offset + [n // 2 for n in self.pattern_shape]
        amount = np.ones(len(self)) if weight == "count" else self.columns[weight]
        shape = tuple(n * sampling for n in self.pattern_shape)
        return _spread(position * sampling + (sampling - 1) / 2, np.nan_to_num(amount), shape)

    # --- files ----------------------------------------------------------------------------
    def to_emd(self, path: str | PathLike[str]) -> None:
        """Write an EMD 1.0 file that py4DSTEM reads; see `diskern.bragg.vectors_emd`."""
        from diskern.bragg.vectors_emd import write_emd

        write_emd(self, path)

    @classmethod
    def from_emd(cls, path: str | PathLike[str]) -> BraggVectors:
        """Read the ``BraggVectors`` of an EMD 1.0 file, our own or py4DSTEM's."""
        from diskern.bragg.vectors_emd_read import read_emd

        return read_emd(path)

    def to_zarr(self, path: str | PathLike[str]) -> None:
        """Write a Zarr group of flat columns and offsets (needs the extra ``zarr``)."""
        from diskern.bragg.vectors_export import write_zarr

        write_zarr(self, path)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write `table` as text with commas, one disk a line."""
        from diskern.bragg.vectors_export import write_csv

        write_csv(self, path)

    def __repr__(self) -> str:
        ny, nx = self.scan_shape
        lines = [
            f"BraggVectors: {len(self)} disks in {ny} × {nx} patterns of "
            f"{self.pattern_shape[0]} × {self.pattern_shape[1]} px"
        ]
        if len(self):
            low, middle, high = np.percentile(self.counts, [0, 50, 100])
            lines.append(f"  disks a pattern  {low:.0f} … {middle:.0f} … {high:.0f}")
        for name, (_, unit, _) in COLUMNS.items():
            known = self.columns[name][np.isfinite(self.columns[name])]
            if len(known) and name in ("intensity", "sigma_row", "sigma_col", "v_g", "q_z"):
                low, middle, high = np.percentile(known, [5, 50, 95])
                lines.append(f"  {name:15}  {low:.3g} … {middle:.3g} … {high:.3g} {unit}")
        lines.append(f"  {'calibration':15}  {self.calibration.words()}")
        return "\n".join(lines)


def _positions(scan_shape: tuple[int, int], pattern_shape: tuple[int, int]) -> int:
    for name, shape in (("scan", scan_shape), ("pattern", pattern_shape)):
        if len(shape) != 2 or min(shape) < 1:
            raise DiskernError(f"{name}_shape={tuple(shape)} must be two sizes of at least 1")
    return int(scan_shape[0]) * int(scan_shape[1])


def _typed(columns: Mapping[str, ArrayLike], count: int) -> dict[str, NDArray[Any]]:
    """Every column of `COLUMNS` in its own type; what was not given is NaN (order: -1)."""
    missing = [name for name in _NEEDED if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown:
        said = f"lack a column {missing[0]!r}" if missing else f"have no column {unknown[0]!r}"
        raise DiskernError(f"Bragg vectors {said}; the columns are {', '.join(COLUMNS)}")
    out: dict[str, NDArray[Any]] = {}
    for name, (kind, *_) in COLUMNS.items():
        if name not in columns:
            blank = -1 if name == "order" else np.nan
            out[name] = np.full(count, blank, dtype=kind)
            continue
        column = np.asarray(columns[name])
        if column.shape != (count,):
            raise DiskernError(f"column {name} has shape {column.shape}, not ({count},)")
        if name == "order" and column.dtype.kind == "f":
            column = np.where(np.isfinite(column), column, -1)
        out[name] = column.astype(kind)
    return out


def _spread(position: Floats, amount: Floats, shape: Sequence[int]) -> Floats:
    """Points shared by their four nearest pixels; what falls outside is left out."""
    total = np.zeros(shape[0] * shape[1])
    good = np.isfinite(position).all(axis=1)
    position, amount = position[good], amount[good]
    low = np.floor(position).astype(np.int64)
    part = position - low
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, col = low[:, 0] + i, low[:, 1] + j
        share = np.abs(1 - i - part[:, 0]) * np.abs(1 - j - part[:, 1]) * amount
        inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        flat = row[inside] * shape[1] + col[inside]
        total += np.bincount(flat, weights=share[inside], minlength=len(total))
    return total.reshape(shape[0], shape[1])
