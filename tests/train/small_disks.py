"""The shipped recipe of a few steps, read once."""

from functools import cache
from typing import Any

from diskern.train.disks import DiskSet
from diskern.train.disks_recipe import DisksRecipe
from diskern.train.train_recipe import TrainRecipe, load_train_recipe


@cache
def smoke() -> TrainRecipe:
    return load_train_recipe("disks_smoke")


@cache
def disk_set(side: str = "train", **changes: Any) -> DiskSet:
    return DiskSet(data(**changes), side)


def data(**changes: Any) -> DisksRecipe:
    return smoke().data.model_copy(update=changes)
