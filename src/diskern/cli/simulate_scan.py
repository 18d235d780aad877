"""`diskern simulate scan`: a 4D-STEM scan of made-up grains, with its truth beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from diskern.cli._output import console, progress, write_json
from diskern.errors import DiskernError


def _option(panel: str, metavar: str, words: str, *names: str) -> Any:
    return typer.Option(*names, help=words, metavar=metavar, rich_help_panel=panel)


_SPECIMEN, _MICROSCOPE, _OUTPUT = "Specimen", "Microscope", "Output"


Crystals = Annotated[
    list[str],
    typer.Argument(
        metavar="CRYSTAL...", help="CIF files, or common phases: Si, Al …", show_default=False
    ),
]
Output = Annotated[Path, _option(_OUTPUT, "FILE", ".h5 or .zarr.", "--output", "-o")]
Size = Annotated[str, _option(_SPECIMEN, "YxX", "Scan positions, rows x columns.", "--scan")]
Grains = Annotated[int, _option(_SPECIMEN, "N", "Number of Voronoi grains.")]
Zone = Annotated[
    str | None, _option(_SPECIMEN, "U,V,W", "Common axis of the grains; any by default.")
]
Thickness = Annotated[
    str, _option(_SPECIMEN, "nm[,nm]", "Foil thickness, or a wedge from left to right.")
]
Strain = Annotated[float, _option(_SPECIMEN, "%", "Amplitude of a smooth strain field.")]
Bend = Annotated[float, _option(_SPECIMEN, "MRAD", "Tilt at the edges of the scan.")]
Step = Annotated[float, _option(_SPECIMEN, "nm", "Scan step.")]
Displacement = Annotated[
    float | None, _option(_SPECIMEN, "Å", "rms displacement of every atom, else the CIF's.")
]
Voltage = Annotated[float, _option(_MICROSCOPE, "kV", "Accelerating voltage.")]
Semiangle = Annotated[float, _option(_MICROSCOPE, "MRAD", "Convergence half-angle.")]
Edge = Annotated[int, _option(_MICROSCOPE, "PX", "Edge of the square detector.")]
PixelSize = Annotated[float, _option(_MICROSCOPE, "1/Å", "Per detector pixel.")]
Method = Annotated[
    str, _option(_MICROSCOPE, "NAME", "disks (quick, two-beam) or bloch (exact, slow).")
]
Dose = Annotated[
    float | None, _option(_MICROSCOPE, "N", "Electrons per pattern; noise-free without.")
]
Kind = Annotated[
    str | None,
    _option(_MICROSCOPE, "KIND", "hybrid, ccd or picture: a whole instrument, drawn by seed."),
]
Seed = Annotated[int, _option(_SPECIMEN, "N", "Decides every random draw.")]
Json = Annotated[
    str | None, _option(_OUTPUT, "FILE", "What was made, as JSON; - for standard output.")
]


def scan(
    crystal: Crystals,
    output: Output,
    size: Size = "32x32",
    grains: Grains = 1,
    zone: Zone = None,
    thickness: Thickness = "30",
    strain: Strain = 0.0,
    bend: Bend = 0.0,
    step: Step = 2.0,
    displacement: Displacement = None,
    voltage: Voltage = 200.0,
    semiangle: Semiangle = 1.5,
    detector: Edge = 128,
    pixel_size: PixelSize = 0.02,
    method: Method = "disks",
    dose: Dose = None,
    instrument: Kind = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """4D-STEM scan of grains with known strain, tilt, orientation, phase and thickness.

    A run that was cut off goes on where it was when called again with the same values.

    Example:  diskern simulate scan Al --scan 64x64 --grains 8 --strain 1 --dose 1e6 -o al.h5
    """
    with progress("simulating") as tell:
        from diskern.simulate.scan import ScanOptions, simulate_scan
        from diskern.simulate.scan_write import write_scan

        specimen = _specimen(
            crystal, size, grains, zone, thickness, strain, bend, displacement, seed
        )
        made = simulate_scan(
            specimen,
            energy=voltage * 1e3,
            semiangle=semiangle,
            shape=(detector, detector),
            pixel_size=pixel_size,
            scan_step=(step * 10, step * 10),
            instrument=_instrument(instrument, dose, (detector, detector), pixel_size, seed),
            options=ScanOptions(method=method),  # type: ignore[arg-type]  # checked there
        )
        write_scan(made, output, progress=lambda done, rows: tell(f"simulating {done}/{rows}"))
    facts = {
        "file": str(output),
        "shape": list(made.shape),
        "pixel_size": made.pixel_size,
        "energy": made.energy,
        "grains": grains,
        "crystals": [c.name or c.formula for c in specimen.crystals],
        "configuration": made.metadata["configuration"],
        "instrument": [] if made.data.instrument is None else made.data.instrument.log(),
    }
    if json is not None:
        write_json(facts, json)
    if json != "-":
        console().print(f"Written: {output}  {made!r}", markup=False)


def _specimen(
    crystals: list[str],
    size: str,
    grains: int,
    zone: str | None,
    thickness: str,
    strain: float,
    bend: float,
    displacement: float | None,
    seed: int,
) -> Any:
    from diskern.crystal.common import find_phase
    from diskern.simulate.scan_specimen import Specimen

    match = re.fullmatch(r"(\d{1,5})[x×,](\d{1,5})", size.strip())
    if match is None or min(int(n) for n in match.groups()) < 1:
        raise DiskernError(f"--scan {size} must be rows x columns, e.g. 64x64")
    phases = [find_phase(name) for name in crystals]
    if displacement is not None:
        if not 0 <= displacement <= 1:
            raise DiskernError(f"--displacement {displacement:g} Å is not in 0 to 1 Å")
        phases = [p.with_u_iso(displacement**2) for p in phases]
    depths = [t * 10 for t in _numbers(thickness, "--thickness", "30 or 10,60")]
    if len(depths) > 2 or min(depths) < 0:
        raise DiskernError(f"--thickness {thickness} nm must be one value or two, not negative")
    specimen = Specimen.polycrystal(
        phases,
        (int(match[1]), int(match[2])),
        grains,
        thickness=depths[0],
        zone_axis=None if zone is None else _numbers(zone, "--zone", "0,1,1"),
        seed=seed,
    )
    wedge = (depths[0], depths[1]) if len(depths) == 2 else None
    return specimen.with_gradients(wedge=wedge, strain=strain / 100, bend=bend)


def _instrument(
    kind: str | None, dose: float | None, shape: tuple[int, int], pixel_size: float, seed: int
) -> Any:
    from dataclasses import replace

    from diskern.simulate.instrument import Dose, Instrument

    if kind is None:
        return None if dose is None else Instrument((Dose(dose),), seed)
    drawn = Instrument.draw(
        seed,
        shape,
        pixel_size,
        kind,  # type: ignore[arg-type]  # checked there
        direct_beam=False,
    )
    if dose is None:
        return drawn
    parts = tuple(Dose(dose) if isinstance(t, Dose) else t for t in drawn.transforms)
    return replace(drawn, transforms=parts)


def _numbers(words: str, option: str, example: str) -> list[float]:
    try:
        return [float(part) for part in words.replace(",", " ").split()]
    except ValueError as error:
        raise DiskernError(f"{option} {words!r} holds no numbers; write it as {example}") from error
