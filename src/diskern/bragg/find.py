"""Bragg vectors of a whole scan, found block by block."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern._version import __version__
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_probe_measure import measure_probe
from diskern.bragg.disks import DiskOptions, Disks, Proposer
from diskern.bragg.find_mask import find_mask
from diskern.bragg.vectors import COLUMNS, BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.compute.blocks import Progress, Run, remove_blocks, run_blocks
from diskern.compute.executors import Workers
from diskern.compute.source import block_patterns, tiles
from diskern.errors import DiskernError
from diskern.patterns.pattern import Pattern, Scan

Bools = NDArray[np.bool_]

BIASED = (
    "the darkest pixels show about {0:.0f} counts with less noise than electrons make: if that is "
    "the camera's bias, name it as the dark level (--dark-level {0:.0f}); fainter disks are then "
    "found, and every σ becomes smaller"
)
SAMPLE = 49
"""Patterns looked at, spread over the scan, for the probe and the detector's flaws."""


def find_bragg_vectors(
    scan: Scan | Pattern,
    probe: Probe | Pattern | ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    options: DiskOptions | None = None,
    proposer: Proposer | None = None,
    executor: Executor | Workers | None = None,
    directory: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BraggVectors:
    """Find and measure the disks of every pattern.

    Parameters
    ----------
    scan : of 4D-STEM; its patterns are read a block at a time, in the workers where they lie in a
        file.  A single pattern is a scan of one position.
    probe : what one undiffracted disk looks like, or its image in vacuum; estimated from the
        scan's own patterns by default.
    mask : (Q_y, Q_x) True where a pixel may be used; by default bad pixels, beam stop and missing
        pixels of the detector are found.
    options : of the search, see `DiskOptions`.
    proposer : names candidates in place of the classical search.
    executor : any `concurrent.futures.Executor`, or `Workers`; by default this process works.
    directory : where finished blocks are kept, so that a run that was cut off goes on where it
        was when called again; remove it when done (see `remove_blocks`).
    progress : called with `Progress` after every block.

    Raises
    ------
    DiskernError
        Where probe or mask do not fit the scan, no probe can be estimated, or a worker was
        killed.
    """
    search = prepare_search(scan, probe, mask=mask, options=options, proposer=proposer)
    return search.run(executor=executor, directory=directory, progress=progress)


@dataclass(frozen=True, eq=False)
class DiskTask:
    """The disks of a block: what is done in the workers.

    Attributes
    ----------
    mask : (Q_y, Q_x) True where a pixel may be used.
    options : None for the usual ones.
    """

    probe: Probe
    mask: Bools
    options: DiskOptions | None = None
    proposer: Proposer | None = None

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """Everything that decides the disks, ready for JSON."""
        probe = {"sha256": _hash(self.probe.image), "radius": self.probe.radius}
        return {
            "step": "find_disks",
            "probe": {**probe, "edge": self.probe.edge, "round": self.probe.round},
            "mask": {"sha256": _hash(self.mask), "masked": int((~self.mask).sum())},
            "options": _plain(self.options),
            "proposer": _about(self.proposer),
        }

    def __call__(self, patterns: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Columns of the disks of (B, Q_y, Q_x) patterns, with ``pattern`` their index."""
        from diskern.bragg.disk_search import find_disks

        counts = np.asarray(patterns, dtype=np.float32)
        if not np.isfinite(counts).all():
            dark = (self.options.dark if self.options is not None else None) or 0.0
            counts = np.nan_to_num(counts, nan=dark, posinf=dark, neginf=dark)
        found: Disks = find_disks(
            counts,
            self.probe,
            mask=self.mask,
            options=self.options or DiskOptions(),
            proposer=self.proposer,
        )
        # In the types that are kept: half of what the fit computed in.
        columns = {n: getattr(found, n).astype(kind) for n, (kind, *_) in COLUMNS.items()}
        return {"pattern": found.pattern, **columns}


@dataclass(frozen=True, eq=False)
class Search:
    """A scan with probe and mask, ready to be worked on.

    Attributes
    ----------
    task : what is done with each block.
    work : the blocks; its ``key`` names the result.
    estimated : whether the probe was estimated from the scan.
    notes : what the user should know of the scan.
    """

    scan: Scan
    task: DiskTask
    work: Run
    estimated: bool
    notes: tuple[str, ...] = ()

    def run(
        self,
        *,
        executor: Executor | Workers | None = None,
        directory: str | os.PathLike[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> BraggVectors:
        """Find the disks; arguments as of `find_bragg_vectors`."""
        workers = executor
        if isinstance(executor, Executor):
            workers = Workers(executor, os.cpu_count() or 1)
        found = run_blocks(
            self.work,
            workers=workers,  # type: ignore[arg-type]  # an Executor was wrapped
            folder=None if directory is None else Path(directory),
            progress=progress,
        )
        parts = [dict(part) for part in found]
        del found
        width = self.scan.shape[1]
        which = [
            t.positions(width)[p["pattern"]] for t, p in zip(self.work.tiles, parts, strict=True)
        ]
        return BraggVectors.from_columns(
            self.scan.shape[:2],
            self.scan.shape[2:],
            np.concatenate(which),
            # One column after the other leaves the blocks, so that none is held twice for long.
            {name: np.concatenate([p.pop(name) for p in parts]) for name in COLUMNS},
            self.calibration,
            self.provenance,
        )

    @property
    def calibration(self) -> VectorCalibration:
        """What the scan itself says of its scale."""
        return VectorCalibration(self.scan.pixel_size, self.scan.energy, self.scan.scan_step)

    @property
    def provenance(self) -> dict[str, Any]:
        """Version, configuration and input, ready for JSON."""
        return {
            "program": f"diskern {__version__}",
            "key": self.work.key,
            "input": {
                "source": self.scan.source,
                "shape": list(self.scan.shape),
                "identity": self.work.source,
            },
            "configuration": self.task.configuration,
            "probe_estimated": self.estimated,
            "notes": list(self.notes),
        }

    def forget(self, directory: str | os.PathLike[str]) -> None:
        """Remove the finished blocks of this search."""
        remove_blocks(Path(directory), self.work.key)


def prepare_search(
    scan: Scan | Pattern,
    probe: Probe | Pattern | ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    options: DiskOptions | None = None,
    proposer: Proposer | None = None,
) -> Search:
    """Look at a sample of the patterns for what was not given; arguments as above."""
    from diskern.bragg.disk_gain import estimate_response, suspected_bias
    from diskern.bragg.disk_probe_estimate import estimate_probe

    whole = _as_scan(scan)
    shape = whole.shape[2:]
    chosen = options or DiskOptions()
    sample = None
    notes: tuple[str, ...] = ()
    if probe is None or mask is None or chosen.gain is None:
        sample = sample_patterns(whole)
    usable = find_mask(sample) if mask is None and sample is not None else _checked(mask, shape)
    if chosen.gain is None and sample is not None:
        # One for all blocks: the same disk must not count more in one than in another.
        if chosen.dark is None and (bias := suspected_bias(sample, usable)) is not None:
            notes = (BIASED.format(bias),)
        response = estimate_response(sample, usable, chosen.dark)
        read = response.read_noise if chosen.read_noise is None else chosen.read_noise
        chosen = replace(chosen, gain=response.gain, dark=response.dark, read_noise=read)
    if probe is None and sample is not None:
        try:
            known = estimate_probe(sample, usable, chosen.dark)
        except DiskernError as error:
            raise DiskernError("; ".join([str(error), *notes])) from error
    else:
        known = _as_probe(probe)
    if known.image.shape != shape:
        raise DiskernError(
            f"the probe is {known.image.shape[0]}×{known.image.shape[1]} px, the patterns are "
            f"{shape[0]}×{shape[1]}; give a probe recorded with the same detector"
        )
    task = DiskTask(known, usable, chosen, proposer)
    cut = tiles(whole.shape[:2], block_patterns(shape))
    return Search(whole, task, Run.of(whole.data, task, cut), probe is None, notes)


def sample_patterns(scan: Scan, count: int = SAMPLE) -> NDArray[np.float32]:
    """(B, Q_y, Q_x) about ``count`` patterns spread evenly over a scan, always the same ones."""
    ny, nx = scan.shape[:2]
    rows = min(ny, max(1, round((count * ny / nx) ** 0.5), -(-count // nx)))
    cols = min(nx, max(1, -(-count // rows)))
    ys = ((np.arange(rows) + 0.5) * ny / rows).astype(int)
    xs = ((np.arange(cols) + 0.5) * nx / cols).astype(int)
    out = [np.asarray(scan.data[int(y), int(x)], dtype=np.float32) for y in ys for x in xs]
    return np.nan_to_num(np.stack(out), nan=0.0, posinf=0.0, neginf=0.0)


def how_found(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Probe and detector that vectors were found with, in words; empty where nobody said.

    Parameters
    ----------
    provenance : of `BraggVectors`, of any origin.
    """
    about = provenance.get("configuration")
    about = about if isinstance(about, Mapping) else {}
    probe, options = about.get("probe"), about.get("options")
    words: dict[str, str] = {}
    if isinstance(probe, Mapping) and {"radius", "edge", "round"} <= set(probe):
        shape = "round" if probe["round"] else "of any shape"
        origin = "estimated from the scan" if provenance.get("probe_estimated") else "given"
        words["probe"] = (
            f"{shape}, radius {probe['radius']:.2f} px, rim {probe['edge']:.2f} px, {origin}"
        )
    if isinstance(options, Mapping) and options.get("gain") is not None:
        gain = float(options["gain"])
        dark, noise = options.get("dark") or 0.0, options.get("read_noise") or 0.0
        counting = gain == 1 and not dark and not noise
        words["detector"] = (
            "counts electrons"
            if counting
            else (
                f"{gain:.3g} counts per electron, read-out noise {noise:.3g} counts, dark level "
                f"{dark:.4g}"
            )
        )
    return words


def _as_scan(scan: Scan | Pattern) -> Scan:
    if isinstance(scan, Scan):
        return scan
    if not isinstance(scan, Pattern):
        raise DiskernError(f"{type(scan).__name__} is no scan; give diskern.read(file) or a Scan")
    return Scan.from_array(
        scan.image[None], pixel_size=scan.pixel_size, energy=scan.energy, source=scan.source
    )


def _as_probe(probe: Probe | Pattern | ArrayLike | None) -> Probe:
    if isinstance(probe, Probe):
        return probe
    image = probe.image if isinstance(probe, Pattern) else np.asarray(probe)
    if image.ndim != 2:
        raise DiskernError(f"the probe has shape {image.shape}; give one image (Q_y, Q_x)")
    return measure_probe(image)


def _checked(mask: ArrayLike | None, shape: tuple[int, ...]) -> Bools:
    array = np.asarray(mask)
    if array.shape != shape:
        raise DiskernError(f"the mask has shape {array.shape}; the patterns are {shape}")
    usable = array.astype(bool)
    if not usable.any():
        raise DiskernError("the mask leaves no pixel to use; it is True where a pixel is good")
    return usable


def _hash(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _plain(options: DiskOptions | None) -> dict[str, Any] | None:
    """Options as JSON knows them."""
    if options is None:
        return None
    values = {f.name: getattr(options, f.name) for f in fields(options)}
    return {k: v if isinstance(v, int | float | str | None) else repr(v) for k, v in values.items()}


def _about(proposer: Proposer | None) -> Any:
    """Which proposer: its own words, or its name."""
    stated = getattr(proposer, "configuration", None)
    if isinstance(stated, Mapping):
        return dict(stated)
    if proposer is None or isinstance(stated, str):
        return stated
    return f"{type(proposer).__module__}.{type(proposer).__qualname__}"
