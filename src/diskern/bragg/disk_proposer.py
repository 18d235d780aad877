"""The trained network as a proposer of disks for `diskern.bragg.disk_search.find_disks`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_excitation import LearnedExcitation
from diskern.bragg.disk_verdict import Verdict
from diskern.bragg.disks import Candidates, Disks

if TYPE_CHECKING:
    from diskern.nets.proposer import Proposer
    from diskern.nets.registry import Model

Floats = NDArray[np.float64]
WORTH_A_FIT = 0.3
"""Probability by the network from which on a candidate is measured; what it shows then decides."""


@dataclass(frozen=True, eq=False)
class LearnedProposer:
    """Candidates with V_g and q_z from a network; patterns count electrons.

    Attributes
    ----------
    network : see `diskern.nets.proposer.Proposer`.
    excitation : reads q_z of the disks once they are measured, or None where energy or scale are
        unknown.
    """

    network: Proposer
    excitation: LearnedExcitation | None = None

    @classmethod
    def load(
        cls,
        name: str | Path = "proposer",
        *,
        energy: float | None = None,
        pixel_size: float | None = None,
    ) -> Self:
        """A proposer by the name or file of its weights.

        Parameters
        ----------
        energy, pixel_size : eV and 1/Å per px; without both V_g and q_z stay NaN.

        Raises
        ------
        DiskernError
            For unknown or damaged weights, or an impossible energy or scale.
        """
        from diskern.nets.registry import load

        return cls.of(load(name), energy=energy, pixel_size=pixel_size)

    @classmethod
    def of(
        cls, model: Model, *, energy: float | None = None, pixel_size: float | None = None
    ) -> Self:
        """A proposer with weights that are loaded already; for the rest see `load`."""
        from diskern.nets.proposer import Proposer

        network = Proposer(model, energy=energy, pixel_size=pixel_size, threshold=WORTH_A_FIT)
        if energy is None or pixel_size is None:
            return cls(network)
        return cls(network, LearnedExcitation.load(energy=energy, pixel_size=pixel_size))

    @property
    def configuration(self) -> dict[str, Any]:
        """Everything that decides what is proposed and read, ready for JSON."""
        network, reader = self.network, self.excitation
        known = {name: getattr(network, name) for name in ("energy", "pixel_size", "threshold")}
        card = network.model.card
        return {
            "weights": card.name,
            "sha256": card.sha256,
            "calibration": dict(card.calibration),
            **known,
            "excitation": None if reader is None else reader.model.card.sha256,
        }

    @property
    def verdict(self) -> Verdict:
        """How it is weighed against what the fit measures."""
        return Verdict.of(self.network.model.card.calibration)

    def __call__(self, patterns: NDArray[np.float32], probe: Floats) -> Candidates:
        """Candidates in (B, H, W) patterns for an (H, W) probe."""
        found = self.network(patterns, probe)
        return Candidates(
            pattern=found.pattern,
            row=found.row,
            col=found.col,
            probability=found.probability,
            v_g=found.v_g,
            sigma_v_g=found.sigma_v_g,
            q_z=found.q_z,
            sigma_q_z=found.sigma_q_z,
        )

    def read(self, disks: Disks, patterns: NDArray[np.float32], radius: float) -> Disks:
        """The measured disks with what the contrast inside them says of q_z."""
        return disks if self.excitation is None else self.excitation(disks, patterns, radius)
