"""One function over all blocks of a scan, each block's result a file, so that a run resumes.

The files of a run lie in a folder named by a hash of what is done and of what it is done to: the
same call finds its finished blocks again, another call never does.  A file is whole or absent;
one that was damaged later is recomputed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diskern._version import __version__
from diskern.compute.executors import SerialExecutor, Workers
from diskern.compute.files import whole_file, write_text
from diskern.compute.source import Tile, identity, travels
from diskern.errors import DiskernError

Columns = Mapping[str, NDArray[Any]]
_ABOUT = "about.json"


class Task(Protocol):
    """What is done with the patterns of a block; sent to other processes, so picklable."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Everything that decides the result, ready for JSON."""

    def __call__(self, patterns: NDArray[Any]) -> Columns:
        """Arrays from the (B, Q_y, Q_x) patterns of a block."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    done, total : patterns, those of earlier runs included.
    reused : patterns whose results an earlier run had left.
    seconds : since the start of this run.
    """

    done: int
    total: int
    reused: int
    seconds: float

    @property
    def rate(self) -> float:
        """Patterns per second of this run; 0 before the first block."""
        return (self.done - self.reused) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to the end; None before the first block."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


@dataclass(frozen=True, eq=False)
class Run:
    """A task on a scan, cut into tiles.

    Attributes
    ----------
    data : (scan_y, scan_x, Q_y, Q_x), anything sliceable.
    task : what is done.
    tiles : of the scan.
    source : hash of the scan, see `identity`.
    key : hash of configuration, input and tiles.
    """

    data: Any
    task: Task
    tiles: Sequence[Tile]
    source: str
    key: str

    @classmethod
    def of(cls, data: Any, task: Task, tiles: Sequence[Tile]) -> Run:
        """The run with its key; reads the scan where only its numbers can identify it."""
        source = identity(data)
        what = {
            "program": __version__,
            "task": task.configuration,
            "input": source,
            "tiles": [[*t.rows, *t.cols] for t in tiles],
        }
        text = json.dumps(what, sort_keys=True, allow_nan=True)
        return cls(data, task, tiles, source, hashlib.sha256(text.encode()).hexdigest()[:20])

    @property
    def total(self) -> int:
        """Patterns."""
        return sum(t.patterns for t in self.tiles)


def run_blocks(
    run: Run,
    *,
    workers: Workers | None = None,
    folder: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Columns]:
    """Work on all tiles that no earlier run has finished.

    Parameters
    ----------
    workers : where; by default in this process.
    folder : where the results are kept, in a folder of the run's key; without one nothing is.
    progress : called at the start and after every block.

    Returns
    -------
    What the task gave for each tile, in the order of the tiles.

    Raises
    ------
    DiskernError
        Where a worker was killed or the folder cannot be written; finished blocks stay.
    """
    place = None if folder is None else _prepared(folder, run)
    found = {t.index: _read(_file(place, t)) for t in run.tiles} if place else {}
    results = {index: columns for index, columns in found.items() if columns is not None}
    todo = [t for t in run.tiles if t.index not in results]
    reused = done = run.total - sum(t.patterns for t in todo)
    start = time.perf_counter()
    tell = progress or (lambda _: None)
    tell(Progress(done, run.total, reused, 0.0))
    workers = workers or Workers(SerialExecutor(), 1)
    for tile, columns in _worked(run, todo, workers, place):
        results[tile.index] = columns
        done += tile.patterns
        tell(Progress(done, run.total, reused, time.perf_counter() - start))
    return [results[t.index] for t in run.tiles]


def _worked(
    run: Run, todo: Sequence[Tile], workers: Workers, place: Path | None
) -> Iterator[tuple[Tile, Columns]]:
    """Tiles with their results as they come, few enough under way to bound the memory."""
    ahead = workers.count if isinstance(workers.executor, SerialExecutor) else 2 * workers.count
    waiting = iter(todo)
    active: dict[Future[Any], Tile] = {}
    by_file = travels(run.data)
    try:
        while True:
            while len(active) < ahead and (tile := next(waiting, None)) is not None:
                data = run.data if by_file else tile.read(run.data)
                path = None if place is None else _file(place, tile)
                job = (run.task, data, tile if by_file else None, path)
                active[workers.executor.submit(work_on, *job)] = tile
            if not active:
                return
            for future in wait(active, return_when=FIRST_COMPLETED).done:
                yield active.pop(future), future.result()
    except BrokenExecutor as error:
        raise DiskernError(
            "a worker process was killed (out of memory?); what is finished is kept, run again "
            "with fewer jobs"
        ) from error
    except OSError as error:
        raise DiskernError(
            f"a block could not be read or written: {error.strerror or error}"
        ) from error
    finally:
        for future in active:
            future.cancel()


def work_on(task: Task, data: Any, tile: Tile | None, path: Path | None) -> dict[str, Any]:
    """Do the task on a tile of a scan, or on patterns that were read before; keep the result.

    Runs in the worker.
    """
    columns = dict(task(data if tile is None else tile.read(data)))
    if path is not None:
        with whole_file(path) as draft, draft.open("wb") as stream:
            np.savez(stream, **columns)  # type: ignore[arg-type]  # arrays by name
    return columns


# --- files ----------------------------------------------------------------------------------
def _prepared(folder: Path, run: Run) -> Path:
    place = folder / run.key
    try:
        place.mkdir(parents=True, exist_ok=True)
        about = {"program": f"diskern {__version__}", "task": run.task.configuration}
        write_text(place / _ABOUT, json.dumps(about, indent=1, default=str) + "\n")
    except OSError as error:
        raise DiskernError(f"cannot write {place}: {error.strerror or error}") from error
    return place


def _file(place: Path, tile: Tile) -> Path:
    return place / f"{tile.index:06d}.npz"


def _read(path: Path) -> Columns | None:
    """A finished block; None where there is none or it was damaged (the checksums tell)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def remove_blocks(folder: Path, key: str | None = None) -> None:
    """Remove the blocks of a run (of all runs without a key), and the folder once it is empty."""
    for place in [folder / key] if key else list(folder.glob("*/")):
        if (place / _ABOUT).exists():
            shutil.rmtree(place, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
