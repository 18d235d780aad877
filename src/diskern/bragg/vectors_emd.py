"""Bragg vectors written to EMD 1.0 files (HDF5), as py4DSTEM 0.14 reads them.

The lists of disks are one dataset of variable-length compounds, one list a scan position, whose
first three fields py4DSTEM knows (``qx`` is the detector's row, ``qy`` its column, in px, raw);
further fields follow in the same compound.  What py4DSTEM has no place for (beam energy,
provenance) stands in a metadata group of its own.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from diskern._version import __version__
from diskern.bragg.vectors import COLUMNS, BraggVectors
from diskern.compute.files import whole_file
from diskern.errors import DiskernError

ROOT, NAME = "braggvectors_root", "braggvectors"
FIELDS = {"row": "qx", "col": "qy", "sigma_row": "sigma_qx", "sigma_col": "sigma_qy"}
"""Names in the file that differ from ours."""
_EMD = np.dtype([(FIELDS.get(name, name), kind) for name, (kind, *_) in COLUMNS.items()])
BATCH = 16_384
"""Lists handed to HDF5 at a time: the objects around them weigh more than the numbers."""
OWN = "diskern"


def write_emd(vectors: BraggVectors, path: str | PathLike[str]) -> None:
    """Write Bragg vectors with all their columns, calibration and provenance.

    Raises
    ------
    DiskernError
        Where the file cannot be written.
    """
    target = Path(path)
    try:
        with whole_file(target) as draft, h5py.File(draft, "w", libver=("v110", "v110")) as file:
            file.attrs["UUID"] = str(uuid.uuid4())
            file.attrs["authoring_program"] = f"diskern {__version__}"
            file.attrs["authoring_user"] = ""
            file.attrs["emd_group_type"] = "file"
            file.attrs["version_major"], file.attrs["version_minor"] = 1, 0
            root = _group(file, ROOT, "root", "Root")
            group = _group(root, NAME, "custom", "BraggVectors")
            _write_lists(
                _group(group, "_v_uncal", "custom_pointlistarray", "PointListArray"), vectors
            )
            about = _bundle(group)
            shapes = {"Qshape": vectors.pattern_shape, "Rshape": vectors.scan_shape}
            _write_items(_group(about, "_braggvectors_shape", "metadata", "Metadata"), shapes)
            _write_items(_group(about, OWN, "metadata", "Metadata"), _own_words(vectors))
            calibration = _group(_bundle(root), "calibration", "metadata", "Calibration")
            _write_items(calibration, _py4dstem_words(vectors))
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error


def _group(parent: Any, name: str, emd_type: str, python_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["emd_group_type"], group.attrs["python_class"] = emd_type, python_class
    return group


def _bundle(parent: Any) -> Any:
    group = parent.create_group("metadatabundle")
    group.attrs["emd_group_type"] = "metadatabundle"
    return group


def _write_lists(group: Any, vectors: BraggVectors) -> None:
    data = group.create_dataset("data", vectors.scan_shape, h5py.vlen_dtype(_EMD))
    disks = np.empty(len(vectors), _EMD)
    for name in COLUMNS:
        disks[FIELDS.get(name, name)] = vectors.columns[name]
    ny, nx = vectors.scan_shape
    rows = max(1, BATCH // nx)
    for top in range(0, ny, rows):
        height = min(rows, ny - top)
        lists = np.empty(height * nx, dtype=object)
        ends = vectors.offsets[top * nx : (top + height) * nx + 1]
        for i, (start, stop) in enumerate(pairwise(ends)):
            lists[i] = disks[start:stop]
        data[top : top + height] = lists.reshape(height, nx)


def _own_words(vectors: BraggVectors) -> dict[str, Any]:
    """What py4DSTEM's calibration has no name for, and the meaning of the fields."""
    known = vectors.calibration
    words: dict[str, Any] = {
        "program": f"diskern {__version__}",
        "provenance": json.dumps(dict(vectors.provenance), default=str),
        "fields": json.dumps(
            {FIELDS.get(n, n): f"{m} [{unit}]" for n, (_, unit, m) in COLUMNS.items()}
        ),
    }
    if known.energy is not None:
        words["energy"] = float(known.energy)
    if known.scan_step is not None:
        words["scan_step"] = tuple(float(s) for s in known.scan_step)
    return words


def _py4dstem_words(vectors: BraggVectors) -> dict[str, Any]:
    known = vectors.calibration
    scale = 1.0
    words: dict[str, Any] = {}
    if known.ellipse is not None:
        scale, words = _semiaxes(known.ellipse)
    words |= {"Q_pixel_size": 1.0, "Q_pixel_units": "pixels"}
    if known.pixel_size is not None:
        words |= {"Q_pixel_size": float(known.pixel_size) * scale, "Q_pixel_units": "A^-1"}
    words |= {"R_pixel_size": 1.0, "R_pixel_units": "pixels"}
    if known.scan_step is not None:
        words |= {"R_pixel_size": float(np.mean(known.scan_step)) / 10, "R_pixel_units": "nm"}
    if known.origin is not None and np.isfinite(known.origin).any():
        origin = np.broadcast_to(known.origin, (*vectors.scan_shape, 2))
        for axis, name in enumerate(("qx0", "qy0")):
            mean = float(np.nanmean(origin[..., axis]))
            words[name] = np.ascontiguousarray(origin[..., axis])
            words |= {f"{name}_mean": mean, f"{name}_shift": words[name] - mean}
    if known.rotation is not None:
        # Theirs turns from rows towards columns.
        words["QR_rotation"] = -float(known.rotation)
        words["QR_rotation_degrees"] = -math.degrees(known.rotation)
        words["QR_flip"] = bool(known.flip)
    return words | {"_root_treepath": "", "_target_paths": [f"/{NAME}"]}


def _semiaxes(ellipse: NDArray[np.float64]) -> tuple[float, dict[str, Any]]:
    """The larger eigenvalue, and py4DSTEM's a, b, θ: the axis at θ from the rows shrinks by b/a."""
    values, vectors = np.linalg.eigh(ellipse)
    theta = math.atan2(vectors[1, 0], vectors[0, 0]) % math.pi
    larger = float(values[1])
    return larger, {"a": 1.0, "b": float(values[0]) / larger, "theta": theta}


def _write_items(group: Any, items: Mapping[str, Any]) -> None:
    """Values in the manner of EMD metadata: each says its kind in an attribute."""
    for name, value in items.items():
        if isinstance(value, list):
            part = group.create_group(name)
            part.attrs["type"], part.attrs["length"] = np.bytes_("list_of_strings"), len(value)
            for i, word in enumerate(value):
                part.create_dataset(str(i), data=word.encode())
            continue
        kinds = {str: "string", bool: "bool", tuple: "tuple", np.ndarray: "array"}
        kind = next((words for kind, words in kinds.items() if isinstance(value, kind)), "number")
        stored = value.encode() if isinstance(value, str) else value
        group.create_dataset(name, data=stored).attrs["type"] = np.bytes_(kind)
