"""`diskern identify`: patterns of an unknown crystal in, crystallography out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diskern.cli._output import console, progress, write_json
from diskern.errors import DiskernError

if TYPE_CHECKING:
    from diskern.symmetry.identification import Identification


def _option(panel: str, metavar: str, words: str) -> Any:
    return typer.Option(help=words, metavar=metavar, rich_help_panel=panel)


_SCALE = "Scale: one of these, where the file states none or a wrong one"
_KNOWN = "What else is known"
_OUTPUT = "Output"
LEAST_CALIBRATION_ERROR = 5e-3
"""Relative; specimen height and lens currents change between two exposures at one setting."""

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Patterns of one and the same crystal.", show_default=False
    ),
]
PixelSize = Annotated[float | None, _option(_SCALE, "1/Å", "Reciprocal ångströms per pixel.")]
CameraConstant = Annotated[
    float | None, _option(_SCALE, "px·Å", "Distance of a spot in px times its d in Å.")
]
ScaleBar = Annotated[
    float | None,
    _option(_SCALE, "1/nm", "Label of the burnt-in scale bar; its length is measured."),
]
CalibrateFrom = Annotated[
    Path | None, _option(_SCALE, "FILE", "Rings of --calibrant, taken at the same setting.")
]
Calibrant = Annotated[
    str | None, _option(_SCALE, "NAME", "A common phase such as Au or Si, or a CIF file.")
]
PixelSizeError = Annotated[
    float | None, _option(_SCALE, "%", "How well the scale is known; 3 % unless told.")
]
Voltage = Annotated[float | None, _option(_KNOWN, "kV", "Accelerating voltage.")]
Elements = Annotated[str | None, _option(_KNOWN, "A,B", "All elements that may be present.")]
Candidates = Annotated[
    list[Path] | None, _option(_KNOWN, "PATH", "CIF file or folder to index against; repeatable.")
]
Tilts = Annotated[
    str | None,
    _option(_KNOWN, "°,°", "Stage angle of each pattern about one holder axis, e.g. =-20,0,15."),
]
Dataset = Annotated[
    str | None, _option(_KNOWN, "NAME", "Which dataset of the file, where it holds several.")
]
Frames = Annotated[
    Literal["mean", "each"],
    _option(
        _KNOWN, "mean|each", "Take a stack of frames as one pattern, or each as one of its own."
    ),
]
Network = Annotated[
    bool,
    typer.Option(
        "--network/--no-network",
        help="Let the trained network have a say in the symmetry beside the rules.",
        rich_help_panel=_KNOWN,
    ),
]
Json = Annotated[str | None, _option(_OUTPUT, "FILE", "The answer as JSON; - for standard output.")]
Report = Annotated[Path | None, _option(_OUTPUT, "FILE", "A report with figures, one HTML file.")]


def identify(
    files: Files,
    pixel_size: PixelSize = None,
    camera_constant: CameraConstant = None,
    scale_bar: ScaleBar = None,
    calibrate_from: CalibrateFrom = None,
    calibrant: Calibrant = None,
    pixel_size_error: PixelSizeError = None,
    voltage: Voltage = None,
    elements: Elements = None,
    candidates: Candidates = None,
    tilts: Tilts = None,
    dataset: Dataset = None,
    frames: Frames = "mean",
    network: Network = True,
    json: Json = None,
    report: Report = None,
) -> None:
    """Lattice, zone axes, symmetry and phases of one or more diffraction patterns.

    All patterns must come from the same crystal, in any zones. Without a scale, only ratios and
    angles are used.

    Examples:

      diskern identify pattern.dm4 --elements Al,Cu --report answer.html

      diskern identify a.tif b.tif --camera-constant 1584 --candidates cifs/
    """
    _check_scale(pixel_size, camera_constant, scale_bar, calibrate_from, calibrant)
    if pixel_size_error is not None and not 0 < pixel_size_error <= 50:
        raise DiskernError(f"--pixel-size-error {pixel_size_error:g} is not in 0 to 50 %")
    known: dict[str, Any] = {
        "dataset": dataset,
        "frames": frames,
        "network": network,
        "scale_bar": None if scale_bar is None else scale_bar / 10,
        "tilts": _tilts(tilts, None if frames == "each" else len(files)),
        "pixel_size_error": None if pixel_size_error is None else pixel_size_error / 100,
    }
    energy = None if voltage is None else voltage * 1e3
    with progress("reading") as tell:
        from diskern.symmetry.identify import IdentifyOptions
        from diskern.symmetry.identify import identify as identify_patterns

        if camera_constant is not None:
            pixel_size = 1 / camera_constant
        if calibrate_from is not None and calibrant is not None:
            tell(f"calibrating with {calibrate_from.name}")
            pixel_size, found = _calibrate(calibrate_from, calibrant)
            known |= {name: value for name, value in found.items() if known.get(name) is None}
        answer = identify_patterns(
            files,
            pixel_size=pixel_size,
            energy=energy,
            elements=_split(elements),
            candidates=candidates or None,
            options=IdentifyOptions(**known),
            progress=tell,
        )
        answer.provenance.setdefault("command", shlex.join(["diskern", *sys.argv[1:]]))
        if report is not None:
            tell("drawing the report")
            _write_report(answer, report)
    if json is not None:
        write_json(answer.to_dict(), json)
    if json != "-":
        _show(answer, report)


def _check_scale(
    pixel_size: float | None,
    camera_constant: float | None,
    scale_bar: float | None,
    calibrate_from: Path | None,
    calibrant: str | None,
) -> None:
    """At most one source of the scale, and a positive one."""
    given = {
        "--pixel-size": pixel_size,
        "--camera-constant": camera_constant,
        "--scale-bar": scale_bar,
        "--calibrate-from": calibrate_from,
    }
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise typer.BadParameter(f"{' and '.join(named)} both set the scale; give one of them")
    if (calibrate_from is None) != (calibrant is None):
        raise typer.BadParameter("--calibrate-from FILE and --calibrant NAME belong together")
    for name, value in given.items():
        if isinstance(value, float) and not 0 < value < float("inf"):
            raise DiskernError(f"{name} {value:g} is not a positive number")


def _calibrate(rings: Path, calibrant: str) -> tuple[float, dict[str, Any]]:
    """Pixel size in 1/Å from the rings of a known phase, with its error and the ellipse."""
    from diskern.bragg.analyse import analyse
    from diskern.crystal.common import find_phase
    from diskern.patterns.pattern import Pattern
    from diskern.patterns.read import read
    from diskern.symmetry.ring_phases import calibrate_from_rings

    recorded = read(rings)
    analysis = analyse(recorded if isinstance(recorded, Pattern) else recorded.mean_pattern())
    if analysis.rings is None:
        raise DiskernError(
            f"{rings}: no rings were found; "
            f"give a ring pattern of {calibrant} taken at the same setting"
        )
    found = calibrate_from_rings(analysis.rings, find_phase(calibrant))
    error = max(found.sigma / found.pixel_size, LEAST_CALIBRATION_ERROR)
    return found.pixel_size, {"pixel_size_error": error, "ellipse": found.ellipse}


def _tilts(words: str | None, patterns: int | None) -> list[float] | None:
    """One stage angle a pattern, in degrees; how many there must be may not be known yet."""
    if words is None:
        return None
    try:
        angles = [float(word) for word in _split(words) or ()]
    except ValueError:
        raise DiskernError(
            f"--tilts {words} are not numbers; give degrees, e.g. =-20,0,15"
        ) from None
    if patterns is not None and len(angles) != patterns:
        raise DiskernError(f"--tilts names {len(angles)} angles for {patterns} patterns")
    return angles


def _split(words: str | None) -> list[str] | None:
    return None if words is None else words.replace(",", " ").split()


def _write_report(answer: Identification, path: Path) -> None:
    from diskern.report.html import write_report

    write_report(answer, path)


def _show(answer: Identification, report: Path | None) -> None:
    from rich.text import Text

    from diskern.report.terminal import show

    out = console()
    show(answer, out)
    if report is not None:
        out.print(Text(f"\nReport: {report}"))
