"""Rules and network as one opinion."""

import numpy as np
import pytest
from zone_patterns import crystal, evidence

from diskern.crystal.extinction_groups import diffraction_symbols, symbol_of
from diskern.symmetry import reasoner
from diskern.symmetry.joined import Weights, Witness, joined_evidence
from diskern.symmetry.posterior import Prior, of_symbols
from diskern.symmetry.reasoner import Settings, reason, weigh

COUNT = len(diffraction_symbols())
EVEN = of_symbols(Prior().of_groups())


def probabilities(log_likelihood):
    """Posterior of the symbols, every one as likely by the tree."""
    weight = EVEN * np.exp(log_likelihood - log_likelihood.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def test_without_doubt_the_two_multiply():
    rules, network = np.random.default_rng(0).normal(0, 2, (2, 3, COUNT))
    both = joined_evidence(rules, network, Weights(rules=0.5, network=0.7, doubt=0.0))
    expected = probabilities(0.5 * rules + 0.7 * network)
    np.testing.assert_allclose(probabilities(both), expected, rtol=1e-9)
    # Evidence has no zero.
    moved = joined_evidence(rules + 7.0, network)
    np.testing.assert_allclose(moved, joined_evidence(rules, network), atol=1e-9)


def test_doubt_bounds_how_sure_the_rules_can_make():
    rules = np.full(COUNT, -np.inf)
    rules[5] = 0.0
    sure = probabilities(joined_evidence(rules, np.zeros(COUNT), Weights(1.0, 1.0, 0.2)))
    assert sure[5] == pytest.approx(0.8 + 0.2 * EVEN[5])
    np.testing.assert_allclose(np.delete(sure, 5), 0.2 * np.delete(EVEN, 5))


def test_a_witness_speaks_in_the_reasoner():
    cell = (4.05, 4.05, 4.05, 90, 90, 90)
    given = [evidence(crystal(225, cell), (0, 0, 1)), evidence(crystal(225, cell), (0, 1, 1))]
    rules = reason(given, prior=Prior())
    assert rules.alone is None
    best = rules.best
    silent = Witness(np.zeros(COUNT))
    hedged = reason(given, prior=Prior(), witness=silent)
    np.testing.assert_allclose(hedged.alone, rules.groups)
    np.testing.assert_array_equal(hedged.log_evidence, rules.log_evidence)
    expected = probabilities(silent.joined(rules.log_evidence))
    np.testing.assert_allclose(hedged.symbols, expected, atol=1e-12)
    assert hedged.best == best
    assert hedged.symbols[best.index] < rules.symbols[best.index]


def test_a_symbol_that_the_rules_exclude_can_win_but_gives_no_zones(monkeypatch):
    skew = crystal(2, (5.1, 6.3, 7.7, 81.0, 97.0, 104.0))
    given = [evidence(skew, u, pixel_size=1.0) for u in ((0, 0, 1), (1, 0, 0))]

    def no_cubic(patterns, settings):
        found = weigh(patterns, settings)
        none = np.zeros(0, dtype=np.int64)
        return [r.select(none) if r.block.system == "cubic" else r for r in found]

    monkeypatch.setattr(reasoner, "weigh", no_cubic)
    rules = reason(given, prior=Prior())
    excluded = [s for s in diffraction_symbols() if not np.isfinite(rules.log_evidence[s.index])]
    assert excluded
    loud = np.zeros(COUNT)
    loud[excluded[0].index] = 60.0
    both = reason(given, prior=Prior(), witness=Witness(loud))
    assert both.best == excluded[0]
    # Zones, cell and reasons are those of what fits the nets.
    assert symbol_of(both.ambiguity_set[0]) != excluded[0]
    assert any("rules alone favour" in reason for reason in both.reasons)
    assert np.isfinite(both.cell).all()


def test_systems_that_are_not_considered_stay_out():
    given = [evidence(crystal(225, (4.05, 4.05, 4.05, 90, 90, 90)), (0, 1, 1))]
    settings = Settings(systems=("cubic",))
    both = reason(given, prior=Prior(), settings=settings, witness=Witness(np.zeros(COUNT)))
    assert [r.name for r in both.system()] == ["cubic"]
