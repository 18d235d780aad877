"""Training sets on disk: HDF5 shards that any process can write, resume and verify.

A shard holds whole blocks.  It is written beside its place and moved there when complete, so
what stands under its name is always whole; the same recipe gives the same bytes whoever writes
it and however often the writer was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from diskern._version import __version__
from diskern.compute.files import file_hash, whole_file, write_text
from diskern.errors import DiskernError
from diskern.train.recipe import AnyRecipe, parse_recipe
from diskern.train.samples import Block, Field, TrainingSet
from diskern.train.split import Side

CHUNK = 16
"""Samples in one HDF5 chunk."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """A file of the set.

    Attributes
    ----------
    blocks : first and one past the last block.
    """

    index: int
    name: str
    blocks: tuple[int, int]


def shard_list(dataset: TrainingSet) -> tuple[Shard, ...]:
    """The shards of a set, each of about ``shards.samples`` samples."""
    each = max(1, dataset.recipe.shards.samples // dataset.block_size)
    starts = range(0, dataset.blocks, each)
    return tuple(
        Shard(i, f"{dataset.side}-{i:05d}.h5", (a, min(a + each, dataset.blocks)))
        for i, a in enumerate(starts)
    )


def write_shards(
    dataset: TrainingSet,
    folder: str | os.PathLike[str],
    *,
    part: tuple[int, int] = (1, 1),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Write a set, or every n-th shard of it, to a folder.

    Shards that are there already and whole are left alone, so a call that was cut off is
    repeated as it was; calls with different parts may run at the same time.

    Parameters
    ----------
    part : (i, n) with i from 1 to n: this call writes shards i, i + n, i + 2n, …
    progress : called with (shards done, shards of this part).

    Returns
    -------
    The shards of this part.

    Raises
    ------
    DiskernError
        For an impossible part, a folder that holds another set, or one that cannot be written.
    """
    i, n = part
    if not 1 <= i <= n:
        raise DiskernError(f"shard {i}/{n}: give i/n with i from 1 to n, e.g. 1/4")
    target = Path(folder)
    mine = shard_list(dataset)[i - 1 :: n]
    try:
        target.mkdir(parents=True, exist_ok=True)
        _write_manifest(dataset, target)
        for done, shard in enumerate(mine):
            if progress is not None:
                progress(done, len(mine))
            if not _is_whole(target / shard.name):
                _write_shard(dataset, shard, target)
        if progress is not None:
            progress(len(mine), len(mine))
    except OSError as error:
        raise DiskernError(f"cannot write {target}: {error.strerror or error}") from error
    return tuple(target / s.name for s in mine)


def _write_shard(dataset: TrainingSet, shard: Shard, folder: Path) -> None:
    path = folder / shard.name
    first, last = shard.blocks
    samples = (last - first) * dataset.block_size
    with whole_file(path) as draft:
        with h5py.File(draft, "w", libver=("v110", "v110")) as file:
            file.attrs.update(_attributes(dataset, shard))
            for name, field in dataset.fields.items():
                _create(file, name, field, samples)
            _fill(file, dataset, range(first, last))
        digest = file_hash(draft)
    write_text(_receipt(path), f"{digest}  {path.name}\n")


def _create(file: h5py.File, name: str, field: Field, samples: int) -> None:
    data = file.create_dataset(
        name,
        (samples, *field.shape),
        field.dtype,
        chunks=(min(CHUNK, samples), *field.shape),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
        track_times=False,
    )
    data.attrs["meaning"] = field.meaning
    data.attrs["unit"] = field.unit


def _fill(file: h5py.File, dataset: TrainingSet, blocks: range) -> None:
    """Write blocks through a buffer of whole chunks, so that each is compressed once."""
    pending: list[Block] = []
    written = 0
    for place, number in enumerate(blocks):
        pending.append(dataset.block(number))
        waiting = sum(len(b["seed"]) for b in pending)
        if waiting < CHUNK and place + 1 < len(blocks):
            continue
        joined = {name: np.concatenate([b[name] for b in pending]) for name in dataset.fields}
        whole = waiting if place + 1 == len(blocks) else waiting - waiting % CHUNK
        for name, array in joined.items():
            file[name][written : written + whole] = array[:whole]
        pending = [{name: array[whole:] for name, array in joined.items()}]
        written += whole


def _attributes(dataset: TrainingSet, shard: Shard) -> dict[str, Any]:
    return {
        "program": f"diskern {__version__}",
        "recipe": dataset.recipe.model_dump_json(),
        "configuration": dataset.recipe.configuration,
        "side": dataset.side,
        "shard": shard.index,
        "blocks": list(shard.blocks),
    }


# --- the manifest: what all shards share ------------------------------------------------------
def _write_manifest(dataset: TrainingSet, folder: Path) -> None:
    path = folder / f"{dataset.side}-{MANIFEST}"
    text = json.dumps(manifest(dataset), indent=1, ensure_ascii=False) + "\n"
    if path.exists():
        known = read_manifest(folder, dataset.side).get("configuration")
        if known != dataset.recipe.configuration:
            raise DiskernError(
                f"{folder} holds another set ({known}); give an empty folder for this one"
            )
        return
    write_text(path, text)


