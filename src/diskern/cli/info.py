"""`diskern info`: what a file holds, what its numbers mean, and what it does not say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diskern.cli._output import console, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diskern.io.recording import Recording

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Image or microscope file, or a Zarr folder.", show_default=False
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which dataset of the file, where it holds several."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The same as JSON, with all metadata.")]

_PLATEAU = 4
"""More pixels than this at exactly the largest value of a frame look clipped."""


def info(file: File, dataset: Dataset = None, as_json: AsJson = False) -> None:
    """What a file holds: shape, type, calibration, voltage, and what it does not say.

    Examples:

      diskern info pattern.dm4

      diskern info scan.h5 --dataset entry/data/data --json
    """
    from diskern.io.files import reading
    from diskern.io.registry import open_file

    recording = open_file(file, dataset)
    with reading(file, recording.format):
        frame = recording.data[(0,) * (len(recording.data.shape) - 2)]
    answer = describe(recording, frame)
    if as_json:
        about = {"file": str(file), **answer, "metadata": dict(recording.metadata)}
        write_json(about, "-")
    else:
        _print(file, answer)


def describe(recording: Recording, frame: NDArray[Any]) -> dict[str, Any]:
    """What is known of a recording, and the statistics of its first frame (Q_y, Q_x)."""
    from diskern.physics import wavelength

    shape = [int(n) for n in recording.data.shape]
    pixel, energy = recording.pixel_size, recording.energy
    return {
        "format": recording.format,
        "kind": {2: "image", 3: "stack"}.get(len(shape), "scan"),
        "shape": shape,
        "dtype": str(recording.data.dtype),
        "bytes": math.prod(shape) * recording.data.dtype.itemsize,
        "pixel_size": pixel,  # 1/Å
        "field_of_view": [pixel * n for n in shape[-2:]] if pixel else None,  # 1/Å
        "smallest_spacing": 2 / (pixel * min(shape[-2:])) if pixel else None,  # Å, at the edge
        "camera_constant": 1 / pixel if pixel else None,  # px·Å
        "voltage": energy / 1e3 if energy else None,  # kV
        "wavelength": wavelength(energy) if energy else None,  # Å
        "camera_length": recording.camera_length,  # m
        "centre": list(recording.centre) if recording.centre else None,  # row, column in px
        "scan_step": list(recording.scan_step) if recording.scan_step else None,  # Å
        "first_frame": statistics(frame),
        "notes": [*recording.notes, *recording.missing],
    }


def statistics(frame: NDArray[Any]) -> dict[str, Any]:
    """Range, zeros, missing and clipped pixels of one frame; fractions of all pixels."""
    import numpy as np

    finite = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else np.ravel(frame)
    if finite.size == 0:
        return {"minimum": None, "maximum": None, "missing_fraction": 1.0}
    largest = finite.max()
    at_largest = int(np.count_nonzero(finite == largest))
    full_scale = frame.dtype.kind in "ui" and largest == np.iinfo(frame.dtype).max
    return {
        "minimum": finite.min().item(),
        "median": float(np.median(finite)),
        "maximum": largest.item(),
        "zero_fraction": np.count_nonzero(finite == 0) / frame.size,
        "missing_fraction": 1 - finite.size / frame.size,
        "pixels_at_maximum": at_largest,
        "saturated": bool((full_scale or at_largest > _PLATEAU) and largest > finite.min()),
    }


def _print(file: Path, answer: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from diskern.io.files import label, printable

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(answer):
        table.add_row(name, escape(printable(value, 400)))
    out = console()
    out.print(escape(label(file)))
    out.print(table)


def _lines(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shape = " × ".join(map(str, answer["shape"]))
    yield "format", answer["format"]
    yield answer["kind"], f"{shape} px, {answer['dtype']}, {_size(answer['bytes'])}"
    yield "pixel size", _scale(answer)
    voltage, length = answer["voltage"], answer["camera_length"]
    if voltage:
        yield "voltage", f"{voltage:.4g} kV (wavelength {answer['wavelength']:.5f} Å)"
    else:
        yield "voltage", "not stated"
    yield "camera length", f"{length * 1e3:.5g} mm" if length else "not stated"
    centre, step = answer["centre"], answer["scan_step"]
    yield "centre", f"row {centre[0]:.2f}, column {centre[1]:.2f} px" if centre else "not stated"
    if answer["kind"] == "scan":
        yield "scan step", f"{step[0]:.4g} × {step[1]:.4g} Å" if step else "not stated"
    yield from _frame_lines(answer["first_frame"])
    for note in answer["notes"]:
        yield "note", note


def _scale(answer: dict[str, Any]) -> str:
    if answer["pixel_size"] is None:
        return "not stated"
    high, wide = answer["field_of_view"]
    return (
        f"{answer['pixel_size']:.6g} 1/Å (camera constant {answer['camera_constant']:.5g} px·Å, "
        f"field {high:.3g} × {wide:.3g} 1/Å, spacings down to {answer['smallest_spacing']:.3g} Å)"
    )


def _frame_lines(frame: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if frame["maximum"] is None:
        yield "first frame", "holds no finite value"
        return
    parts = [f"{frame['minimum']:g} to {frame['maximum']:g}, median {frame['median']:g}"]
    parts.append(f"{100 * frame['zero_fraction']:.3g} % zero")
    if frame["missing_fraction"]:
        parts.append(f"{100 * frame['missing_fraction']:.3g} % missing (NaN)")
    if frame["saturated"]:
        parts.append(f"saturated: {frame['pixels_at_maximum']} px at the maximum")
    yield "first frame", ", ".join(parts)


def _size(count: int) -> str:
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
