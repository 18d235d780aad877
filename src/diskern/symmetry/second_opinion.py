"""What the network holds of the patterns, in the form in which an identification shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.analysis import Analysis
from diskern.crystal.extinction_groups import diffraction_symbols, extinction_groups
from diskern.crystal.spacegroups import LAUE_CLASSES, SYSTEMS, space_group
from diskern.symmetry.calibrated import SET_LEVELS
from diskern.symmetry.identification import SecondOpinion, SymmetryLevels, Voice
from diskern.symmetry.labels import Level, label_tree
from diskern.symmetry.learned import (
    WEIGHTS,
    LearnedSymmetry,
    symmetry_net,
)
from diskern.symmetry.learned_reasons import Voices, spots_that_spoke
from diskern.symmetry.posterior import Posterior

Floats = NDArray[np.float64]

MOST_VOICES = 6
"""Spots and dark nodes of a pattern that are told, those that say most first."""
LEAST_VOICE = 0.02
"""Nats below which a spot says nothing."""
COVERAGE = 90
"""Percent of cases in which the sets that are shown hold the truth."""


def second_opinion(
    found: LearnedSymmetry,
    analyses: Sequence[Analysis],
    *,
    rules: Posterior | None = None,
    weights: str | Path = WEIGHTS,
) -> SecondOpinion | None:
    """The network's answer in words; None without weights.

    Parameters
    ----------
    found : from `learned_symmetry`, with the same weights.
    rules : the reasoner's answer to the same patterns.
    """
    net = symmetry_net(weights)
    if net is None:
        return None
    posterior = found.posterior
    symbol = posterior.best
    voices = spots_that_spoke([analyses[i] for i in found.patterns], symbol.index, weights=weights)
    told: list[tuple[Voice, ...]] = [()] * len(analyses)
    crystal: list[float | None] = [None] * len(analyses)
    for row, (place, own) in enumerate(zip(found.patterns, voices or (), strict=True)):
        told[place] = loudest(analyses[place], own)
        crystal[place] = float(found.crystal[row])
    return SecondOpinion(
        weights=f"{net.card.name} {net.card.sha256[:12]}",
        crystal=tuple(crystal),
        system=posterior.system(),
        laue_class=posterior.laue_class(),
        extinction_symbol=posterior.extinction_symbol(),
        space_group=posterior.space_group(),
        sets={
            level: _names(level, members)
            for (level, coverage), members in found.sets.items()
            if coverage == COVERAGE
        },
        explained=symbol.name,
        voices=tuple(told),
        rules=None if rules is None or rules.alone is None else _alone(rules, rules.alone),
    )


def sets_of_both(
    joint: Posterior, found: LearnedSymmetry, *, weights: str | Path = WEIGHTS
) -> dict[str, tuple[str, ...]]:
    """For each level the classes that hold the truth in 90 % of cases, by rules and network.

    Parameters
    ----------
    joint : the reasoner's answer with the network as its witness.
    found : the network's to the same patterns, with the same weights.

    Returns
    -------
    Names, most probable first; nothing where these weights were not calibrated for it.
    """
    net = symmetry_net(weights)
    if net is None:
        return {}
    tree, count = label_tree(), len(found.patterns)
    sets = {
        level: net.joint_set(tree.marginal(level, joint.groups), level, COVERAGE, count)
        for level in SET_LEVELS
    }
    return {level: _names(level, own) for level, own in sets.items() if own}


def _alone(joint: Posterior, groups: Floats) -> SymmetryLevels:
    """What the rules say by themselves, of (230,) probabilities."""
    said = replace(joint, groups=groups)
    return SymmetryLevels(
        said.system(), said.laue_class(), said.extinction_symbol(), said.space_group()
    )


def loudest(analysis: Analysis, voices: Voices) -> tuple[Voice, ...]:
    """The spots and dark nodes of a pattern that say most, for or against."""
    position = np.concatenate([analysis.spots.position, voices.dark_position])
    nats = np.concatenate([np.nan_to_num(voices.spots), voices.dark])
    lit = np.arange(len(nats)) < len(voices.spots)
    out: list[Voice] = []
    seen: set[float] = set()
    for i in np.argsort(-np.abs(nats), kind="stable").tolist():
        # Friedel mates were asked together and say the same.
        if abs(nats[i]) < LEAST_VOICE or len(out) == MOST_VOICES:
            break
        if lit[i] and float(nats[i]) in seen:
            continue
        seen.add(float(nats[i]))
        row, col = position[i].tolist()
        out.append(Voice((row, col), float(nats[i]), bool(lit[i])))
    return tuple(out)


def _names(level: Level, members: Sequence[int]) -> tuple[str, ...]:
    """Classes in words; extinction symbols that read alike with their crystal systems."""
    names = [_name(level, i) for i in members]
    if level != "extinction_group":
        return tuple(names)
    times = Counter(names)
    systems = [extinction_groups()[i].system for i in members]
    return tuple(
        f"{name} ({system})" if times[name] > 1 else name
        for name, system in zip(names, systems, strict=True)
    )


def _name(level: Level, index: int) -> str:
    """A class of `diskern.symmetry.labels.label_tree` in words."""
    names = {
        "system": lambda: SYSTEMS[index],
        "laue_class": lambda: LAUE_CLASSES[index],
        "extinction_group": lambda: extinction_groups()[index].extinction,
        "diffraction_symbol": lambda: diffraction_symbols()[index].name,
        "space_group": lambda: space_group(index + 1).symbol,
    }
    return names[level]()
