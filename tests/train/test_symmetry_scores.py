"""Scores of probabilities, against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.train.symmetry_scores import (
    calibration_error,
    conformal_threshold,
    fit_temperature,
    honest_calibration_error,
    macro_f1,
    scores,
    set_scores,
)


def test_scores_of_three_answers() -> None:
    p = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], [0.25, 0.4, 0.25, 0.1]])
    found = scores(p, np.array([0, 0, 1]))
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["top3"] == pytest.approx(2 / 3)
    assert found["nll"] == pytest.approx(-np.log([0.7, 0.1, 0.4]).mean())
    # Class 0: 1 hit, 1 missed; class 1: 1 hit.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_macro_f1_counts_false_answers() -> None:
    assert macro_f1(np.array([0, 0, 0]), np.array([0, 1, 1])) == pytest.approx((0.5 + 0) / 2)


def test_an_honest_forecast_has_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 200000)
    right = rng.random(200000) < confidence
    assert calibration_error(confidence, right) < 0.01
    assert calibration_error(np.full(100, 0.9), np.arange(100) < 50) == pytest.approx(0.4)


def test_few_cases_show_an_error_that_is_none() -> None:
    """Answers that are right as often as they say show as much error as is expected of them."""
    rng = np.random.default_rng(3)
    shown, expected = [], []
    for _ in range(40):
        confidence = rng.uniform(0.2, 1, 100)
        shown.append(calibration_error(confidence, rng.random(100) < confidence))
        expected.append(honest_calibration_error(confidence))
    assert np.mean(expected) > 0.08
    assert np.mean(shown) == pytest.approx(np.mean(expected), rel=0.1)
    assert honest_calibration_error(rng.uniform(0.2, 1, 100000)) < 0.005


def test_sets_hold_the_truth_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (4000, 10))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.array([rng.choice(10, p=row) for row in p])
    wrong = p**0.4 / (p**0.4).sum(1, keepdims=True)
    own = wrong[np.arange(2000), truth[:2000]]
    size, held = set_scores(wrong[2000:], truth[2000:], conformal_threshold(own, 0.9))
    assert 0.88 < held < 0.92
    assert 1 < size < 10


def test_too_few_cases_promise_everything() -> None:
    assert conformal_threshold(np.array([0.5, 0.6]), 0.95) == 0


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(2)
    true = [rng.normal(0, 2, (3000, 8)) for _ in range(3)]
    truths = [np.array([rng.choice(8, p=np.exp(r) / np.exp(r).sum()) for r in t]) for t in true]
    counts = [1, 3, 10]
    sharpened = [t * 1.7 * k**0.3 for t, k in zip(true, counts, strict=True)]
    temperature, slope = fit_temperature(sharpened, truths, counts)
    assert temperature == pytest.approx(1.7, rel=0.08)
    assert slope == pytest.approx(0.3, abs=0.05)
