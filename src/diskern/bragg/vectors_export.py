"""Bragg vectors as Zarr and as text."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from diskern._version import __version__
from diskern.bragg.vectors import COLUMNS, BraggVectors
from diskern.compute.files import whole_file
from diskern.errors import DiskernError

_CHUNK = 1 << 18
_FORMATS = {"scan_y": "%d", "scan_x": "%d", "order": "%d", "row": "%.5f", "col": "%.5f"}


def write_zarr(vectors: BraggVectors, path: str | PathLike[str]) -> None:
    """Write a Zarr group: every column as a flat array, and the offsets of the patterns.

    Raises
    ------
    DiskernError
        Where the package zarr is missing, or the folder cannot be written or holds other things.
    """
    try:
        import zarr
    except ImportError as error:
        raise DiskernError(
            "writing .zarr needs the package zarr: pip install diskern[zarr]"
        ) from error
    target = Path(path)
    if target.exists() and not (target.is_dir() and _is_ours(zarr, target)):
        raise DiskernError(f"{target} holds something else; remove it or give another name")
    known = vectors.calibration
    attributes: dict[str, Any] = {
        "format": "diskern.BraggVectors",
        "program": f"diskern {__version__}",
        "scan_shape": list(vectors.scan_shape),
        "pattern_shape": list(vectors.pattern_shape),
        "provenance": json.loads(json.dumps(dict(vectors.provenance), default=str)),
    }
    for name in ("pixel_size", "energy", "scan_step", "ellipse", "rotation", "flip"):
        value = getattr(known, name)
        attributes[name] = None if value is None else np.asarray(value).tolist()
    try:
        group = zarr.open_group(str(target), mode="w")
        _put(group, "offsets", vectors.offsets, "first disk of each pattern", "")
        for name, (_, unit, meaning) in COLUMNS.items():
            _put(group, name, vectors.columns[name], meaning, unit)
        if known.origin is not None:
            _put(group, "origin", known.origin.ravel(), "row, col of the direct beam", "px")
        # Last: a group without them was cut off before it was ready.
        group.attrs.update(attributes)
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error


def _is_ours(zarr: Any, path: Path) -> bool:
    if not any(path.iterdir()):
        return True
    try:
        return bool(zarr.open_group(str(path), mode="r").attrs["format"] == "diskern.BraggVectors")
    except (KeyError, OSError, ValueError):
        return False


def _put(group: Any, name: str, values: Any, meaning: str, unit: str) -> None:
    create = getattr(group, "create_array", None) or group.create_dataset
    chunks = (max(1, min(_CHUNK, len(values))),)
    array = create(name, shape=values.shape, chunks=chunks, dtype=values.dtype)
    if len(values):
        array[:] = values
    array.attrs.update({"meaning": meaning, "unit": unit})


def write_csv(vectors: BraggVectors, path: str | PathLike[str]) -> None:
    """Write one line a disk, the names of the columns first; unknown values stay empty.

    Raises
    ------
    DiskernError
        Where the file cannot be written.
    """
    table = vectors.table()
    names = table.dtype.names or ()
    row = ",".join(_FORMATS.get(name, "%.6g") for name in names)
    target = Path(path)
    try:
        with whole_file(target) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
            stream.write(",".join(names) + "\n")
            for start in range(0, len(table), 10_000):
                lines = [row % disk for disk in table[start : start + 10_000].tolist()]
                text = "\n".join(lines)
                stream.write(text.replace("nan", "") + "\n" if lines else "")
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error
