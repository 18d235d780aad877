"""Datasets of HDF5 files: which there are, which is meant, and reading it safely."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.io.files import fault, printable
from diskern.io.lazy import LazyArray

_MOST_OBJECTS = 50_000
_SMALLEST_FRAME = 16
_THIRD_PARTY_FILTERS = 256  # numbers above are registered plug-ins, not part of HDF5
_MOST_LISTED = 12


class H5Array(LazyArray):
    """A dataset of an HDF5 file, opened on first use and again in every other process."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._dataset: Any = None
        self.shape = tuple(int(n) for n in self._opened().shape)
        self.dtype = np.dtype(self._opened().dtype).newbyteorder("=")

    def _opened(self) -> Any:
        if self._dataset is None:
            import h5py

            self._dataset = safe_dataset(self.path, h5py.File(self.path, "r"), self.name)
        return self._dataset

    def __getitem__(self, key: Any) -> NDArray[Any]:
        try:
            piece = self._opened()[key]
        except (OSError, RuntimeError) as error:  # h5py's for damaged chunks; not a wrong index
            raise fault(self.path, f"damaged data in HDF5 ({printable(error, 120)})") from error
        return np.asarray(piece).astype(self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}


def safe_dataset(path: Path, file: Any, name: str) -> Any:
    """The dataset ``name``, refused where it would lead to a file in another folder.

    Raises
    ------
    DiskernError
        Where there is none, where it points elsewhere, holds nothing, or is compressed by a
        plug-in that is not installed.
    """
    import h5py

    _check_links(path, file, name)
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise fault(path, f"no dataset {printable(name)!r}", _choices(list(plausible(file))))
    others = [source.file_name for source in found.virtual_sources()] if found.is_virtual else []
    others += [source[0] for source in found.external or []]
    for other in others:
        _check_neighbour(path, other)
    if found.shape is None or 0 in found.shape:
        raise fault(path, f"dataset {printable(name)!r} is empty", "choose another")
    _check_filters(path, found)
    frame = math.prod(found.shape[-2:]) * found.dtype.itemsize
    if not others and frame > 1 << 20 and found.id.get_storage_size() == 0:
        raise fault(path, f"dataset {printable(name)!r} was never written", "choose another")
    return found


def _check_links(path: Path, file: Any, name: str) -> None:
    import h5py

    here: Any = file
    for part in name.strip("/").split("/"):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            _check_neighbour(path, link.filename)
        if link is None:
            return
        here = here.get(part)


def _check_neighbour(path: Path, name: str) -> None:
    """Detectors split recordings over files in one folder; a path beyond it is not followed."""
    if name != "." and (Path(name).name != name or name == ".."):
        raise fault(
            path, f"its data lie in {printable(name, 80)!r}, in another folder", "copy them here"
        )


def _check_filters(path: Path, dataset: Any) -> None:
    import h5py

    plist = dataset.id.get_create_plist()
    codes = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    foreign = [c for c in codes if c >= _THIRD_PARTY_FILTERS and not h5py.h5z.filter_avail(c)]
    if foreign:
        try:
            import hdf5plugin  # noqa: F401  (importing registers the filters)
        except ImportError as error:
            problem = f"compressed with HDF5 filter {foreign[0]}, which is not installed"
            raise fault(path, problem, "pip install diskern[io]") from error


def plausible(file: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Paths and shapes of all datasets that could be images, stacks or scans."""
    import h5py

    found: list[tuple[str, tuple[int, ...]]] = []
    seen = 0

    def visit(name: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset) and _could_be_frames(item.shape, item.dtype):
            found.append((name, tuple(item.shape)))
        return True if seen > _MOST_OBJECTS else None

    file.visititems(visit)
    yield from found
    entry = file.get("entry/data")  # NeXus masters link to the files that hold the frames
    if not found and isinstance(entry, h5py.Group):
        for name in entry:
            if isinstance(entry.get(name, getlink=True), h5py.ExternalLink):
                yield f"entry/data/{name}", ()


def _could_be_frames(shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> bool:
    if shape is None or not 2 <= len(shape) <= 4 or dtype.kind not in "buif":
        return False
    return min(shape) > 0 and min(shape[-2:]) >= _SMALLEST_FRAME


def choose(path: Path, names: Mapping[str, str], dataset: str | None, what: str) -> str:
    """The one of ``names`` (name → description) that is meant."""
    if dataset is not None:
        wanted = dataset.strip("/")
        hits = [n for n in names if n.strip("/") == wanted or n.strip("/").endswith(f"/{wanted}")]
        if len(hits) == 1:
            return hits[0]
        raise fault(path, f"no {what} {printable(dataset, 80)!r}", _choices(list(names.items())))
    if len(names) == 1:
        return next(iter(names))
    if not names:
        raise fault(path, f"holds no {what}", "give a file with a 2- to 4-D dataset of numbers")
    raise fault(path, f"holds {len(names)} {what}s", _choices(list(names.items())))


def _choices(items: list[tuple[str, Any]]) -> str:
    if not items:
        return "it holds none that could be images"
    listed = "; ".join(
        printable(f"{name} ({times(about)})" if about else name, 120)
        for name, about in items[:_MOST_LISTED]
    )
    more = f"; and {len(items) - _MOST_LISTED} more" if len(items) > _MOST_LISTED else ""
    return f"choose by dataset: {listed}{more}"


def times(about: Any) -> str:
    """A shape as 4×4×256×256; anything else as it is."""
    return "×".join(map(str, about)) if isinstance(about, tuple) else str(about)
