"""EMD files: Velox (Thermo Fisher), Berkeley (NCEM) and the EMD 1.0 of py4DSTEM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diskern.io.calibration import Axis, Stated, finish, number
from diskern.io.files import printable
from diskern.io.h5_arrays import H5Array, choose, safe_dataset, times
from diskern.io.lazy import LazyArray, Permuted
from diskern.io.recording import Recording

_MOST_GROUPS = 50_000
_VELOX_IMAGES = "Data/Image"


def is_velox(file: Any) -> bool:
    """Whether the file has Velox's tree of images."""
    import h5py

    return isinstance(file.get(_VELOX_IMAGES), h5py.Group)


def read_velox(path: Path, file: Any, dataset: str | None) -> Recording:
    """Read an image or movie; Velox stores (Q_y, Q_x, N) with a JSON text per frame."""
    group = file[_VELOX_IMAGES]
    images = {
        f"{_VELOX_IMAGES}/{name}": times(group[name]["Data"].shape)
        for name in group
        if "Data" in group[name]
    }
    name = choose(path, images, dataset, "image")
    data: LazyArray = H5Array(path, f"{name}/Data")
    if data.ndim == 3:
        data = Permuted(data, (2, 0, 1))
    words = _velox_words(file[name])
    return finish(path, data, "Velox EMD", _velox_stated(words))


def _velox_words(image: Any) -> dict[str, Any]:
    """The first frame's JSON, flat: ``Optics.AccelerationVoltage`` → text."""
    if "Metadata" not in image or image["Metadata"].shape[0] > 1 << 22:
        return {}
    raw = bytes(np.asarray(image["Metadata"][:, 0], dtype=np.uint8)).split(b"\0", 1)[0]
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        return {}  # the image is still good
    flat: dict[str, Any] = {}
    queue = [("", tree)]
    while queue:
        prefix, node = queue.pop()
        for key, value in node.items() if isinstance(node, dict) else ():
            if isinstance(value, dict):
                queue.append((f"{prefix}{key}.", value))
            elif isinstance(value, str | int | float):
                flat[f"{prefix}{key}"] = value
    return flat


def _velox_stated(words: Mapping[str, Any]) -> Stated:
    def axis(size: str, unit: str, offset: str) -> Axis:
        scale = number(words.get(f"BinaryResult.PixelSize.{size}")) or 0.0
        start = number(words.get(f"BinaryResult.Offset.{offset}")) or 0.0
        return Axis(scale, str(words.get(f"BinaryResult.PixelUnit{unit}", "")), start)

    return Stated(
        detector=(axis("height", "Y", "y"), axis("width", "X", "x")),
        energy=number(words.get("Optics.AccelerationVoltage")),
        camera_length=number(words.get("Optics.CameraLength")),
        metadata=words,
    )


def arrays(file: Any) -> dict[str, tuple[int, ...]]:
    """Groups marked as EMD arrays that could be frames, with their shapes."""
    import h5py

    found: dict[str, tuple[int, ...]] = {}
    seen = 0

    def visit(name: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Group) and _is_array(item):
            shape = tuple(item["data"].shape or ())
            if 2 <= len(shape) <= 4 and item["data"].dtype.kind in "buif" and min(shape[-2:]) > 1:
                found[name] = shape
        return True if seen > _MOST_GROUPS else None

    file.visititems(visit)
    return found


def _is_array(group: Any) -> bool:
    import h5py

    kind = group.attrs.get("emd_group_type")
    marked = _text(kind) in ("1", "array")
    return marked and isinstance(group.get("data"), h5py.Dataset)


def holds(found: Mapping[str, Any], dataset: str) -> bool:
    """Whether ``dataset`` names one of the arrays, by its group or its data."""
    wanted = dataset.strip("/").removesuffix("/data")
    return any(name == wanted or name.endswith(f"/{wanted}") for name in found)


def describe(
    path: Path, file: Any, found: Mapping[str, tuple[int, ...]], dataset: str | None
) -> tuple[str, Stated]:
    """The wanted array (the only scan, if none is named) and what the file says of it."""
    scans = {n: s for n, s in found.items() if len(s) == 4}
    wanted = dataset.strip("/").removesuffix("/data") if dataset else None
    candidates = scans if dataset is None and len(scans) == 1 else found
    about = {name: times(shape) for name, shape in candidates.items()}
    name = choose(path, about, wanted, "array")
    group = file[name]
    data = safe_dataset(path, file, f"{name}/data")
    axes = _axes(group, data.shape)
    stated = Stated(
        detector=(axes[-2], axes[-1]),
        scan=(axes[0], axes[1]) if len(axes) == 4 else None,
        metadata={k: _text(v) for k, v in group.attrs.items()},
    )
    _from_calibration(file, name, stated)
    return f"{name}/data", stated


def _axes(group: Any, shape: tuple[int, ...]) -> list[Axis]:
    """One axis a dimension, from the vectors dim0, dim1, … (or dim1, dim2, …)."""
    first = 0 if "dim0" in group else 1
    axes = []
    for i, size in enumerate(shape):
        vector = group.get(f"dim{first + i}")
        if vector is None or vector.ndim != 1 or vector.dtype.kind not in "uif":
            axes.append(Axis(1.0))
            continue
        ends = np.asarray(vector[:2], dtype=float)
        scale = float(ends[1] - ends[0]) if len(ends) == 2 and size > 1 else 0.0
        axes.append(Axis(scale, _text(vector.attrs.get("units", "")), float(ends[0])))
    return axes


def _from_calibration(file: Any, name: str, stated: Stated) -> None:
    """py4DSTEM's calibration, which stands in the metadata of the root the array belongs to."""
    import h5py

    root = name.split("/", maxsplit=1)[0]
    group = file.get(f"{root}/metadatabundle/calibration")
    if not isinstance(group, h5py.Group):
        return
    words = {
        key: item[()]
        for key, item in group.items()
        if isinstance(item, h5py.Dataset) and item.shape == ()
    }
    for field, prefix in (("detector", "Q"), ("scan", "R")):
        size = number(words.get(f"{prefix}_pixel_size"))
        unit = _text(words.get(f"{prefix}_pixel_units", ""))
        if size and unit not in ("", "pixels") and (field == "detector" or stated.scan):
            setattr(stated, field, (Axis(size, unit), Axis(size, unit)))
    stated.metadata = {**stated.metadata, **{k: _text(v) for k, v in words.items()}}


def _text(value: Any) -> str:
    return printable(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
