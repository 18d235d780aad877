"""The few places where numpy and torch spell the same thing differently.

Kernels of this room are written once and run on either library: numpy in, numpy out; torch
in, torch out with its device, dtype and autograd.  Torch is never imported for numpy input.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def is_torch(array: Any) -> bool:
    """Whether ``array`` is a torch tensor, without importing torch to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def namespace(*arrays: Any) -> Any:
    """The module (numpy or torch) that computes with these arrays."""
    return sys.modules["torch"] if any(is_torch(a) for a in arrays) else np


def like(array: Any, reference: Any, dtype: Any = None) -> Any:
    """``array`` as a tensor of the library, device and (real) dtype of ``reference``."""
    if is_torch(reference):
        torch = sys.modules["torch"]
        real = reference.real.dtype if reference.is_complex() else reference.dtype
        return torch.as_tensor(array, dtype=real if dtype is None else dtype).to(reference.device)
    return np.asarray(array, dtype=np.asarray(reference).real.dtype if dtype is None else dtype)


def index_like(array: Any, reference: Any) -> Any:
    """``array`` of whole numbers as an int64 index array beside ``reference``."""
    if is_torch(reference):
        torch = sys.modules["torch"]
        return torch.as_tensor(array, dtype=torch.int64).to(reference.device)
    return np.asarray(array, dtype=np.int64)


def zeros(shape: tuple[int, ...], reference: Any, dtype: Any = None) -> Any:
    """A new array of zeros with the library, device and dtype of ``reference``."""
    if is_torch(reference):
        return reference.new_zeros(shape, dtype=dtype)
    return np.zeros(shape, dtype=reference.dtype if dtype is None else dtype)


def to_numpy(array: Any) -> Any:
    """A numpy copy or view of ``array``, detached where it is a tensor."""
    return array.detach().cpu().numpy() if is_torch(array) else np.asarray(array)


def places(mask: Any) -> Any:
    """(M,) flat places of the true entries of a mask, in order."""
    if is_torch(mask):
        return mask.reshape(-1).nonzero()[:, 0]
    return np.flatnonzero(mask)


def rows_at(array: Any, index: Any) -> Any:
    """(..., K) rows of a (P, K) array at an index array of shape (...)."""
    # numpy takes whole rows several times quicker than it indexes.
    return array[index] if is_torch(array) else array.take(index, axis=0)


def erf(x: Any) -> Any:
    """The error function."""
    if is_torch(x):
        return sys.modules["torch"].erf(x)
    from scipy.special import erf as scipy_erf

    return scipy_erf(x)


def scatter_sum(size: int, index: Any, values: Any) -> Any:
    """(size,) sums of ``values`` (M,) over the places ``index`` (M,), repeats included."""
    if is_torch(values):
        return values.new_zeros(size).index_add(0, index, values)
    # bincount sums in float64 and is several times quicker than numpy.add.at.
    return np.bincount(index, weights=values, minlength=size).astype(values.dtype)


def scatter_max(size: int, index: Any, values: Any) -> Any:
    """(size,) largest of the non-negative ``values`` (M,) at each place, 0 where there is none.

    Parameters
    ----------
    index : (M,) places, ascending.
    """
    if is_torch(values):
        return values.new_zeros(size).scatter_reduce(0, index, values, "amax")
    out = np.zeros(size, dtype=values.dtype)
    first = np.flatnonzero(np.diff(index, prepend=-1))
    if len(first):
        out[index[first]] = np.maximum.reduceat(values, first)
    return out
