"""Options that the verbs on scans share, and what their words mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from diskern.errors import DiskernError


def option(panel: str, metavar: str, words: str, *names: str) -> Any:
    """An option with its place on the help page."""
    return typer.Option(*names, help=words, metavar=metavar, rich_help_panel=panel)


_SCAN, _SEARCH, _RUN = "What is known of the scan", "Search", "Running"
_MAPS, _OUTPUT = "Maps", "Output"

ScanFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The 4D-STEM scan.", show_default=False)
]
VectorFile = Annotated[
    Path,
    typer.Argument(metavar="VECTORS", help="Bragg vectors: an EMD file.", show_default=False),
]
Folder = Annotated[Path, option(_OUTPUT, "DIR", "Where to put everything.", "--output", "-o")]
Json = Annotated[str | None, option(_OUTPUT, "FILE", "The facts as JSON; - for standard output.")]

Dataset = Annotated[
    str | None, option(_SCAN, "NAME", "Which dataset of the file, where it holds several.")
]
PixelSize = Annotated[float | None, option(_SCAN, "1/Å", "Reciprocal ångströms per pixel.")]
Voltage = Annotated[float | None, option(_SCAN, "kV", "Accelerating voltage.")]
Step = Annotated[float | None, option(_SCAN, "nm", "Distance of scan positions.")]

ProbeFile = Annotated[
    Path | None, option(_SEARCH, "FILE", "Beam in vacuum; by default the scan shows it.", "--probe")
]
MaskFile = Annotated[
    Path | None, option(_SEARCH, "FILE", "Image, not 0 where a pixel may be used.", "--mask")
]
DarkLevel = Annotated[
    float | None,
    option(_SEARCH, "COUNTS", "What a pixel shows without electrons; 0, or told by negative ones."),
]
ProposerName = Annotated[
    str | None,
    option(_SEARCH, "NAME|FILE", "Weights of the network, or none for the classical search."),
]
Jobs = Annotated[int, option(_RUN, "N", "Processes of this machine.")]
Scheduler = Annotated[
    str | None, option(_RUN, "ADDRESS", "A dask scheduler, e.g. tcp://host:8786, for all work.")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--fresh", help="Go on where a run was cut off, or anew.", rich_help_panel=_RUN
    ),
]

Reference = Annotated[
    str, option(_MAPS, "Y0:Y1,X0:X1|median|crystal", "What counts as unstrained.")
]
CrystalFile = Annotated[
    str | None, option(_MAPS, "CIF", "Known crystal in the reference: gives scale and ellipse.")
]
Zone = Annotated[str | None, option(_MAPS, "U,V,W", "Its zone axis along the beam.")]
Axes = Annotated[str, option(_MAPS, "detector|scan|°", "Where x of the strain points.")]
Rotation = Annotated[
    float | None, option(_MAPS, "°", "Detector against scan, from +x (columns) to +y (rows).")
]
Lattices = Annotated[int, option(_MAPS, "N", "Most lattices in one pattern.")]
Thickness = Annotated[
    float | None, option(_MAPS, "nm", "Of the foil: a rough tilt where the vectors have no q_z.")
]


def parse_region(words: str) -> tuple[slice, slice]:
    """``y0:y1,x0:x1`` as slices of the scan."""
    match = re.fullmatch(r"\s*(\d{1,6}):(\d{1,6})\s*,\s*(\d{1,6}):(\d{1,6})\s*", words)
    numbers = [int(n) for n in match.groups()] if match else []
    if not numbers or numbers[0] >= numbers[1] or numbers[2] >= numbers[3]:
        raise DiskernError(
            f"--reference {words!r} must be median, crystal, or rows and columns of the scan "
            "such as 0:16,0:64"
        )
    return slice(numbers[0], numbers[1]), slice(numbers[2], numbers[3])


def parse_zone(words: str) -> tuple[float, float, float]:
    """``u,v,w`` as three numbers."""
    try:
        numbers = [float(part) for part in words.strip("[] ").replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not any(numbers):
        raise DiskernError(f"--zone {words!r} must be three numbers, e.g. 0,1,1")
    return numbers[0], numbers[1], numbers[2]


def parse_axes(words: str) -> str | float:
    """``detector``, ``scan`` or an angle in degrees."""
    if words in ("detector", "scan"):
        return words
    try:
        return float(words)
    except ValueError as error:
        raise DiskernError(
            f"--axes {words!r} must be detector, scan or an angle in degrees"
        ) from error
