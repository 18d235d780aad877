"""Bragg vectors read from EMD 1.0 files, our own and py4DSTEM's.

No object is rebuilt from a file: numbers and texts are read by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from diskern.bragg.vectors import COLUMNS, BraggVectors
from diskern.bragg.vectors_calibration import VectorCalibration
from diskern.bragg.vectors_emd import BATCH, FIELDS, OWN
from diskern.io.files import check_path, fault, printable, reading
from diskern.io.units import parse_unit

_MOST_LISTS = 1 << 26
_MOST_GROUPS = 50_000


def read_emd(path: str | PathLike[str], name: str | None = None) -> BraggVectors:
    """Read Bragg vectors with whatever columns and calibration the file has.

    Parameters
    ----------
    name : path inside the file, where it holds several.

    Raises
    ------
    DiskernError
        One line with the file's name, for anything that is not a sound file of Bragg vectors.
    """
    checked = check_path(path)
    if checked.is_dir() or not h5py.is_hdf5(checked):
        raise fault(checked, "no EMD file of Bragg vectors", "give a file of diskern bragg")
    with reading(checked, "EMD"), h5py.File(checked, "r") as file:
        place = _find(checked, file, name)
        data = _lists(checked, file[place])
        vectors, which = _read_lists(checked, data)
        items = _items(file.get(f"{place}/metadatabundle/{OWN}"))
        theirs = _items(file.get(f"{place.split('/')[0]}/metadatabundle/calibration"))
        shapes = _items(file.get(f"{place}/metadatabundle/_braggvectors_shape"))
        scan_shape = (int(data.shape[0]), int(data.shape[1]))
        return BraggVectors.from_columns(
            scan_shape,
            _pattern_shape(checked, shapes.get("Qshape")),
            which,
            vectors,
            _calibration(theirs, items, scan_shape),
            _provenance(items, checked),
        )


def _find(path: Path, file: Any, name: str | None) -> str:
    found: list[str] = []
    seen = 0

    def visit(place: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Group) and _text(item.attrs.get("python_class")) == "BraggVectors":
            found.append(place)
        return True if seen > _MOST_GROUPS else None

    file.visititems(visit)
    if name is not None:
        found = [p for p in found if p == name.strip("/") or p.endswith(f"/{name.strip('/')}")]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(printable(p, 60) for p in found[:8])
        raise fault(path, f"holds {len(found)} sets of Bragg vectors", f"choose one of {listed}")
    what = "holds no Bragg vectors" if name is None else f"no Bragg vectors {printable(name)!r}"
    raise fault(path, what, "write them with diskern bragg, or py4DSTEM's save of BraggVectors")


def _lists(path: Path, group: Any) -> Any:
    """The dataset of lists, checked to be one that can be read."""
    part = group.get("_v_uncal")
    data = part.get("data") if isinstance(part, h5py.Group) else None
    kind = h5py.check_vlen_dtype(data.dtype) if isinstance(data, h5py.Dataset) else None
    if data is None or kind is None or data.ndim != 2:
        raise fault(path, "its Bragg vectors are no lists (scan_y, scan_x)")
    fields = np.dtype(kind).fields or {}
    lacking = [
        n for n in ("qx", "qy", "intensity") if n not in fields or fields[n][0].kind not in "fiu"
    ]
    if lacking:
        raise fault(path, f"its Bragg vectors have no field {lacking[0]}")
    if not 0 < math.prod(data.shape) <= _MOST_LISTS or data.external or data.is_virtual:
        raise fault(path, f"a scan of {'×'.join(map(str, data.shape))} positions is not possible")
    if data.id.get_storage_size() < 16 * math.prod(data.shape):
        raise fault(path, "its Bragg vectors were never written", "write them again")
    return data


def _read_lists(path: Path, data: Any) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Columns of all lists, and the flat scan position of each disk."""
    ny, nx = data.shape
    kind = np.dtype(h5py.check_vlen_dtype(data.dtype))
    rows = max(1, BATCH // nx)
    pieces: list[bytes] = []
    counts: list[int] = []
    for top in range(0, ny, rows):
        lists = data[top : top + rows].ravel()
        counts += [len(one) for one in lists]
        # Joined as bytes: numpy takes ten times as long to put compounds together.
        pieces.append(b"".join(one.tobytes() for one in lists if len(one)))
    disks = np.frombuffer(b"".join(pieces), kind)
    columns = {}
    for name, (wanted, *_) in COLUMNS.items():
        stored = FIELDS.get(name, name)
        if stored in (kind.names or ()):
            columns[name] = disks[stored].astype(wanted)
    good = np.isfinite(columns["row"] + columns["col"] + columns["intensity"])
    if not good.all():
        raise fault(path, f"{int((~good).sum())} disks have no finite position or intensity")
    return columns, np.repeat(np.arange(ny * nx), counts)


def _items(group: Any) -> dict[str, Any]:
    """Scalars, texts and small arrays of a metadata group; anything else is left out."""
    found: dict[str, Any] = {}
    for name in list(group)[:1000] if isinstance(group, h5py.Group) else ():
        item = group.get(name)
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.size > _MOST_LISTS:
            continue
        value = item[()]
        if isinstance(value, bytes | str):
            found[name] = _text(value)
        elif np.asarray(value).dtype.kind in "buif":
            found[name] = np.asarray(value) if item.shape else np.asarray(value).item()
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _pattern_shape(path: Path, stated: Any) -> tuple[int, int]:
    shape = np.asarray([] if stated is None else stated)
    if shape.shape != (2,) or not ((shape >= 1) & (shape <= 1 << 16)).all():
        raise fault(path, "does not say the size of its patterns")
    return int(shape[0]), int(shape[1])


def _calibration(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], scan_shape: tuple[int, int]
) -> VectorCalibration:
    """py4DSTEM's words, completed by our own; what makes no sense is left out."""

    def number(words: Mapping[str, Any], name: str, least: float = -math.inf) -> float | None:
        value = words.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value) if value > least else None

    pixel, step = number(theirs, "Q_pixel_size", 0), number(theirs, "R_pixel_size", 0)
    inverse = parse_unit(theirs.get("Q_pixel_units", ""))
    length = parse_unit(theirs.get("R_pixel_units", ""))
    steps = np.asarray(ours.get("scan_step", ()), dtype=float)
    scan_step = (step * length.factor,) * 2 if step and length.kind == "length" else None
    if steps.shape == (2,) and (steps > 0).all():
        scan_step = (float(steps[0]), float(steps[1]))
    axes = [number(theirs, "a", 0), number(theirs, "b", 0), number(theirs, "theta")]
    rotation = number(theirs, "QR_rotation")
    return VectorCalibration(
        pixel_size=pixel * inverse.factor if pixel and inverse.kind == "inverse" else None,
        energy=number(ours, "energy", 0),
        scan_step=scan_step,
        origin=_origin(theirs, scan_shape),
        ellipse=None if None in axes else _ellipse(*axes),  # type: ignore[arg-type]  # none is None
        rotation=None if rotation is None else -rotation,
        flip=theirs.get("QR_flip") is True,
    )


def _ellipse(a: float, b: float, theta: float) -> NDArray[np.float64]:
    along = np.array([math.cos(theta), math.sin(theta)])
    return np.asarray(np.eye(2) + (b / a - 1) * np.outer(along, along))


def _origin(words: Mapping[str, Any], scan_shape: tuple[int, int]) -> NDArray[np.float64] | None:
    for suffix in ("", "_mean"):
        pair = [np.asarray(words.get(f"{name}{suffix}", np.nan)) for name in ("qx0", "qy0")]
        if all(p.dtype.kind in "iuf" and np.isfinite(p).any() for p in pair):
            shapes = {p.shape for p in pair}
            if shapes == {scan_shape} or shapes == {()}:
                return np.stack(pair, axis=-1).astype(np.float64)
    return None


def _provenance(words: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        found = json.loads(words.get("provenance", "{}"))
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) and found else {"file": path.name}
