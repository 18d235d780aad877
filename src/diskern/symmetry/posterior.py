"""The reasoner's answer: probabilities at every level of the symmetry tree, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.common import common_space_groups, group_counts
from diskern.crystal.extinction_groups import (
    DiffractionSymbol,
    diffraction_symbols,
    extinction_groups,
    symbol_of,
)
from diskern.crystal.spacegroups import SYSTEMS, space_group
from diskern.errors import DiskernError
from diskern.symmetry.identification import Ranked, ZoneAxis

Floats = NDArray[np.float64]

LEAST = 1e-6
"""Branches less probable than this are not listed."""


@dataclass(frozen=True)
class Prior:
    """What is held before any pattern is seen.

    The default gives each of the seven crystal systems the same weight, within a system each
    extinction group, within that each Laue class, and within that each space group.

    Attributes
    ----------
    systems : relative weights of crystal systems; those not named get none.
    groups : relative weights of space groups, e.g. their frequencies among known crystals
        ("natural"); groups not named share half a percent.  With it, and no ``systems``, the
        weights of the systems follow too.
    """

    systems: Mapping[str, float] | None = None
    groups: Mapping[int, float] | None = None

    @classmethod
    def natural(cls, share: float = 2 / 3) -> Prior:
        """The even prior mixed with how often each group occurs.

        Materials crowd in few groups, elements and plain compounds in others than all that is
        known: the common phases and a large collection (`group_counts`) count equally.  On
        structures whose types were left out of the count the average log-probability is 1.2
        above the even prior's, and 0.3 on one crystal of each type.  The even part keeps every
        group within reach.

        Parameters
        ----------
        share : weight of what occurs, 0 to 1.

        Raises
        ------
        DiskernError
            For a share outside 0 to 1.
        """
        if not 0 <= share <= 1:
            raise DiskernError(f"share={share} is no weight; give 0 to 1")
        return _natural(share)

    def of_groups(self) -> Floats:
        """(230,) prior of the space groups, summing to one.

        Raises
        ------
        DiskernError
            For an unknown name, a weight that is negative, or weights that sum to nothing.
        """
        return self._weights.copy()

    @cached_property
    def _weights(self) -> Floats:
        if self.groups is None:
            weight = _by_tree()
        else:
            weight = np.zeros(230)
            for number, value in self.groups.items():
                weight[space_group(number).number - 1] = value
            if not (np.isfinite(weight).all() and weight.min() >= 0 and weight.sum() > 0):
                raise DiskernError("prior weights of space groups must be positive numbers")
            weight = weight / weight.sum() + 0.005 * (weight == 0) / 230
        if self.systems is not None:
            weight = weight * _system_factor(self.systems, weight)
        return np.asarray(weight / weight.sum())


def of_symbols(groups: Floats) -> Floats:
    """(122,) sums of (230,) probabilities of space groups."""
    return np.array([groups[np.array(s.space_groups) - 1].sum() for s in diffraction_symbols()])


def groups_from(log_likelihood: Floats, prior: Floats) -> Floats:
    """(..., 230) posteriors from (..., 122) log-likelihoods of symbols and a (230,) prior.

    Space groups of one symbol share its probability as the prior does.
    """
    with np.errstate(divide="ignore"):
        weight = log_likelihood[..., _symbol_of_groups()] + np.log(prior)
    weight = np.exp(weight - weight.max(-1, keepdims=True))
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def leading(groups: Floats) -> DiffractionSymbol:
    """The best diffraction symbol of the best crystal system, from (230,) probabilities."""
    value = of_symbols(groups)
    total = dict.fromkeys(SYSTEMS, 0.0)
    for symbol in diffraction_symbols():
        total[symbol.system] += float(value[symbol.index])
    system = max(total, key=lambda s: total[s])
    own = [s for s in diffraction_symbols() if s.system == system]
    return max(own, key=lambda s: value[s.index])


@cache
def _natural(share: float) -> Prior:
    common = np.bincount(common_space_groups(), minlength=231)[1:]
    every = np.array(group_counts())
    occurs = 0.5 * common / common.sum() + 0.5 * every / every.sum()
    weight = (1 - share) * _by_tree() + share * occurs
    return Prior(groups={n: float(w) for n, w in enumerate(weight, start=1)})


@cache
def _symbol_of_groups() -> NDArray[np.int64]:
    """(230,) diffraction symbol of each space group."""
    return np.array([symbol_of(n).index for n in range(1, 231)])


def _by_tree() -> Floats:
    weight = np.zeros(230)
    groups = extinction_groups()
    per_system = {s: sum(g.system == s for g in groups) for s in SYSTEMS}
    for group in groups:
        for index in group.symbols:
            members = diffraction_symbols()[index].space_groups
            share = 1 / (7 * per_system[group.system] * len(group.symbols) * len(members))
            weight[[n - 1 for n in members]] = share
    return weight


def _system_factor(wanted: Mapping[str, float], weight: Floats) -> Floats:
    unknown = set(wanted) - set(SYSTEMS)
    if unknown:
        raise DiskernError(f"crystal system {unknown.pop()!r} is none of {', '.join(SYSTEMS)}")
    values = np.array(list(wanted.values()), dtype=float)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise DiskernError(f"prior weights of systems {dict(wanted)} must be positive numbers")
    system = [space_group(n).system for n in range(1, 231)]
    held = {s: sum(w for w, t in zip(weight, system, strict=True) if t == s) for s in SYSTEMS}
    return np.array([wanted.get(s, 0.0) / max(held[s], 1e-300) for s in system])


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Probabilities of symmetry given the patterns.

    Attributes
    ----------
    groups : (230,) probabilities of the space groups; every other level is a sum of them.
    zone_axes : for each pattern its zone axes in the best cell, most probable first.
    ambiguity_set : space groups that predict the same for every visible node of the patterns
        as the best one does, with a cell no freer; patterns at these zones cannot decide.
    next_zone : further zone of the best cell that would tell most, or None.
    reasons : the evidence in sentences.
    cell : a, b, c (Å where the scale is known, else relative to a = 1), α, β, γ in degrees of
        the best hypothesis.
    log_evidence : (122,) natural logarithm of the evidence of each diffraction symbol.
    alone : (230,) ``groups`` without the network that was asked as well, or None.
    """

    groups: Floats
    zone_axes: tuple[tuple[ZoneAxis, ...], ...]
    ambiguity_set: tuple[int, ...]
    next_zone: tuple[int, int, int] | None
    reasons: tuple[str, ...]
    cell: tuple[float, float, float, float, float, float]
    log_evidence: Floats
    alone: Floats | None = None

    @property
    def symbols(self) -> Floats:
        """(122,) probabilities of the diffraction symbols."""
        return of_symbols(self.groups)

    @property
    def best(self) -> DiffractionSymbol:
        """The most probable diffraction symbol of the most probable crystal system."""
        return leading(self.groups)

    def diffraction_symbol(self) -> tuple[Ranked, ...]:
        """The 122 diffraction symbols, most probable first."""
        return _ranked(self.groups, ((s.name, s.space_groups) for s in diffraction_symbols()))

    def system(self) -> tuple[Ranked, ...]:
        """The crystal systems, most probable first."""
        return _ranked(self.groups, _gathered("system"))

    def laue_class(self) -> tuple[Ranked, ...]:
        """The Laue classes (-3m1 and -31m apart), most probable first."""
        return _ranked(self.groups, _gathered("laue_class"))

    def extinction_symbol(self) -> tuple[Ranked, ...]:
        """The extinction groups, most probable first."""
        return _ranked(self.groups, ((g.extinction, g.space_groups) for g in extinction_groups()))

    def space_group(self) -> tuple[Ranked, ...]:
        """The space groups, most probable first."""
        names = ((space_group(n).symbol, (n,)) for n in range(1, 231))
        return _ranked(self.groups, names)

    def __repr__(self) -> str:
        lines = ["Posterior"]
        for title, ranked in (
            ("system", self.system()),
            ("Laue class", self.laue_class()),
            ("extinction symbol", self.extinction_symbol()),
            ("space group", self.space_group()),
        ):
            shown = ", ".join(f"{r.name} {r.probability:.1%}" for r in ranked[:5])
            lines.append(f"{title:>18}: {shown}")
        for i, zones in enumerate(self.zone_axes):
            shown = ", ".join(f"{list(z.uvw)} {z.probability:.1%}" for z in zones[:4])
            lines.append(f"{f'zone {i + 1}':>18}: {shown}")
        lines.append(f"{'cannot be told':>18}: {', '.join(map(str, self.ambiguity_set))}")
        return "\n".join([*lines, *self.reasons])


def _ranked(groups: Floats, branches: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[Ranked, ...]:
    found = [
        Ranked(name, float(groups[np.array(numbers) - 1].sum()), tuple(numbers))
        for name, numbers in branches
    ]
    found.sort(key=lambda r: -r.probability)
    return tuple(r for r in found if r.probability >= LEAST)


def _gathered(attribute: str) -> list[tuple[str, tuple[int, ...]]]:
    branches: dict[str, list[int]] = {}
    for number in range(1, 231):
        branches.setdefault(getattr(space_group(number), attribute), []).append(number)
    return [(name, tuple(numbers)) for name, numbers in branches.items()]
