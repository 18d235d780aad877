"""Telling how large the disks of a pattern are, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from diskern.nets.probe_radius import radii
from diskern.nets.registry import Card, build, save
from diskern.train.disks import DiskSet
from diskern.train.disks_evaluate import SEEN
from diskern.train.probe_radius_recipe import ProbeRadiusTrainRecipe
from diskern.train.samples import Block
from diskern.train.task import Tell

Floats = NDArray[np.float64]

NAME = "probe_radius"
BLURRED = (1.2, 3.0)
"""Radii over which the disks of a pattern without any are spread, rms."""
LEVEL, READ = (1e-3, 1e4), (0.03, 30.0)
"""Electrons a pixel of noise alone, and rms of the noise of reading out that half of it has."""
RIM = (0.35, 0.55)
"""Radius of a round detector, of the pattern's side."""
SMEARED = 0.06
"""What the truth is spread over, in ln of the radius: neighbouring classes are nearly right."""
PROTOCOL = (
    "Single simulated patterns, kinematic two-beam and Bloch waves, through the instrument, of "
    "structure types that no training saw; those that show at least one disk. Shares within 5 and "
    "10 % of the true radius, of all and of those with three disks or more; median of |error|; "
    "share of patterns without disks that are told as such, and of those with disks."
)


class ProbeRadiusSet:
    """Patterns and radii; a radius of 0 stands for no disk, NaN for a pattern not to be asked.

    Parameters
    ----------
    side : see `diskern.train.disks.DiskSet`.
    """

    def __init__(self, recipe: ProbeRadiusTrainRecipe, side: str) -> None:
        self.recipe, self.disks = recipe, DiskSet(recipe.data, side)

    def block(self, number: int) -> Block:
        """``image`` (H, W) in electrons, ``radius`` in px and ``seen``, the visible disks."""
        made = self.disks.block(number)
        rng = np.random.default_rng([*made["seed"][0].tolist(), 1])
        images = np.maximum(made["image"], 0)
        radius = made["radius"].astype(np.float32)
        seen = (made["disks"][:, :, 4] >= SEEN).sum(1)
        told = np.where(seen > 0, radius, np.nan).astype(np.float32)
        for i in range(len(images)):
            if rng.random() < self.recipe.without:
                blank = rng.random() < 0.5
                images[i] = (
                    _noise(images[i].shape, rng)
                    if blank
                    else _spread(images[i], float(radius[i]), rng)
                )
                told[i] = seen[i] = 0
            if rng.random() < self.recipe.round:
                images[i] *= _round_detector(images[i].shape, rng)
        return {"image": images, "radius": told, "seen": seen}


def _spread(
    image: NDArray[np.float32], radius: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The electrons of a pattern without its disks."""
    smooth = gaussian_filter(image, rng.uniform(*BLURRED) * radius, mode="constant")
    return np.asarray(rng.poisson(np.maximum(smooth, 0)), dtype=np.float32)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Electrons, or what a camera takes for them, where there is nothing."""
    level, read = (np.exp(rng.uniform(*np.log(span))) for span in (LEVEL, READ))
    counts = rng.poisson(level, shape) + rng.normal(0, read * rng.integers(2), shape)
    return np.maximum(counts, 0).astype(np.float32)


def _round_detector(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(H, W) what a round detector sees."""
    middle = np.array(shape) / 2 + rng.normal(0, 2, 2)
    rows, cols = np.indices(shape)
    inside = np.hypot(rows - middle[0], cols - middle[1]) < rng.uniform(*RIM) * min(shape)
    return np.asarray(inside)


class ProbeRadiusTask:
    """See `diskern.train.task.Task`."""

    def __init__(self, recipe: ProbeRadiusTrainRecipe) -> None:
        self.recipe = recipe

    @property
    def per_block(self) -> int:
        """Patterns of one crystal and camera."""
        return self.recipe.data.per_block

    def source(self, side: str, tell: Tell | None = None) -> ProbeRadiusSet:
        """Convergent-beam patterns."""
        return ProbeRadiusSet(self.recipe, side)

    def net(self) -> nn.Module:
        """The untrained network."""
        return build("probe_radius", {"width": self.recipe.net.width})

    def loss(self, net: nn.Module, blocks: Sequence[Block]) -> Mapping[str, torch.Tensor]:
        """Cross entropy, and the share of patterns within a tenth of the radius."""
        radius = torch.from_numpy(np.concatenate([b["radius"] for b in blocks]))
        asked = torch.isfinite(radius)
        images = torch.from_numpy(np.concatenate([b["image"] for b in blocks]))[asked]
        truth = _truth(radius[asked]).to(self.recipe.device)
        half = self.recipe.precision == "bfloat16"
        device = truth.device.type
        with torch.autocast(device, torch.bfloat16, enabled=half):
            said = net(images.to(self.recipe.device)).float()
        right = (said.detach().argmax(1) - truth.argmax(1)).abs() <= 1
        return {"total": -(truth * said).sum(1).mean(), "right": right.float().mean()}

    def words(self, parts: Mapping[str, float]) -> str:
        """Loss and accuracy."""
        return f"loss {parts['total']:.3f}, {parts['right']:.1%} told right"

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """Metrics from the test side; weights and card."""
        source = self.source("test")
        blocks = [source.block(n) for n in range(self.recipe.checkpoint.card_blocks)]
        card = Card(
            name=NAME,
            architecture="probe_radius",
            arguments={"width": self.recipe.net.width},
            sha256="",
            recipe=self.recipe.model_dump(mode="json"),
            metrics=radius_scores(net.to("cpu").eval(), blocks),
            protocol=PROTOCOL,
            summary="Tells how large the disks of convergent-beam patterns are.",
        )
        return save(net, card, folder)


def _truth(radius: torch.Tensor) -> torch.Tensor:
    """(B, R + 1) probabilities that the network should give, of (B,) radii; 0 is no disk."""
    away = (torch.log(radius.clamp(min=0.1))[:, None] - torch.from_numpy(np.log(radii()))) / SMEARED
    known = torch.softmax(-0.5 * away**2, 1) * (radius > 0)[:, None]
    return torch.cat([known, (radius == 0)[:, None]], 1).float()


def radius_scores(net: nn.Module, blocks: Sequence[Block]) -> dict[str, float]:
    """What `PROTOCOL` says."""
    with torch.inference_mode():
        said = torch.cat([net(torch.from_numpy(b["image"])) for b in blocks]).numpy()
    radius, seen = (np.concatenate([b[name] for b in blocks]) for name in ("radius", "seen"))
    disks, none = radius > 0, radius == 0
    found = radii()[said[:, :-1].argmax(1)]
    off = np.abs(np.log(found[disks] / radius[disks]))
    several = seen[disks] >= 3
    empty = said.argmax(1) == said.shape[1] - 1
    scores = {
        "patterns": int(disks.sum()),
        "within 5 %": np.mean(off < 0.05),
        "within 10 %": np.mean(off < 0.1),
        "three disks, within 5 %": np.mean(off[several] < 0.05),
        "three disks, within 10 %": np.mean(off[several] < 0.1),
        "error, median": np.median(off),
        "none told of none": np.mean(empty[none]),
        "none told of some": np.mean(empty[disks]),
    }
    return {name: round(float(value), 4) for name, value in scores.items()}
