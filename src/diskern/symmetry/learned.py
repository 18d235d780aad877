"""The second opinion on symmetry: a network that learned it from spots of simulated patterns.

It judges what the reasoner does not weigh, the intensities, and says of each pattern whether it
shows one crystal at all.  Its probabilities are calibrated (temperature) and come with sets that
hold the truth in 90 or 95 % of cases (split conformal prediction), both on structure types that
were held out of its training.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.analysis import Analysis
from diskern.bragg.spot_tokens import SCALE, SpotTokens, spot_tokens
from diskern.crystal.spacegroups import diffraction_symbols
from diskern.errors import DiskernError
from diskern.symmetry.labels import Level, label_tree
from diskern.symmetry.posterior import Posterior, Prior
from diskern.symmetry.spot_inputs import as_inputs, joined, known_scales

if TYPE_CHECKING:
    from diskern.nets.registry import Model

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WEIGHTS = "spot_set"
MOST_PATTERNS = 10
"""Patterns of a set that are looked at together; further ones are left out."""
SET_LEVELS: tuple[Level, ...] = (
    "system", "laue_class", "extinction_group", "diffraction_symbol", "space_group",
)  # fmt: skip
COVERAGES = (90, 95)
"""Percent of cases in which a set is to hold the truth."""
SIZES = (1, 2, 3, 5, 10)
"""Numbers of patterns for which sets were calibrated."""


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
    """

    posterior: Posterior
    crystal: Floats
    patterns: tuple[int, ...]
    sets: dict[tuple[Level, int], tuple[int, ...]]

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


class SymmetryNet:
    """Weights with their calibration, ready to be asked.

    Parameters
    ----------
    model : of the architecture ``spot_set``.
    """

    def __init__(self, model: Model) -> None:
        if model.card.architecture != "spot_set":
            raise DiskernError(
                f"{model.card.name} is a {model.card.architecture}; symmetry needs a spot_set"
            )
        self.model = model

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
        import torch

        known = known_scales(tokens.pattern[:, SCALE], member, there, told, shared)
        with torch.inference_mode():
            said = self.model.net(as_inputs(tokens, member, there, known))
        log_groups = said.log_groups.double().numpy()
        symbols = log_groups_of_symbols(log_groups)
        # Training showed every symbol equally often, so this is a likelihood already.
        return symbols / self.temperature(there.sum(1))[:, None], said.crystal.double().numpy()

    def temperature(self, count: NDArray[np.int64]) -> Floats:
        """(S,) by which log-likelihoods of sets of (S,) patterns are divided."""
        own = self.model.card.calibration
        slope = own.get("temperature_slope", 0.0)
        return np.asarray(own.get("temperature", 1.0) * np.maximum(count, 1) ** slope)

    def threshold(self, level: Level, coverage: int, count: int) -> float:
        """Probability that members of a set reach, for a number of patterns."""
        nearest = min(SIZES, key=lambda k: abs(np.log(k / max(count, 1))))
        return self.model.card.calibration.get(f"set_{level}_{coverage}_{nearest}", 0.0)

    def prediction_set(
        self, probability: Floats, level: Level, coverage: int, count: int
    ) -> tuple[int, ...]:
        """Classes of a level that the set of that coverage holds, from (C,) probabilities."""
        order = np.argsort(-probability, kind="stable")
        inside = probability[order] >= self.threshold(level, coverage, count)
        inside[0] = True
        return tuple(int(i) for i in order[inside])


def log_groups_of_symbols(log_groups: Floats) -> Floats:
    """(S, 122) log-probabilities of the diffraction symbols from (S, 230) of space groups."""
    out = np.empty((len(log_groups), len(diffraction_symbols())))
    for symbol in diffraction_symbols():
        own = log_groups[:, np.array(symbol.space_groups) - 1]
        top = own.max(1)
        out[:, symbol.index] = top + np.log(np.exp(own - top[:, None]).sum(1))
    return out


def groups_from(log_likelihood: Floats, prior: Floats) -> Floats:
    """(S, 230) posteriors from (S, 122) log-likelihoods of symbols and a (230,) prior.

    Space groups of one symbol share its probability as the prior does.
    """
    symbol = label_tree().index("diffraction_symbol", np.arange(1, 231))
    with np.errstate(divide="ignore"):
        weight = log_likelihood[:, symbol] + np.log(prior)
    weight = np.exp(weight - weight.max(1, keepdims=True))
    return np.asarray(weight / weight.sum(1, keepdims=True))


