"""Formats read through optional packages: rosettasciio (its plain-dict contract) and fabio.

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
from diskern.io.files import fault, printable, refuse_dataset
from diskern.io.lazy import LazyArray
from diskern.io.recording import ArrayLikeLazy, Recording
from diskern.io.registry import Format

# name: endings, rosettasciio's module
_ROSETTA = {
    "TVIPS movie": ((".tvips",), "tvips"),
    "Semper": ((".unf",), "semper"),
}
# name: endings, first bytes
_FABIO = {
    "CBF": ((".cbf",), b"###CBF"),
    "EDF": ((".edf",), b"{"),
    "Mar CCD": ((".mccd",), b"II*\0"),
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


def _fabio_reader(name: str) -> Callable[[Path, str | None], Recording]:
    def read(path: Path, dataset: str | None = None) -> Recording:
        refuse_dataset(path, dataset, name)
        opened = _package(path, "fabio", name).open(str(path))
        header = {str(k): v for k, v in dict(opened.header).items() if not isinstance(v, dict)}
        return finish(path, np.asarray(opened.data), name, Stated(metadata=header))

    return read


def _by_name(endings: tuple[str, ...]) -> Callable[[bytes, Path], bool]:
    return lambda head, path: path.is_file() and path.suffix.lower() in endings


def _by_both(endings: tuple[str, ...], start: bytes) -> Callable[[bytes, Path], bool]:
    return lambda head, path: head.startswith(start) and path.suffix.lower() in endings


FORMATS = (
    *(
        Format(name, endings, _by_name(endings), _rosetta_reader(name, module))
        for name, (endings, module) in _ROSETTA.items()
    ),
    *(
        Format(name, endings, _by_both(endings, start), _fabio_reader(name))
        for name, (endings, start) in _FABIO.items()
    ),
)
