"""Simulated images to files that carry what they are: PNG to look at, TIFF and HDF5 to measure."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern._version import __version__
from diskern.errors import DiskernError

Image = NDArray[np.float32]


def save_image(
    path: str | os.PathLike[str],
    image: ArrayLike,
    *,
    pixel_size: float | None = None,
    energy: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    gamma: float = 0.5,
) -> Path:
    """Write one image, or a (T, H, W) series where the format has room for it.

    Parameters
    ----------
    path : ends in .png (8-bit grey, (I/max)^gamma, one image), .tif/.tiff (float32, ImageJ
        scale) or .h5/.hdf5 (float32, dataset ``image`` with attributes).
    image : (H, W) or (T, H, W), finite numbers.
    pixel_size, energy : 1/Å and eV, written into the file.
    metadata : anything else that JSON can hold: crystal, zone axis, thickness …
    gamma : exponent of the grey scale of a PNG; 1 is linear.

    Raises
    ------
    DiskernError
        For an unknown ending, an image that is none, or a path that cannot be written.
    """
    target = Path(path)
    array = np.asarray(image, dtype=np.float32)
    if array.ndim not in (2, 3) or not array.size:
        raise DiskernError(f"the image has shape {array.shape}; give (H, W) or (T, H, W)")
    if not np.isfinite(array).all():
        raise DiskernError("the image holds a value that is not finite")
    facts: dict[str, Any] = {"program": f"diskern {__version__}", **(metadata or {})}
    if pixel_size is not None:
        facts["pixel_size_per_angstrom"] = float(pixel_size)
    if energy is not None:
        facts["energy_eV"] = float(energy)
    writer = _WRITERS.get(target.suffix.lower())
    if writer is None:
        known = ", ".join(_WRITERS)
        raise DiskernError(f"{target.name} has no known ending; use one of {known}")
    if writer is _png:
        facts["grey"] = f"(I/max)^{gamma:g}"
        array = _grey(array, gamma)
    try:
        writer(target, array, facts)
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _grey(array: Image, gamma: float) -> Image:
    if array.ndim == 3 and len(array) > 1:
        raise DiskernError(
            f"a PNG holds one image, not {len(array)}; write .tif or .h5, or one thickness"
        )
    if not 0 < gamma <= 10:
        raise DiskernError(f"gamma={gamma} must be above 0 and at most 10")
    flat = np.clip(array.reshape(array.shape[-2:]), 0, None)
    return np.asarray((flat / max(float(flat.max()), 1e-30)) ** gamma, dtype=np.float32)


def _png(path: Path, array: Image, facts: dict[str, Any]) -> None:
    from PIL import Image as PilImage
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("diskern", json.dumps(facts, ensure_ascii=False))
    PilImage.fromarray(np.rint(array * 255).astype(np.uint8)).save(path, pnginfo=info)


def _tiff(path: Path, array: Image, facts: dict[str, Any]) -> None:
    import tifffile

    size = facts.get("pixel_size_per_angstrom")
    # ImageJ's own description, which also DigitalMicrograph, Fiji and `diskern info` read.
    words: dict[str, Any] = {"Info": json.dumps(facts)}
    scale: dict[str, Any] = {}
    if size is not None:
        words["unit"] = "1/\\u00C5"
        scale = {"resolution": (1 / size, 1 / size), "resolutionunit": "NONE"}
    if array.ndim == 3:
        words["axes"] = "ZYX"
    tifffile.imwrite(path, array, imagej=True, metadata=words, **scale)


def _hdf5(path: Path, array: Image, facts: dict[str, Any]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_dataset("image", data=array, compression="gzip", shuffle=True)
        for name, value in facts.items():
            plain = isinstance(value, int | float | str)
            data.attrs[name] = value if plain else json.dumps(value, ensure_ascii=False)


_WRITERS: dict[str, Callable[[Path, Image, dict[str, Any]], None]] = {
    ".png": _png,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
