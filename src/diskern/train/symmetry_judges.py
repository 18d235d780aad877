"""Trained networks that can be asked for the symmetry of blocks of patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from diskern.errors import DiskernError
from diskern.nets.registry import Model
from diskern.symmetry.calibrated import Calibrated, log_symbols
from diskern.symmetry.labels import Level
from diskern.symmetry.learned import SymmetryNet
from diskern.train.samples import Block
from diskern.train.set_inputs import inputs_of, tokens_of_blocks
from diskern.train.spot_sets_recipe import ImageNetTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


SYMMETRY = ("spot_set", "image_set")
"""Architectures that tell symmetry."""


class Judge(Protocol):
    """A network with its calibration, whatever it looks at."""

    def ask_blocks(
        self, blocks: Sequence[Block], member: Ints, there: Bools, told: Bools, shared: Bools
    ) -> tuple[Floats, Floats]:
        """(S, 122) log-likelihoods of the diffraction symbols for sets of the blocks' patterns,
        and (B,) log-odds that a pattern shows one crystal.

        Parameters
        ----------
        member, there, told, shared : see `diskern.symmetry.spot_inputs.known_scales`.
        """

    def threshold(self, level: Level, coverage: int, count: int) -> float:
        """See `diskern.symmetry.calibrated.Calibrated`."""


class SpotJudge(SymmetryNet):
    """The spot-set network."""

    def ask_blocks(
        self, blocks: Sequence[Block], member: Ints, there: Bools, told: Bools, shared: Bools
    ) -> tuple[Floats, Floats]:
        """See `Judge`."""
        return self.ask(tokens_of_blocks(blocks), member, there, told, shared)


class ImageJudge(Calibrated):
    """The image network.

    Parameters
    ----------
    model : of the architecture ``image_set``, with a card that has its recipe.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model.card)
        self.net = model.net
        self.table = ImageNetTable.model_validate(model.card.recipe["net"])

    @torch.inference_mode()
    def ask_blocks(
        self, blocks: Sequence[Block], member: Ints, there: Bools, told: Bools, shared: Bools
    ) -> tuple[Floats, Floats]:
        """See `Judge`."""
        inputs = inputs_of(self.table, blocks, member, there, told, shared)
        groups, odds = self.net(inputs)
        symbols = log_symbols(groups.numpy().astype(np.float64))
        return self.cooled(symbols, there.sum(1)), odds.numpy().astype(np.float64)


def judge_of(model: Model) -> SpotJudge | ImageJudge:
    """A trained network as a judge.

    Raises
    ------
    DiskernError
        For a network that judges no sets of patterns.
    """
    kind = model.card.architecture
    if kind not in SYMMETRY:
        raise DiskernError(f"{model.card.name} is a {kind}; symmetry needs {' or '.join(SYMMETRY)}")
    if kind == "image_set":
        return ImageJudge(model)
    return SpotJudge(model.card, {k: v.cpu().numpy() for k, v in model.net.state_dict().items()})
