"""From look-alike labels to space groups, and from several zone axes to one answer.

Ra et al., RSC Adv. 11, 38307 (2021): the probability of a label is shared by the space groups
whose patterns carry it, and patterns along several zone axes are joined by the arithmetic mean.
The product is what independent patterns ask for; both are here, to be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError
from diskern.symmetry.lookalike import LookAlikeTable

Floats = NDArray[np.float64]

Rule = Literal["mean", "product"]
Share = Literal["groups", "zones"]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """How labels share out to space groups.

    Parameters
    ----------
    table : look-alike classes, in the order of the labels' probabilities.
    share : ``"groups"`` gives every group that has a label along any zone the same part of it,
        as published; ``"zones"`` weighs a group by how many of its zones have the label.
    """

    table: LookAlikeTable
    share: Share = "groups"

    def __post_init__(self) -> None:
        if self.share not in get_args(Share):
            raise DiskernError(f"share={self.share!r} is unknown; use groups or zones")

    @cached_property
    def groups(self) -> tuple[int, ...]:
        """Space-group numbers, in ascending order."""
        return tuple(sorted({s.number for entry in self.table.classes for s, _ in entry.members}))

    @cached_property
    def weights(self) -> Floats:
        """(L, G) part of each label that goes to each group; rows sum to 1."""
        counts = np.zeros((len(self.table), len(self.groups)))
        settings: dict[int, set[str]] = {}
        for place, entry in enumerate(self.table.classes):
            for setting, _ in entry.members:
                counts[place, self.groups.index(setting.number)] += 1
                settings.setdefault(setting.number, set()).add(setting.title)
        if self.share == "groups":
            counts = np.sign(counts)
        else:
            # A group split by its Wyckoff positions shows more looks, but is no likelier.
            counts /= np.array([len(settings[n]) for n in self.groups])
        return np.asarray(counts / counts.sum(1, keepdims=True))

    def of_labels(self, probability: ArrayLike) -> Floats:
        """(..., G) probabilities of space groups from (..., L) of labels.

        Raises
        ------
        DiskernError
            Where the last axis is not that of the table's labels.
        """
        p = np.asarray(probability, dtype=np.float64)
        if p.shape[-1:] != (len(self.table),):
            raise DiskernError(
                f"probability has shape {p.shape}; its last axis must be the "
                f"{len(self.table)} labels of the table"
            )
        return np.asarray(p @ self.weights)


def join(probabilities: ArrayLike, rule: Rule = "mean", floor: float = 1e-6) -> Floats:
    """(..., G) probabilities of one crystal from (..., K, G) of its K patterns.

    Parameters
    ----------
    rule : ``"mean"`` as published, or ``"product"``.
    floor : below which no probability counts in a product, so that one wrong pattern cannot
        exclude the truth.

    Raises
    ------
    DiskernError
        For no pattern, an unknown rule, or values that are no probabilities.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim < 2 or p.shape[-2] == 0:
        raise DiskernError(f"probabilities have shape {p.shape}; give (..., patterns, groups)")
    if not np.isfinite(p).all() or (p < 0).any():
        raise DiskernError("probabilities must be finite and not negative")
    if rule == "mean":
        return np.asarray(p.mean(-2))
    if rule != "product":
        raise DiskernError(f"rule={rule!r} is unknown; use mean or product")
    logarithm = np.log(np.maximum(p, floor)).sum(-2)
    likelihood = np.exp(logarithm - logarithm.max(-1, keepdims=True))
    return np.asarray(likelihood / likelihood.sum(-1, keepdims=True))
