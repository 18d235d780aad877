"""Candidates are judged by whether the others' steps lead to them."""

import numpy as np
import pytest

from diskern.nets.disk_support import (
    WEIGHTS,
    fit_support,
    has_support,
    support_features,
    supported,
)


def pattern(rng, hidden=0.3, noise=25):
    """Nodes of a net, some of them faint, and false candidates; with the truth."""
    angle = rng.uniform(0, np.pi)
    basis = rng.uniform(11, 17) * np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    index = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 2), -1).reshape(-1, 2)
    nodes = index @ basis + 64 + rng.normal(0, 0.3, (len(index), 2))
    false = rng.uniform(0, 128, (noise, 2))
    right = np.arange(len(nodes) + noise) < len(nodes)
    faint = rng.random(len(right)) < np.where(right, hidden, 1.0)
    probability = np.where(faint, rng.uniform(0.03, 0.3, len(right)), 0.9)
    return np.concatenate([nodes, false]), probability, right, faint


def test_faint_disks_of_a_net_are_told_from_noise():
    rng = np.random.default_rng(0)
    made = [pattern(rng) for _ in range(40)]
    features = [support_features(place, p, 4.0) for place, p, _, _ in made]
    weights = fit_support(np.concatenate(features[:20]), np.concatenate([m[2] for m in made[:20]]))
    assert has_support(weights)
    assert set(weights) == set(WEIGHTS)
    p = np.concatenate([supported(f, weights) for f in features[20:]])
    right, faint = (np.concatenate([m[i] for m in made[20:]]) for i in (2, 3))
    assert (p[right & faint] > 0.5).mean() > 0.9
    assert (p[~right] > 0.5).mean() < 0.1


def test_a_sure_disk_does_not_support_itself():
    rng = np.random.default_rng(1)
    place = rng.uniform(0, 400, (12, 2))
    features = support_features(place, np.full(12, 0.95), 3.0)
    assert features[:, 3].max() < 0.2  # places at random share hardly a step


def test_no_step_is_compared_where_too_few_are_sure():
    features = support_features(np.array([[1.0, 2.0], [9.0, 2.0]]), np.array([0.9, 0.4]), 3.0)
    assert features.shape == (2, 7)
    assert (features[:, [2, 3, 5, 6]] == 0).all()
    assert np.isfinite(support_features(np.zeros((0, 2)), np.zeros(0), 3.0)).all()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (300.0, -40.0)])
def test_where_the_pattern_lies_does_not_matter(shift):
    place, p, _, _ = pattern(np.random.default_rng(2))
    one = support_features(place, p, 4.0)
    other = support_features(place + shift, p, 4.0)
    assert np.abs(one[:, 3] - other[:, 3]).mean() < 0.02
