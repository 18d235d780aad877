"""Simulated scans to files, a block at a time: a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from diskern._version import __version__
from diskern.errors import DiskernError
from diskern.patterns.pattern import Scan
from diskern.simulate.scan import SimulatedScan

_CHUNK = 4


def write_scan(
    scan: Scan,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a simulated scan with its calibration and its truth.

    Parameters
    ----------
    path : ends in .h5/.hdf5 (chunks (4, 4, Q_y, Q_x), bitshuffle-LZ4 where hdf5plugin is
        installed, else gzip) or .zarr (the package zarr).
    progress : called with (rows of blocks done, all rows of blocks).

    Notes
    -----
    Idempotent: a file of the same configuration is completed, a complete one left alone.

    Raises
    ------
    DiskernError
        For a scan that was not simulated here, an unknown ending, a file that holds something
        else, or a path that cannot be written.
    """
    target = Path(path)
    if not isinstance(scan.data, SimulatedScan):
        raise DiskernError("only simulated scans carry their truth; this scan was read from a file")
    stores: dict[str, type[_Store]] = {
        ".h5": _Hdf5Store,
        ".hdf5": _Hdf5Store,
        ".zarr": _ZarrStore,
    }
    opener = stores.get(target.suffix.lower())
    if opener is None:
        raise DiskernError(f"{target.name} has no known ending; use .h5 or .zarr")
    try:
        with opener(target, scan) as store:
            for done, total in _fill(store, scan.data):
                if progress is not None:
                    progress(done, total)
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error
    return target


class _Store(Protocol):
    """A file that takes blocks and remembers which rows of them are finished."""

    def __init__(self, path: Path, scan: Scan) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def is_done(self, row: int) -> bool: ...
    def put(self, rows: slice, cols: slice, block: NDArray[np.float32]) -> None: ...
    def finish(self, row: int) -> None: ...


def _fill(store: _Store, data: SimulatedScan) -> Iterator[tuple[int, int]]:
    rows = -(-data.shape[0] // _CHUNK)
    for row in range(rows):
        if not store.is_done(row):
            window = slice(row * _CHUNK, min((row + 1) * _CHUNK, data.shape[0]))
            for left in range(0, data.shape[1], _CHUNK):
                cols = slice(left, min(left + _CHUNK, data.shape[1]))
                store.put(window, cols, data[window, cols])
            store.finish(row)
        yield row + 1, rows


def _attributes(scan: Scan) -> dict[str, Any]:
    data: SimulatedScan = scan.data
    instrument = [] if data.instrument is None else data.instrument.log()
    return {
        "pixel_size": scan.pixel_size,
        "energy": scan.energy,
        "scan_step": list(scan.scan_step or (1.0, 1.0)),
        "centre": list(scan.centre or (0.0, 0.0)),
        "semiangle": data.probe.semiangle,
        "method": data.options.method,
        "instrument": json.dumps(instrument),
        "crystals": json.dumps([repr(c) for c in data.specimen.crystals]),
        "configuration": data.configuration,
        "program": f"diskern {__version__}",
    }


def _mismatch(path: Path) -> DiskernError:
    return DiskernError(
        f"{path} holds another scan or something else; remove it or give another name"
    )


class _Hdf5Store:
    """Dataset ``scan``, the truth as a table ``truth``, the finished rows in ``done``."""

    def __init__(self, path: Path, scan: Scan) -> None:
        self._path, self._scan = path, scan

    def __enter__(self) -> Self:
        import h5py

        configuration = self._scan.data.configuration
        if self._path.exists():
            self._file = h5py.File(self._path, "r+")
            if self._file.attrs.get("configuration") != configuration or "done" not in self._file:
                self._file.close()
                raise _mismatch(self._path)
            return self
        self._file = h5py.File(self._path, "w")
        data: SimulatedScan = self._scan.data
        chunks = tuple(min(_CHUNK, n) for n in data.shape[:2]) + data.shape[2:]
        self._file.create_dataset(
            "scan", data.shape, data.dtype, chunks=chunks, **_compression(data.dtype)
        )
        self._file.create_dataset("truth", data=data.specimen.table())
        self._file.create_dataset("centres", data=data.centres().reshape(-1))
        self._file.create_dataset("done", data=np.zeros(-(-data.shape[0] // _CHUNK), np.uint8))
        # Last: a file without it was cut off before it was ready.
        self._file.attrs.update(_attributes(self._scan))
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def is_done(self, row: int) -> bool:
        return bool(self._file["done"][row])

    def put(self, rows: slice, cols: slice, block: NDArray[np.float32]) -> None:
        self._file["scan"][rows, cols] = block

    def finish(self, row: int) -> None:
        self._file["done"][row] = 1
        self._file.flush()


class _ZarrStore:
    """The same names in a Zarr group; the truth is one flat array per field."""

    def __init__(self, path: Path, scan: Scan) -> None:
        self._path, self._scan = path, scan

    def __enter__(self) -> Self:
        try:
            import zarr
        except ImportError as error:
            raise DiskernError("writing .zarr needs the package zarr; or write .h5") from error
        data: SimulatedScan = self._scan.data
        if self._path.exists():
            try:
                self._group = zarr.open_group(str(self._path), mode="r+")
            except (FileNotFoundError, ValueError) as error:
                raise _mismatch(self._path) from error
            if self._group.attrs.get("configuration") != data.configuration:
                raise _mismatch(self._path)
            return self
        self._group = zarr.open_group(str(self._path), mode="w")
        chunks = tuple(min(_CHUNK, n) for n in data.shape[:2]) + data.shape[2:]
        self._array("scan", data.shape, chunks, data.dtype)
        table = data.specimen.table()
        for name in table.dtype.names or ():
            flat = np.ascontiguousarray(table[name]).reshape(-1)
            self._array(f"truth_{name}", flat.shape, flat.shape, flat.dtype)[:] = flat
        rows = -(-data.shape[0] // _CHUNK)
        self._array("done", (rows,), (rows,), np.dtype(np.uint8))[:] = np.zeros(rows, np.uint8)
        self._group.attrs.update(_attributes(self._scan))
        return self

    def _array(
        self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Any:
        create = getattr(self._group, "create_array", None) or self._group.create_dataset
        return create(name, shape=shape, chunks=chunks, dtype=dtype)

    def __exit__(self, *_: object) -> None:
        return None

    def is_done(self, row: int) -> bool:
        return bool(self._group["done"][row])

    def put(self, rows: slice, cols: slice, block: NDArray[np.float32]) -> None:
        self._group["scan"][rows, cols] = block

    def finish(self, row: int) -> None:
        self._group["done"][row] = 1


def _compression(dtype: np.dtype[Any]) -> dict[str, Any]:
    try:
        import hdf5plugin
    except ImportError:
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    return dict(hdf5plugin.Bitshuffle(cname="lz4"))
