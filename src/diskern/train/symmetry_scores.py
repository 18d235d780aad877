"""Figures of merit of probabilities: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def scores(probability: Floats, truth: Ints) -> dict[str, float]:
    """Of (S, C) probabilities and (S,) true classes.

    Returns
    -------
    ``top1``, ``top3`` : shares; ``macro_f1`` : mean F1 of the classes that occur; ``nll`` : mean
    −ln p of the truth; ``ece`` : expected calibration error of the first answer, ten bins;
    ``ece_honest`` : what perfectly calibrated answers, as many and as sure, would show of it.
    """
    order = np.argsort(-probability, axis=1, kind="stable")
    right = order[:, 0] == truth
    own = probability[np.arange(len(truth)), truth]
    return {
        "top1": float(right.mean()),
        "top3": float((order[:, :3] == truth[:, None]).any(1).mean()),
        "macro_f1": macro_f1(order[:, 0], truth),
        "nll": float(-np.log(np.maximum(own, 1e-12)).mean()),
        "ece": calibration_error(probability.max(1), right),
        "ece_honest": honest_calibration_error(probability.max(1)),
    }


def macro_f1(answer: Ints, truth: Ints) -> float:
    """Mean over the classes that occur of 2 TP / (2 TP + FP + FN)."""
    found = []
    for c in np.unique(truth):
        hit = float(((answer == c) & (truth == c)).sum())
        found.append(2 * hit / float((answer == c).sum() + (truth == c).sum()))
    return float(np.mean(found))


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean distance of confidence and accuracy in bins of equal width, weighted by their size."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(right[which == b].mean() - confidence[which == b].mean())) * (which == b).mean()
        for b in np.unique(which)
    ]
    return float(np.sum(gaps))


def honest_calibration_error(confidence: Floats, draws: int = 100, seed: int = 0) -> float:
    """Mean `calibration_error` of answers that are right exactly as often as they say.

    Few cases in a bin are right a little more or less often by chance alone, so that an error of
    zero is never seen; an error no larger than this is none that can be shown.
    """
    rng = np.random.default_rng(seed)
    right = rng.random((draws, len(confidence))) < confidence
    return float(np.mean([calibration_error(confidence, row) for row in right]))


def conformal_threshold(own: Floats, coverage: float) -> float:
    """Probability that classes must reach so that sets hold the truth with ``coverage``.

    Parameters
    ----------
    own : (S,) probabilities that were given to the truth on the calibration side.
    """
    rank = int(np.floor((len(own) + 1) * (1 - coverage)))
    return float(np.sort(own)[rank - 1]) if rank >= 1 else 0.0


def set_scores(probability: Floats, truth: Ints, threshold: float) -> tuple[float, float]:
    """Mean size of sets of classes above a threshold (the first always), and their coverage."""
    inside = probability >= threshold
    inside[np.arange(len(truth)), probability.argmax(1)] = True
    return float(inside.sum(1).mean()), float(inside[np.arange(len(truth)), truth].mean())


def fit_temperature(
    log_likelihoods: Sequence[Floats], truths: Sequence[Ints], counts: Sequence[int]
) -> tuple[float, float]:
    """T and b that minimise the mean −ln p of softmax(l / (T kᵇ)) over sets of several sizes k.

    Parameters
    ----------
    log_likelihoods, truths : for each size (S, C) and (S,).
    """

    def cost(x: Floats) -> float:
        x, total = np.clip(x, [-3, -1], [4, 2]), 0.0
        for values, truth, k in zip(log_likelihoods, truths, counts, strict=True):
            scaled = values / (np.exp(x[0]) * k ** x[1])
            top = scaled.max(1)
            norm = top + np.log(np.exp(scaled - top[:, None]).sum(1))
            total += float((norm - scaled[np.arange(len(truth)), truth]).mean())
        return total

    found = minimize(cost, np.zeros(2), method="Nelder-Mead")
    log_temperature, slope = np.clip(found.x, [-3, -1], [4, 2])
    return float(np.exp(log_temperature)), float(slope)
