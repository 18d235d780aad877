"""Excitation errors of measured disks, read from the contrast inside them by a trained network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_contrast import FEWEST, FIELDS, DiskFacts, direct_beams, disk_facts
from diskern.bragg.disks import Disks
from diskern.errors import DiskernError
from diskern.nets.disk_units import unit_of

if TYPE_CHECKING:
    from diskern.nets.registry import Model

WEIGHTS = "excitation"


@dataclass(frozen=True, eq=False)
class LearnedExcitation:
    """q_z and its σ of all disks of a pattern together.

    Attributes
    ----------
    model : weights with their card.
    energy : in eV; pixel_size in 1/Å per px.
    """

    model: Model
    energy: float
    pixel_size: float

    @classmethod
    def load(cls, name: str | Path = WEIGHTS, *, energy: float, pixel_size: float) -> Self:
        """By the name or file of the weights.

        Raises
        ------
        DiskernError
            For unknown or damaged weights, or those of another network.
        """
        from diskern.nets.registry import load

        model = load(name)
        if model.card.architecture != "excitation":
            raise DiskernError(f"{name} is a {model.card.architecture}, not an excitation network")
        return cls(model, energy, pixel_size)

    def __call__(self, disks: Disks, patterns: NDArray[np.float32], radius: float) -> Disks:
        """The disks with q_z and sigma_q_z in 1/Å; untouched where a pattern has too few.

        Parameters
        ----------
        patterns : (B, H, W) they were measured in.
        radius : of the probe in px.
        """
        told, scale = [], []
        for pattern, direct in direct_beams(disks, patterns.shape[1:], radius).items():
            rows = np.flatnonzero(disks.pattern == pattern)
            if len(rows) <= FEWEST:
                continue
            found = disk_facts(
                disks.select(rows),
                int(np.searchsorted(rows, direct)),
                radius=radius,
                energy=self.energy,
                pixel_size=self.pixel_size,
                total=float(patterns[pattern].sum(dtype=np.float64)),
            )
            told.append(replace(found, source=rows[found.source]))
            scale.append(np.linalg.norm(found.G, axis=1))
        if not told:
            return disks
        line, sigma = lines_of(self.model, told)
        source = np.concatenate([t.source for t in told])
        factor = np.concatenate(scale) * unit_of(self.energy, radius * self.pixel_size)
        q_z, sigma_q_z = disks.q_z.copy(), disks.sigma_q_z.copy()
        q_z[source], sigma_q_z[source] = line * factor, sigma * factor
        return replace(disks, q_z=q_z, sigma_q_z=sigma_q_z)


def lines_of(
    model: Model, told: list[DiskFacts]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of the Bragg line from the middle of each disk in aperture radii, and its σ."""
    import torch

    facts, G, there = padded(told)
    with torch.inference_mode():
        votes = model.net(*map(torch.from_numpy, (facts, G, there)))[-1]
    used = there > 0
    sigma = np.exp(votes.log_sigma.numpy()[used].astype(np.float64))
    sigma *= model.card.calibration.get("sigma", 1.0)
    return votes.line.numpy()[used].astype(np.float64), sigma


def padded(
    told: list[DiskFacts], most: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """(B, N, fields) facts, (B, N, 2) G and (B, N) which disks there are, of several patterns.

    ``most`` is N; by default the disks of the pattern that has most.
    """
    most = most or max(len(t.G) for t in told)
    facts = np.zeros((len(told), most, FIELDS), np.float32)
    G, there = np.ones((len(told), most, 2), np.float32), np.zeros((len(told), most), np.float32)
    for i, t in enumerate(told):
        n = len(t.G)
        facts[i, :n], G[i, :n], there[i, :n] = t.facts, t.G, 1
    return facts, G, there
