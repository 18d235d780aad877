"""`diskern simulate`: diffraction patterns of a known crystal."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diskern.cli._output import console, progress, write_json
from diskern.errors import DiskernError
from diskern.report.notation import direction_text

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

    from diskern.crystal.crystal import Crystal
    from diskern.simulate.bloch import BlochOptions
    from diskern.simulate.spot_pattern import SpotPattern

app = typer.Typer(
    no_args_is_help=True, help="Diffraction patterns of a known crystal.", rich_markup_mode="rich"
)


def _option(panel: str, metavar: str, words: str, *names: str) -> Any:
    return typer.Option(*names, help=words, metavar=metavar, rich_help_panel=panel)


_CRYSTAL, _MODEL, _DETECTOR, _OUTPUT = "Crystal and beam", "Model", "Detector", "Output"

Phase = Annotated[
    str,
    typer.Argument(
        metavar="CRYSTAL", help="CIF file, or a common phase: Si, NaCl …", show_default=False
    ),
]
Zone = Annotated[str, _option(_CRYSTAL, "U,V,W", "Zone axis along the beam.")]
Tilt = Annotated[
    str | None, _option(_CRYSTAL, "MRAD[,DEG]", "Tilt off the zone axis, and about which azimuth.")
]
Voltage = Annotated[float, _option(_CRYSTAL, "kV", "Accelerating voltage.")]
Displacement = Annotated[
    float | None, _option(_CRYSTAL, "Å", "rms displacement of every atom, in place of the CIF's.")
]
Size = Annotated[int, _option(_DETECTOR, "PX", "Edge of the square image.")]
PixelSize = Annotated[
    float | None, _option(_DETECTOR, "1/Å", "Per pixel; by default what shows all of g-max.")
]
CameraLength = Annotated[
    float | None,
    _option(_DETECTOR, "m", "In place of --pixel-size, together with --detector-pixel."),
]
DetectorPixel = Annotated[float | None, _option(_DETECTOR, "µm", "Edge of a pixel.")]
GMax = Annotated[float, _option(_MODEL, "1/Å", "Largest |g| of the reflections.")]
Absorption = Annotated[
    str | None,
    _option(_MODEL, "FRACTION", "Imaginary over real part of the potential, or thermal."),
]
Precession = Annotated[float | None, _option(_MODEL, "MRAD", "Precession semi-angle.")]
Output = Annotated[
    Path | None, _option(_OUTPUT, "FILE", "The image: .png, .tif or .h5.", "--output", "-o")
]
Figure = Annotated[
    Path | None, _option(_OUTPUT, "FILE", "A figure with indices and scale bar: .png, .pdf, .svg.")
]
Json = Annotated[
    str | None, _option(_OUTPUT, "FILE", "Reflections as JSON; - for standard output.")
]


@app.command()
def saed(
    crystal: Phase,
    zone: Zone = "0,0,1",
    tilt: Tilt = None,
    voltage: Voltage = 200.0,
    displacement: Displacement = None,
    thickness: Annotated[
        float | None, _option(_MODEL, "nm", "Foil thickness; intensities are relative without.")
    ] = None,
    method: Annotated[str, _option(_MODEL, "NAME", "kinematic or bloch.")] = "kinematic",
    g_max: GMax = 2.0,
    shape_factor: Annotated[
        str, _option(_MODEL, "NAME", "Rel-rod: gaussian, sinc2 or lorentzian.")
    ] = "gaussian",
    width: Annotated[
        float | None, _option(_MODEL, "1/Å", "rms rel-rod of a bent foil; else the thickness's.")
    ] = None,
    precession: Precession = None,
    double_diffraction: Annotated[
        bool, _option(_MODEL, "", "Let twice-scattered beams light up extinct reflections.")
    ] = False,
    absorption: Absorption = None,
    size: Size = 512,
    pixel_size: PixelSize = None,
    camera_length: CameraLength = None,
    detector_pixel: DetectorPixel = None,
    sigma: Annotated[float, _option(_DETECTOR, "PX", "rms radius of a spot.")] = 2.0,
    output: Output = None,
    figure: Figure = None,
    json: Json = None,
) -> None:
    """Spot pattern of one crystal.

    Example:  diskern simulate saed Si --zone 0,1,1 --thickness 20 -o si.tif --figure si.png
    """
    with progress("simulating"):
        from diskern.simulate.render import render_spots
        from diskern.simulate.saed import simulate_saed

        phase, rotation = _specimen(crystal, zone, tilt, displacement)
        camera = _camera(camera_length, detector_pixel, pixel_size, voltage)
        pixel = _pixel(camera.pop("pixel_size", pixel_size), g_max, size)
        pattern = simulate_saed(
            phase,
            orientation=rotation,
            energy=voltage * 1e3,
            g_max=g_max,
            thickness=None if thickness is None else thickness * 10,
            method=method,  # type: ignore[arg-type]  # checked there
            shape_factor=shape_factor,
            width=width,
            precession_angle=precession,
            double_diffraction=double_diffraction,
            absorption=_absorption(absorption),
        )
        facts = _facts(phase, zone, tilt, voltage) | {
            "thickness_nm": thickness,
            "method": method,
            "pixel_size": pixel,
        }
        _in_view(pattern, pixel, size)
        image = render_spots(
            pattern,
            (size, size),
            None if camera else pixel,
            sigma,
            direct_beam=pattern.direct,
            **camera,
        )
        _write(image, pixel, voltage, facts, output)
        if figure is not None:
            _draw(figure, image, pixel, pattern, [_title(phase, zone)], 4 * sigma + 4)
    _tell(pattern, facts, json, [p for p in (output, figure) if p is not None])


@app.command()
def cbed(
    crystal: Phase,
    zone: Zone = "0,0,1",
    tilt: Tilt = None,
    voltage: Voltage = 200.0,
    displacement: Displacement = None,
    semiangle: Annotated[float, _option(_MODEL, "MRAD", "Convergence half-angle.")] = 2.0,
    thickness: Annotated[str, _option(_MODEL, "nm,…", "One or more foil thicknesses.")] = "20",
    method: Annotated[str, _option(_MODEL, "NAME", "auto, bloch or multislice.")] = "auto",
    absorption: Absorption = None,
    g_max: GMax = 2.0,
    size: Size = 256,
    pixel_size: PixelSize = None,
    output: Output = None,
    figure: Figure = None,
    json: Json = None,
) -> None:
    """Convergent-beam pattern of one crystal, for one or more thicknesses.

    Example:  diskern simulate cbed Si --zone 1,1,1 --semiangle 4 --thickness 50,100 -o si.h5
    """
    with progress("simulating"):
        from diskern.simulate.cbed import simulate_cbed
        from diskern.simulate.saed import simulate_saed

        depths = [t * 10 for t in _numbers(thickness, "--thickness", "20 or 10,20,40")]
        phase, rotation = _specimen(crystal, zone, tilt, displacement)
        pixel = _pixel(pixel_size, g_max, size)
        images = simulate_cbed(
            phase,
            orientation=rotation,
            energy=voltage * 1e3,
            semiangle=semiangle,
            thickness=depths,
            shape=(size, size),
            pixel_size=pixel,
            method=method,  # type: ignore[arg-type]  # checked there
            options=_absorbing(_absorption(absorption), method),
        )
        facts = _facts(phase, zone, tilt, voltage) | {
            "semiangle_mrad": semiangle,
            "thickness_nm": [t / 10 for t in depths],
            "method": method,
            "pixel_size": pixel,
        }
        image = images[0] if len(images) == 1 else images
        _write(image, pixel, voltage, facts, output)
        pattern = simulate_saed(phase, orientation=rotation, energy=voltage * 1e3, g_max=g_max)
        if figure is not None:
            titles = [f"{_title(phase, zone)}  {t / 10:g} nm" for t in depths]
            radius = semiangle * 1e-3 / _wavelength(voltage) / pixel
            _draw(figure, images, pixel, pattern, titles, radius + 3, radius)
    totals = {"in_frame": [float(v) for v in images.sum((1, 2))]}
    _tell(pattern, facts | totals, json, [p for p in (output, figure) if p is not None])


def _specimen(
    name: str, zone: str, tilt: str | None, displacement: float | None
) -> tuple[Crystal, Rotation]:
    from diskern.crystal.common import find_phase
    from diskern.crystal.orientation import tilted, zone_axis_orientation

    phase = find_phase(name)
    if displacement is not None:
        if not 0 <= displacement <= 1:
            raise DiskernError(f"--displacement {displacement:g} Å is not in 0 to 1 Å")
        phase = phase.with_u_iso(displacement**2)
    uvw = _numbers(zone, "--zone", "0,1,1")
    if len(uvw) != 3:
        raise DiskernError(f"--zone {zone} must be three numbers, e.g. 0,1,1")
    rotation = zone_axis_orientation(phase, uvw)
    if tilt is not None:
        parts = _numbers(tilt, "--tilt", "10 or 10,45")
        if len(parts) > 2:
            raise DiskernError(f"--tilt {tilt} must be mrad, or mrad,azimuth in degrees")
        rotation = tilted(rotation, *parts)
    return phase, rotation


def _numbers(words: str, option: str, example: str) -> list[float]:
    try:
        values = [float(part) for part in words.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise DiskernError(f"{option} {words!r} holds no numbers; write it as {example}")
    return values


def _absorption(words: str | None) -> float | Literal["thermal"] | None:
    """The number, or the one word, that ``--absorption`` takes."""
    if words is None:
        return None
    if words == "thermal":
        return "thermal"
    return _numbers(words, "--absorption", "0.05 or thermal")[0]


def _absorbing(absorption: float | Literal["thermal"] | None, method: str) -> BlochOptions | None:
    """The options that absorb, which only Bloch waves have, or None for the defaults."""
    if absorption is None:
        return None
    if method == "multislice":
        raise DiskernError("--absorption is for Bloch waves; leave out --method multislice")
    from diskern.simulate.bloch import BlochOptions

    return BlochOptions(absorption=absorption, dtype="float32")


def _pixel(pixel_size: float | None, g_max: float, size: int) -> float:
    if not 16 <= size <= 8192:
        raise DiskernError(f"--size {size} px is not in 16 to 8192")
    if pixel_size is not None:
        return pixel_size
    if not (math.isfinite(g_max) and g_max > 0):
        raise DiskernError(f"--g-max {g_max:g} must be a positive number in 1/Å")
    return 2.08 * g_max / size


def _camera(
    length: float | None, detector_pixel: float | None, pixel_size: float | None, voltage: float
) -> dict[str, Any]:
    """A flat camera and 1/Å per px at its direct beam; empty where no length is given."""
    if length is None and detector_pixel is None:
        return {}
    if length is None or detector_pixel is None or pixel_size is not None:
        raise DiskernError(
            "give --camera-length in m with --detector-pixel in µm, or --pixel-size alone"
        )
    from diskern.simulate.render import Detector

    detector = Detector((1, 1), None, length, detector_pixel, voltage * 1e3)
    return {
        "camera_length": length,
        "detector_pixel": detector_pixel,
        "pixel_size": detector.scale,
    }


def _in_view(pattern: SpotPattern, pixel: float, size: int) -> None:
    """Refuse to draw a black image of a crystal that does diffract."""
    nearest = abs(pattern.q).max(-1).min(initial=math.inf)
    if pixel * size / 2 < nearest < math.inf:
        raise DiskernError(
            f"no reflection falls on the image: its edge is at {pixel * size / 2:.3g} 1/Å, the "
            f"nearest reflection at {nearest:.3g}; take more or larger pixels, or a shorter camera"
        )


def _wavelength(voltage: float) -> float:
    from diskern.physics import wavelength

    return wavelength(voltage * 1e3)


def _title(phase: Crystal, zone: str) -> str:
    uvw = _numbers(zone, "--zone", "0,1,1")
    whole = all(v == int(v) for v in uvw)
    axis = direction_text(int(v) for v in uvw) if whole else f"[{zone}]"
    return f"{phase.name or phase.formula} {axis}"


def _facts(phase: Crystal, zone: str, tilt: str | None, voltage: float) -> dict[str, Any]:
    return {
        "crystal": phase.name or phase.formula,
        "source": phase.source,
        "zone_axis": _numbers(zone, "--zone", "0,1,1"),
        "tilt": tilt,
        "voltage_kV": voltage,
        "command": shlex.join(["diskern", *sys.argv[1:]]),
    }


def _write(
    image: Any, pixel: float, voltage: float, facts: dict[str, Any], output: Path | None
) -> None:
    if output is not None:
        from diskern.simulate.export import save_image

        save_image(output, image, pixel_size=pixel, energy=voltage * 1e3, metadata=facts)


def _draw(
    path: Path,
    images: Any,
    pixel: float,
    pattern: SpotPattern,
    titles: Sequence[str],
    clearance: float,
    radius: float = 0.0,
) -> None:
    from diskern.report.simulation_figure import save_simulation_figure, simulation_figure

    drawn = simulation_figure(
        images, pixel, pattern, titles=titles, clearance=clearance, radius=radius
    )
    save_simulation_figure(path, drawn)


def _tell(
    pattern: SpotPattern, facts: dict[str, Any], json: str | None, written: list[Path]
) -> None:
    if json is not None:
        reflections = [
            {"hkl": h, "q": q, "s_g": s, "intensity": i}
            for h, q, s, i in zip(
                pattern.hkl.tolist(),
                pattern.q.tolist(),
                pattern.s_g.tolist(),
                pattern.intensity.tolist(),
                strict=True,
            )
        ]
        direct = {} if pattern.direct is None else {"direct_beam": pattern.direct}
        write_json({**facts, **direct, "reflections": reflections}, json)
    if json == "-":
        return
    out = console()
    out.print(repr(pattern), markup=False)
    if pattern.direct is None and pattern.thickness and pattern.intensity.sum() > 0.3:
        share = pattern.intensity.sum()
        out.print(
            f"Too thick for kinematic theory (spots hold {share:.2g} of the beam): --method bloch"
        )
    for path in written:
        out.print(f"Written: {path}", markup=False)
