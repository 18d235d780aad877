"""From what a file says about its axes to a `Recording` with checked numbers.

Every reader ends in `finish`: there the units become 1/Å, eV, m and Å, numbers that cannot be
a microscope's are dropped, and why is said in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern import physics
from diskern.errors import DiskernError
from diskern.io.files import fault, printable
from diskern.io.lazy import LazyArray
from diskern.io.recording import ArrayLikeLazy, Recording
from diskern.io.units import parse_unit

MAX_FRAME_PIXELS = 160_000_000
"""Largest frame accepted; the largest electron camera of 2025 has 94 million pixels."""

WIDEST_FIELD = 60.0
"""Widest field of view in 1/Å: no column passes more, even at 20 keV and 250 mrad to each side."""

FINEST_PIXEL = 1e-7
"""Finest detector pixel in 1/Å: small-angle diffraction at a camera length of kilometres."""

_METADATA_ENTRIES = 2000
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Axis:
    """One axis as a file states it: value = offset + index · scale, in ``unit``."""

    scale: float
    unit: str = ""
    offset: float = 0.0


@dataclass
class Stated:
    """What a file states, in whatever units it uses; `finish` turns it into a `Recording`.

    Attributes
    ----------
    detector : (row axis, column axis) of the frames.
    scan : (y, x) axes of the scan.
    pixel_size : 1/Å, where the format gives it directly.
    energy : eV.
    camera_length : m.
    centre : (row, column) in px.
    metadata : the file's own words.
    notes : what the reader has to remark.
    """

    detector: tuple[Axis, Axis] | None = None
    scan: tuple[Axis, Axis] | None = None
    pixel_size: float | None = None
    energy: float | None = None
    camera_length: float | None = None
    centre: tuple[float, float] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def finish(path: Path, data: ArrayLikeLazy, format_name: str, stated: Stated) -> Recording:
    """Check shape and calibration and give the `Recording`.

    Raises
    ------
    DiskernError
        Where the data are no real image, stack or scan, or a frame is larger than any detector.
    """
    notes = list(stated.notes)
    shaped = shape_frames(path, data, notes)
    frame = (shaped.shape[-2], shaped.shape[-1])
    energy = _check_energy(stated.energy, notes)
    length = _check_length(stated.camera_length, notes)
    pixel_size = stated.pixel_size
    if pixel_size is None and stated.detector is not None:
        pixel_size = _reciprocal_pixel(stated.detector, energy, notes)
    pixel_size = _check_pixel(pixel_size, max(frame), notes)
    centre = stated.centre
    if centre is None and stated.detector is not None and pixel_size is not None:
        centre = _centre_of(stated.detector, frame)
    centre = _check_centre(centre, frame, notes)
    step = _scan_step(stated.scan, notes) if shaped.ndim == 4 else None
    return Recording(
        data=shaped,
        format=format_name,
        pixel_size=pixel_size,
        energy=energy,
        camera_length=length,
        centre=centre,
        scan_step=step,
        metadata=tidy(stated.metadata),
        notes=tuple(dict.fromkeys(notes)),
    )


def shape_frames(path: Path, data: ArrayLikeLazy, notes: list[str]) -> Any:
    """``data`` as image (read), stack or scan (left lazy); colours become grey levels."""
    shape = tuple(int(n) for n in data.shape)
    kind = np.dtype(data.dtype).kind
    if kind not in "buif":
        what = "complex numbers" if kind == "c" else f"values of type {printable(data.dtype, 40)}"
        raise fault(path, f"holds {what}, not intensities", "save real numbers, e.g. abs()**2")
    if len(shape) < 2 or min(shape) < 1:
        raise fault(path, f"holds an array of shape {shape}, not an image", "give a 2-D array")
    colour = len(shape) > 2 and shape[-1] in (3, 4) and data.dtype in (np.uint8, np.uint16)
    height, width = shape[-3:-1] if colour else shape[-2:]
    if height * width > MAX_FRAME_PIXELS:
        raise fault(path, f"frames of {height}×{width} px are beyond any detector", "bin them")
    if colour:
        if len(shape) > 3:
            raise fault(path, f"colour frames of shape {shape}", "convert them to grey levels")
        notes.append("colours were turned into grey levels")
        return luminance(np.asarray(data[...]))
    scan = [n for n in shape[:-2] if n > 1]
    if len(shape) > 4 and scan:
        raise fault(path, f"has {len(shape)} axes {shape}", "give a 2-, 3- or 4-D dataset")
    if not scan:
        return np.array(data[(0,) * (len(shape) - 2)])
    return data if isinstance(data, LazyArray) else np.asarray(data[...])


def luminance(image: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3 or 4) colours to (H, W) grey levels of the same type; alpha is ignored."""
    red, green, blue = (image[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.ascontiguousarray(red)
    grey = image[..., :3].astype(np.float32) @ _LUMINANCE
    return np.asarray(np.rint(grey), dtype=image.dtype)


def pixel_on_screen(pixel: float, distance: float, wavelength: float) -> float:
    """Detector pixel in 1/Å from its size and the camera length in the same unit, λ in Å."""
    return pixel / distance / wavelength


def energy_of_wavelength(wavelength: float) -> float | None:
    """Kinetic energy in eV of an electron of ``wavelength`` in Å; None where not positive."""
    if not (math.isfinite(wavelength) and 0 < wavelength < 1):
        return None
    momentum = physics.PLANCK / (wavelength * 1e-10) * physics.LIGHT_SPEED
    return math.hypot(momentum / physics.ELEMENTARY_CHARGE, physics.REST_ENERGY) - (
        physics.REST_ENERGY
    )


def number(value: object) -> float | None:
    """``value`` as a finite float, or None."""
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def tidy(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The file's own words as short one-line strings and plain numbers."""
    clean: dict[str, Any] = {}
    for key, value in metadata.items():
        if len(clean) >= _METADATA_ENTRIES:
            break
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            clean[printable(key, 120)] = value
        elif value is not None and (text := printable(_decoded(value))):
            clean[printable(key, 120)] = text
    return clean


def _decoded(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _check_energy(energy: float | None, notes: list[str]) -> float | None:
    if energy is None:
        return None
    try:
        return physics.check_energy(energy)
    except DiskernError:
        if energy != 0:
            notes.append(f"the stated beam energy of {energy:.4g} eV is impossible and not used")
        return None


def _check_length(length: float | None, notes: list[str]) -> float | None:
    if length is None or length == 0:
        return None
    if math.isfinite(length) and 1e-3 <= length <= 1e4:
        return float(length)
    notes.append(f"the stated camera length of {length:.4g} m is impossible and not used")
    return None


def _reciprocal_pixel(
    axes: tuple[Axis, Axis], energy: float | None, notes: list[str]
) -> float | None:
    """Pixel size in 1/Å from two detector axes, or None with the reason in ``notes``."""
    sizes: list[float] = []
    for axis in axes:
        unit = parse_unit(axis.unit)
        size = abs(axis.scale)
        if unit.kind == "inverse":
            sizes.append(size * unit.factor)
        elif unit.kind == "angle" and energy is not None:
            sizes.append(size * unit.factor * 1e-3 / physics.wavelength(energy))
        elif unit.kind == "angle":
            notes.append(f"detector pixels of {size:.4g} {axis.unit} need the energy for 1/Å")
            return None
        elif unit.kind == "length":
            notes.append(
                f"the frames are scaled in real space ({size:.4g} {printable(axis.unit, 20)} per"
                " px), which is no reciprocal calibration"
            )
            return None
        elif unit.kind == "unknown":
            notes.append(f"the detector's unit {printable(axis.unit, 30)!r} is not understood")
            return None
        else:
            return None
    if not all(math.isfinite(s) and s > 0 for s in sizes):
        return sizes[0] if sizes else None
    if abs(sizes[0] / sizes[1] - 1) > 0.01:
        notes.append(f"rows and columns are scaled {sizes[0]:.5g} and {sizes[1]:.5g} 1/Å: averaged")
    return math.sqrt(sizes[0] * sizes[1])


def _check_pixel(pixel_size: float | None, pixels: int, notes: list[str]) -> float | None:
    if pixel_size is None:
        return None
    if math.isfinite(pixel_size) and FINEST_PIXEL <= pixel_size <= WIDEST_FIELD / pixels:
        return float(pixel_size)
    notes.append(f"the stated pixel size of {pixel_size:.3g} 1/Å is impossible and not used")
    return None


def _centre_of(axes: tuple[Axis, Axis], frame: tuple[int, int]) -> tuple[float, float] | None:
    """Where the axes have their zero; None for the defaults (first pixel, middle of the frame)."""
    if any(a.scale == 0 or not math.isfinite(a.offset / a.scale) for a in axes):
        return None
    row, col = (-a.offset / a.scale for a in axes)
    corner = abs(row) < 1e-6 or abs(col) < 1e-6
    middle = all(abs(x - (n - 1) / 2) < 0.76 for x, n in zip((row, col), frame, strict=True))
    return None if corner or middle else (row, col)


def _check_centre(
    centre: tuple[float, float] | None, frame: tuple[int, int], notes: list[str]
) -> tuple[float, float] | None:
    if centre is None:
        return None
    if all(math.isfinite(x) and -0.5 <= x <= n - 0.5 for x, n in zip(centre, frame, strict=True)):
        return float(centre[0]), float(centre[1])
    notes.append(f"the stated centre ({centre[0]:.4g}, {centre[1]:.4g}) px is outside the frame")
    return None


def _scan_step(axes: tuple[Axis, Axis] | None, notes: list[str]) -> tuple[float, float] | None:
    if axes is None:
        return None
    steps = []
    for axis in axes:
        unit = parse_unit(axis.unit)
        step = abs(axis.scale) * unit.factor
        if unit.kind != "length" or not math.isfinite(step) or step == 0:
            return None
        if not 1e-3 <= step <= 1e8:
            notes.append(f"the stated scan step of {step:.3g} Å is impossible and not used")
            return None
        steps.append(step)
    return steps[0], steps[1]
