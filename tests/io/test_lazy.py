"""Lazy arrays index as numpy does and stay inside their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diskern.io.lazy import FrameStack, Permuted, RawArray, Reshaped

CUBE = np.arange(3 * 4 * 5 * 6, dtype=">u2").reshape(3, 4, 5, 6)
KEYS = hnp.basic_indices(CUBE.shape, allow_newaxis=False)


@pytest.fixture(scope="module")
def lazies(tmp_path_factory: pytest.TempPathFactory) -> list:
    path = tmp_path_factory.mktemp("lazy") / "cube.bin"
    path.write_bytes(b"head" + CUBE.tobytes())
    raw = RawArray(path, ">u2", CUBE.shape, 4)
    flat = RawArray(path, ">u2", (12, 5, 6), 4)
    turned = RawArray(path, ">u2", (5, 6, 3, 4), 4, (12, 2, 240, 60))
    return [
        raw,
        Reshaped(flat, (3, 4)),
        Permuted(turned, (2, 3, 0, 1)),
        FrameStack(path, (3, 4), (5, 6), "u2", CUBE.reshape(12, 5, 6).__getitem__),
    ]


@settings(max_examples=80, deadline=None)
@given(key=KEYS)
def test_indexing_is_numpys(lazies: list, key: object) -> None:
    expected = CUBE[key]
    for lazy in lazies:
        piece = lazy[key]
        assert np.asarray(piece).dtype == np.dtype("u2")  # the machine's byte order
        np.testing.assert_array_equal(piece, expected)


@given(index=st.integers(3, 1000))
def test_outside_is_an_index_error(lazies: list, index: int) -> None:
    for lazy in lazies:
        with pytest.raises(IndexError):
            lazy[index]
        with pytest.raises(IndexError):
            lazy[-index - 1]


def test_whole_array_and_length(lazies: list) -> None:
    for lazy in lazies:
        np.testing.assert_array_equal(lazy, CUBE)
        assert len(lazy) == 3
        assert lazy.ndim == 4
        assert "3 × 4 × 5 × 6" in repr(lazy)


@pytest.mark.parametrize(
    ("shape", "offset", "strides"),
    [((361,), 4, None), ((360,), 5, None), ((0,), 0, None), ((-3, 4), 0, None),
     ((2,), 0, (-2,)), ((1 << 40, 1 << 40), 0, None), ((2,), -4, None), ((2, 2), 0, (1 << 62, 2))],
)  # fmt: skip
def test_reaching_outside_the_file_is_refused(
    tmp_path: Path, shape: tuple[int, ...], offset: int, strides: tuple[int, ...] | None
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"head" + CUBE.tobytes())
    with pytest.raises(ValueError, match=r"announced|impossible shape"):
        RawArray(path, ">u2", shape, offset, strides)
