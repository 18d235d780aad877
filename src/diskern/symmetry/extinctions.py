"""Extinction symbols from indexed three-dimensional intensities (3D ED, merged or not).

The node mixture of the zone reasoner on a list of hkl: equivalents share one intensity, allowed
reflections follow Wilson's law about a falling mean, forbidden ones are dark or, where there is
multiple scattering, weakly lit.  All axis settings of monoclinic and orthorhombic groups are
tried: the cell of a data set knows nothing of reference settings (glycine is P 1 21/n 1).
Compare Camalli, Carrozzini, Cascarano & Giacovazzo, J. Appl. Cryst. 45, 351 (2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.crystal.conditions import conditions_of
from diskern.crystal.extinction_groups import DiffractionSymbol, diffraction_symbols
from diskern.crystal.spacegroups import absent_by, settings, space_group
from diskern.errors import DiskernError
from diskern.symmetry.extinctions_data import Reflections, checked, possible_systems, resolution
from diskern.symmetry.identification import Ranked
from diskern.symmetry.likelihood_nodes import log_sum
from diskern.symmetry.posterior import LEAST, Prior, of_symbols

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

VISIBLE = 3.0
"""A reflection counts as visible where its intensity exceeds this many standard uncertainties."""


@dataclass(frozen=True)
class ConditionCount:
    """One reflection condition put to the data.

    Attributes
    ----------
    forbidden, allowed : numbers of measured reflections of the class that it forbids, allows.
    visible : how many of the forbidden ones are above the noise.
    mean_forbidden, mean_allowed : mean intensities; NaN where there is none.
    """

    reflections: str
    rule: str
    forbidden: int
    allowed: int
    visible: int
    mean_forbidden: float
    mean_allowed: float

    def __str__(self) -> str:
        return (
            f"{self.reflections}: {self.rule}; mean I {self.mean_forbidden:.3g} of "
            f"{self.forbidden} forbidden ({self.visible} visible) against "
            f"{self.mean_allowed:.3g} of {self.allowed} allowed"
        )


@dataclass(frozen=True, eq=False, repr=False)
class ExtinctionEvidence:
    """What a list of reflections says of the systematic absences.

    Attributes
    ----------
    groups : (230,) probabilities of the space groups.
    symbol : the most probable diffraction symbol.
    setting : Hermann–Mauguin symbol of one of its groups in the axes of the data.
    conditions : the reflection conditions of that setting, put to the data.
    """

    groups: Floats
    symbol: DiffractionSymbol
    setting: str
    conditions: tuple[ConditionCount, ...]

    def diffraction_symbol(self) -> tuple[Ranked, ...]:
        """The diffraction symbols (Laue class and extinction symbol), most probable first."""
        values = of_symbols(self.groups)
        ranked = [
            Ranked(s.name, float(values[s.index]), s.space_groups) for s in diffraction_symbols()
        ]
        ranked.sort(key=lambda r: -r.probability)
        return tuple(r for r in ranked if r.probability >= LEAST)

    def __repr__(self) -> str:
        lines = [f"ExtinctionEvidence: {self.symbol.name}, in the axes of the data {self.setting}"]
        lines += [f"  {r.name} {r.probability:.1%}" for r in self.diffraction_symbol()[:5]]
        return "\n".join(lines + [f"  {c}" for c in self.conditions])


def extinction_evidence(
    hkl: ArrayLike,
    intensity: ArrayLike,
    sigma: ArrayLike,
    *,
    cell: ArrayLike | None = None,
    system: str | None = None,
    tolerance: float = 1.5,
    prior: Prior | None = None,
) -> ExtinctionEvidence:
    """Posterior over extinction symbols from indexed intensities.

    Parameters
    ----------
    hkl : (N, 3) indices; equivalents and Friedel mates may all be there.
    intensity, sigma : (N,).
    cell : a, b, c (Å), α, β, γ (degrees); its metric decides which systems are possible.
    system : the crystal system, where it is known; then ``cell`` only scales resolution.
    tolerance : per cent (lengths) and degrees (angles) by which a cell may miss a metric.

    Raises
    ------
    DiskernError
        For shapes that disagree, values that are not finite, fewer than ten reflections, or
        neither a cell nor a system.
    """
    indices, value, error = checked(hkl, intensity, sigma)
    q = resolution(indices, cell)
    systems = possible_systems(cell, system, tolerance)
    group_prior = (prior or Prior()).of_groups()
    with np.errstate(divide="ignore"):
        log_prior = np.log(of_symbols(group_prior))
    log_evidence = np.full(len(log_prior), -np.inf)
    best: tuple[float, DiffractionSymbol, tuple[str, Ints, Ints]] | None = None
    known: dict[bytes, Reflections] = {}
    for symbol in diffraction_symbols():
        if symbol.system not in systems or not np.isfinite(log_prior[symbol.index]):
            continue
        scores = []
        for setting, absent in _masks(symbol, indices):
            turns = _laue_turns(setting[1])
            key = turns.tobytes()
            if key not in known:
                known[key] = Reflections(indices, value, error, q, turns)
            scores.append(known[key].log_likelihood(absent))
            total = scores[-1] + float(log_prior[symbol.index])
            if best is None or total > best[0]:
                best = (total, symbol, setting)
        log_evidence[symbol.index] = float(log_sum(np.array(scores))) - np.log(len(scores))
    if best is None:
        raise DiskernError("the prior leaves no symbol of the possible systems; widen it")
    weight = log_evidence + log_prior
    probability = np.exp(weight - log_sum(weight))
    groups = np.zeros(230)
    for symbol in diffraction_symbols():
        members = np.array(symbol.space_groups) - 1
        share = group_prior[members]
        groups[members] = probability[symbol.index] * share / max(float(share.sum()), 1e-300)
    head = diffraction_symbols()[int(weight.argmax())]
    if head is not best[1]:  # several settings together may outdo the best single one
        best = max(
            (known[_laue_turns(s[1]).tobytes()].log_likelihood(m), head, s)
            for s, m in _masks(head, indices)
        )
    name, rotations, shifts = best[2]
    counts = _count(rotations, shifts, head.system, indices, value, error)
    return ExtinctionEvidence(groups, head, name, counts)


def _masks(symbol: DiffractionSymbol, indices: Ints) -> list[tuple[tuple[str, Ints, Ints], Bools]]:
    """Settings of a symbol that differ on these reflections, the richest groups first."""
    found: dict[bytes, tuple[tuple[str, Ints, Ints], Bools]] = {}
    for number in sorted(symbol.space_groups, key=lambda n: -len(space_group(n).point_group)):
        for setting in settings(number):
            absent = absent_by(setting[1], setting[2], indices)
            key = np.packbits(absent).tobytes() + _laue_turns(setting[1]).tobytes()
            found.setdefault(key, (setting, absent))
    return list(found.values())


def _laue_turns(rotations: Ints) -> Ints:
    """(G, 3, 3) rotation parts with inversion, in order."""
    both = np.concatenate([rotations, -rotations]).reshape(-1, 9)
    return np.unique(both, axis=0).reshape(-1, 3, 3)


def _count(
    rotations: Ints, shifts: Ints, system: str, hkl: Ints, value: Floats, error: Floats
) -> tuple[ConditionCount, ...]:
    counts = []
    for condition in conditions_of(lambda h: absent_by(rotations, shifts, h), system):
        inside = condition.applies(hkl)
        good = condition.obeyed(hkl)
        forbidden, allowed = inside & ~good, inside & good
        counts.append(
            ConditionCount(
                reflections=condition.reflections,
                rule=condition.rule,
                forbidden=int(forbidden.sum()),
                allowed=int(allowed.sum()),
                visible=int((value[forbidden] > VISIBLE * error[forbidden]).sum()),
                mean_forbidden=float(value[forbidden].mean()) if forbidden.any() else float("nan"),
                mean_allowed=float(value[allowed].mean()) if allowed.any() else float("nan"),
            )
        )
    return tuple(counts)
