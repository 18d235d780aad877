"""Scans of growing size: patterns per second, peak memory, two processes against one; EMD files.

    python benchmarks/bragg_scan.py [--patterns 1024,4096,16384] [--detector 128] [--json FILE]

Every run is a process of its own, so that its peak memory is its own; the scan is written once
for each size (Poisson patterns of a square lattice of disks, uint16, HDF5 chunks of 4 × 4
patterns).  ``search`` finds the disks as `diskern bragg` does with the classical search;
``blocks`` only sums the patterns, which is what reading, sending and keeping blocks costs by
itself.  Memory is the largest resident size of the main process and of its largest worker (the same
process where there is one).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

RADIUS = 5.0


def write_scan(path: Path, patterns: int, detector: int) -> None:
    """A scan of about so many patterns of the same 64 made-up ones in random order."""
    import h5py

    from diskern.bragg.disk_probe import rim

    rng = np.random.default_rng(0)
    edge = round(patterns**0.5)
    rows, cols = np.indices((detector, detector)) - detector // 2
    kinds = np.zeros((64, detector, detector))
    pitch = detector / 6.5
    for kind in kinds:
        shift = rng.uniform(-0.5, 0.5, 2)
        for m in range(-2, 3):
            for n in range(-2, 3):
                height = 300 * np.exp(-(m**2 + n**2) / 4) * rng.lognormal(0, 0.4)
                r = np.hypot(rows - m * pitch - shift[0], cols - n * pitch - shift[1])
                kind += height * rim(r, RADIUS, 0.6)
    kinds = rng.poisson(kinds + 1).astype(np.uint16)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "scan", (edge, edge, detector, detector), "u2", chunks=(4, 4, detector, detector)
        )
        for y in range(0, edge, 4):
            height = min(4, edge - y)
            data[y : y + height] = kinds[rng.integers(0, 64, (height, edge))]


@dataclass(frozen=True)
class Sums:
    """The cheapest of tasks."""

    configuration = {"step": "sums"}  # noqa: RUF012 - what a task has to have

    def __call__(self, patterns: Any) -> dict[str, Any]:
        """(B,) counts."""
        return {"total": patterns.sum(axis=(1, 2), dtype=np.float64)}


def peak() -> float:
    """Largest resident size of this process in MB (Linux forgets the parent's only in this one)."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(w for w in status.read_text().splitlines() if w.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(path: Path, task: str, jobs: int) -> dict[str, float]:
    """Work through a scan in this process and ``jobs`` workers."""
    from diskern.bragg.disk_probe import Probe
    from diskern.bragg.find import prepare_search
    from diskern.compute.blocks import Progress, Run, run_blocks
    from diskern.compute.executors import open_workers
    from diskern.compute.source import block_patterns, tiles
    from diskern.patterns.read import read

    scan = read(path)
    shape = scan.shape
    disks = 0
    seen: list[tuple[float, Progress]] = []

    def tell(progress: Progress) -> None:
        seen.append((time.perf_counter(), progress))

    with open_workers(jobs) as workers, tempfile.TemporaryDirectory() as folder:
        if task == "blocks":
            cut = tiles(shape[:2], block_patterns(shape[2:]))
            run = Run.of(scan.data, Sums(), cut)
            run_blocks(run, workers=workers, folder=Path(folder), progress=tell)
        else:
            search = prepare_search(
                scan, Probe.synthetic(shape[2:], RADIUS), mask=np.ones(shape[2:], bool)
            )
            disks = len(search.run(executor=workers, directory=folder, progress=tell))
        largest = max(f.result() for f in [workers.executor.submit(peak) for _ in range(4 * jobs)])
    # From the first finished block on: processes have started and libraries are loaded.
    first = next(i for i, (_, p) in enumerate(seen) if p.done)
    done = seen[-1][1].done - seen[first][1].done
    seconds = seen[-1][0] - seen[first][0]
    return {
        "patterns": shape[0] * shape[1],
        "disks": disks,
        "seconds": seen[-1][0] - seen[0][0],
        "patterns per second": done / seconds if seconds else float("nan"),
        "peak MB": peak(),
        "peak MB of a worker": largest,
    }


def time_emd(folder: Path) -> dict[str, float]:
    """Seconds to write and read vectors of 128 × 128 patterns with 20 disks each."""
    from diskern.bragg.vectors import COLUMNS, BraggVectors

    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(128 * 128), 20)
    columns = {name: rng.uniform(1, 100, len(which)) for name in COLUMNS}
    vectors = BraggVectors.from_columns((128, 128), (128, 128), which, columns)
    best = {"write": np.inf, "read": np.inf}
    for _ in range(3):
        start = time.perf_counter()
        vectors.to_emd(folder / "vectors.h5")
        middle = time.perf_counter()
        BraggVectors.from_emd(folder / "vectors.h5")
        end = time.perf_counter()
        best = {
            "write": min(best["write"], middle - start),
            "read": min(best["read"], end - middle),
        }
    return {**best, "MB": (folder / "vectors.h5").stat().st_size / 1e6}


def apart(path: Path, task: str, jobs: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    call = [sys.executable, __file__, "--one", str(path), task, str(jobs)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        return {"failed": done.stderr.strip().splitlines()[-1:]}  # type: ignore[dict-item]
    return dict(json.loads(lines[0].removeprefix("RESULT")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patterns", default="1024,4096,16384")
    parser.add_argument("--detector", type=int, default=128)
    parser.add_argument("--tasks", default="blocks,search")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.one:
        path, task, jobs = given.one
        sys.stdout.write("RESULT" + json.dumps(measure(Path(path), task, int(jobs))) + "\n")
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["EMD, 128 × 128 × 20 disks"] = time_emd(folder)
        sizes = [int(n) for n in given.patterns.split(",")]
        for size in sizes:
            write_scan(folder / "scan.h5", size, given.detector)
            for task in given.tasks.split(","):
                for jobs in (1, 2) if size == sizes[-1] else (1,):
                    found[f"{task}, {size} patterns, jobs {jobs}"] = apart(
                        folder / "scan.h5", task, jobs
                    )
    text = json.dumps(found, indent=2, ensure_ascii=False)
    sys.stdout.write(text + "\n")
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
