"""Labels shared out to space groups; several zone axes joined."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.errors import DiskernError
from diskern.symmetry.ensemble import Ensemble, join
from diskern.symmetry.lookalike import Setting, lookalike_labels


def certain(ensemble: Ensemble, *looks: tuple[str, tuple[int, int, int]]) -> np.ndarray:
    """(K, L) certainty about the label of each (setting, zone)."""
    names = [entry.label for entry in ensemble.table.classes]
    rows = [names.index(ensemble.table.label(*look)) for look in looks]
    return np.eye(len(names))[rows]


def test_the_published_example() -> None:
    """[001] of 225 looks like four groups, 25 % each; [103] is its own: together 62.5 %."""
    ensemble = Ensemble(lookalike_labels())
    assert ensemble.groups == (213, 221, 225, 227, 229)
    labels = certain(ensemble, ("225", (0, 0, 1)), ("225", (0, 1, 3)))
    groups = ensemble.of_labels(labels)
    place = ensemble.groups.index(225)
    assert groups[:, place].tolist() == [0.25, 1.0]
    assert join(groups)[place] == 0.625
    assert join(groups, "product")[place] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("share", ["groups", "zones"])
def test_probabilities_stay_probabilities(share: str) -> None:
    ensemble = Ensemble(lookalike_labels(), share)  # type: ignore[arg-type]
    p = np.random.default_rng(0).dirichlet(np.ones(len(ensemble.table)), (3, 4))
    groups = ensemble.of_labels(p)
    assert groups.shape == (3, 4, 5)
    np.testing.assert_allclose(groups.sum(-1), 1)
    for rule in ("mean", "product"):
        np.testing.assert_allclose(join(groups, rule).sum(-1), 1)  # type: ignore[arg-type]


def test_zones_weigh_by_how_often_a_look_is_met() -> None:
    """Of P and I, a square net without absences along [001] comes from both; the share of a
    group follows the number of its zones with that look."""
    table = lookalike_labels([Setting(221), Setting(229)], [(0, 0, 1), (0, 1, 1), (0, 1, 2)])
    ensemble = Ensemble(table, "zones")
    for entry, row in zip(table.classes, ensemble.weights, strict=True):
        numbers = [s.number for s, _ in entry.members]
        assert row.tolist() == [numbers.count(n) / len(numbers) for n in ensemble.groups]


def test_a_split_group_is_no_likelier() -> None:
    """227 stands in the table three times; its looks along one zone count as one group's."""
    table = lookalike_labels(zones=[(0, 0, 1), (1, 1, 1)])
    ensemble = Ensemble(table, "zones")
    labels = certain(ensemble, ("225", (1, 1, 1)))
    np.testing.assert_allclose(ensemble.of_labels(labels)[0], 0.2)


def test_product_recovers_from_one_wrong_pattern() -> None:
    wrong, right = [1.0, 0.0], [0.01, 0.99]
    assert join([wrong, right, right, right, right], "product").argmax() == 1
    assert join([wrong, right], "mean")[0] == pytest.approx(0.505)


def test_nonsense_is_refused() -> None:
    ensemble = Ensemble(lookalike_labels())
    with pytest.raises(DiskernError, match="61 labels"):
        ensemble.of_labels(np.ones(60) / 60)
    with pytest.raises(DiskernError, match="patterns, groups"):
        join(np.zeros((0, 5)))
    with pytest.raises(DiskernError, match="mean or product"):
        join(np.ones((2, 5)), "sum")  # type: ignore[arg-type]
    with pytest.raises(DiskernError, match="finite"):
        join([[np.nan, 1.0]])
    with pytest.raises(DiskernError, match="groups or zones"):
        Ensemble(lookalike_labels(), "atoms")  # type: ignore[arg-type]
