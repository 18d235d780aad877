"""Reading excitation errors, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diskern.bragg.disk_contrast import FIELDS
from diskern.nets.excitation import Votes, agreed_tilt, vote_loss
from diskern.nets.registry import Card, build, save
from diskern.train.excitation_recipe import ExcitationTrainRecipe
from diskern.train.excitation_sets import ExcitationBlocks, MeasuredPatterns, measured_patterns
from diskern.train.samples import Block
from diskern.train.task import Tell

NAME = "excitation"
ONE_SIGMA = 0.6827
PLANE = 0.1
"""Aperture radii by which the true lines of a pattern may miss one tilt: one zone axis."""
PROTOCOL = (
    "Disks of simulated patterns, kinematic two-beam and Bloch waves, through the instrument, "
    "measured from starts near their true places; structure types of the test side are in "
    "neither training nor calibration. Medians: of the distance between true and stated Bragg "
    "line in aperture radii, of all disks and of those that their line crosses (beside it what "
    "the middle of the disk is off); of the tilt's error in degrees and of the tilt itself, of "
    "patterns whose true lines follow from one. z is the 68 % quantile of |error|/sigma."
)


class ExcitationTask:
    """See `diskern.train.task.Task`."""

    def __init__(self, recipe: ExcitationTrainRecipe) -> None:
        self.recipe = recipe

    @property
    def per_block(self) -> int:
        """Patterns taken together."""
        return self.recipe.per_block

    def source(self, side: str, tell: Tell | None = None) -> ExcitationBlocks:
        """Measured patterns of one side."""
        return ExcitationBlocks(
            measured_patterns(self.recipe, side, tell),
            size=self.recipe.per_block,
            seed=self.recipe.seed,
            dropped=self.recipe.dropped if side == "train" else 0.0,
        )

    def net(self) -> nn.Module:
        """The untrained network."""
        return build("excitation", {"fields": FIELDS, "width": self.recipe.net.width})

    def loss(self, net: nn.Module, blocks: Sequence[Block]) -> Mapping[str, torch.Tensor]:
        """Mean loss of all votes, and the median error of the last in aperture radii."""
        facts, G, there, line = (
            torch.from_numpy(np.concatenate([b[name] for b in blocks])).to(self.recipe.device)
            for name in ("facts", "G", "there", "line")
        )
        votes: list[Votes] = net(facts, G, there)
        total = sum(vote_loss(v, line, there) for v in votes) / len(votes)
        miss = (votes[-1].line.detach() - line)[there > 0].abs().median()
        return {"total": torch.as_tensor(total), "miss": miss}

    def words(self, parts: Mapping[str, float]) -> str:
        """Loss and error."""
        return f"loss {parts['total']:.3f}, lines {parts['miss']:.2f} aperture radii off"

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """σ from the validation side, metrics from the test side; weights and card."""
        net = net.to("cpu").eval()
        scale = line_scores(net, measured_patterns(self.recipe, "validation", tell), 1.0)["z"]
        card = Card(
            name=NAME,
            architecture="excitation",
            arguments={"fields": FIELDS, "width": self.recipe.net.width},
            sha256="",
            recipe=self.recipe.model_dump(mode="json"),
            calibration={"sigma": scale},
            metrics={
                name: round(value, 5)
                for name, value in line_scores(
                    net, measured_patterns(self.recipe, "test", tell), scale
                ).items()
            },
            protocol=PROTOCOL,
            summary="Reads the excitation errors of disks from the contrast inside them.",
        )
        return save(net, card, folder)


def line_scores(net: nn.Module, seen: MeasuredPatterns, scale: float) -> dict[str, float]:
    """What `PROTOCOL` says, of a network whose σ are multiplied by ``scale``."""
    facts, G, there, line = (
        torch.from_numpy(a) for a in (seen.facts, seen.G, seen.there, seen.line)
    )
    with torch.inference_mode():
        votes: Votes = net(facts, G, there)[-1]
    used = there > 0
    miss = (votes.line - line)[used].abs()
    z = miss * torch.exp(-votes.log_sigma[used]) / scale
    crossed = line[used].abs() < 1
    exact = Votes(line, torch.full_like(line, -3.0))
    tilt = agreed_tilt(exact, G, there, 12)[0]
    length = G.norm(dim=-1)
    plane = -(G * tilt[:, None]).sum(-1) / length.clamp(min=1e-3) - length / 2
    off = (((line - plane).abs() > PLANE) & used).sum(1) / used.sum(1)
    # Distorted and two-grain patterns do not follow from one tilt.
    one = off < 0.1
    found = agreed_tilt(votes, G, there, 8)[0]
    angle = torch.from_numpy(seen.angle)
    wrong = ((found - tilt).norm(dim=1) * angle)[one]
    return {
        "patterns": float(len(seen)),
        "disks": float(used.sum()),
        "line": float(miss.median()),
        "line, crossed": float(miss[crossed].median()),
        "middle, crossed": float(line[used].abs()[crossed].median()),
        "zone patterns": float(one.sum()),
        "tilt": float(wrong.median()) if bool(one.any()) else 0.0,
        "tilt, true": float((tilt.norm(dim=1) * angle)[one].median()) if bool(one.any()) else 0.0,
        "z": float(z.quantile(ONE_SIGMA)),
    }
