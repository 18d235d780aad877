"""Cards of trained networks, and the bytes of their weights: what needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from diskern.errors import DiskernError

CARD_VERSION = 1
_SHIPPED = files("diskern.nets") / "weights"


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


def read_weights(name: str | Path) -> tuple[Card, bytes]:
    """Card and safetensors of weights by name, or from a file with its card beside it.

    Raises
    ------
    DiskernError
        For unknown names, or weights that are not those of the card.
    """
    card = read_card(name)
    data = _read(name, ".safetensors")
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise DiskernError(
            f"weights of {name} have SHA-256 {found[:12]}…, their card says {card.sha256[:12]}…; "
            "fetch both again"
        )
    return card, data


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
