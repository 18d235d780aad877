"""Several patterns as one crystal: shared rows, a shared cell, nets that are set aside."""

from dataclasses import replace

import numpy as np
import pytest
from zone_patterns import crystal, evidence

from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.hypotheses_table import block
from diskern.symmetry.hypotheses_zones import stabiliser
from diskern.symmetry.likelihood_metric import fit_cells
from diskern.symmetry.likelihood_nodes import NodeLikelihood
from diskern.symmetry.likelihood_shapes import cell_of, shapes
from diskern.symmetry.posterior import Prior
from diskern.symmetry.reasoner import Settings, reason, weigh
from diskern.symmetry.reasoner_joint import DOUBTED, Relation, _nothing, _strongest
from diskern.symmetry.reasoner_rows import CommonRows

SIDE = np.arange(-6, 7)
PLANE = np.stack(np.meshgrid(SIDE, SIDE, indexing="ij"), -1).reshape(-1, 2)
TWO = np.array([np.eye(2), -np.eye(2)], dtype=int)


@pytest.mark.parametrize("laue_class", ["2/m", "mmm", "4/mmm", "-3", "m-3m"])
def test_nets_of_one_cell_agree_on_their_common_rows_and_others_do_not(laue_class):
    one = block(laue_class)
    rng = np.random.default_rng(3)
    nets = rng.choice(len(one), 40, replace=False)
    phi = one.cell.mean + rng.normal(size=len(one.cell.mean)) * one.cell.spread
    shape, _ = shapes(one.basis[nets][None], one.cell, phi[None])
    covariance = np.tile(np.eye(3) * 0.003**2, (len(nets), 1, 1))
    rows = CommonRows(one, shape[0], covariance)
    right = [
        float(rows.agreement(i, nets[i : i + 1], j, nets[j : j + 1])[0, 0])
        for i in range(0, 40, 7)
        for j in range(40)
    ]
    assert min(right) > -1e-2
    wrong = rows.agreement(0, nets, 1, nets[::-1])
    assert wrong.shape == (40, 40)
    # Two views of one zone, or of zones whose common row is one of symmetry, cannot disagree.
    assert (wrong < -2).mean() > (0.5 if laue_class == "2/m" else 0.7)


def test_a_doubted_net_agrees_with_every_other():
    one = block("mmm")
    shape = np.array([[-1.8, -1.6, 1.5], [-1.9, -1.2, 1.57]])
    rows = CommonRows(one, shape, np.tile(np.eye(3) * 1e-5, (2, 1, 1)))
    found = rows.agreement(0, np.array([DOUBTED, 5]), 1, np.arange(0, len(one), 150))
    assert not found[0].any()
    assert found[1].any()
    assert not rows.agreement(0, np.array([DOUBTED]), 1, np.arange(3)).any()


def test_an_orthorhombic_cell_is_found_among_thousands_of_nets():
    # A long axis and no zone that is short: hundreds of nets fit each pattern as well.
    phase = crystal(61, (5.61, 15.29, 6.76, 90, 90, 90), seed=5)
    seen = [evidence(phase, u, i, pixel_size=1.0) for i, u in enumerate(((2, 0, 1), (2, 1, 0)))]
    seen.append(evidence(phase, (1, 1, 2), 2, pixel_size=1.0))
    found = reason(seen, settings=Settings(systems=("orthorhombic",)))
    assert np.allclose(sorted(found.cell[:3]), (5.61, 6.76, 15.29), rtol=0.01)


def test_a_net_of_another_crystal_is_set_aside():
    simple = crystal(225, (4.05,) * 3 + (90,) * 3)
    other = crystal(2, (5.3, 6.9, 8.3, 83, 97, 111), seed=2)
    zones = [(0, 0, 1), (0, 1, 1), (1, 1, 2)]
    own = [evidence(simple, u, i, pixel_size=1.0) for i, u in enumerate(zones)]
    foreign = evidence(other, (1, 1, 0), 7, pixel_size=1.0)
    found = reason([own[0], foreign, *own[1:]], prior=Prior())
    assert found.best.system == "cubic"
    assert found.best.extinction == "F - - -"
    assert found.cell[0] == pytest.approx(4.05, rel=0.01)
    assert any("pattern 2: its net fits no zone" in line for line in found.reasons)
    assert sum(z.probability for z in found.zone_axes[1]) < 0.5
    for i, zone in ((0, (0, 0, 1)), (2, (0, 1, 1)), (3, (1, 1, 2))):
        assert found.zone_axes[i][0].uvw == zone
        assert found.zone_axes[i][0].probability > 0.9


def test_reasons_speak_of_patterns_by_the_numbers_of_their_images():
    simple = crystal(225, (4.05,) * 3 + (90,) * 3)
    one, two = (evidence(simple, u, pixel_size=1.0) for u in ((0, 0, 1), (0, 1, 1)))
    found = reason([replace(one, number=2), replace(two, number=5)])
    assert any(line.startswith("pattern 2: the net") for line in found.reasons)
    assert any(line.startswith("pattern 5: the net") for line in found.reasons)
    alone = reason([replace(two, number=5)])
    assert any(line.startswith("pattern 5: the net") for line in alone.reasons)
    assert any(line.startswith("the pattern: the net") for line in reason([two]).reasons)


