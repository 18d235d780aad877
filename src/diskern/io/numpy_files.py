"""NumPy ``.npy`` (memory-mapped) and ``.npz``; nothing is ever unpickled."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from diskern.io.calibration import Stated, finish
from diskern.io.files import bomb, fault, printable, refuse_dataset
from diskern.io.h5_arrays import choose
from diskern.io.hdf5 import own_attributes
from diskern.io.lazy import RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_SIGNATURE = b"\x93NUMPY"
_MOST_ARRAY_BYTES = 8 << 30
_KNOWN = ("pixel_size", "energy", "camera_length", "centre", "scan_step")


def _is_npy(head: bytes, path: Path) -> bool:
    return head.startswith(_SIGNATURE)


def _is_npz(head: bytes, path: Path) -> bool:
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head.startswith(b"PK\x03\x04") and name.endswith(b".npy")


def _read_header(path: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether columns come first, type) of the array that follows in ``stream``."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise fault(path, "holds Python objects, which are never unpickled", "save plain numbers")
    return shape, fortran, dtype


def read_npy(path: Path, dataset: str | None = None) -> Recording:
    """Read one array, memory-mapped."""
    refuse_dataset(path, dataset, "a .npy file")
    with path.open("rb") as stream:
        shape, fortran, dtype = _read_header(path, stream)
        offset = stream.tell()
    if dtype.kind not in "buif":
        raise fault(path, f"holds {printable(dtype, 40)}, not intensities", "save real numbers")
    strides = None
    if fortran:
        strides = tuple(math.prod(shape[:i]) * dtype.itemsize for i in range(len(shape)))
    return finish(path, RawArray(path, dtype, shape, offset, strides), "NumPy", Stated())


def read_npz(path: Path, dataset: str | None = None) -> Recording:
    """Read one array of an archive; scalars named as the fields of `Recording` calibrate it."""
    with zipfile.ZipFile(path) as archive:
        headers = {}
        for member in archive.infolist()[:10_000]:
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    headers[member.filename[:-4]] = (_read_header(path, stream), member)
        frames = {
            name: "×".join(map(str, shape))
            for name, ((shape, _, dtype), _) in headers.items()
            if 2 <= len(shape) <= 4 and dtype.kind in "buif" and min(shape[-2:]) >= 16
        }
        name = choose(path, frames, dataset, "array")
        (shape, _, dtype), member = headers[name]
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > _MOST_ARRAY_BYTES or bomb(claimed, member.compress_size):
            mend = "save it as .npy, which is not read into memory"
            raise fault(path, f"array of {claimed} bytes from {member.compress_size}", mend)
        if claimed > member.file_size:
            raise ValueError(f"{claimed} bytes announced, {member.file_size} there")
        with archive.open(member) as stream:
            data = npy.read_array(stream, allow_pickle=False)
        said: dict[str, Any] = {}
        for key in _KNOWN:
            if key in headers and math.prod(headers[key][0][0]) <= 4:
                with archive.open(headers[key][1]) as stream:
                    value = npy.read_array(stream, allow_pickle=False)
                said[key] = value.item() if value.size == 1 else value
    return finish(path, data, "NumPy archive", own_attributes(said))


FORMATS = (
    Format("NumPy", (".npy",), _is_npy, read_npy),
    Format("NumPy archive", (".npz",), _is_npz, read_npz),
)
