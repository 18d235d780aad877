"""Trained networks: weights in safetensors, each with a card that says what it is.

A card is a JSON file beside the weights: architecture and its arguments, recipe and seed,
calibration constants, metrics with the protocol they were measured by, licence, and the
SHA-256 of the weights, which is verified at every load.  Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from diskern.errors import DiskernError

CARD_VERSION = 1
_SHIPPED = files("diskern.nets") / "weights"
_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "proposer": ("diskern.nets.disk_unet", "DiskUNet"),
    "fourier": ("diskern.nets.fourier_unet", "FourierUNet"),
    "spot_set": ("diskern.nets.spot_set", "SpotSetNet"),
    "resnet": ("diskern.nets.resnet", "ResNet"),
}


@dataclass(frozen=True)
class Card:
    """What is known of a set of weights.

    Attributes
    ----------
    name : of the weights.
    architecture, arguments : what `build` is called with.
    sha256 : of the weights' file.
    recipe : everything that decided the training, seed included.
    calibration : constants found on the validation side (thresholds, temperatures of σ).
    metrics : numbers by name; ``protocol`` says how they were measured.
    """

    name: str
    architecture: str
    arguments: dict[str, Any]
    sha256: str
    recipe: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    protocol: str = ""
    summary: str = ""
    licence: str = "CC-BY-4.0"
    version: int = CARD_VERSION

    @classmethod
    def from_json(cls, text: str, origin: str) -> Card:
        """Read a card.

        Raises
        ------
        DiskernError
            For text that is no card, or one of a later format.
        """
        try:
            values = json.loads(text)
            card = cls(**values)
        except (ValueError, TypeError) as error:
            raise DiskernError(f"{origin} is no model card: {error}") from error
        if card.version != CARD_VERSION:
            raise DiskernError(
                f"{origin} has version {card.version}; this program reads {CARD_VERSION}"
            )
        return card

    def to_json(self) -> str:
        """The card as text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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


def model_names() -> tuple[str, ...]:
    """Names of the weights that ship with the package."""
    if not _SHIPPED.is_dir():
        return ()
    return tuple(sorted(f.name[:-5] for f in _SHIPPED.iterdir() if f.name.endswith(".json")))


def read_card(name: str | Path) -> Card:
    """The card of shipped weights, or of a ``.safetensors`` file with its card beside it.

    Raises
    ------
    DiskernError
        Where there is none, or it cannot be read.
    """
    return Card.from_json(_read(name, ".json").decode("utf-8", "replace"), f"card of {name}")


def load(name: str | Path = "proposer") -> Model:
    """Weights by name, or from a ``.safetensors`` file with its card beside it.

    Raises
    ------
    DiskernError
        For unknown names, weights that are not those of the card, or a broken file.
    """
    card = read_card(name)
    data = _read(name, ".safetensors")
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise DiskernError(
            f"weights of {name} have SHA-256 {found[:12]}…, their card says {card.sha256[:12]}…; "
            "fetch both again"
        )
    net = build(card.architecture, card.arguments)
    try:
        net.load_state_dict(load_tensors(data))
    except (SafetensorError, RuntimeError) as error:
        raise DiskernError(f"weights of {name} do not fit {card.architecture}: {error}") from error
    return Model(card, net.eval())


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


def _read(name: str | Path, suffix: str) -> bytes:
    path = Path(name)
    try:
        if path.suffix == ".safetensors":
            return path.with_suffix(suffix).read_bytes()
        if str(name) in model_names():
            return (_SHIPPED / f"{name}{suffix}").read_bytes()
    except OSError as error:
        raise DiskernError(f"cannot read {path.with_suffix(suffix)}: {error.strerror}") from error
    known = ", ".join(model_names()) or "none"
    raise DiskernError(f"no weights called {str(name)!r}; shipped: {known}, or give a .safetensors")
