"""Trained networks: weights in safetensors, each with a card that says what it is.

A card is a JSON file beside the weights: architecture and its arguments, recipe and seed,
calibration constants, metrics with the protocol they were measured by, licence, and the
SHA-256 of the weights, which is verified at every load.  Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from diskern.errors import DiskernError
from diskern.nets.cards import Card, model_names, read_card, read_weights

__all__ = ["Card", "Model", "build", "load", "model_names", "read_card", "save"]

_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "proposer": ("diskern.nets.disk_unet", "DiskUNet"),
    "fourier": ("diskern.nets.fourier_unet", "FourierUNet"),
    "spot_set": ("diskern.nets.spot_set", "SpotSetNet"),
    "image_set": ("diskern.nets.image_set", "ImageSetNet"),
    "excitation": ("diskern.nets.excitation", "ExcitationNet"),
    "probe_radius": ("diskern.nets.probe_radius", "ProbeRadiusNet"),
    "resnet": ("diskern.nets.resnet", "ResNet"),
}


@dataclass(frozen=True, eq=False)
class Model:
    """Weights in their network, ready to be asked."""

    card: Card
    net: nn.Module


def build(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An untrained network.

    Raises
    ------
    DiskernError
        For an unknown architecture, or arguments that it does not take.
    """
    if architecture not in _ARCHITECTURES:
        raise DiskernError(
            f"architecture {architecture!r} is unknown; use {' or '.join(_ARCHITECTURES)}"
        )
    module, name = _ARCHITECTURES[architecture]
    make: Callable[..., nn.Module] = getattr(import_module(module), name)
    try:
        return make(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DiskernError(f"{architecture} cannot be built from {arguments}: {error}") from error


def load(name: str | Path = "proposer") -> Model:
    """Weights by name, or from a ``.safetensors`` file with its card beside it.

    Raises
    ------
    DiskernError
        For unknown names, weights that are not those of the card, or a broken file.
    """
    card, data = read_weights(name)
    net = build(card.architecture, card.arguments)
    try:
        net.load_state_dict(load_tensors(data))
    except (SafetensorError, RuntimeError) as error:
        raise DiskernError(f"weights of {name} do not fit {card.architecture}: {error}") from error
    return Model(card, net.eval())


def begin(architecture: str, arguments: Mapping[str, Any], start: str | Path = "") -> nn.Module:
    """A network to be trained: a fresh one, or weights to go on from.

    Parameters
    ----------
    start : weights by name or file, see `load`; an empty word starts from random weights.

    Raises
    ------
    DiskernError
        For weights that are not of such a network.
    """
    if not start:
        return build(architecture, arguments)
    model = load(start)
    theirs = {"architecture": model.card.architecture, **model.card.arguments}
    own = {"architecture": architecture, **arguments}
    if theirs != own:
        wrong = [k for k in own if theirs.get(k) != own[k]]
        says = ", ".join(f"{k} {theirs.get(k)} instead of {own[k]}" for k in wrong)
        raise DiskernError(f"weights {start} to start from have {says}")
    return model.net.train()


def save(net: nn.Module, card: Card, folder: Path) -> Path:
    """Write ``<name>.safetensors`` and its card, whose hash is set to that of the file."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    data = save_tensors({k: v.to(torch.float32) for k, v in tensors.items()})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card.name}.safetensors"
    path.write_bytes(data)
    stamped = Card(**{**asdict(card), "sha256": hashlib.sha256(data).hexdigest()})
    path.with_suffix(".json").write_text(stamped.to_json(), encoding="utf-8")
    return path