def test_one_pattern_alone_is_not_set_aside():
    simple = crystal(225, (4.05,) * 3 + (90,) * 3)
    for result in weigh([evidence(simple, (0, 1, 1), pixel_size=1.0)]):
        assert (result.nets != DOUBTED).all()


def test_a_pattern_whose_net_is_probably_none_says_little():
    other = crystal(2, (5.3, 6.9, 8.3, 83, 97, 111), seed=2)
    one = evidence(other, (1, 1, 0), pixel_size=1.0)
    held, doubted = (reason([replace(one, doubt=d)], prior=Prior()) for d in (0.03, 0.95))
    prior = Prior().of_groups()
    assert np.abs(doubted.groups - prior).sum() < 0.3 * np.abs(held.groups - prior).sum()
    assert np.isfinite(doubted.cell).all()


def test_two_doubtful_nets_of_three_do_not_outvote_a_good_one():
    simple = crystal(225, (4.05,) * 3 + (90,) * 3)
    other = crystal(2, (5.3, 6.9, 8.3, 83, 97, 111), seed=2)
    own = evidence(simple, (0, 1, 1), pixel_size=1.0)
    foreign = [
        replace(evidence(other, u, 7, pixel_size=1.0), doubt=0.9) for u in ((1, 1, 0), (0, 1, 2))
    ]
    found = reason([own, *foreign], prior=Prior())
    alone = reason([own], prior=Prior())
    assert found.system()[0].name == alone.system()[0].name == "cubic"


def test_at_most_half_of_the_patterns_are_set_aside():
    simple = crystal(225, (4.05,) * 3 + (90,) * 3)
    zones = [(0, 0, 1), (0, 1, 1), (1, 1, 1)]
    given = [evidence(simple, u, i, pixel_size=1.0) for i, u in enumerate(zones)]
    found = weigh(given, Settings(systems=("cubic",)))
    assert max(int((r.nets == DOUBTED).sum(1).max()) for r in found) == 1


def test_a_relation_holds_however_many_patterns_follow():
    simple = crystal(225, (4.05,) * 3 + (90,) * 3)
    zones = [(0, 1, 1), (0, 1, 1), (0, 0, 1)]
    patterns = [evidence(simple, u, i, pixel_size=1.0) for i, u in enumerate(zones)]
    right, wrong = (
        reason(patterns, settings=Settings(relations=(Relation(0, 1, angle, 0.5),)))
        for angle in (60.0, 23.0)
    )
    assert right.best.system == "cubic"
    # One of the two zones can be set aside at the price of a doubt.
    assert right.log_evidence[right.best.index] - wrong.log_evidence[right.best.index] > 3


def test_one_distorted_net_draws_the_cell_but_little():
    cell = cell_of("mmm")
    basis = np.array([[[[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]]]])
    phi = cell.mean[None] + np.array([[0.1, -0.2, 0.3]])
    shape = shapes(basis, cell, phi)[0][0]
    covariance = np.tile(np.eye(3) * 0.003**2, (3, 1, 1))
    shape[2, 1] += 0.05
    strict, robust = (
        fit_cells(basis, cell, shape, covariance, 0.0, steps=12, robust=n).phi for n in (0, 8)
    )
    assert np.abs(robust - phi).max() < 0.5 * np.abs(strict - phi).max()
    without = fit_cells(basis, cell, shape, covariance, 0.0, there=np.array([[True, True, False]]))
    assert np.allclose(without.phi, phi, atol=2e-4)


def _net(intensity):
    nodes = PLANE[(PLANE**2).sum(1) <= 26]
    values = np.array([intensity(m, n) for m, n in nodes.tolist()])
    return NodeLikelihood(PatternEvidence.from_nodes(np.eye(2) * 20, nodes, values, limit=1e-4))


def test_uneven_equivalents_are_evidence_against_a_mirror_only_where_friedel_mates_agree():
    rng = np.random.default_rng(1)
    known: dict[tuple[int, int], float] = {}

    def paired(m, n):
        return known.setdefault(max((m, n), (-m, -n)), float(rng.exponential()) + 0.01)

    four = stabiliser("4/mmm", (0, 0, 1))
    level = _net(paired)
    tilted = _net(lambda m, n: float(np.random.default_rng([9 + m, 9 + n]).exponential()) + 0.01)
    against = level.under(four, ()) - level.under(TWO, ())
    undecided = tilted.under(four, ()) - tilted.under(TWO, ())
    assert against < -5
    assert abs(undecided) < 0.2 * abs(against)
    mirrored = _net(lambda m, n: paired(*sorted((abs(m), abs(n)))))
    assert mirrored.under(four, ()) - mirrored.under(TWO, ()) > 10


def test_a_block_without_any_net_for_the_patterns_stays_empty():
    none = _strongest(_nothing(block("m-3m"), 2))
    assert none.nets.shape == (0, 2)
    assert (none.log_evidence == -np.inf).all()
