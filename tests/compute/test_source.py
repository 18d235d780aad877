from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_task import cube

from diskern.compute.source import block_patterns, identity, tiles, travels
from diskern.patterns.read import read


@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 5000)
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_tiles_cover_a_scan_once_and_keep_their_size(ny: int, nx: int, patterns: int) -> None:
    found = tiles((ny, nx), patterns)
    count = np.zeros((ny, nx), int)
    for tile in found:
        count[slice(*tile.rows), slice(*tile.cols)] += 1
    assert (count == 1).all()
    assert [t.index for t in found] == list(range(len(found)))
    # Whole chunks, whatever was asked; else no more than asked.
    assert max(t.patterns for t in found) <= max(patterns, 16)
    assert all(t.rows[0] % 4 == 0 and t.cols[0] % 4 == 0 for t in found)
    assert len(found) <= 4 * -(-ny * nx // patterns) + 3 * (-(-ny // 4) + -(-nx // 4))


def test_a_tile_reads_its_patterns_in_the_order_of_its_positions() -> None:
    data = cube()
    for tile in tiles((10, 9), 16):
        np.testing.assert_array_equal(tile.read(data), data.reshape(90, 16, 16)[tile.positions(9)])


def test_blocks_shrink_with_the_detector() -> None:
    assert block_patterns((256, 256)) == 128
    assert block_patterns((4096, 4096)) == 16


def test_files_travel_and_arrays_do_not(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", cube())
    np.save(tmp_path / "row.npy", cube()[0])
    assert travels(read(tmp_path / "scan.npy").data)
    assert travels(read(tmp_path / "row.npy").data)  # a stack seen as one row
    assert not travels(cube())


def test_identity_changes_with_the_scan(tmp_path: Path) -> None:
    data = cube()
    assert identity(data) == identity(data.copy())
    changed = data.copy()
    changed[3, 4, 5, 6] += 1
    assert identity(changed) != identity(data)
    path = tmp_path / "scan.npy"
    np.save(path, data)
    first = identity(read(path).data)
    assert identity(read(path).data) == first
    np.save(path, changed[:, ::-1])
    assert identity(read(path).data) != first


@pytest.mark.parametrize("name", ["a", "b"])
def test_datasets_of_one_file_differ(tmp_path: Path, name: str) -> None:
    import h5py

    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["a"], file["b"] = cube(seed=1), cube(seed=2)
    other = {"a": "b", "b": "a"}[name]
    found = [identity(read(tmp_path / "s.h5", dataset=n).data) for n in (name, name, other)]
    assert found[0] == found[1] != found[2]
