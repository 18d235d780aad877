"""Arrays that stay in their file until a piece is asked for; all can be sent to another process."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from diskern.io.files import reading
from diskern.io.recording import ArrayLikeLazy


class LazyArray:
    """Shape, type and ``[...]``; subclasses say how a piece is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        raise NotImplementedError

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({' × '.join(map(str, self.shape))}, {self.dtype})"


class RawArray(LazyArray):
    """Numbers lying in a file at fixed strides, memory-mapped on first use.

    Parameters
    ----------
    path : the file.
    dtype : type in the file; what comes out has the machine's byte order.
    shape : the array's shape.
    offset : byte of element [0, 0, …].
    strides : bytes from one element to the next along each axis, C order if None; negative
        strides turn an axis round.

    Raises
    ------
    ValueError
        Where shape, offset and strides reach outside the file.
    """

    def __init__(
        self,
        path: Path,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        offset: int = 0,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        stored = np.dtype(dtype)
        if min(shape, default=0) < 1:
            raise ValueError(f"impossible shape {shape}")
        if strides is None:
            strides = tuple(math.prod(shape[i + 1 :]) * stored.itemsize for i in range(len(shape)))
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        first = offset + sum(min(0, r) for r in reach)
        last = offset + sum(max(0, r) for r in reach) + stored.itemsize
        size = path.stat().st_size
        if first < 0 or last > size:
            raise ValueError(f"{last} bytes of data announced, {size} there")
        self.path, self.shape, self.dtype = path, shape, stored.newbyteorder("=")
        self._stored, self._offset, self._strides = stored, offset, strides
        self._view: NDArray[Any] | None = None

    def _mapped(self) -> NDArray[Any]:
        if self._view is None:
            with self.path.open("rb") as stream:
                memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._view = np.ndarray(
                self.shape, self._stored, buffer=memory, offset=self._offset, strides=self._strides
            )
        return self._view

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._mapped()[key]).astype(self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_view": None}


class FrameStack(LazyArray):
    """Frames that have to be decoded one by one.

    Parameters
    ----------
    path : the file, for errors.
    scan_shape : (N,) or (scan_y, scan_x).
    frame_shape : (Q_y, Q_x).
    dtype : of a decoded frame.
    load : gives the (Q_y, Q_x) frame with a number counted in scan order; picklable.
    """

    def __init__(
        self,
        path: Path,
        scan_shape: tuple[int, ...],
        frame_shape: tuple[int, int],
        dtype: DTypeLike,
        load: Callable[[int], NDArray[Any]],
    ) -> None:
        self.shape = (*scan_shape, *frame_shape)
        self.dtype = np.dtype(dtype)
        self.path = path
        self._scan, self._frame, self._load = scan_shape, frame_shape, load

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = _full_key(key, self.ndim)
        nav = len(self._scan)
        wanted = np.arange(math.prod(self._scan)).reshape(self._scan)[key[:nav]]
        frames = np.empty((wanted.size, *self._frame), self.dtype)
        for i, number in enumerate(np.ravel(wanted)):
            with reading(self.path, "frame"):
                frames[i] = self._load(int(number))
        frames = frames.reshape(*np.shape(wanted), *self._frame)
        return np.asarray(frames[(slice(None),) * np.ndim(wanted) + key[nav:]])


class Permuted(LazyArray):
    """Another lazy array with its axes in a new order (as `numpy.transpose`)."""

    def __init__(self, base: ArrayLikeLazy, order: tuple[int, ...]) -> None:
        self._base, self._order = base, order
        self.shape = tuple(base.shape[i] for i in order)
        self.dtype = base.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = _full_key(key, self.ndim)
        original = [key[self._order.index(i)] for i in range(self.ndim)]
        piece = np.asarray(self._base[tuple(original)])
        kept = [i for i in range(self.ndim) if not isinstance(original[i], int | np.integer)]
        return piece.transpose([kept.index(i) for i in self._order if i in kept])


class Reshaped(LazyArray):
    """A stack (N, Q_y, Q_x) seen as a scan (scan_y, scan_x, Q_y, Q_x), still lazy."""

    def __init__(self, stack: ArrayLikeLazy, scan_shape: tuple[int, int]) -> None:
        if math.prod(scan_shape) != stack.shape[0]:
            raise ValueError(f"{stack.shape[0]} frames do not make a scan of {scan_shape}")
        self._stack, self._scan = stack, scan_shape
        self.shape = (*scan_shape, *stack.shape[1:])
        self.dtype = stack.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = _full_key(key, self.ndim)
        wanted = np.arange(math.prod(self._scan)).reshape(self._scan)[key[:2]]
        flat = np.ravel(wanted)
        if flat.size and np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
            block = np.asarray(self._stack[int(flat[0]) : int(flat[0]) + flat.size])
        else:
            block = np.empty((flat.size, *self.shape[2:]), self.dtype)
            for i, number in enumerate(flat):
                block[i] = self._stack[int(number)]
        block = block.reshape(*np.shape(wanted), *self.shape[2:])
        return np.asarray(block[(slice(None),) * np.ndim(wanted) + key[2:]])


def _full_key(key: Any, ndim: int) -> tuple[Any, ...]:
    """``key`` with an entry for every axis."""
    entries = key if isinstance(key, tuple) else (key,)
    if any(entry is None for entry in entries):
        raise IndexError("new axes are not supported; index first, then add them")
    where = next((i for i, entry in enumerate(entries) if entry is Ellipsis), None)
    if where is not None:
        missing = ndim - len(entries) + 1
        entries = (*entries[:where], *(slice(None),) * missing, *entries[where + 1 :])
    if len(entries) > ndim:
        raise IndexError(f"{len(entries)} indices for an array of {ndim} axes")
    return (*entries, *(slice(None),) * (ndim - len(entries)))
