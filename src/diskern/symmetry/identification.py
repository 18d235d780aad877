"""The answer of `diskern identify`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Voice:
    """A spot or a dark node of a pattern, and what it says of a symbol.

    Attributes
    ----------
    position : row and column in px.
    nats : how much the symbol's log-probability falls without the spot, or were the node lit.
    lit : True of a spot, False of a node that is dark.
    """

    position: tuple[float, float]
    nats: float
    lit: bool


@dataclass(frozen=True, eq=False)
class SymmetryLevels:
    """The levels of the symmetry tree, each most probable first."""

    system: tuple[Ranked, ...]
    laue_class: tuple[Ranked, ...]
    extinction_symbol: tuple[Ranked, ...]
    space_group: tuple[Ranked, ...]


@dataclass(frozen=True, eq=False)
class SecondOpinion:
    """What a trained network says of the symmetry by itself, and the reasoner by itself.

    Attributes
    ----------
    weights : name and first digits of the SHA-256.
    crystal : probability that each pattern shows one crystal; None where it was not asked.
    sets : for each level the classes that hold the truth in 90 % of cases, most probable first.
    explained : the diffraction symbol that ``voices`` speak of.
    voices : of each pattern its spots and dark nodes that say most.
    rules : what the rules say without it; None where they found no net.
    """

    weights: str
    crystal: tuple[float | None, ...]
    system: tuple[Ranked, ...]
    laue_class: tuple[Ranked, ...]
    extinction_symbol: tuple[Ranked, ...]
    space_group: tuple[Ranked, ...]
    sets: dict[str, tuple[str, ...]]
    explained: str
    voices: tuple[tuple[Voice, ...], ...]
    rules: SymmetryLevels | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON."""
        return {
            "weights": self.weights,
            **_levels(self),
            "sets_90": {level: list(names) for level, names in self.sets.items()},
            "rules": None if self.rules is None else _levels(self.rules),
            "explained": self.explained,
            "patterns": [
                {
                    "crystal": crystal,
                    "voices": [
                        {"row": v.position[0], "col": v.position[1], "nats": v.nats, "lit": v.lit}
                        for v in voices
                    ],
                }
                for crystal, voices in zip(self.crystal, self.voices, strict=True)
            ],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Identification:
    """What the patterns say about the crystal, most probable first everywhere.

    Attributes
    ----------
    crystal : False where every pattern was refused; ``refusal`` then says why.
    ambiguity_set : space groups the given patterns cannot tell apart from the best.
    next_zone : the further zone axis that would decide most, in the best cell, or None.
    reasons : sentences, the evidence in words.
    doubts : why each pattern may show no single crystal, None where nothing speaks against one.
    sets : for each level the classes that hold the truth in 90 % of cases, most probable first;
        empty where the rules alone were asked.
    network : the two opinions of which the symmetry is made, that of a trained network and that
        of the rules, each by itself; None where the rules alone were asked.
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
    network: SecondOpinion | None = None
    sets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    doubts: tuple[str | None, ...] = ()

    @property
    def doubtful(self) -> bool:
        """Whether no pattern shows spots that are surely of one crystal."""
        asked = [d for a, d in zip(self.analyses, self.doubts, strict=False) if a.kind == "spots"]
        return bool(asked) and None not in asked

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON, most probable or best first."""
        zones = self.zone_axes or ((),) * len(self.analyses)
        return {
            "crystal": self.crystal,
            "refusal": self.refusal,
            "patterns": [_pattern_dict(a, z) for a, z in zip(self.analyses, zones, strict=True)],
            **_levels(self),
            "sets_90": {level: list(names) for level, names in self.sets.items()},
            "ambiguity_set": list(self.ambiguity_set),
            "next_zone": None if self.next_zone is None else list(self.next_zone),
            "phases": [_phase_dict(p) for p in self.phases],
            "reasons": list(self.reasons),
            "doubts": list(self.doubts),
            "network": None if self.network is None else self.network.to_dict(),
            "provenance": self.provenance,
        }

    def __repr__(self) -> str:
        count = f"{len(self.analyses)} pattern{'s' if len(self.analyses) != 1 else ''}"
        lines = [f"Identification of {count}" + ("" if self.crystal else f": {self.refusal}")]
        for title, ranked in (
            ("crystal system", self.system),
            ("Laue class", self.laue_class),
            ("extinction symbol", self.extinction_symbol),
            ("space group", self.space_group),
        ):
            shown = [f"{r.name} {r.probability:.1%}" for r in ranked[:5]]
            if shown:
                lines.append(f"{title:>18}: {', '.join(shown)}")
        if len(self.ambiguity_set) > 1:
            lines.append(f"{'cannot be told':>18}: {', '.join(map(str, self.ambiguity_set))}")
        for p in self.phases[:5]:
            lines.append(f"{'phase':>18}: {p.name} {p.score:.1%}, residual {p.residual:.2%}")
        return "\n".join(lines)


def _levels(said: Identification | SecondOpinion | SymmetryLevels) -> dict[str, Any]:
    """The symmetry tree, level by level."""
    return {
        "system": [_branch("name", r) for r in said.system],
        "laue_class": [_branch("name", r) for r in said.laue_class],
        "extinction_symbol": [
            _branch("symbol", r) | {"space_groups": list(r.space_groups)}
            for r in said.extinction_symbol
        ],
        "space_group": [
            {"number": r.space_groups[0], "symbol": r.name, "probability": r.probability}
            for r in said.space_group
        ],
    }


def _branch(key: str, ranked: Ranked) -> dict[str, Any]:
    return {key: ranked.name, "probability": ranked.probability}


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def _pattern_dict(analysis: Analysis, zones: tuple[ZoneAxis, ...]) -> dict[str, Any]:
    pattern = analysis.pattern
    unit = "px" if pattern.pixel_size is None else "1/Å"
    scale = 1.0 if pattern.pixel_size is None else pattern.pixel_size
    return {
        "file": pattern.source,
        "kind": analysis.kind,
        "refusal": analysis.refusal,
        "centre": [analysis.centre.row, analysis.centre.col],
        "centre_sigma": analysis.centre.sigma,
        "pixel_size": pattern.pixel_size,
        "energy": pattern.energy,
        "spots": len(analysis.spots),
        "lattices": [
            {
                "a": lattice.lengths[0] * scale,
                "b": _finite(lattice.lengths[1] * scale),
                "angle": _finite(lattice.angle),
                "unit": unit,
                "spots": len(lattice.members),
            }
            for lattice in analysis.lattices
        ],
        "rings": None
        if analysis.rings is None
        else {
            "radius": [float(r) * scale for r in analysis.rings.radius],
            "unit": unit,
            "ellipticity": analysis.rings.ellipse.ratio - 1,
            "ellipticity_sigma": analysis.rings.ellipse.sigma,
        },
        "zone_axes": [{"uvw": list(z.uvw), "probability": z.probability} for z in zones],
        "notes": list(analysis.notes),
    }


def _phase_dict(phase: PhaseMatch) -> dict[str, Any]:
    return {
        "name": phase.name,
        "formula": phase.formula,
        "space_group": phase.space_group,
        "score": phase.score,
        "residual": _finite(phase.residual),
        "scale": _finite(phase.scale),
        "pixel_size": _finite(phase.pixel_size),
        "explained": phase.explained,
        "zone_axes": [
            None if z is None else {"uvw": list(z[0]), "distance_deg": z[1]}
            for z in phase.zone_axes
        ],
        "orientations": [
            None if not np.isfinite(matrix).all() else matrix.tolist()
            for matrix in phase.orientations
        ],
        "source": phase.source,
        "notes": list(phase.notes),
    }
