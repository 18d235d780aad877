"""Symmetry by a network that learned it from spots of simulated patterns.

It judges what the reasoner does not weigh, the intensities, and says of each pattern whether it
shows one crystal at all.  Its probabilities are calibrated (temperature) and come with sets that
hold the truth in 90 or 95 % of cases (split conformal prediction), both on structure types that
were held out of its training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from diskern.bragg.analysis import Analysis
from diskern.bragg.spot_tokens import SCALE, SpotTokens, spot_tokens
from diskern.errors import DiskernError
from diskern.nets.cards import Card, model_names, read_weights
from diskern.nets.spot_set_plain import PlainSpotSet
from diskern.symmetry.calibrated import COVERAGES, SET_LEVELS, Calibrated, log_symbols
from diskern.symmetry.joined import Witness
from diskern.symmetry.labels import Level, label_tree
from diskern.symmetry.posterior import Posterior, Prior, groups_from
from diskern.symmetry.spot_inputs import as_arrays, joined, known_scales

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WEIGHTS = "spot_set"
MOST_PATTERNS = 10
"""Patterns of a set that are looked at together; further ones are left out."""


@dataclass(frozen=True, eq=False, repr=False)
class LearnedSymmetry:
    """What the network says of the patterns of one crystal.

    Attributes
    ----------
    posterior : probabilities at every level; ``log_evidence`` is that of the symbols without
        any prior.
    crystal : (P,) probability that each pattern shows one crystal.
    patterns : which of the given analyses were looked at.
    sets : for each level and coverage in percent the classes that the set holds, most probable
        first, as numbers of `diskern.symmetry.labels.label_tree`.
    witness : the same as evidence for `diskern.symmetry.reasoner.reason`.
    """

    posterior: Posterior
    crystal: Floats
    patterns: tuple[int, ...]
    sets: dict[tuple[Level, int], tuple[int, ...]]
    witness: Witness

    def __repr__(self) -> str:
        lines = ["LearnedSymmetry"]
        for title, ranked in (
            ("system", self.posterior.system()),
            ("Laue class", self.posterior.laue_class()),
            ("extinction symbol", self.posterior.extinction_symbol()),
            ("space group", self.posterior.space_group()),
        ):
            shown = ", ".join(f"{r.name} {r.probability:.1%}" for r in ranked[:5])
            lines.append(f"{title:>18}: {shown}")
        shown = ", ".join(f"{p:.1%}" for p in self.crystal)
        return "\n".join([*lines, f"{'one crystal':>18}: {shown}"])


class SymmetryNet(Calibrated):
    """Weights with their calibration, ready to be asked.

    Parameters
    ----------
    card : of the architecture ``spot_set``.
    weights : arrays by name.
    """

    def __init__(self, card: Card, weights: Mapping[str, Any]) -> None:
        if card.architecture != "spot_set":
            raise DiskernError(f"{card.name} is a {card.architecture}; symmetry needs a spot_set")
        super().__init__(card)
        self.net = PlainSpotSet(weights, card.arguments)

    def ask(
        self, tokens: SpotTokens, member: Ints, there: Bools, told: Bools, shared: Bools
    ) -> tuple[Floats, Floats]:
        """Calibrated likelihoods of sets of patterns, and log-odds of patterns.

        Parameters
        ----------
        tokens : of B patterns.
        member, there, told, shared : as for `diskern.symmetry.spot_inputs.known_scales`.

        Returns
        -------
        (S, 122) log-likelihoods of the diffraction symbols, up to a constant each; and (B,)
        log-odds that a pattern shows one crystal.
        """
        known = known_scales(tokens.pattern[:, SCALE], member, there, told, shared)
        log_groups, crystal = self.net(as_arrays(tokens, member, there, known))
        # Training showed every symbol equally often, so these are likelihoods already.
        symbols = log_symbols(log_groups.astype(np.float64))
        return self.cooled(symbols, there.sum(1)), crystal.astype(np.float64)


@lru_cache(maxsize=4)
def symmetry_net(weights: str | Path = WEIGHTS) -> SymmetryNet | None:
    """The network by name or file; None where the shipped weights are not there.

    Raises
    ------
    DiskernError
        For a file that is no such network.
    """
    if str(weights) == WEIGHTS and WEIGHTS not in model_names():
        return None
    card, data = read_weights(weights)
    try:
        return SymmetryNet(card, load_arrays(data))
    except (SafetensorError, KeyError) as error:
        raise DiskernError(f"weights of {weights} cannot be read: {error}") from error


def tokens_of(analysis: Analysis) -> SpotTokens:
    """The tokens of one analysed image, of its strongest net, in px.

    Spots of a second lattice stay in as spots off the net.
    """
    place, basis = measured_spots(analysis)
    return spot_tokens(place[None], analysis.spots.intensity[None], basis[None])


def measured_spots(analysis: Analysis) -> tuple[Floats, Floats]:
    """(N, 2) spots from the direct beam and (2, 2) basis of the strongest net (or NaN), in px."""
    nets = [lattice for lattice in analysis.lattices if lattice.rank == 2]
    origin = nets[0].origin if nets else analysis.centre.as_array()
    basis = nets[0].basis if nets else np.full((2, 2), np.nan)
    return analysis.spots.position - origin, basis


def learned_symmetry(
    analyses: Sequence[Analysis],
    *,
    prior: Prior | None = None,
    weights: str | Path = WEIGHTS,
) -> LearnedSymmetry | None:
    """The network's opinion of the patterns of one crystal.

    Only patterns with spots are looked at, those of most spots first where there are more than
    `MOST_PATTERNS`.

    Parameters
    ----------
    prior : of the space groups; by default `Prior.natural`.
    weights : a name, or a ``.safetensors`` file with its card.

    Returns
    -------
    None where no weights are at hand or no pattern shows spots.
    """
    net = symmetry_net(weights)
    spoke = [i for i, a in enumerate(analyses) if a.kind == "spots" and len(a.spots)]
    if net is None or not spoke:
        return None
    spoke = sorted(sorted(spoke, key=lambda i: -len(analyses[i].spots))[:MOST_PATTERNS])
    given = GivenPatterns.of([analyses[i] for i in spoke])
    log_likelihood, odds = given.ask(net)
    groups = groups_from(log_likelihood, (prior or Prior.natural()).of_groups())[0]
    levels = {level: label_tree().marginal(level, groups) for level in SET_LEVELS}
    return LearnedSymmetry(
        posterior=as_posterior(groups, log_likelihood[0]),
        crystal=1 / (1 + np.exp(-odds)),
        patterns=tuple(spoke),
        sets={
            (level, coverage): net.prediction_set(classes, level, coverage, len(spoke))
            for level, classes in levels.items()
            for coverage in COVERAGES
        },
        witness=Witness(log_likelihood[0]),
    )


@dataclass(frozen=True, eq=False)
class GivenPatterns:
    """Tokens of the patterns of one crystal, in 1/Å where all scales are known."""

    tokens: SpotTokens
    told: bool
    shared: bool

    @classmethod
    def of(cls, analyses: Sequence[Analysis]) -> GivenPatterns:
        tokens = joined([tokens_of(a) for a in analyses])
        sizes = [a.pattern.pixel_size for a in analyses]
        told = all(size is not None for size in sizes)
        if told:
            tokens = in_unit(tokens, np.array([size or 1.0 for size in sizes]))
        # Without any scale, images of one shape are held to be of one camera length.
        alike = len({a.pattern.shape for a in analyses}) == 1 and set(sizes) == {None}
        return cls(tokens, told, told or alike)

    def ask(self, net: SymmetryNet) -> tuple[Floats, Floats]:
        """(1, 122) log-likelihoods and (P,) log-odds."""
        return self.ask_sets(net, self.tokens, np.arange(len(self.tokens))[None])

    def ask_sets(self, net: SymmetryNet, tokens: SpotTokens, member: Ints) -> tuple[Floats, Floats]:
        """(S, 122) log-likelihoods of sets of other patterns, (S, K) rows of ``tokens``."""
        whole = np.ones(member.shape, dtype=bool)
        flags = [np.full(len(member), flag) for flag in (self.told, self.shared)]
        return net.ask(tokens, member, whole, *flags)


def in_unit(tokens: SpotTokens, size: Floats) -> SpotTokens:
    """Tokens of patterns told in another unit, (B,) of it in theirs."""
    pattern = tokens.pattern.copy()
    pattern[:, SCALE] += np.log(size)
    return replace(tokens, pattern=pattern)


def as_posterior(groups: Floats, log_evidence: Floats) -> Posterior:
    """Probabilities of space groups in the form of the reasoner's answer."""
    nothing = float("nan")
    cell = (nothing, nothing, nothing, nothing, nothing, nothing)
    return Posterior(groups, (), (), None, (), cell, log_evidence)
