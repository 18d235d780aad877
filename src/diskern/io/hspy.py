"""HyperSpy's tree of groups and attributes, the same in ``.hspy`` (HDF5) and ``.zspy`` (Zarr)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diskern.io.calibration import Axis, Stated, number
from diskern.io.files import fault, printable
from diskern.io.h5_arrays import choose, times

_MOST_DEPTH = 12


def is_hspy(root: Any) -> bool:
    """Whether the root group is HyperSpy's."""
    return "Experiments" in root and "file_format" in root.attrs


def describe(path: Path, root: Any, dataset: str | None) -> tuple[str, Stated]:
    """The path of the wanted experiment's array, and what the file says of it.

    ``root`` is an h5py group or anything that has its ``attrs``, ``in`` and ``[]``.
    """
    experiments = {
        f"Experiments/{name}": times(root[f"Experiments/{name}/data"].shape)
        for name in root["Experiments"]
        if "data" in root[f"Experiments/{name}"]
    }
    wanted = dataset.strip("/").removesuffix("/data") if dataset else None
    name = choose(path, experiments, wanted, "experiment")
    group = root[name]
    axes = [_axis(group[f"axis-{i}"].attrs) for i in range(8) if f"axis-{i}" in group]
    signal = [axis for axis, navigate in axes if not navigate]
    scan = [axis for axis, navigate in axes if navigate]
    if len(signal) == 1 and scan:
        raise fault(path, "holds spectra (one signal axis)", "give a diffraction dataset")
    microscope = _words(group, "metadata/Acquisition_instrument/TEM")
    energy, length = number(microscope.get("beam_energy")), number(microscope.get("camera_length"))
    return f"{name}/data", Stated(
        detector=(signal[0], signal[1]) if len(signal) == 2 else None,
        scan=(scan[0], scan[1]) if len(scan) == 2 else None,
        energy=energy * 1e3 if energy else None,  # HyperSpy keeps kV
        camera_length=length * 1e-3 if length else None,  # and mm
        metadata={**microscope, **_words(group, "metadata/General")},
    )


def _axis(attrs: Mapping[str, Any]) -> tuple[Axis, bool]:
    scale, offset = number(attrs.get("scale")), number(attrs.get("offset"))
    unit = attrs.get("units", "")
    text = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    return Axis(scale or 0.0, text, offset or 0.0), bool(attrs.get("navigate", False))


def _words(group: Any, name: str) -> dict[str, Any]:
    """All attributes at and below ``name``, flat."""
    return dict(_walk(group[name], "", 0)) if name in group else {}


def _walk(group: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in group.attrs.items():
        yield f"{prefix}{printable(key, 60)}", value
    if depth < _MOST_DEPTH and hasattr(group, "keys"):
        for key in group:
            yield from _walk(group[key], f"{prefix}{printable(key, 60)}.", depth + 1)
