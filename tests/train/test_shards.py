"""Shards: the same bytes whoever writes them, whenever they were stopped; nothing broken passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_sets import KINDS, small_set

from diskern.compute.files import file_hash
from diskern.errors import DiskernError
from diskern.train.recipe import ShardTable
from diskern.train.shards import (
    CHUNK,
    ShardedSet,
    read_manifest,
    shard_list,
    verify_shards,
    write_shards,
)


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: file_hash(p) for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", KINDS)
def test_written_and_read_back(kind: str, tmp_path: Path) -> None:
    made = small_set(kind)
    paths = write_shards(made, tmp_path)
    assert verify_shards(tmp_path) == len(paths) == len(shard_list(made))
    read = ShardedSet(tmp_path)
    assert (len(read), read.blocks, read.fields) == (len(made), made.blocks, dict(made.fields))
    assert read.recipe == made.recipe
    for number in (0, made.blocks // 2, made.blocks - 1):
        mine, theirs = made.block(number), read.block(number)
        for name in made.fields:
            np.testing.assert_array_equal(mine[name], theirs[name])


class KilledError(Exception):
    pass


class _Stops:
    """A set whose writer is killed after some blocks."""

    def __init__(self, dataset: Any, after: int) -> None:
        self._dataset, self._left = dataset, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def block(self, number: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise KilledError
        return self._dataset.block(number)


@pytest.mark.parametrize("after", [0, 3, 11, 20])
def test_killed_and_resumed_writing_gives_identical_bytes(after: int, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    made = small_set("spots")
    write_shards(made, whole)
    with pytest.raises(KilledError):
        write_shards(_Stops(made, after), torn)  # type: ignore[arg-type]
    assert not list(torn.glob("*.part"))
    write_shards(made, torn)
    assert hashes(torn) == hashes(whole)


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made = small_set("saed")
    write_shards(made, whole)
    for i in (3, 1, 2):
        write_shards(made, parts, part=(i, 3))
    assert hashes(parts) == hashes(whole)
    verify_shards(parts)


def test_a_second_call_computes_nothing(tmp_path: Path) -> None:
    made = small_set("saed")
    write_shards(made, tmp_path)
    before = hashes(tmp_path)
    write_shards(_Stops(made, 0), tmp_path)  # type: ignore[arg-type]
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_is_found_and_mended(damage: str, tmp_path: Path) -> None:
    made = small_set("saed")
    path = write_shards(made, tmp_path)[1]
    before = hashes(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(data if damage != "cut" else data[:-100])
    if damage == "delete":
        path.unlink()
    with pytest.raises(DiskernError, match=r"1 of \d+ shards"):
        verify_shards(tmp_path)
    write_shards(made, tmp_path)
    verify_shards(tmp_path)
    assert hashes(tmp_path) == before


def test_another_set_in_the_folder_is_refused(tmp_path: Path) -> None:
    write_shards(small_set("saed"), tmp_path)
    with pytest.raises(DiskernError, match="another set"):
        write_shards(small_set("spots"), tmp_path)


@pytest.mark.parametrize("part", [(0, 2), (3, 2), (1, 0)])
def test_impossible_parts(part: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(DiskernError, match="give i/n"):
        write_shards(small_set("saed"), tmp_path, part=part)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_broken_manifests(text: str, tmp_path: Path) -> None:
    (tmp_path / "train-manifest.json").write_text(text)
    with pytest.raises(DiskernError, match="manifest"):
        read_manifest(tmp_path)
    with pytest.raises(DiskernError, match="cannot be read"):
        read_manifest(tmp_path / "nowhere")


def test_shards_describe_themselves(tmp_path: Path) -> None:
    made = small_set("saed", shards=ShardTable(samples=32))
    path = write_shards(made, tmp_path)[0]
    with h5py.File(path) as file:
        assert file["image"].chunks[0] == CHUNK
        assert file["image"].attrs["meaning"]
        assert file.attrs["configuration"] == made.recipe.configuration
        assert {"crystal", "zone", "thickness", "energy", "seed"} <= set(file)
    known = read_manifest(tmp_path)
    assert len(known["crystals"]) == len(made.materials)
    assert known["vocabulary"]["label"][0] == "A1-0"
