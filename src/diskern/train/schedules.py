"""Optimisers of a recipe, each with its schedule: tables of numbers that make the real thing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from diskern.train.recipe import Count, Positive, Share, Table

if TYPE_CHECKING:
    import torch
    from torch import nn


class Optimiser(Protocol):
    """What the training loop asks of a recipe's optimiser."""

    @property
    def steps(self) -> int:
        """Of the whole training."""

    @property
    def batch(self) -> int:
        """Samples in a step, all processes together."""

    @property
    def clip(self) -> float:
        """Largest norm of the gradient."""

    @property
    def average(self) -> float:
        """Of the exponential average of the weights; 0 keeps the latest."""

    def make(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, from 0 on."""


class OptimiserTable(Table):
    """AdamW with a warm-up and half a cosine, and an average of the weights."""

    steps: Count
    batch: Count = 24
    """Patterns in a step, all ranks together; whole blocks."""
    rate: Positive = 2e-3
    warm_up: Annotated[int, Field(ge=0)] = 200
    decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    """Weight decay."""
    clip: Positive = 2.0
    """Largest norm of the gradient."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Of the exponential average of the weights, which is what a training gives."""

    def make(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """AdamW."""
        import torch

        return torch.optim.AdamW(
            parameters, lr=self.rate, betas=(0.9, 0.99), weight_decay=self.decay
        )

    def rate_at(self, step: int) -> float:
        """See `rate_at`."""
        return rate_at(step, self.steps, self.warm_up, self.rate)


class StepwiseTable(Table):
    """Gradient descent with momentum, its rate lowered by a factor every few epochs.

    The defaults are those of Ra et al., RSC Adv. 11, 38307 (2021).
    """

    epochs: Count = 25
    steps_per_epoch: Count
    batch: Count = 32
    """Samples in a step, all ranks together; whole blocks."""
    rate: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    every: Count = 7
    """Epochs after which the rate is multiplied by ``factor``."""
    decay: Share = 0.0
    """Weight decay."""
    clip: Positive = 1e6
    """Largest norm of the gradient; the default leaves all but a blow-up alone."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the exponential average of the weights; 0 gives the latest weights."""

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.epochs * self.steps_per_epoch

    def make(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Stochastic gradient descent."""
        import torch

        return torch.optim.SGD(
            parameters, lr=self.rate, momentum=self.momentum, weight_decay=self.decay
        )

    def rate_at(self, step: int) -> float:
        """A staircase."""
        return self.rate * self.factor ** (step // self.steps_per_epoch // self.every)


def rate_at(step: int, steps: int, warm_up: int, rate: float) -> float:
    """Learning rate: a straight warm-up, then half a cosine down to a hundredth."""
    if step < warm_up:
        return rate * (step + 1) / warm_up
    part = (step - warm_up) / max(steps - warm_up, 1)
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))))
