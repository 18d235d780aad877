"""Formats read through the optional package rosettasciio, by its contract of plain dictionaries.

rosettasciio is GPL-3.0-or-later and never required.  Only readers that do not unpickle are used.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.io.calibration import Axis, Stated, finish, number
from diskern.io.files import fault, printable
from diskern.io.lazy import LazyArray
from diskern.io.recording import ArrayLikeLazy, Recording
from diskern.io.registry import Format

# name: endings, rosettasciio's module
_ROSETTA = {
    "Ripple": ((".rpl",), "ripple"),
    "Semper": ((".unf",), "semper"),
}


class _Wrapped(LazyArray):
    """A dask array as rosettasciio gives it; pieces are computed when asked for."""

    def __init__(self, array: ArrayLikeLazy) -> None:
        self._array = array
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._array[key])


def _package(path: Path, name: str, format_name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        problem = f"{format_name} files need optional readers ({name.split('.')[0]})"
        raise fault(path, problem, "pip install diskern[io]") from error


def _rosetta_reader(name: str, module: str) -> Callable[[Path, str | None], Recording]:
    def read(path: Path, dataset: str | None = None) -> Recording:
        reader = _package(path, f"rsciio.{module}", name)
        signals = [s for s in reader.file_reader(str(path), lazy=True) if s["data"].ndim > 1]
        index = dataset or "0"
        if not index.isdecimal() or int(index) >= len(signals):
            mend = f"give a number below {len(signals)}" if signals else "give diffraction images"
            raise fault(path, f"no dataset {printable(index, 40)!r}", mend)
        return from_rosetta(path, signals[int(index)], name)

    return read


def from_rosetta(path: Path, signal: dict[str, Any], format_name: str) -> Recording:
    """A recording from one of rosettasciio's dictionaries (data, axes, metadata)."""
    axes = sorted(signal["axes"], key=lambda axis: int(axis.get("index_in_array", 0)))

    def stated_axes(navigate: bool) -> tuple[Axis, Axis] | None:
        found = [
            Axis(
                number(a.get("scale")) or 0.0, str(a.get("units", "")), number(a.get("offset")) or 0
            )
            for a in axes
            if bool(a.get("navigate")) is navigate
        ]
        return (found[0], found[1]) if len(found) == 2 else None

    instrument = signal.get("metadata", {}).get("Acquisition_instrument", {}).get("TEM", {})
    energy, length = number(instrument.get("beam_energy")), number(instrument.get("camera_length"))
    stated = Stated(
        detector=stated_axes(False),
        scan=stated_axes(True),
        energy=energy * 1e3 if energy else None,
        camera_length=length * 1e-3 if length else None,
        metadata={k: v for k, v in instrument.items() if not isinstance(v, dict)},
    )
    return finish(path, _Wrapped(signal["data"]), format_name, stated)


def _named(name: str, endings: tuple[str, ...]) -> Callable[[bytes, Path], bool]:
    def sniff(head: bytes, path: Path) -> bool:
        # Other programs' tables end in .rpl too; a Ripple header lists its keys.
        known = name != "Ripple" or b"data-length" in head.lower()
        return known and path.is_file() and path.suffix.lower() in endings

    return sniff


FORMATS = tuple(
    Format(name, endings, _named(name, endings), _rosetta_reader(name, module))
    for name, (endings, module) in _ROSETTA.items()
)
