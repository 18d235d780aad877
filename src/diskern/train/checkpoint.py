"""Checkpoints of a training: safetensors and JSON, written whole or not at all.

Nothing is pickled: tensors go into one file under the names of their owners, numbers into the
JSON header of the same file.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from diskern.errors import DiskernError

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes
    ----------
    step : steps done.
    recipe : hash of the recipe's values, so that no other training is continued by mistake.
    history : one dict per validation, JSON values only.
    """

    step: int
    recipe: str
    history: list[dict[str, float]]


def save_checkpoint(
    folder: Path,
    progress: Progress,
    net: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    keep: int = 2,
) -> Path:
    """Write the state after ``progress.step`` steps and remove all but the latest ``keep``."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        held = {k: torch.as_tensor(v) for k, v in state.items() if v is not None}
        tensors |= {f"optimiser.{index}.{k}": v for k, v in held.items()}
    header = {
        "step": progress.step,
        "recipe": progress.recipe,
        "history": progress.history,
    }
    path = folder / f"step-{progress.step:08d}{_SUFFIX}"
    written = path.with_suffix(".partial")
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(plain, written, metadata={"progress": json.dumps(header)})
    os.replace(written, path)
    for old in checkpoints_in(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoints of a folder, oldest first."""
    return sorted(folder.glob(f"step-*{_SUFFIX}"))


def restore_checkpoint(
    path: Path,
    recipe: str,
    net: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
) -> Progress:
    """Load a checkpoint into network, averaged network and optimiser.

    Raises
    ------
    DiskernError
        For a broken file, or one of another recipe.
    """
    progress, tensors = _read(path)
    if progress.recipe != recipe:
        raise DiskernError(
            f"{path} belongs to another recipe; use another folder, or the recipe it began with"
        )
    try:
        net.load_state_dict(_owned(tensors, "net."))
        average.load_state_dict(_owned(tensors, "average."))
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _owned(tensors, "optimiser.").items():
            index, key = name.split(".", 1)
            states.setdefault(int(index), {})[key] = value
        blank = optimiser.state_dict()
        optimiser.load_state_dict({"state": states, "param_groups": blank["param_groups"]})
    except (RuntimeError, ValueError, KeyError) as error:
        raise DiskernError(f"{path} does not fit this network: {error}") from error
    return progress


def _read(path: Path) -> tuple[Progress, dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header: dict[str, Any] = json.loads((file.metadata() or {})["progress"])
        progress = Progress(int(header["step"]), str(header["recipe"]), list(header["history"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DiskernError(f"{path} is no checkpoint, or broken: {error}") from error
    return progress, tensors


def _owned(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