@lru_cache(maxsize=4)
def symmetry_net(weights: str | Path = WEIGHTS) -> SymmetryNet | None:
    """The network by name or file; None where the shipped weights, or torch, are not there.

    Raises
    ------
    DiskernError
        For a file that is no such network.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    from diskern.nets.registry import load, model_names

    if str(weights) == WEIGHTS and WEIGHTS not in model_names():
        return None
    return SymmetryNet(load(weights))


def tokens_of(analysis: Analysis) -> SpotTokens:
    """The tokens of one analysed image, of its strongest net, in px.

    Spots of a second lattice stay in as spots off the net.
    """
    nets = [lattice for lattice in analysis.lattices if lattice.rank == 2]
    origin = nets[0].origin if nets else analysis.centre.as_array()
    basis = nets[0].basis if nets else np.full((2, 2), np.nan)
    position = analysis.spots.position - origin
    return spot_tokens(position[None], analysis.spots.intensity[None], basis[None])


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
    given = _Given.of([analyses[i] for i in spoke])
    log_likelihood, odds = given.ask(net)
    groups = groups_from(log_likelihood, (prior or Prior.natural()).of_groups())[0]
    return LearnedSymmetry(
        posterior=as_posterior(groups, log_likelihood[0]),
        crystal=1 / (1 + np.exp(-odds)),
        patterns=tuple(spoke),
        sets={
            (level, coverage): net.prediction_set(
                label_tree().marginal(level, groups), level, coverage, len(spoke)
            )
            for level in SET_LEVELS
            for coverage in COVERAGES
        },
    )


@dataclass(frozen=True, eq=False)
class _Given:
    """Tokens of the patterns of one crystal, in 1/Å where all scales are known."""

    tokens: SpotTokens
    told: bool
    shared: bool

    @classmethod
    def of(cls, analyses: Sequence[Analysis]) -> _Given:
        tokens = joined([tokens_of(a) for a in analyses])
        sizes = [a.pattern.pixel_size for a in analyses]
        told = all(size is not None for size in sizes)
        if told:
            pattern = tokens.pattern.copy()
            pattern[:, SCALE] += np.log([size or 1.0 for size in sizes])
            tokens = SpotTokens(tokens.token, tokens.place, tokens.there, pattern, tokens.source)
        # Without any scale, images of one shape are held to be of one camera length.
        alike = len({a.pattern.shape for a in analyses}) == 1 and set(sizes) == {None}
        return cls(tokens, told, told or alike)

    def ask(self, net: SymmetryNet) -> tuple[Floats, Floats]:
        """(1, 122) log-likelihoods and (P,) log-odds."""
        return self._ask(net, self.tokens)

    def _ask(self, net: SymmetryNet, tokens: SpotTokens) -> tuple[Floats, Floats]:
        """The set of all patterns; ``tokens`` may hold several copies of the set."""
        count = len(self.tokens)
        member = np.arange(len(tokens)).reshape(-1, count)
        whole = np.ones(member.shape, dtype=bool)
        flags = [np.full(len(member), flag) for flag in (self.told, self.shared)]
        return net.ask(tokens, member, whole, *flags)


def as_posterior(groups: Floats, log_evidence: Floats) -> Posterior:
    """Probabilities of space groups in the form of the reasoner's answer."""
    nothing = float("nan")
    cell = (nothing, nothing, nothing, nothing, nothing, nothing)
    return Posterior(groups, (), (), None, (), cell, log_evidence)


def combined(
    reasoner: Posterior,
    learned: Posterior,
    *,
    prior: Prior | None = None,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Posterior:
    """Both opinions as one: the product of their evidence, with the prior counted once.

    Parameters
    ----------
    prior : as both were given it.
    weights : powers of the reasoner's and of the network's evidence; they look at the same
        spots, so that 1 and 1 is too sure.
    """
    evidence = weights[0] * reasoner.log_evidence + weights[1] * learned.log_evidence
    if not np.isfinite(evidence).any():
        raise DiskernError("the two opinions exclude each other's every symbol")
    groups = groups_from(evidence[None], (prior or Prior.natural()).of_groups())[0]
    return as_posterior(groups, evidence)


def spots_that_spoke(
    analyses: Sequence[Analysis],
    symbol: int,
    *,
    weights: str | Path = WEIGHTS,
) -> tuple[tuple[Floats, float], ...] | None:
    """How much each spot speaks for a diffraction symbol: what leaving it out takes from it.

    A spot and its Friedel partner are left out together.

    Parameters
    ----------
    symbol : index in `diskern.crystal.spacegroups.diffraction_symbols`.

    Returns
    -------
    For each analysis (N,) differences of the symbol's log-probability (every symbol equally
    likely before) and their sum over nodes that are dark; None where there are no weights.
    """
    net = symmetry_net(weights)
    if net is None:
        return None
    given = _Given.of(analyses)
    base = _log_share(given.ask(net)[0], symbol)[0]
    out = []
    for row, analysis in enumerate(analyses):
        there = np.flatnonzero(given.tokens.there[row])
        copies = _without(given.tokens, row, there)
        lost = base - _log_share(given._ask(net, copies)[0], symbol) if len(there) else np.zeros(0)
        own, dark = np.zeros(len(analysis.spots)), 0.0
        for place, value in zip(there.tolist(), lost.tolist(), strict=True):
            rows = [s for s in given.tokens.source[row, place].tolist() if 0 <= s < len(own)]
            own[rows] = value
            dark += 0.0 if rows else value
        out.append((own, dark))
    return tuple(out)


def _without(tokens: SpotTokens, row: int, places: Ints) -> SpotTokens:
    """As many copies of a set of patterns, a token of one pattern missing from each."""
    copies = joined([tokens] * max(1, len(places)))
    there = copies.there.copy()
    there[np.arange(len(places)) * len(tokens) + row, places] = False
    return SpotTokens(copies.token, copies.place, there, copies.pattern, copies.source)


def _log_share(log_likelihood: Floats, symbol: int) -> Floats:
    """(S,) log-probability of a symbol, all equally likely before."""
    top = log_likelihood.max(1)
    total = top + np.log(np.exp(log_likelihood - top[:, None]).sum(1))
    return np.asarray(log_likelihood[:, symbol] - total)
