"""Recipes for training: data, network, optimiser and checkpoints, in one checked TOML file."""

from __future__ import annotations

import tomllib
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast

from pydantic import Field, ValidationError, model_validator

from diskern.errors import DiskernError
from diskern.train.disks_recipe import DisksRecipe
from diskern.train.recipe import Count, Share, Table
from diskern.train.schedules import Optimiser, OptimiserTable

_SHIPPED = files("diskern.train") / "recipes" / "nets"


class StartTable(Table):
    """What a network is trained from."""

    start: str = ""
    """Weights to go on from: a file with its card, relative to the folder of the call, or a
    shipped network by name; an empty word starts from random weights."""


class NetTable(StartTable):
    """Which network; ``width`` means channels of its finest level."""

    architecture: Literal["proposer", "fourier"] = "proposer"
    width: Annotated[int, Field(ge=4, le=128, multiple_of=4)] = 16


class CheckpointTable(Table):
    """When to save and to look at the validation side, and with which patterns to begin."""

    seen: Annotated[int, Field(ge=0)] = 0
    """Steps' worth of patterns to pass over: those that the weights to start from have seen."""
    every: Count = 500
    """Steps."""
    keep: Count = 2
    validation_blocks: Annotated[int, Field(ge=0)] = 24
    card_blocks: Count = 100
    """Blocks of either held-out side that the card's constants and metrics come from."""


Precision = Literal["float32", "bfloat16"]
"""Of convolutions in training; weights, normalisation and loss stay in float32."""


class TrainingRecipe(Protocol):
    """What recipes of all kinds of training share; each kind is a `Table` of its own."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def workers(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def optimiser(self) -> Optimiser: ...
    @property
    def checkpoint(self) -> CheckpointTable: ...
    def model_dump(self, *, mode: str = ...) -> dict[str, Any]: ...
    def model_dump_json(self) -> str: ...


class TrainingTable(Table):
    """What recipes of all kinds of training begin with."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of a process; 0 leaves it to torch."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes beside each training process that make its samples."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?|mps)$")] = "cpu"


class TrainRecipe(TrainingTable):
    """One training of a disk finder, from seed to weights."""

    kind: Literal["train"]
    precision: Precision = "float32"
    offset_weight: Share = 0.5
    w_weight: Share = 0.4
    q_weight: Share = 0.3
    data: DisksRecipe
    net: NetTable = NetTable()
    optimiser: OptimiserTable
    checkpoint: CheckpointTable = CheckpointTable()

    @model_validator(mode="after")
    def _whole_blocks(self) -> TrainRecipe:
        batch, block = self.optimiser.batch, self.data.per_block
        if batch % block:
            raise ValueError(
                f"optimiser.batch={batch} must be a multiple of data.per_block={block}"
            )
        return self


_KINDS = {
    "train": ("diskern.train.train_recipe", "TrainRecipe"),
    "train-spot-set": ("diskern.train.spot_sets_recipe", "SpotSetTrainRecipe"),
    "train-excitation": ("diskern.train.excitation_recipe", "ExcitationTrainRecipe"),
    "train-probe-radius": ("diskern.train.probe_radius_recipe", "ProbeRadiusTrainRecipe"),
    "train-saed": ("diskern.train.saed_recipe", "SaedTrainRecipe"),
}
"""Where the recipe of each kind of training lives."""


def parse_train_recipe(values: dict[str, Any], origin: str = "recipe") -> TrainingRecipe:
    """Check the values of a recipe.

    Returns
    -------
    The recipe of its kind, a `TrainRecipe` for disk finders.

    Raises
    ------
    DiskernError
        Naming the first word or value that is wrong.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise DiskernError(f"{origin}: kind={kind!r} is unknown; use {' or '.join(_KINDS)}")
    module, name = _KINDS[kind]
    table: type[Table] = getattr(import_module(module), name)
    try:
        return cast("TrainingRecipe", table.model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DiskernError(f"{origin}: {where}: {first['msg']}{more}") from error


def load_train_recipe(source: str | Path) -> TrainingRecipe:
    """Read a training recipe from a TOML file, or a shipped one by name.

    Raises
    ------
    DiskernError
        Where the file is missing, is no TOML or breaks a rule.
    """
    path = Path(source)
    if not path.exists() and str(source) in train_recipe_names():
        return _from_toml((_SHIPPED / f"{source}.toml").read_text("utf-8"), str(source), Path())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        shipped = ", ".join(train_recipe_names())
        raise DiskernError(
            f"{source}: no recipe can be read there; shipped recipes: {shipped}"
        ) from error
    return _from_toml(text, path.name, path.resolve().parent)


def train_recipe_names() -> tuple[str, ...]:
    """Names of the training recipes that ship with the package."""
    return tuple(sorted(f.name[:-5] for f in _SHIPPED.iterdir() if f.name.endswith(".toml")))


def _from_toml(text: str, origin: str, folder: Path) -> TrainingRecipe:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DiskernError(f"{origin}: no TOML ({error})") from error
    data = values.get("data")
    if isinstance(data, dict):
        crystals = data.get("crystals", [])
        for table in [data, *(crystals if isinstance(crystals, list) else [])]:
            for word in ("path", "bloch_tables"):
                if isinstance(table, dict) and isinstance(table.get(word), str):
                    table[word] = str(folder / table[word])
    return parse_train_recipe(values, origin)