def manifest(dataset: TrainingSet) -> dict[str, Any]:
    """Recipe, fields, classes, crystals and shards of a set, ready for JSON."""
    return {
        "program": f"diskern {__version__}",
        "configuration": dataset.recipe.configuration,
        "recipe": dataset.recipe.model_dump(mode="json"),
        "side": dataset.side,
        "samples": len(dataset),
        "block_size": dataset.block_size,
        "fields": {name: asdict(field) for name, field in dataset.fields.items()},
        "vocabulary": {name: list(words) for name, words in dataset.vocabulary.items()},
        "crystals": [
            {
                "key": m.key,
                "name": m.name,
                "formula": m.formula,
                "space_group": m.space_group,
                "prototype": m.prototype,
                "origin": m.origin,
            }
            for m in dataset.materials
        ],
        "shards": [asdict(s) for s in shard_list(dataset)],
    }


def read_manifest(folder: str | os.PathLike[str], side: Side = "train") -> dict[str, Any]:
    """The manifest of one side of a set on disk.

    Raises
    ------
    DiskernError
        Where there is none, or it is broken.
    """
    path = Path(folder) / f"{side}-{MANIFEST}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DiskernError(f"{path} cannot be read; write the set with diskern dataset") from error
    except ValueError as error:
        raise DiskernError(f"{path} is no manifest ({error})") from error
    if not isinstance(found, dict) or "shards" not in found:
        raise DiskernError(f"{path} is no manifest of a training set")
    return found


# --- verifying ----------------------------------------------------------------------------------
def _receipt(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Whether a shard is there with the bytes its receipt states."""
    try:
        stated = _receipt(path).read_text(encoding="utf-8").split()
        return bool(stated) and stated[0] == file_hash(path)
    except OSError:
        return False


def verify_shards(folder: str | os.PathLike[str], side: Side = "train") -> int:
    """Compare every shard with its hash; the number of shards.

    Raises
    ------
    DiskernError
        Naming the shards that are missing or broken.
    """
    target = Path(folder)
    names = [s["name"] for s in read_manifest(target, side)["shards"]]
    wrong = [name for name in names if not _is_whole(target / name)]
    if wrong:
        raise DiskernError(
            f"{target}: {len(wrong)} of {len(names)} shards are missing or broken ({wrong[0]} …); "
            "run diskern dataset again, it writes what is not whole"
        )
    return len(names)


# --- reading ------------------------------------------------------------------------------------
class ShardedSet:
    """A set on disk, read a block at a time in the manner of `TrainingSet`.

    Parameters
    ----------
    folder : where `write_shards` wrote.

    Attributes
    ----------
    recipe, side : as written.
    """

    def __init__(self, folder: str | os.PathLike[str], side: Side = "train") -> None:
        self.folder, self.side = Path(folder), side
        self._manifest = read_manifest(self.folder, side)
        self.recipe: AnyRecipe = parse_recipe(self._manifest["recipe"], f"{side}-{MANIFEST}")
        self._open: tuple[int, h5py.File] | None = None

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """The arrays of a sample, by name."""
        return {
            name: Field(tuple(f["shape"]), f["dtype"], f["meaning"], f["unit"])
            for name, f in self._manifest["fields"].items()
        }

    @property
    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the classes of each field that holds class numbers."""
        return {name: tuple(words) for name, words in self._manifest["vocabulary"].items()}

    @property
    def crystals(self) -> tuple[dict[str, Any], ...]:
        """What the manifest says of each crystal."""
        return tuple(self._manifest["crystals"])

    @property
    def block_size(self) -> int:
        """Samples in a block."""
        return int(self._manifest["block_size"])

    @property
    def blocks(self) -> int:
        """Blocks in the set."""
        return int(self._manifest["shards"][-1]["blocks"][1])

    def __len__(self) -> int:
        return int(self._manifest["samples"])

    def block(self, number: int) -> Block:
        """The samples of a block; numbers beyond the set begin again at its start."""
        number %= self.blocks
        each = self._manifest["shards"][0]["blocks"][1]
        file = self._file(number // each)
        start = (number % each) * self.block_size
        window = slice(start, start + self.block_size)
        return {name: file[name][window] for name in self.fields}

    def __iter__(self) -> Iterator[Block]:
        return (self.block(i) for i in range(self.blocks))

    def _file(self, shard: int) -> h5py.File:
        """The open file of a shard; one at a time, opened anew in each process."""
        key = hash((os.getpid(), shard))
        if self._open is None or self._open[0] != key:
            if self._open is not None:
                self._open[1].close()
            path = self.folder / self._manifest["shards"][shard]["name"]
            try:
                self._open = key, h5py.File(path, "r")
            except OSError as error:
                raise DiskernError(
                    f"{path} is missing or broken; run diskern dataset again"
                ) from error
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}
