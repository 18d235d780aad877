"""Why the network believes in a symbol: what each spot, and each dark node, adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.analysis import Analysis
from diskern.bragg.spot_tokens import SpotTokens, spot_tokens
from diskern.symmetry.learned import (
    WEIGHTS,
    GivenPatterns,
    in_unit,
    measured_spots,
    symmetry_net,
)
from diskern.symmetry.spot_inputs import joined

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_SPOTS = 24
"""Pairs of spots of a pattern, brightest first, that are left out one after the other."""
MOST_DARK = 12
"""Dark nodes of a pattern, innermost first, that are lit one after the other."""


@dataclass(frozen=True, eq=False)
class Voices:
    """What the spots of one pattern say of a symbol, in nats of its log-probability.

    Attributes
    ----------
    spots : (N,) how much less probable the symbol is without each spot of the analysis and its
        Friedel mate; NaN for spots that were not asked.
    dark_position : (M, 2) row and column in px of nodes of the net that are dark.
    dark : (M,) how much less probable the symbol would be were each of them lit.
    """

    spots: Floats
    dark_position: Floats
    dark: Floats


def spots_that_spoke(
    analyses: Sequence[Analysis], symbol: int, *, weights: str | Path = WEIGHTS
) -> tuple[Voices, ...] | None:
    """How much each spot and each dark node speaks for a diffraction symbol.

    Every pattern is told again without one spot and its Friedel mate, and with one dark node and
    its mate as bright as the median spot; every symbol counts as equally likely before.

    Parameters
    ----------
    analyses : of spots; see `diskern.symmetry.learned.LearnedSymmetry.patterns`.
    symbol : index in `diskern.crystal.extinction_groups.diffraction_symbols`.

    Returns
    -------
    Of each analysis; None where there are no weights.
    """
    net = symmetry_net(weights)
    if net is None:
        return None
    given = GivenPatterns.of(analyses)
    base = _log_share(given.ask(net)[0], symbol)[0]
    out = []
    for row, analysis in enumerate(analyses):
        changed = _Changed.of(analysis, given.tokens, row)
        if not len(changed.tokens):
            nothing = np.zeros((0, 2))
            out.append(Voices(np.full(len(analysis.spots), np.nan), nothing, np.zeros(0)))
            continue
        tokens = changed.tokens
        if given.told:
            tokens = in_unit(tokens, np.full(len(tokens), analysis.pattern.pixel_size or 1.0))
        # Sets of all patterns as they are but for this one.
        member = np.tile(np.arange(len(given.tokens)), (len(tokens), 1))
        member[:, row] = len(given.tokens) + np.arange(len(tokens))
        said = given.ask_sets(net, joined([given.tokens, tokens]), member)[0]
        lost = base - _log_share(said, symbol)
        out.append(changed.voices(lost, len(analysis.spots)))
    return tuple(out)


@dataclass(frozen=True, eq=False)
class _Changed:
    """One pattern told in several ways: first without pairs of spots, then with lit nodes."""

    tokens: SpotTokens
    pairs: Ints
    dark_position: Floats

    @classmethod
    def of(cls, analysis: Analysis, tokens: SpotTokens, row: int) -> _Changed:
        place, basis = measured_spots(analysis)
        bright = analysis.spots.intensity
        there, source = tokens.there[row], tokens.source[row]
        lit = (source >= 0).any(1)
        pairs = source[there & lit]
        strength = np.where(pairs >= 0, bright[pairs.clip(0)], 0).sum(1)
        pairs = pairs[np.argsort(-strength, kind="stable")[:MOST_SPOTS]]
        dark = np.zeros((0, 2))
        if np.isfinite(basis).all():
            # Dark nodes stand first among the tokens, nearest to the beam.
            chosen = np.flatnonzero(there & ~lit)[:MOST_DARK]
            dark = _from_frame(tokens.place[row, chosen], place, tokens, row)
        count = len(pairs) + len(dark)
        level = np.repeat(bright[None], count, 0)
        for copy, rows in enumerate(pairs):
            level[copy, rows[rows >= 0]] = 0
        more = np.zeros((count, 2, 2))
        more[len(pairs) :, 0], more[len(pairs) :, 1] = dark, -dark
        extra = np.zeros((count, 2))
        extra[len(pairs) :] = np.median(bright) if len(bright) else 0.0
        every = np.concatenate([np.repeat(place[None], count, 0), more], 1)
        told = spot_tokens(
            every, np.concatenate([level, extra], 1), np.repeat(basis[None], count, 0)
        )
        origin = analysis.spots.position - place
        centre = origin[0] if len(origin) else analysis.centre.as_array()
        return cls(told, pairs, dark + centre)

    def voices(self, lost: Floats, spots: int) -> Voices:
        """Of (C,) losses of the symbol in the changed patterns."""
        own = np.full(spots, np.nan)
        for rows, value in zip(self.pairs, lost, strict=False):
            own[rows[rows >= 0]] = value
        return Voices(own, self.dark_position, lost[len(self.pairs) :])


def _from_frame(inside: NDArray[np.float32], place: Floats, tokens: SpotTokens, row: int) -> Floats:
    """(M, 2) row and column from places in the pattern's frame.

    The frame is that which takes the spots to the places of their tokens.
    """
    source = tokens.source[row, :, 0]
    known = tokens.there[row] & (source >= 0)
    if known.sum() < 2:
        return np.zeros((0, 2))
    frame = tokens.place[row, known].astype(np.float64)
    turn = np.linalg.lstsq(frame, place[source[known]], rcond=None)[0]
    return np.asarray(inside.astype(np.float64) @ turn)


def _log_share(log_likelihood: Floats, symbol: int) -> Floats:
    """(S,) log-probability of a symbol, all equally likely before."""
    top = log_likelihood.max(1)
    total = top + np.log(np.exp(log_likelihood - top[:, None]).sum(1))
    return np.asarray(log_likelihood[:, symbol] - total)
