"""What the training loop must be told of a task; the loop itself knows of no kind of pattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from diskern.train.samples import Block
from diskern.train.train_recipe import TrainingRecipe

if TYPE_CHECKING:
    import torch
    from torch import nn

Tell = Callable[[str], None]


class BlockSource(Protocol):
    """Samples by number: any process makes any block, and gets the same bytes."""

    def block(self, number: int) -> Block: ...


class Task(Protocol):
    """A network, the samples it learns from, and what it is told about them."""

    @property
    def per_block(self) -> int:
        """Samples in a block."""

    def source(self, side: str, tell: Tell | None = None) -> BlockSource:
        """The samples of ``"train"`` or ``"validation"``, wholly apart."""

    def net(self) -> nn.Module:
        """The untrained network."""

    def loss(self, net: nn.Module, blocks: Sequence[Block]) -> Mapping[str, torch.Tensor]:
        """Parts of the loss of some blocks by name; ``total``, the first, is minimised."""

    def words(self, parts: Mapping[str, float]) -> str:
        """The parts as a line of progress shows them."""

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """Calibrate and measure a trained network and write its weights with their card."""


def task_of(recipe: TrainingRecipe) -> Task:
    """The task of a recipe, by its kind."""
    module, name = _TASKS[recipe.kind]
    make: Any = getattr(import_module(module), name)
    return cast("Task", make(recipe))


_TASKS = {
    "train": ("diskern.train.disks_task", "DiskTask"),
    "train-spot-set": ("diskern.train.spot_sets_task", "SpotSetTask"),
    "train-excitation": ("diskern.train.excitation_task", "ExcitationTask"),
    "train-probe-radius": ("diskern.train.probe_radius_task", "ProbeRadiusTask"),
    "train-saed": ("diskern.train.saed_task", "SaedTask"),
}
