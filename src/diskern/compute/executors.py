"""Where blocks are worked on: here, in processes of this machine, or on a dask cluster.

Any `concurrent.futures.Executor` serves; nothing here imports more than the standard library, so
that a new process can set its threads before numpy and torch start theirs.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from diskern.errors import DiskernError

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Workers:
    """An executor and how many blocks it works on at a time."""

    executor: Executor
    count: int


class SerialExecutor(Executor):
    """Works on a block when it is submitted, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The finished future of ``fn(*args, **kwargs)``."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - a future carries whatever was raised
            future.set_exception(error)
        return future


@contextlib.contextmanager
def open_workers(jobs: int = 1, scheduler: str | None = None) -> Iterator[Workers]:
    """Workers for the time of a ``with`` block.

    Parameters
    ----------
    jobs : processes of this machine; 1 works in this one.
    scheduler : address of a dask scheduler (``tcp://host:8786``) in their place; its workers must
        see the same files.

    Raises
    ------
    DiskernError
        For an impossible number, a missing package, or a scheduler that does not answer.
    """
    if scheduler is not None:
        with _cluster(scheduler) as workers:
            yield workers
        return
    most = 4 * (os.cpu_count() or 1)
    if not 1 <= jobs <= most:
        raise DiskernError(f"jobs={jobs} is not between 1 and {most} on this machine")
    if jobs == 1:
        yield Workers(SerialExecutor(), 1)
        return
    # Started afresh: a fork of a process in which torch has threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield Workers(pool, jobs)
    finally:
        # Blocks that are being worked on are finished and kept, also after Ctrl-C.
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int) -> None:
    """One thread a process; Ctrl-C is the parent's to answer; an orphan goes too."""
    import threading
    import time

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(_THREADS, "1"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Workers]:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise DiskernError("a scheduler needs dask: pip install diskern[dist]") from error
    try:
        client = distributed.Client(address, timeout=10)
    except (OSError, ValueError, ImportError) as error:
        raise DiskernError(
            f"no dask scheduler answers at {address}; start one with dask scheduler"
        ) from error
    with client:
        count = len(client.scheduler_info()["workers"])
        if not count:
            raise DiskernError(f"the scheduler at {address} has no workers; start dask worker")
        threads = sum(client.nthreads().values())
        try:
            yield Workers(client.get_executor(), max(count, threads))
        except distributed.KilledWorker as error:
            raise DiskernError(
                "a block killed its workers several times (out of memory?); what is finished is "
                "kept, run again with workers of more memory"
            ) from error
