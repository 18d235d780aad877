"""The answer of `diskern identify`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diskern.bragg.analysis import Analysis


@dataclass(frozen=True)
class Ranked:
    """One branch of the symmetry tree with its probability."""

    name: str
    probability: float
    space_groups: tuple[int, ...]


@dataclass(frozen=True)
class ZoneAxis:
    """A zone axis of one pattern in the best cell, with its probability."""

    uvw: tuple[int, int, int]
    probability: float


@dataclass(frozen=True, eq=False)
class PhaseMatch:
    """A candidate phase indexed against the patterns.

    Attributes
    ----------
    score : 0 to 1, share of the evidence among all candidates that were tried.
    residual : rms distance between measured and indexed positions, relative to |q|.
    scale : fitted over stated pixel size (1 = the stated calibration is right), NaN where the
        scale was unknown.
    pixel_size : fitted 1/Å per px, or None.
    orientations : (P, 3, 3) rotation matrices crystal → lab, a pattern each; NaN for rings.
    zone_axes : nearest low-index [uvw] of each pattern and its distance in degrees.
    hkl : for each pattern (S, 3) indices of its spots (or rings), -999 where not indexed.
    """

    name: str
    formula: str
    space_group: int
    score: float
    residual: float
    scale: float
    pixel_size: float | None
    orientations: NDArray[np.float64]
    zone_axes: tuple[tuple[tuple[int, int, int], float] | None, ...]
    hkl: tuple[NDArray[np.int64], ...]
    explained: float
    source: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Identification:
    """What the patterns say about the crystal, most probable first everywhere.

    Attributes
    ----------
    crystal : False where every pattern was refused; ``refusal`` then says why.
    ambiguity_set : space groups the given patterns cannot tell apart from the best.
    next_zone : the further zone axis that would decide most, in the best cell, or None.
    reasons : sentences, the evidence in words.
    """

    crystal: bool
    refusal: str | None
    analyses: tuple[Analysis, ...]
    zone_axes: tuple[tuple[ZoneAxis, ...], ...] = ()
    system: tuple[Ranked, ...] = ()
    laue_class: tuple[Ranked, ...] = ()
    extinction_symbol: tuple[Ranked, ...] = ()
    space_group: tuple[Ranked, ...] = ()
    ambiguity_set: tuple[int, ...] = ()
    next_zone: tuple[int, int, int] | None = None
    phases: tuple[PhaseMatch, ...] = ()
    reasons: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
