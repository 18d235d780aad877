"""The trained network as a proposer of disks for `diskern.bragg.disk_search.find_disks`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disks import Candidates

if TYPE_CHECKING:
    from diskern.nets.proposer import Proposer

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LearnedProposer:
    """Candidates with V_g and q_z from a network; patterns count electrons.

    Attributes
    ----------
    network : see `diskern.nets.proposer.Proposer`.
    """

    network: Proposer

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
        from diskern.nets.proposer import Proposer

        return cls(Proposer.load(name, energy=energy, pixel_size=pixel_size))

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
