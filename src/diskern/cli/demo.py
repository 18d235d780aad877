"""`diskern demo`: simulated exposures and a scan, worked on from their files as a user would."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diskern.cli._output import console, progress, write_json
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from diskern.cli._demo_images import Case
    from diskern.report.gallery import Exhibit
    from diskern.symmetry.identification import Identification

Folder = Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to put everything.")]
Json = Annotated[
    str | None, typer.Option(metavar="FILE", help="Answers as JSON; - for standard output.")
]


def demo(folder: Folder = Path("demo"), json: Json = None) -> None:
    """Simulate patterns and a scan, write them as files, identify and map them, and report.

    Everything lands in DIR: the exposures, a report for each case, and report.html over all.
    The exposures come from fixed seeds, and what each answer should be is known.

    Example:

      diskern demo my-demo
    """
    start = time.perf_counter()
    with progress("simulating") as tell:
        from diskern.cli._demo_images import cases
        from diskern.cli._demo_scan import map_demo
        from diskern.report.gallery import write_gallery

        exhibits: list[Exhibit] = []
        entries: list[dict[str, Any]] = []
        for case in cases():
            tell(case.title.lower())
            exhibit, answer = _run(case, folder)
            exhibits.append(exhibit)
            entries.append(_entry(exhibit, answer.to_dict()))
        mapped, facts = map_demo(folder / "scan", tell)
        exhibits.append(replace(mapped, address=f"scan/{mapped.address}"))
        entries.append(_entry(mapped, facts))
        title = "What diskern says about simulated patterns"
        page = write_gallery(title, exhibits, folder / "report.html")
    if json is not None:
        write_json(entries, json)
    if json != "-":
        _show(exhibits, page, time.perf_counter() - start)


def _run(case: Case, folder: Path) -> tuple[Exhibit, Identification]:
    """Write the exposures of one case, identify the files, write the answer beside them."""
    from diskern.report.gallery import Exhibit, picture_of
    from diskern.report.html import write_report
    from diskern.report.verdict import verdict

    place = folder / case.name
    files = [_write(image, place / name) for name, image in case.images.items()]
    answer = _identify(case, files)
    command = shlex.join(["diskern", "identify", *(str(f) for f in files), *case.options])
    answer.provenance["command"] = command
    write_json(answer.to_dict(), str(place / "answer.json"))
    write_report(answer, place / "report.html")
    exhibit = Exhibit(
        title=case.title,
        words=case.words,
        command=command,
        answer=verdict(answer),
        image=picture_of(answer),
        address=f"{case.name}/report.html",
        truth="amorphous"
        if case.phase is None
        else f"{case.phase}, space group {case.space_group}",
        agrees=fits(case, answer),
    )
    return exhibit, answer


def _identify(case: Case, files: list[Path]) -> Identification:
    from diskern.symmetry.identify import IdentifyOptions, identify

    known = dict(case.known)
    options = IdentifyOptions(scale_bar=known.pop("scale_bar", None))
    return identify(files, options=options, **known)


def _write(image: Any, path: Path) -> Path:
    from PIL import Image

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    except OSError as error:
        raise DiskernError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def fits(case: Case, answer: Identification) -> bool:
    """Whether an answer agrees with the truth.

    A specimen that is no crystal must be refused.  Else the true phase must be first or named as
    one that cannot be excluded, and no extinction symbol that excludes the true space group may
    be held probable.
    """
    from diskern.report.verdict import UNDECIDED_BELOW, phases_left

    if case.phase is None or not answer.crystal:
        return case.phase is None and not answer.crystal
    misled = any(
        symbol.probability >= UNDECIDED_BELOW and case.space_group not in symbol.space_groups
        for symbol in answer.extinction_symbol
    )
    return case.phase in phases_left(answer) and not misled


def _entry(exhibit: Exhibit, answer: dict[str, Any]) -> dict[str, Any]:
    """A case for JSON."""
    return {
        "title": exhibit.title,
        "command": exhibit.command,
        "truth": exhibit.truth,
        "agrees": exhibit.agrees,
        "answer": answer,
    }


def _show(exhibits: list[Exhibit], page: Path, seconds: float) -> None:
    from rich.text import Text

    out = console()
    for exhibit in exhibits:
        mark = Text("✓ ", "green") if exhibit.agrees else Text("✗ ", "red")
        out.print(mark + Text(exhibit.title, "bold"))
        out.print(Text(f"  truth   {exhibit.truth}"))
        out.print(Text(f"  answer  {exhibit.answer}"))
        out.print(Text(f"  {exhibit.command}\n", "dim"))
    right = sum(bool(e.agrees) for e in exhibits)
    out.print(
        f"{right} of {len(exhibits)} answers agree with what was simulated ({seconds:.0f} s)."
    )
    out.print(Text(f"Open {page} in a browser."))
