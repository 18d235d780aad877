"""V_g and q_z of measured disks, read from the contrast inside them by a trained network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_contrast import FIELDS, DiskFacts, pattern_facts
from diskern.bragg.disks import Disks
from diskern.errors import DiskernError
from diskern.nets.disk_units import unit_of, volts_of

if TYPE_CHECKING:
    from diskern.nets.registry import Model

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

WEIGHTS = "excitation"


@dataclass(frozen=True, eq=False)
class LearnedExcitation:
    """V_g, q_z and their σ of all disks of a pattern together.

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

    def __call__(self, disks: Disks, patterns: Singles, radius: float) -> Disks:
        """The disks with q_z in 1/Å, V_g in V and their σ; untouched where a pattern has too few.

        Parameters
        ----------
        patterns : (B, H, W) they were measured in.
        radius : of the probe in px.
        """
        told = pattern_facts(
            disks, patterns, radius=radius, energy=self.energy, pixel_size=self.pixel_size
        )
        if not told:
            return disks
        votes = votes_of(self.model, told)
        source = np.concatenate([t.source for t in told])
        unit = unit_of(self.energy, radius * self.pixel_size)
        q_unit = np.linalg.norm(np.concatenate([t.G for t in told]), axis=1) * unit
        volts = volts_of(np.exp(votes.coupling), self.energy, unit)
        columns = {
            "q_z": votes.line * q_unit,
            "sigma_q_z": votes.sigma * q_unit,
            "v_g": volts,
            # Half of what lies between the 16 and 84 % quantiles of a logarithm.
            "sigma_v_g": volts * np.sinh(votes.sigma_coupling),
        }
        read = {name: getattr(disks, name).copy() for name in columns}
        for name, values in columns.items():
            read[name][source] = values
        return replace(disks, **read)


class DiskVotes(NamedTuple):
    """Of N disks: distance of the Bragg line from the middle in aperture radii, ln W, their σ."""

    line: Floats
    sigma: Floats
    coupling: Floats
    sigma_coupling: Floats


def votes_of(model: Model, told: list[DiskFacts]) -> DiskVotes:
    """What the network says of all disks of some patterns."""
    import torch

    facts, G, there = padded(told)
    with torch.inference_mode():
        passes, couplings = model.net(*map(torch.from_numpy, (facts, G, there)))
    line, log_sigma, coupling, log_sigma_coupling = (
        part.numpy()[there > 0].astype(np.float64) for part in (*passes[-1], *couplings)
    )
    scale = model.card.calibration
    return DiskVotes(
        line,
        np.exp(log_sigma) * scale.get("sigma", 1.0),
        coupling,
        np.exp(log_sigma_coupling) * scale.get("sigma_coupling", 1.0),
    )


def padded(told: list[DiskFacts], most: int | None = None) -> tuple[Singles, Singles, Singles]:
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
