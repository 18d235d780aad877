"""A task that other processes can import: sums, with a diary of its calls."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sums:
    diary: Path | None = None
    factor: float = 1.0
    seconds: float = 0.0
    fatal: Path | None = None
    """While this file exists, the process that works on a bright block is killed."""

    @property
    def configuration(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def __call__(self, patterns: NDArray[Any]) -> dict[str, NDArray[Any]]:
        time.sleep(self.seconds)
        if self.fatal is not None and self.fatal.exists() and patterns.max() > 1000:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.diary is not None:
            with self.diary.open("a") as stream:
                stream.write(f"{os.getpid()} {len(patterns)}\n")
        total = patterns.sum(axis=(1, 2), dtype=np.float64)
        return {
            "total": self.factor * total,
            "threads": np.array(os.environ.get("OMP_NUM_THREADS")),
        }


def cube(shape=(10, 9, 16, 16), seed=0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 100, shape, dtype=np.uint16)
