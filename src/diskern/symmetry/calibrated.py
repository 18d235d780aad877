"""A network's numbers as honest probabilities: temperature, and sets that hold the truth."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.extinction_groups import diffraction_symbols
from diskern.nets.cards import Card
from diskern.symmetry.labels import Level

Floats = NDArray[np.float64]

SET_LEVELS: tuple[Level, ...] = (
    "system", "laue_class", "extinction_group", "diffraction_symbol", "space_group",
)  # fmt: skip
COVERAGES = (90, 95)
"""Percent of cases in which a set is to hold the truth."""
SIZES = (1, 2, 3, 5, 10)
"""Numbers of patterns for which sets were calibrated."""


class Calibrated:
    """What the card of a network that tells symmetry says of its answers.

    Parameters
    ----------
    card : with calibration constants; without any, answers are taken as they are.
    """

    def __init__(self, card: Card) -> None:
        self.card = card

    def cooled(self, log_symbols: Floats, count: NDArray[np.int64]) -> Floats:
        """(S, 122) calibrated log-likelihoods of sets of (S,) patterns."""
        return np.asarray(log_symbols / self.temperature(count)[:, None])

    def temperature(self, count: NDArray[np.int64]) -> Floats:
        """(S,) by which log-likelihoods of sets of (S,) patterns are divided."""
        own = self.card.calibration
        slope = own.get("temperature_slope", 0.0)
        return np.asarray(own.get("temperature", 1.0) * np.maximum(count, 1) ** slope)

    def threshold(self, level: Level, coverage: int, count: int) -> float:
        """Probability that members of a set reach, for a number of patterns."""
        return self.card.calibration.get(threshold_key("set", level, coverage, count), 0.0)

    def prediction_set(
        self, probability: Floats, level: Level, coverage: int, count: int
    ) -> tuple[int, ...]:
        """Classes of a level that the set of that coverage holds, from (C,) probabilities."""
        return classes_above(probability, self.threshold(level, coverage, count))

    def joint_set(
        self, probability: Floats, level: Level, coverage: int, count: int
    ) -> tuple[int, ...]:
        """The same for what rules and network say together; empty where nobody calibrated it."""
        least = self.card.calibration.get(threshold_key("joint", level, coverage, count))
        return () if least is None else classes_above(probability, least)


def threshold_key(answer: str, level: Level, coverage: int, count: int) -> str:
    """Where a card keeps the threshold of sets, for the number of patterns nearest to ``count``."""
    nearest = min(SIZES, key=lambda k: abs(math.log(k / max(count, 1))))
    return f"{answer}_{level}_{coverage}_{nearest}"


def classes_above(probability: Floats, least: float) -> tuple[int, ...]:
    """Classes at least so probable, the most probable first and always among them."""
    order = np.argsort(-probability, kind="stable")
    inside = probability[order] >= least
    inside[0] = True
    return tuple(order[inside].tolist())


def log_symbols(log_groups: Floats) -> Floats:
    """(S, 122) log-probabilities of the diffraction symbols from (S, 230) of space groups."""
    top = log_groups.max(1, keepdims=True)
    # A symbol that is all but impossible is no NaN.
    share = np.maximum(np.exp(log_groups - top) @ _members(), 1e-300)
    return np.asarray(top + np.log(share))


@lru_cache(maxsize=1)
def _members() -> Floats:
    """(230, 122) 1 where a space group belongs to a symbol."""
    out = np.zeros((230, len(diffraction_symbols())))
    for symbol in diffraction_symbols():
        out[np.array(symbol.space_groups) - 1, symbol.index] = 1
    return out
