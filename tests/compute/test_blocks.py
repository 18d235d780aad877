from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_task import Sums, cube

from diskern.compute.blocks import Progress, Run, remove_blocks, run_blocks
from diskern.compute.executors import Workers, open_workers
from diskern.compute.source import tiles
from diskern.errors import DiskernError
from diskern.patterns.read import read


def run_of(data, **known) -> Run:
    return Run.of(data, Sums(**known), tiles(data.shape[:2], 16))


def totals(run: Run, results) -> np.ndarray:
    out = np.full(run.data.shape[:2], np.nan)
    for tile, columns in zip(run.tiles, results, strict=True):
        out[slice(*tile.rows), slice(*tile.cols)] = columns["total"].reshape(tile.shape)
    return out


def calls(diary: Path) -> int:
    return len(diary.read_text().splitlines()) if diary.exists() else 0


def test_every_pattern_once_in_its_place() -> None:
    run = run_of(cube())
    np.testing.assert_array_equal(totals(run, run_blocks(run)), cube().sum((2, 3)))


def test_a_second_run_only_reads(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    run = run_of(cube(), diary=diary)
    first = run_blocks(run, folder=tmp_path / "blocks")
    assert calls(diary) == len(run.tiles)
    again = run_blocks(run_of(cube(), diary=diary), folder=tmp_path / "blocks")
    assert calls(diary) == len(run.tiles)
    np.testing.assert_array_equal(totals(run, first), totals(run, again))


def test_another_question_never_finds_the_old_answer(tmp_path: Path) -> None:
    keys = {
        run_of(cube()).key,
        run_of(cube(), factor=2).key,
        run_of(cube(seed=1)).key,
        Run.of(cube(), Sums(), tiles((10, 9), 32)).key,
    }
    assert len(keys) == 4
    assert run_of(cube(), diary=tmp_path).key in keys


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_blocks_are_computed_again(tmp_path: Path, damage: str) -> None:
    diary = tmp_path / "diary"
    run = run_of(cube(), diary=diary)
    run_blocks(run, folder=tmp_path / "blocks")
    block = sorted((tmp_path / "blocks" / run.key).glob("*.npz"))[2]
    content = bytearray(block.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 1
    block.write_bytes(
        {"cut": content[:200], "flip": content, "empty": b"", "other": b"no zip"}[damage]
    )
    again = run_blocks(run, folder=tmp_path / "blocks")
    assert calls(diary) == len(run.tiles) + 1
    np.testing.assert_array_equal(totals(run, again), cube().sum((2, 3)))


def test_progress_counts_patterns_and_tells_what_was_reused(tmp_path: Path) -> None:
    told: list[Progress] = []
    run = run_of(cube(), seconds=0.01)
    run_blocks(run, folder=tmp_path, progress=told.append)
    assert [p.done for p in told] == np.cumsum([0, *(t.patterns for t in run.tiles)]).tolist()
    assert told[0].left is None
    assert told[-1].left == 0
    assert 0 < told[-1].rate < 90 / (0.01 * len(run.tiles))
    told.clear()
    run_blocks(run, folder=tmp_path, progress=told.append)
    assert [(p.done, p.reused, p.rate) for p in told] == [(90, 90, 0)]


@pytest.mark.parametrize("kept", [False, True])
def test_threads_serve_as_well(tmp_path: Path, kept: bool) -> None:
    run = run_of(cube())
    with ThreadPoolExecutor(3) as pool:
        found = run_blocks(run, workers=Workers(pool, 3), folder=tmp_path if kept else None)
    np.testing.assert_array_equal(totals(run, found), cube().sum((2, 3)))


@pytest.mark.parametrize("stored", [False, True])
def test_processes_work_with_one_thread_each(tmp_path: Path, stored: bool) -> None:
    data = cube()
    if stored:
        np.save(tmp_path / "scan.npy", data)
        data = read(tmp_path / "scan.npy").data
    run = run_of(data, diary=tmp_path / "diary", seconds=0.05)
    with open_workers(2) as workers:
        found = run_blocks(run, workers=workers, folder=tmp_path / "blocks")
    np.testing.assert_array_equal(totals(run, found), cube().sum((2, 3)))
    assert {str(c["threads"]) for c in found} == {"1"}
    pids = {line.split()[0] for line in (tmp_path / "diary").read_text().splitlines()}
    assert str(os.getpid()) not in pids


def test_no_more_blocks_are_read_than_are_worked_on() -> None:
    class Counted:
        """Knows how many of its blocks are alive."""

        def __init__(self) -> None:
            self.data, self.read = cube((40, 40, 16, 16)), 0
            self.shape, self.dtype = self.data.shape, self.data.dtype

        def __getitem__(self, key):
            self.read += 1
            return self.data[key]

    data = Counted()
    run = run_of(data)
    data.read = 0
    ahead: list[int] = []

    def tell(progress: Progress) -> None:
        ahead.append(data.read - progress.done // 16)

    with ThreadPoolExecutor(2) as pool:
        run_blocks(run, workers=Workers(pool, 2), progress=tell)
    assert max(ahead) <= 4


def test_a_killed_worker_loses_nothing_that_is_finished(tmp_path: Path) -> None:
    data = cube((16, 8, 16, 16))
    data[12, 4] += 2000  # its block comes last
    (tmp_path / "fatal").touch()
    np.save(tmp_path / "scan.npy", data)
    known = {"diary": tmp_path / "diary", "fatal": tmp_path / "fatal", "seconds": 0.05}
    run = run_of(read(tmp_path / "scan.npy").data, **known)
    with pytest.raises(DiskernError, match="was killed"), open_workers(2) as workers:
        run_blocks(run, workers=workers, folder=tmp_path / "blocks")
    finished = len(list((tmp_path / "blocks" / run.key).glob("*.npz")))
    assert 0 < finished < len(run.tiles)
    (tmp_path / "fatal").unlink()
    with open_workers(2) as workers:
        found = run_blocks(run, workers=workers, folder=tmp_path / "blocks")
    assert calls(tmp_path / "diary") == len(run.tiles)
    np.testing.assert_array_equal(totals(run, found), data.sum((2, 3)))


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from small_task import Sums
from diskern.compute.blocks import Run, run_blocks
from diskern.compute.executors import open_workers
from diskern.compute.source import tiles
from diskern.patterns.read import read

if __name__ == "__main__":
    folder = Path({folder!r})
    data = read(folder / "scan.npy").data
    run = Run.of(data, Sums(folder / "diary", seconds=0.1), tiles(data.shape[:2], 16))
    with open_workers({jobs}) as workers:
        run_blocks(run, workers=workers, folder=folder / "blocks")
"""


@pytest.mark.parametrize(("jobs", "sent"), [(1, "SIGINT"), (2, "SIGINT"), (2, "SIGKILL")])
def test_interrupted_runs_resume(tmp_path: Path, jobs: int, sent: str) -> None:
    np.save(tmp_path / "scan.npy", cube((40, 32, 16, 16)))
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(here=str(Path(__file__).parent), folder=str(tmp_path), jobs=jobs)
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while calls(tmp_path / "diary") < 4 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.Signals[sent])
    assert process.wait(timeout=20) != 0
    time.sleep(2 if sent == "SIGKILL" else 0)  # orphans look once a second whether they are any
    before = calls(tmp_path / "diary")
    run = run_of(read(tmp_path / "scan.npy").data, diary=tmp_path / "diary")
    files = [f.name for f in (tmp_path / "blocks" / run.key).iterdir()]
    finished = sum(name.endswith(".npz") for name in files)
    assert 4 <= before < len(run.tiles)
    assert finished >= before - jobs
    found = run_blocks(run, folder=tmp_path / "blocks")
    assert calls(tmp_path / "diary") == before + len(run.tiles) - finished
    np.testing.assert_array_equal(totals(run, found), run.data[:].sum((2, 3)))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskernError, match="cannot write"):
        run_blocks(run_of(cube()), folder=tmp_path / "file")


def test_removing_leaves_what_is_not_ours(tmp_path: Path) -> None:
    run, other = run_of(cube()), run_of(cube(), factor=2)
    for one in (run, other):
        run_blocks(one, folder=tmp_path / "blocks")
    remove_blocks(tmp_path / "blocks", run.key)
    assert not (tmp_path / "blocks" / run.key).exists()
    assert (tmp_path / "blocks" / other.key).exists()
    (tmp_path / "blocks" / "thesis").mkdir()
    remove_blocks(tmp_path / "blocks")
    assert [p.name for p in (tmp_path / "blocks").iterdir()] == ["thesis"]
    (tmp_path / "blocks" / "thesis").rmdir()
    remove_blocks(tmp_path / "blocks")
    assert not (tmp_path / "blocks").exists()
