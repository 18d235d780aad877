"""Scores: matching, thresholds and temperatures on answers whose quality is known."""

import numpy as np
import pytest
from small_disks import disk_set

from diskern.nets.disk_units import volts_of
from diskern.nets.proposer import Proposals
from diskern.train.disks_evaluate import best_threshold, evaluate, match, summary, temperatures


def told(noise: float = 0.0, false: int = 0, missing: int = 0):  # type: ignore[no-untyped-def]
    """A finder that reads the labels, with normal errors of known σ, stated half as large."""
    rng = np.random.default_rng(5)

    def finder(block, probe):  # type: ignore[no-untyped-def]
        columns: list[np.ndarray] = []
        for i, disks in enumerate(block["disks"].astype(float)):
            d = disks[disks[:, 4] >= 0.5][missing:]
            unit, energy = float(block["unit"][i]), float(block["energy"][i])
            v = volts_of(np.exp(d[:, 2]), energy, unit)
            n = len(d)
            rows = [
                np.full(n, i),
                d[:, 0] + noise * rng.normal(size=n),
                d[:, 1] + noise * rng.normal(size=n),
                np.full(n, 0.8),
                v * (1 + noise * rng.normal(size=n)),
                v * max(noise / 2, 1e-3),
                d[:, 3] * unit + noise * 0.01 * rng.normal(size=n),
                np.full(n, max(noise * 0.01 / 2, 1e-6)),
                np.full(n, max(noise / 2, 1e-3)),
            ]
            columns.append(np.array(rows))
            wrong = np.zeros((9, false))
            wrong[0], wrong[1], wrong[2], wrong[3] = i, -40.0, -40.0, 0.3
            columns.append(wrong)
        table = np.concatenate(columns, axis=1)
        return Proposals(table[0].astype(int), *table[1:])

    return finder


def blocks(count: int = 12):  # type: ignore[no-untyped-def]
    return [disk_set().block(n) for n in range(count)]


def test_places_take_the_nearest_free_disk() -> None:
    truths = np.array([[10.0, 10], [14, 10], [40, 40]])
    places = np.array([[11.0, 10], [10.5, 10], [40, 43], [60, 60]])
    assert match(places, truths, 3.6).tolist() == [0, 1, 2, -1]
    assert match(places, truths, 2.5).tolist() == [0, -1, -1, -1]
    assert match(places, truths[:0], 2.5).tolist() == [-1] * 4
    assert match(places[:0], truths, 2.5).tolist() == []


def test_a_perfect_finder_scores_perfectly() -> None:
    found = evaluate(told(), blocks())
    assert found.recall(0.5) == 1
    assert found.precision(0.5) == 1
    numbers = summary(found, 0.5)
    assert numbers["place_median_px"] == pytest.approx(0, abs=1e-6)
    assert numbers["v_g_error_median"] == pytest.approx(0, abs=1e-6)


def test_false_and_missed_disks_are_counted() -> None:
    found = evaluate(told(false=3, missing=1), blocks())
    visible = int((found.visibility >= 0.5).sum())
    patterns_with = len(np.unique(found.pattern[found.visibility >= 0.5]))
    assert found.recall(0.2) == pytest.approx(1 - patterns_with / visible)
    right = visible - patterns_with
    assert found.precision(0.2) == pytest.approx(right / (right + 3 * found.patterns))
    assert found.precision(0.5) == 1
    assert 0.3 < best_threshold(found) <= 0.8


def test_temperatures_bring_the_stated_sigma_to_the_true_one() -> None:
    found = evaluate(told(noise=0.05), blocks(30))
    factors = temperatures(found, 0.5)
    assert set(factors) == {"temperature_place", "temperature_w", "temperature_q"}
    assert list(factors.values()) == pytest.approx([2, 2, 2], rel=0.25)
