"""Zarr folders (versions 2 and 3), and HyperSpy's ``.zspy``.

Names, attributes and types are read here, from the JSON files; the zarr package only decodes
chunks, and only with codecs that cannot run code (Zarr 2 knows one that unpickles).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.io.calibration import Stated, finish
from diskern.io.files import DAMAGE, fault, printable
from diskern.io.h5_arrays import choose
from diskern.io.hdf5 import own_attributes
from diskern.io.hspy import describe, is_hspy
from diskern.io.lazy import LazyArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_SAFE_CODECS = (
    "blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "bitshuffle", "shuffle", "delta",
    "fixedscaleoffset", "quantize", "bitround", "packbits", "crc32", "crc32c", "adler32",
    "bytes", "transpose", "sharding_indexed",
)  # fmt: skip
_TYPE = re.compile(r"[<>|]?[buif][1-8]|bool|u?int(8|16|32|64)|float(16|32|64)")
_MOST_JSON_BYTES = 16 << 20
_MOST_CHUNK_BYTES = 2 << 30
_MOST_NODES = 20_000
_MOST_DEPTH = 16


class Node:
    """A group or array of a Zarr folder, with h5py's ``attrs``, ``in``, ``[]`` and iteration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What describes the node: zarr.json, .zarray or .zgroup."""
        for name in ("zarr.json", ".zarray", ".zgroup"):
            if (self.folder / name).is_file():
                return _json(self.folder / name)
        return {}

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """User attributes."""
        beside = self.folder / ".zattrs"
        found = _json(beside) if beside.is_file() else self.meta.get("attributes", {})
        return found if isinstance(found, dict) else {}

    @property
    def is_array(self) -> bool:
        """Whether the node holds numbers rather than nodes."""
        return "shape" in self.meta

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array node."""
        return tuple(int(n) for n in self.meta["shape"])

    def keys(self) -> list[str]:
        """Names of the nodes below."""
        return [] if self.is_array else sorted(p.name for p in self._below())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: str) -> bool:
        return self._is_node(self.folder / name)

    def __getitem__(self, name: str) -> Node:
        return Node(self.folder / name)

    def _below(self) -> Iterator[Path]:
        return (p for p in self.folder.iterdir() if p.is_dir() and self._is_node(p))

    @staticmethod
    def _is_node(folder: Path) -> bool:
        return any((folder / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


class ZarrArray(LazyArray):
    """An array of a Zarr folder, opened on first use and again in every other process."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder, self.shape = folder, shape
        self._array: Any = None
        self.dtype = np.dtype(self._opened().dtype).newbyteorder("=")

    def _opened(self) -> Any:
        if self._array is None:
            try:
                import zarr
            except ImportError as error:
                mend = "pip install diskern[zarr]"
                raise fault(self.folder, "the zarr package is not installed", mend) from error
            self._array = zarr.open_array(str(self.folder), mode="r")
        return self._array

    def __getitem__(self, key: Any) -> NDArray[Any]:
        try:
            piece = self._opened()[key]
        except IndexError:
            raise
        except DAMAGE as error:
            raise fault(self.folder, f"damaged Zarr chunk ({printable(error, 120)})") from error
        return np.asarray(piece).astype(self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


def sniff(head: bytes, path: Path) -> bool:
    """Whether the folder is a Zarr group or array."""
    return path.is_dir() and Node._is_node(path)


def read_zarr(path: Path, dataset: str | None = None) -> Recording:
    """Read an array of a Zarr folder lazily; ``dataset`` is its path within."""
    root = Node(path)
    if root.is_array:
        return finish(path, _open(path, root), "Zarr", own_attributes(root.attrs))
    stated: Stated
    if is_hspy(root):
        name, stated = describe(path, root, dataset)
        return finish(path, _open(path, root[name]), "HyperSpy", stated)
    names = {name: "×".join(map(str, node.shape)) for name, node in _arrays(root)}
    name = choose(path, names, dataset, "array")
    node = root[name]
    return finish(path, _open(path, node), "Zarr", own_attributes(root.attrs, node.attrs))


def _open(path: Path, node: Node) -> ZarrArray:
    meta = node.meta
    if not node.is_array or not _TYPE.fullmatch(str(meta.get("dtype", meta.get("data_type")))):
        raise fault(path, "the Zarr array holds no plain numbers", "save integers or floats")
    unsafe = sorted(
        {c for c in _codecs(meta, 0) if c.removeprefix("numcodecs.") not in _SAFE_CODECS}
    )
    if unsafe:
        named = printable(", ".join(unsafe), 60)
        raise fault(path, f"Zarr codec {named} is not accepted", "save with blosc, zstd or gzip")
    grid = meta.get("chunk_grid", {})
    chunk = meta.get("chunks") or grid.get("configuration", {}).get("chunk_shape") or [1]
    if not 0 < math.prod(int(n) for n in chunk) * 8 <= _MOST_CHUNK_BYTES or min(node.shape) < 1:
        raise fault(path, f"impossible Zarr chunks {printable(chunk, 60)}", "save it again")
    return ZarrArray(node.folder, node.shape)


def _codecs(meta: dict[str, Any], depth: int) -> Iterator[str]:
    """Names of all codecs, those inside shards included."""
    if depth > 4:
        raise ValueError("codecs nested too deeply")
    for codec in [meta.get("compressor"), *(meta.get("filters") or [])]:
        if codec is not None:
            yield str(codec.get("id"))
    for key in ("codecs", "index_codecs"):
        for codec in meta.get(key) or []:
            yield str(codec.get("name"))
            yield from _codecs(codec.get("configuration") or {}, depth + 1)


def _arrays(root: Node) -> Iterator[tuple[str, Node]]:
    """All arrays that could be frames, breadth first."""
    queue = [("", root, 0)]
    for _ in range(_MOST_NODES):
        if not queue:
            return
        prefix, node, depth = queue.pop(0)
        for name in node if depth < _MOST_DEPTH else ():
            child = node[name]
            if not child.is_array:
                queue.append((f"{prefix}{name}/", child, depth + 1))
            elif 2 <= len(child.shape) <= 4 and min(child.shape[-2:]) >= 16:
                yield f"{prefix}{name}", child


def _json(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        found = json.loads(stream.read(_MOST_JSON_BYTES))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return found


FORMATS = (Format("Zarr", (".zarr", ".zspy"), sniff, read_zarr),)
