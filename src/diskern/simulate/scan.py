"""A 4D-STEM scan that is computed where it is looked at."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.patterns.pattern import Scan
from diskern.simulate.instrument import Instrument, Labels
from diskern.simulate.instrument.geometry import Descan, Linear
from diskern.simulate.probe import Probe
from diskern.simulate.scan_specimen import Specimen

Floats = NDArray[np.float64]
Method = Literal["disks", "bloch"]
_CHUNK = 4


@dataclass(frozen=True)
class ScanOptions:
    """How the patterns of a scan are computed.

    Attributes
    ----------
    method : ``disks`` is a two-beam rocking curve per reflection, about a millisecond a pattern;
        ``bloch`` solves every pattern dynamically, about 30 ms for a small cell.
    g_max : reflections out to here in 1/Å; by default what the detector shows.
    s_max : largest excitation error in 1/Å.
    cache : blocks of 4 × 4 patterns kept in memory.
    """

    method: Method = "disks"
    g_max: float | None = None
    s_max: float = 0.03
    cache: int = 64

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise DiskernError(f"method={self.method!r} is unknown; use disks or bloch")
        if self.g_max is not None and not 0 < self.g_max <= 10:
            raise DiskernError(f"g_max={self.g_max} 1/Å is outside 0 to 10")
        if self.cache < 1:
            raise DiskernError(f"cache={self.cache} blocks; keep at least one")


def simulate_scan(
    specimen: Specimen,
    *,
    energy: float = 200e3,
    semiangle: float = 1.5,
    probe: Probe | None = None,
    shape: tuple[int, int] = (128, 128),
    pixel_size: float = 0.02,
    scan_step: tuple[float, float] = (10.0, 10.0),
    instrument: Instrument | None = None,
    options: ScanOptions | None = None,
) -> Scan:
    """Simulate a 4D-STEM scan of a specimen.

    Parameters
    ----------
    specimen : the truth at each position; `Scan.data` carries it on as ``.specimen``.
    energy, semiangle : of the probe in eV and mrad; or ``probe`` in their place.
    shape, pixel_size : (Q_y, Q_x) px and 1/Å per px of the detector; the direct beam falls on
        (Q_y // 2, Q_x // 2) before the instrument moves it.
    scan_step : (y, x) in Å.
    instrument : what records the patterns; without one they are fractions of the incident beam.

    Returns
    -------
    A `Scan` whose ``data`` is a `SimulatedScan`: nothing is computed before it is asked for, and
    each pattern is the same in whatever order they are read.

    Raises
    ------
    DiskernError
        For a parallel beam, or impossible values.
    """
    probe = probe or Probe(energy, semiangle)
    if not probe.semiangle > 0:
        raise DiskernError("a scan has disks: give a semiangle above 0 mrad, e.g. 1.5")
    if len(shape) != 2 or min(shape) < 16 or max(shape) > 4096:
        raise DiskernError(f"detector shape {shape} must be two sizes from 16 to 4096 px")
    if not (np.isfinite(pixel_size) and 1e-5 < pixel_size < 1):
        raise DiskernError(f"pixel_size={pixel_size} 1/Å is not between 1e-5 and 1 1/Å")
    data = SimulatedScan(
        specimen, probe, shape, pixel_size, scan_step, instrument, options or ScanOptions()
    )
    return Scan(
        data,
        pixel_size,
        probe.energy,
        scan_step,
        centre=tuple(data.centres().mean(axis=(0, 1)).tolist()),
        source="simulated scan",
        metadata={"semiangle": probe.semiangle, "configuration": data.configuration},
    )


class SimulatedScan:
    """(scan_y, scan_x, Q_y, Q_x) float32 patterns, computed in blocks of 4 × 4 and kept a while.

    Attributes
    ----------
    specimen : the truth.
    shape, dtype : as of an array.
    """

    def __init__(
        self,
        specimen: Specimen,
        probe: Probe,
        detector: tuple[int, int],
        pixel_size: float,
        scan_step: tuple[float, float],
        instrument: Instrument | None,
        options: ScanOptions,
    ) -> None:
        self.specimen, self.probe, self.options = specimen, probe, options
        self.pixel_size, self.scan_step, self.instrument = pixel_size, scan_step, instrument
        self.shape = (*specimen.shape, *detector)
        self.dtype = np.dtype(np.float32)
        self.ndim = 4
        self._rotations, self._stretches = specimen.rotations(), specimen.stretches()
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.float32]] = OrderedDict()
        self._engines: dict[int, _Engine] = {}

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Whole numbers, slices and an ellipsis, as of a numpy array."""
        rows, cols, frame_key, dropped = _split_key(key, self.shape)
        out = np.empty((len(rows), len(cols), *self.shape[2:]), dtype=np.float32)
        for top in sorted({r // _CHUNK for r in rows}):
            here = [i for i, r in enumerate(rows) if r // _CHUNK == top]
            for left in sorted({c // _CHUNK for c in cols}):
                there = [j for j, c in enumerate(cols) if c // _CHUNK == left]
                block = self._block(top, left)
                picked = block[
                    np.ix_([rows[i] % _CHUNK for i in here], [cols[j] % _CHUNK for j in there])
                ]
                out[np.ix_(here, there)] = picked
        found = out[(slice(None), slice(None), *frame_key)]
        kept = tuple(0 if d else slice(None) for d in dropped)
        return np.asarray(found[kept])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def centres(self) -> Floats:
        """(ny, nx, 2) true row and column in px of the direct beam in each pattern."""
        ny, nx, height, width = self.shape
        middle = np.array([height // 2, width // 2], dtype=np.float64)
        out = np.tile(middle, (ny, nx, 1))
        for part in self.instrument.transforms if self.instrument else ():
            if isinstance(part, Descan):
                steps = np.moveaxis(np.indices((ny, nx)), 0, -1) - [(ny - 1) / 2, (nx - 1) / 2]
                out += steps @ np.array([part.rows, part.cols]).T
            elif isinstance(part, Linear):
                out += part.shift
        return out

    @property
    def configuration(self) -> str:
        """Hash of everything that decides the numbers: names a result file, allows a resume."""
        digest = hashlib.sha256()
        plain = {
            "probe": asdict(self.probe),
            "detector": [self.shape[2:], self.pixel_size],
            "options": {**asdict(self.options), "cache": 0},
            "instrument": self.instrument and [self.instrument.seed, self.instrument.log()],
        }
        digest.update(json.dumps(plain, sort_keys=True).encode())
        digest.update(self.specimen.table().tobytes())
        for crystal in self.specimen.crystals:
            for array in (crystal.lattice, crystal.fractional, crystal.numbers, crystal.occupancy):
                digest.update(np.ascontiguousarray(array).tobytes())
            digest.update(np.ascontiguousarray(crystal.u_iso).tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        return f"SimulatedScan({' × '.join(map(str, self.shape))}, {self.options.method})"

    # --- computing --------------------------------------------------------------------

    def _block(self, top: int, left: int) -> NDArray[np.float32]:
        key = (top, left)
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        block = self._computed(top, left)
        self._blocks[key] = block
        while len(self._blocks) > self.options.cache:
            self._blocks.popitem(last=False)
        return block

    def _computed(self, top: int, left: int) -> NDArray[np.float32]:
        ny, nx = self.specimen.shape
        rows = np.arange(top * _CHUNK, min(ny, (top + 1) * _CHUNK))
        cols = np.arange(left * _CHUNK, min(nx, (left + 1) * _CHUNK))
        window = np.ix_(rows, cols)
        phase = self.specimen.phase[window].reshape(-1)
        fields = [
            a[window].reshape(-1, *a.shape[2:])
            for a in (self._rotations, self._stretches, self.specimen.thickness)
        ]
        frames = np.zeros((len(phase), *self.shape[2:]), dtype=np.float32)
        for p in np.unique(phase):
            mine = phase == p
            frames[mine] = self._engine(int(p)).patterns(*(f[mine] for f in fields))
        if self.instrument is not None:
            frames = self._recorded(frames, list(product(rows.tolist(), cols.tolist())))
        return frames.reshape(len(rows), len(cols), *self.shape[2:])

    def _recorded(
        self, frames: NDArray[np.float32], places: list[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """The instrument's view of a block; its noise is seeded by the block's first place."""
        instrument = self.instrument
        if instrument is None:
            return frames
        ny, nx = self.specimen.shape
        labels = Labels.of(frames, pixel_size=self.pixel_size)
        if not any(isinstance(t, Descan) for t in instrument.transforms):
            y, x = places[0]
            return instrument.apply(frames, labels, frame=y * nx + x)[0]
        out = np.empty_like(frames)
        for i, (y, x) in enumerate(places):
            place = (y - (ny - 1) / 2, x - (nx - 1) / 2)
            parts = tuple(
                t.at(place) if isinstance(t, Descan) else t for t in instrument.transforms
            )
            here = replace(instrument, transforms=parts)
            out[i] = here.apply(frames[i], labels, frame=y * nx + x)[0]
        return out

    def _engine(self, phase: int) -> _Engine:
        if phase not in self._engines:
            crystal = self.specimen.crystals[phase] if phase >= 0 else None
            self._engines[phase] = _Engine(self, crystal)
        return self._engines[phase]


class _Engine:
    """Patterns of one phase (or of vacuum) by the method the options name."""

    def __init__(self, scan: SimulatedScan, crystal: Crystal | None) -> None:
        from diskern.simulate.scan_disks import TwoBeamDisks

        self._scan, self._options = scan, scan.options
        self._shape = (scan.shape[2], scan.shape[3])
        corner = scan.pixel_size * float(np.hypot(*self._shape)) / 2
        self._g_max = self._options.g_max or max(corner, 0.6)
        self._crystal = None if crystal is None else crystal.primitive()
        self._disks = None
        if crystal is not None and self._options.method == "disks":
            self._disks = TwoBeamDisks(
                crystal,
                scan.probe,
                self._shape,
                scan.pixel_size,
                g_max=self._g_max,
                s_max=self._options.s_max,
            )

    def patterns(
        self, rotations: Floats, stretches: Floats, thicknesses: Floats
    ) -> NDArray[np.float32]:
        """(B, Q_y, Q_x) fractions of the incident beam."""
        centres = np.tile([self._shape[0] // 2, self._shape[1] // 2], (len(rotations), 1))
        if self._crystal is None:
            return self._vacuum(len(rotations))
        if self._disks is not None:
            return self._disks.patterns(rotations, stretches, thicknesses, centres.astype(float))
        return np.stack(
            [
                self._dynamical(*pixel)
                for pixel in zip(rotations, stretches, thicknesses, strict=True)
            ]
        )

    def _dynamical(
        self, rotation: Floats, stretch: Floats, thickness: float
    ) -> NDArray[np.float32]:
        from diskern.simulate.bloch import BlochOptions, BlochWaves
        from diskern.simulate.bloch_cbed import cbed_disks

        if thickness <= 0 or self._crystal is None:
            return np.asarray(self._vacuum(1)[0])
        # The strain, known in the lab frame, is taken back into the crystal's.
        lattice = self._crystal.lattice @ (rotation.T @ stretch @ rotation).T
        strained = replace(self._crystal, lattice=lattice)
        options = BlochOptions(g_max=self._g_max, s_max=max(0.05, self._options.s_max))
        probe = self._scan.probe
        waves = BlochWaves(
            strained, Rotation.from_matrix(rotation), probe.energy, options, k_reach=probe.k_reach
        )
        image = cbed_disks(
            waves,
            probe.semiangle,
            [thickness],
            self._shape,
            self._scan.pixel_size,
            aperture=probe.shape,
        )
        return np.asarray(image[0].numpy(), dtype=np.float32)

    def _vacuum(self, count: int) -> NDArray[np.float32]:
        import torch

        from diskern.simulate.probe import aperture_coverage

        height, width = self._shape
        px = self._scan.pixel_size
        k_y = (torch.arange(height, dtype=torch.float64) - height // 2)[:, None] * px
        k_x = (torch.arange(width, dtype=torch.float64) - width // 2)[None, :] * px
        disk = aperture_coverage(
            self._scan.probe, k_y.expand(height, width), k_x.expand(height, width), (px, px)
        )
        frame: NDArray[np.float32] = (disk / disk.sum()).float().numpy()
        return np.tile(frame, (count, 1, 1))


def _split_key(
    key: Any, shape: tuple[int, ...]
) -> tuple[list[int], list[int], tuple[Any, Any], list[bool]]:
    """Scan rows and columns asked for, the detector's own key, and which axes fall away."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(p is Ellipsis for p in parts):
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    if len(parts) != len(shape):
        raise IndexError(f"{len(parts)} indices for a scan of {len(shape)} dimensions")
    dropped = [isinstance(p, int | np.integer) for p in parts]
    scan: list[list[int]] = []
    for part, size in zip(parts[:2], shape[:2], strict=True):
        if isinstance(part, int | np.integer):
            if not -size <= part < size:
                raise IndexError(f"index {part} is outside a scan of {size} positions")
            scan.append([int(part) % size])
        elif isinstance(part, slice):
            scan.append(list(range(*part.indices(size))))
        else:
            scan.append([int(i) % size for i in np.asarray(part).reshape(-1)])
    frame = [
        slice(int(p), int(p) + 1 or None) if d else p
        for p, d in zip(parts[2:], dropped[2:], strict=True)
    ]
    return scan[0], scan[1], (frame[0], frame[1]), dropped
