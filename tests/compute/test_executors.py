from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_task import Sums, cube

from diskern.compute.blocks import Run, run_blocks
from diskern.compute.executors import SerialExecutor, open_workers
from diskern.compute.source import tiles
from diskern.errors import DiskernError
from diskern.patterns.read import read


def test_serial_futures_are_done_and_carry_errors() -> None:
    executor = SerialExecutor()
    assert executor.submit(divmod, 7, 2).result() == (3, 1)
    failed = executor.submit(divmod, 7, 0)
    with pytest.raises(ZeroDivisionError):
        failed.result()


def test_one_job_stays_here() -> None:
    with open_workers(1) as workers:
        assert workers.executor.submit(os.getpid).result() == os.getpid()


@pytest.mark.parametrize("jobs", [0, -1, 100_000])
def test_impossible_numbers_are_named(jobs: int) -> None:
    with pytest.raises(DiskernError, match=f"jobs={jobs}"), open_workers(jobs):
        pass


def test_a_scheduler_needs_dask_and_must_answer() -> None:
    try:
        import distributed  # noqa: F401

        words = "no dask scheduler"
    except ImportError:
        words = "needs dask"
    with pytest.raises(DiskernError, match=words), open_workers(scheduler="tcp://127.0.0.1:1"):
        pass


def test_a_dask_cluster_does_the_same(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    np.save(tmp_path / "scan.npy", cube())
    data = read(tmp_path / "scan.npy").data
    run = Run.of(data, Sums(), tiles(data.shape[:2], 16))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        open_workers(scheduler=cluster.scheduler_address) as workers,
    ):
        assert workers.count == 2
        found = run_blocks(run, workers=workers, folder=tmp_path / "blocks")
    for tile, columns in zip(run.tiles, found, strict=True):
        np.testing.assert_array_equal(columns["total"], tile.read(data).sum((1, 2)))
