"""Bragg vectors of a scan file, as the verbs `bragg` and `map` find them."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from diskern.cli._output import progress
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from diskern.bragg.disks import Proposer
    from diskern.bragg.find import Search
    from diskern.bragg.vectors import BraggVectors
    from diskern.compute.blocks import Progress
    from diskern.patterns.pattern import Scan


@dataclass(frozen=True)
class Request:
    """What the command line said of a search.

    Attributes
    ----------
    proposer : weights by name or file, "none" for the classical search, None for the shipped
        network where there is one.
    """

    file: Path
    dataset: str | None = None
    pixel_size: float | None = None
    voltage: float | None = None
    step: float | None = None
    probe: Path | None = None
    mask: Path | None = None
    dark_level: float | None = None
    proposer: str | None = None
    jobs: int = 1
    scheduler: str | None = None
    resume: bool = True

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """From the values of a verb's options, by their names; it may have others."""
        return cls(**{field.name: options[field.name] for field in fields(cls)})


def search(
    request: Request, blocks: Path, known: Path | None, tell: Callable[[str], None] | None = None
) -> tuple[BraggVectors, bool]:
    """Find the vectors; what an earlier run finished is taken over.

    Parameters
    ----------
    blocks : folder for finished blocks; removed by `forget` once the vectors are written.
    known : EMD file that an earlier run may have written.
    tell : takes words on how far it is, where a spinner turns already; else a bar is shown.

    Returns
    -------
    The vectors, and whether they were found in ``known``.
    """
    from diskern.bragg.disks import DiskOptions
    from diskern.bragg.find import prepare_search

    if request.dark_level is not None and not math.isfinite(request.dark_level):
        raise DiskernError(f"--dark-level {request.dark_level} is no number of counts")
    with nullcontext() if tell else progress("looking at the scan"):
        scan = open_scan(request)
        found = prepare_search(
            scan,
            None if request.probe is None else _image(request.probe, "--probe"),
            mask=None if request.mask is None else _image(request.mask, "--mask") != 0,
            options=DiskOptions(dark=request.dark_level),
            proposer=_proposer(request, scan),
        )
    if not request.resume:
        found.forget(blocks)
    elif known is not None and (earlier := _earlier(known, found)) is not None:
        # The file may carry what an earlier map found; the scale begins with the scan's own.
        return replace(earlier, calibration=found.calibration), True
    vectors = _run(found, request, blocks, tell)
    command = shlex.join(["diskern", *sys.argv[1:]])
    return replace(vectors, provenance={**vectors.provenance, "command": command}), False


def _run(
    found: Search, request: Request, blocks: Path, tell: Callable[[str], None] | None
) -> BraggVectors:
    from diskern.compute.executors import open_workers

    shown = bar() if tell is None else nullcontext(lambda progress: tell(pace(progress)))
    try:
        with open_workers(request.jobs, request.scheduler) as workers, shown as report:
            return found.run(executor=workers, directory=blocks, progress=report)
    except KeyboardInterrupt:
        typer.echo(
            f"diskern: finished blocks are kept in {blocks}; the same command goes on from there",
            err=True,
        )
        raise


def forget(vectors: BraggVectors, blocks: Path) -> None:
    """Remove the blocks of vectors that have been written."""
    from diskern.compute.blocks import remove_blocks

    remove_blocks(blocks, str(vectors.provenance["key"]))


def open_scan(request: Request) -> Scan:
    """The scan with what the command line knows better than the file."""
    from diskern.patterns.pattern import Pattern, Scan
    from diskern.patterns.read import read
    from diskern.physics import check_energy

    found = read(request.file, dataset=request.dataset)
    if isinstance(found, Pattern):
        found = Scan.from_array(
            found.image[None],
            pixel_size=found.pixel_size,
            energy=found.energy,
            source=found.source,
        )
    changes: dict[str, Any] = {}
    if request.pixel_size is not None:
        changes["pixel_size"] = _positive(request.pixel_size, "--pixel-size", "1/Å")
    if request.voltage is not None:
        changes["energy"] = check_energy(request.voltage * 1e3)
    if request.step is not None:
        changes["scan_step"] = (10 * _positive(request.step, "--step", "nm"),) * 2
    return replace(found, **changes)


def _positive(value: float, name: str, unit: str) -> float:
    if not 0 < value < float("inf"):
        raise DiskernError(f"{name} {value:g} {unit} must be above 0")
    return value


def _image(path: Path, name: str) -> Any:
    """One image; the mean of a scan or stack."""
    from diskern.patterns.pattern import Scan
    from diskern.patterns.read import read

    found = read(path)
    if isinstance(found, Scan):
        if name == "--mask":
            raise DiskernError(f"--mask {path} holds {found.shape} numbers; give one image")
        found = found.mean_pattern()
    return found.image


def _proposer(request: Request, scan: Scan) -> Proposer | None:
    if request.proposer == "none":
        return None
    from diskern.bragg.disk_proposer import LearnedProposer

    if request.proposer is None:
        from diskern.nets.registry import model_names

        if "proposer" not in model_names():
            return None
    name = request.proposer or "proposer"
    return LearnedProposer.load(name, energy=scan.energy, pixel_size=scan.pixel_size)


def _earlier(path: Path, found: Search) -> BraggVectors | None:
    """The vectors that an earlier run of the same search wrote, else None."""
    from diskern.bragg.vectors import BraggVectors

    if not path.exists():
        return None
    try:
        vectors = BraggVectors.from_emd(path)
    except DiskernError:
        return None
    return vectors if vectors.provenance.get("key") == found.work.key else None


@contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """A bar with patterns per second and time left on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    columns = (
        TextColumn("finding disks"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Bar(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=None, words="")
        yield lambda progress: shown.update(
            task, total=progress.total, completed=progress.done, words=pace(progress)
        )


def pace(progress: Progress) -> str:
    """``1200/4096 patterns, 310/s, 0:12 left``."""
    words = f"{progress.done}/{progress.total} patterns"
    if progress.left is None:
        return words
    minutes, seconds = divmod(round(progress.left), 60)
    return f"{words}, {progress.rate:.3g}/s, {minutes}:{seconds:02d} left"
