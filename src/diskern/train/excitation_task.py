"""Reading excitation errors and structure factors, as a task of the training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diskern.bragg.disk_contrast import FIELDS
from diskern.nets.excitation import (
    Votes,
    agreed_tilt,
    coupling_loss,
    lines_of,
    vote_loss,
)
from diskern.nets.registry import Card, build, save
from diskern.train.disks_evaluate import ONE_SIGMA
from diskern.train.excitation_recipe import ExcitationTrainRecipe
from diskern.train.excitation_sets import ExcitationBlocks, MeasuredPatterns, measured_patterns
from diskern.train.samples import Block
from diskern.train.task import Tell

NAME = "excitation"
PLANE = 0.1
"""Aperture radii by which the true lines of a pattern may miss one tilt: one zone axis."""
PROTOCOL = (
    "Disks found and measured in simulated patterns, kinematic two-beam and Bloch waves, through "
    "the instrument; structure types of the test side are in neither training nor calibration. "
    "Of disks that are true ones, medians: of the distance between true and stated Bragg line in "
    "aperture radii, of all and of those that their line crosses (beside it what the middle of "
    "the disk is off); of the factor by which V_g is off; of the tilt's error in "
    "degrees and of the tilt itself, of patterns whose true lines follow from one. z are "
    "68 % quantiles of |error|/sigma."
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
        facts, G, there, known, line, coupling = (
            torch.from_numpy(np.concatenate([b[name] for b in blocks])).to(self.recipe.device)
            for name in ("facts", "G", "there", "known", "line", "coupling")
        )
        votes, couplings = net(facts, G, there)
        total = sum(vote_loss(v, line, known) for v in votes) / len(votes)
        total = total + coupling_loss(couplings, coupling, known)
        miss = (votes[-1].line.detach() - line)[known > 0].abs().median()
        return {"total": torch.as_tensor(total), "miss": miss}

    def words(self, parts: Mapping[str, float]) -> str:
        """Loss and error."""
        return f"loss {parts['total']:.3f}, lines {parts['miss']:.2f} aperture radii off"

    def finish(self, net: nn.Module, folder: Path, tell: Tell | None = None) -> Path:
        """σ from the validation side, metrics from the test side; weights and card."""
        net = net.to("cpu").eval()
        held = vote_scores(net, measured_patterns(self.recipe, "validation", tell), {})
        calibration = {"sigma": held["z"], "sigma_coupling": held["z, V_g"]}
        seen = measured_patterns(self.recipe, "test", tell)
        card = Card(
            name=NAME,
            architecture="excitation",
            arguments={"fields": FIELDS, "width": self.recipe.net.width},
            sha256="",
            recipe=self.recipe.model_dump(mode="json"),
            calibration=calibration,
            metrics={n: round(v, 5) for n, v in vote_scores(net, seen, calibration).items()},
            protocol=PROTOCOL,
            summary="Reads excitation errors and structure factors from the contrast inside disks.",
        )
        return save(net, card, folder)


def vote_scores(
    net: nn.Module, seen: MeasuredPatterns, calibration: Mapping[str, float]
) -> dict[str, float]:
    """What `PROTOCOL` says, of a network whose σ are multiplied as its card says."""
    facts, G, there, known, line, coupling = (
        torch.from_numpy(a)
        for a in (seen.facts, seen.G, seen.there, seen.known, seen.line, seen.coupling)
    )
    with torch.inference_mode():
        passes, couplings = net(facts, G, there)
    votes = passes[-1]
    true = known > 0
    miss = (votes.line - line)[true].abs()
    z = miss * torch.exp(-votes.log_sigma[true]) / calibration.get("sigma", 1.0)
    factor = (couplings.value - coupling)[true].abs()
    z_factor = factor * torch.exp(-couplings.log_sigma[true])
    crossed = line[true].abs() < 1
    tilt, one = true_tilt(G, known, line)
    angle = torch.from_numpy(seen.angle)
    found = agreed_tilt(votes, G, there, 8)[0]
    wrong = ((found - tilt).norm(dim=1) * angle)[one]
    return {
        "patterns": float(len(seen)),
        "disks": float(true.sum()),
        "true disks": float(true.sum() / there.sum()),
        "line": _median(miss),
        "line, crossed": _median(miss[crossed]),
        "middle, crossed": _median(line[true].abs()[crossed]),
        "V_g factor": math.exp(_median(factor)),
        "zone patterns": float(one.sum()),
        "tilt": _median(wrong),
        "tilt, true": _median((tilt.norm(dim=1) * angle)[one]),
        "z": float(z.quantile(ONE_SIGMA)),
        "z, V_g": float(z_factor.quantile(ONE_SIGMA)) / calibration.get("sigma_coupling", 1.0),
    }


def true_tilt(
    G: torch.Tensor, known: torch.Tensor, line: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 2) tilt that the true lines follow from, and (B,) whether they do.

    Lines of distorted and two-grain patterns do not follow from one tilt.
    """
    sure = torch.full_like(line, -3.0)
    tilt = agreed_tilt(Votes(line, sure), G, known, 12)[0]
    off = (((line - lines_of(tilt, G)).abs() > PLANE) & (known > 0)).sum(1) / known.sum(1)
    return tilt, off < 0.1


def _median(values: torch.Tensor) -> float:
    return float(values.median()) if len(values) else 0.0
