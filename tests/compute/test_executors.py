from __future__ import annotations

import os

import pytest

from diskern.compute.executors import SerialExecutor, open_workers
from diskern.errors import DiskernError


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
