"""The lattice fit on simulated nets: right lattice, honest covariance, no lattice from chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice_patterns import (
    BRAVAIS,
    MIDDLE,
    SHAPE,
    beam,
    clutter,
    is_same,
    measured,
    net,
    nodes,
    turn,
)

from diskern.bragg.lattice_fit import fit_lattices
from diskern.bragg.lattice_reduce import handedness
from diskern.bragg.lattice_relation import relation
from diskern.bragg.spots import Spots
from diskern.errors import DiskernError
from diskern.patterns.geometry import Centre, Flaw

SUPER = np.array([[[2, 0], [0, 1]], [[1, 0], [0, 2]], [[1, 1], [0, 2]]])


def simple(seed, kind="oblique", count=30, spurious=8, sigma=0.3, spacing=36.0):
    rng = np.random.default_rng(seed)
    basis = net(rng, kind, spacing)
    _, place = nodes(basis)
    place = place[rng.random(len(place)) < 0.9][:count]
    spots, order = measured(rng, np.concatenate([place, clutter(rng, spurious)]), sigma)
    return basis, spots, beam(rng), order < len(place)


@pytest.mark.parametrize("kind", BRAVAIS)
@pytest.mark.parametrize(
    ("count", "spurious", "sigma"), [(8, 3, 0.3), (14, 6, 0.1), (30, 13, 1.0), (60, 26, 0.3)]
)
def test_finds_each_bravais_net_among_clutter(kind, count, spurious, sigma):
    good = 0
    for seed in range(12):
        basis, spots, centre, _ = simple(seed, kind, count, spurious, sigma)
        found = fit_lattices(spots, centre, SHAPE)
        good += bool(found) and is_same(found[0], basis)
    assert good >= 11


def test_right_lattice_in_97_of_100():
    good = 0
    for seed in range(100):
        basis, spots, centre, _ = simple(seed, BRAVAIS[seed % 5], 12 + seed % 20, 6, 0.4)
        found = fit_lattices(spots, centre, SHAPE)
        good += len(found) == 1 and is_same(found[0], basis)
    assert good >= 97


def test_noise_of_two_pixels_on_an_off_centre_net():
    good = 0
    for seed in range(20):
        basis, spots, centre, _ = simple(seed, "oblique", 40, 8, 2.0, spacing=40.0)
        found = fit_lattices(spots, centre, SHAPE)
        good += bool(found) and is_same(found[0], basis, 0.1)
    assert good >= 19


def test_three_exact_spots_make_a_net_and_two_do_not():
    rng = np.random.default_rng(3)
    basis = np.array([[3.0, 50.0], [57.0, 8.0]])
    place = MIDDLE + np.array([[1, 0], [0, 1], [1, 1]]) @ basis
    spots, _ = measured(rng, place, 0.1)
    found = fit_lattices(spots, beam(rng, sigma=0.1), SHAPE)
    assert len(found) == 1
    assert is_same(found[0], basis)
    assert fit_lattices(spots.select(np.array([0, 1])), beam(rng, sigma=0.1), SHAPE) == ()


def test_members_indices_and_coverage_agree_with_the_truth():
    _, spots, centre, real = simple(1, "rectangular", 40, 10)
    (lattice,) = fit_lattices(spots, centre, SHAPE)
    place = lattice.origin + lattice.indices @ lattice.basis
    assert np.linalg.norm(place - spots.position[lattice.members], axis=1).max() < 2.0
    assert set(np.flatnonzero(real)) == set(lattice.members)
    assert lattice.coverage == pytest.approx(real.mean())
    share = spots.intensity[real].sum() / spots.intensity.sum()
    assert lattice.coverage_intensity == pytest.approx(share)
    assert lattice.residual == pytest.approx(0.3 * np.sqrt(2), rel=0.3)
    assert len(np.unique(lattice.indices, axis=0)) == len(lattice.members)


def test_basis_is_reduced_and_right_handed():
    for seed in range(10):
        _, spots, centre, _ = simple(seed)
        lattice = fit_lattices(spots, centre, SHAPE)[0]
        a, b = lattice.lengths
        assert a <= b * (1 + 1e-9)
        assert 60 - 1e-6 <= lattice.angle <= 120 + 1e-6
        assert handedness(lattice.basis) > 0


@pytest.mark.parametrize(("sigma", "stated"), [(0.3, 0.3), (1.0, 0.4)])
def test_covariance_is_calibrated(sigma, stated):
    scores, squares = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        basis = net(rng, "oblique", 40.0)
        _, place = nodes(basis)
        spots, _ = measured(
            rng, np.concatenate([place[:40], clutter(rng, 8)]), sigma, stated=stated
        )
        lattice = fit_lattices(spots, beam(rng), SHAPE)[0]
        change = np.rint(lattice.basis @ np.linalg.inv(basis))
        miss = np.concatenate([lattice.origin - MIDDLE, (lattice.basis - change @ basis).ravel()])
        scores.append(miss / np.sqrt(np.diag(lattice.covariance)))
        squares.append(miss @ np.linalg.solve(lattice.covariance, miss) / 6)
    assert 0.85 < np.std(scores) < 1.15
    assert 0.75 < np.mean(squares) < 1.3


def test_random_spots_have_no_lattice():
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        spots, _ = measured(rng, rng.uniform(10, 500, ((4, 7, 12, 25, 60)[seed % 5], 2)))
        found += bool(fit_lattices(spots, beam(rng), SHAPE))
    assert found <= 1


def _superlattice(seed, part, spurious):
    """A net of strong spots and ``part`` of the weak class that halves its cell."""
    rng = np.random.default_rng(seed)
    fine = net(rng, BRAVAIS[seed % 5], rng.uniform(28, 38))
    coarse = SUPER[seed % 3] @ fine
    _, place = nodes(fine, radius=170.0)
    on = (place - MIDDLE) @ np.linalg.inv(coarse)
    strong = (np.abs(on - np.rint(on)) < 0.01).all(axis=1)
    chosen = np.where(strong, rng.random(len(place)) < 0.95, rng.random(len(place)) < part)
    intensity = np.where(strong[chosen], 1000.0, 30.0)
    place = np.concatenate([place[chosen], clutter(rng, spurious, 170.0)])
    intensity = np.concatenate([intensity, np.full(spurious, 30.0)])
    spots, _ = measured(rng, place, 0.3, intensity=intensity * rng.exponential(1, len(place)))
    return fine if part else coarse, spots, beam(rng)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6])
def test_superlattice_wins_only_where_its_spots_are(part):
    wrong = 0
    for seed in range(50):
        truth, spots, centre = _superlattice(seed, part, spurious=8)
        found = fit_lattices(spots, centre, SHAPE)
        wrong += not (found and is_same(found[0], truth))
    assert wrong <= 1


def test_centred_net_is_reported_in_its_primitive_basis():
    rng = np.random.default_rng(0)
    conventional = np.array([[0.0, 44.0], [70.0, 0.0]]) @ turn(17)
    primitive = np.array([[0.5, 0.5], [-0.5, 0.5]]) @ conventional
    _, place = nodes(primitive)
    spots, _ = measured(rng, place)
    (lattice,) = fit_lattices(spots, beam(rng), SHAPE)
    assert is_same(lattice, primitive)


@pytest.mark.parametrize("width", [25.0, 14.0])
def test_crescent_of_an_off_axis_pattern(width):
    good = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        basis = net(rng, BRAVAIS[seed % 5], rng.uniform(22, 30))
        _, place = nodes(basis, radius=230.0)
        laue = MIDDLE + rng.uniform(60, 100) * np.array([np.cos(seed), np.sin(seed)])
        reach = np.linalg.norm(place - laue, axis=1) - np.linalg.norm(MIDDLE - laue)
        place = place[np.abs(reach) < width]
        spots, _ = measured(rng, np.concatenate([place, clutter(rng, len(place) // 5)]))
        found = fit_lattices(spots, beam(rng), SHAPE)
        good += bool(found) and is_same(found[0], basis)
        good -= bool(found) and np.linalg.norm(found[0].origin - MIDDLE) > 2
    assert good >= 19


def test_beam_stop_hides_the_beam_and_does_not_count_against_the_net():
    rng = np.random.default_rng(5)
    basis = net(rng, "rectangular", 30.0)
    _, place = nodes(basis)
    flaws = np.zeros(SHAPE, dtype=np.uint16)
    flaws[220:290, 220:] = Flaw.BEAM_STOP
    row, col = place.astype(int).T
    place = place[flaws[row, col] == 0]
    spots, _ = measured(rng, place)
    centre = Centre(MIDDLE[0] + 4.0, MIDDLE[1] - 5.0, 6.0, "guess behind the stop")
    with_mask = fit_lattices(spots, centre, SHAPE, flaws=flaws)
    without = fit_lattices(spots, centre, SHAPE)
    assert is_same(with_mask[0], basis)
    assert np.linalg.norm(with_mask[0].origin - MIDDLE) < 0.5
    assert with_mask[0].evidence > without[0].evidence


def test_a_wrong_centre_does_not_destroy_the_net():
    basis, spots, _, _ = simple(4, "square", 40, 4)
    found = fit_lattices(spots, Centre(262.0, 247.0, 0.2, "mistaken"), SHAPE)
    assert is_same(found[0], basis)


def test_row_of_spots_is_rank_one():
    rng = np.random.default_rng(2)
    step = np.array([9.0, 31.0])
    place = MIDDLE + np.array([-3, -2, -1, 1, 2, 3, 4])[:, None] * step
    spots, _ = measured(rng, np.concatenate([place, clutter(rng, 2)]))
    (row,) = fit_lattices(spots, beam(rng), SHAPE)
    assert row.rank == 1
    assert np.abs(row.basis[0] - step).max() < 0.6
    assert np.isnan(row.basis[1]).all()
    assert np.isnan(row.covariance[4:]).all()
    assert np.isfinite(row.covariance[:4, :4]).all()
    assert (row.indices[:, 1] == 0).all()
    assert len(row.nodes(SHAPE)[1]) > 8


def _pair(seed, second):
    rng = np.random.default_rng(seed)
    first = net(rng, "oblique", rng.uniform(36, 48), 0.0)
    return rng, first, second(rng, first)


def _both(rng, first, second, spurious=6):
    _, place = nodes(first, radius=185.0)
    _, other = nodes(second, radius=185.0)
    apart = np.linalg.norm(other[:, None] - place[None], axis=2).min(axis=1) > 6
    place = np.concatenate([place, other[apart], clutter(rng, spurious)])
    return measured(rng, place[rng.random(len(place)) < 0.92], 0.4)[0]


def test_two_overlapping_grains():
    good = 0
    for seed in range(12):
        angle = 8.0 + 1.7 * seed
        rng, first, second = _pair(seed, lambda _, f, angle=angle: f @ turn(angle))
        found = fit_lattices(_both(rng, first, second), beam(rng), SHAPE)
        two = len(found) == 2 and (
            {(is_same(x, first), is_same(x, second)) for x in found}
            == {(True, False), (False, True)}
        )
        if two:
            how = relation(*found)
            two = how.kind == "rotation" and abs(abs(how.angle) - angle) < 0.5
        good += two
    assert good >= 11


def test_twin_on_a_common_row_beats_the_finer_net_over_both():
    good = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        edge, lean = rng.uniform(45, 58), np.degrees(np.arccos(1 / 3))
        first = edge * np.array([[0, 1], [np.sin(np.radians(lean)), 1 / 3]]) @ turn(30 * seed)
        row = first[0] / np.linalg.norm(first[0])
        second = first @ (2 * np.outer(row, row) - np.eye(2))
        found = fit_lattices(_both(rng, first, second), beam(rng), SHAPE)
        if len(found) == 2:
            how = relation(*found)
            along = np.degrees(np.arctan2(row[0], row[1])) % 180
            off = abs((how.axis - along + 90) % 180 - 90)
            off = min(off, abs((how.axis - along) % 180 - 90))
            good += how.kind == "twin" and how.sigma == 3 and off < 2
    assert good >= 11


def test_decagonal_spots_pass_for_no_single_crystal():
    """A lattice of one crystal covers nine of ten of its spots; here two nets share half each."""
    rng = np.random.default_rng(0)
    star = np.array([[np.sin(np.pi * k / 5), np.cos(np.pi * k / 5)] for k in range(4)])
    perpendicular = np.array(
        [[np.sin(3 * np.pi * k / 5), np.cos(3 * np.pi * k / 5)] for k in range(4)]
    )
    index = np.array(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 4)).reshape(4, -1).T
    place = index @ star * 40
    strength = np.exp(-(np.linalg.norm(index @ perpendicular, axis=1) ** 2))
    away = np.linalg.norm(place, axis=1)
    seen = (strength > 0.18) & (away > 5) & (away < 200)
    spots, _ = measured(rng, MIDDLE + place[seen], 0.4, intensity=1000 * strength[seen])
    found = fit_lattices(spots, beam(rng), SHAPE)
    assert max((x.coverage for x in found), default=0) < 0.75


@settings(max_examples=15, deadline=None)
@given(
    angle=st.floats(0, 360),
    scale=st.floats(0.6, 1.6),
    seed=st.integers(0, 4),
    shuffle=st.randoms(use_true_random=False),
)
def test_turned_scaled_and_shuffled_spots_give_the_same_lattice(angle, scale, seed, shuffle):
    _, spots, centre, _ = simple(seed, count=24, spurious=4, spacing=30.0)
    first = fit_lattices(spots, centre, SHAPE)[0]
    change = scale * turn(angle)
    order = list(range(len(spots)))
    shuffle.shuffle(order)
    order = np.array(order)
    middle = np.array([400.0, 400.0])
    row, col = middle + (centre.as_array() - MIDDLE) @ change
    moved = Spots(
        (middle + (spots.position - MIDDLE) @ change)[order],
        spots.sigma[order] * scale,
        spots.intensity[order],
        spots.sigma_intensity[order],
        spots.radius[order] * scale,
    )
    turned = Centre(float(row), float(col), centre.sigma * scale, "moved")
    second = fit_lattices(moved, turned, (800, 800))[0]
    assert is_same(second, first.basis @ change, 0.01)
    assert set(order[second.members]) == set(first.members)
    size = np.linalg.det(second.covariance) / (np.linalg.det(first.covariance) * scale**12)
    assert 0.5 < size < 2


@pytest.mark.parametrize("centre", [(256.0, 256.0, np.inf), (np.nan, np.nan, 1.0)])
def test_unknown_centre(centre):
    basis, spots, _, _ = simple(7, "oblique", 40, 4)
    found = fit_lattices(spots, Centre(*centre, "none"), SHAPE)
    assert is_same(found[0], basis)


def test_hostile_spots():
    assert fit_lattices(Spots.empty(), Centre(9, 9, 1, "x"), SHAPE) == ()
    same = np.full((40, 2), 50.0)
    one = np.ones(40)
    piled = Spots(same, same * 0, one, one, one * 0)
    assert fit_lattices(piled, Centre(9, 9, 1, "x"), SHAPE) == ()
    _, spots, centre, _ = simple(1)
    broken = spots.position.copy()
    broken[3] = np.nan
    sigma = spots.sigma.copy()
    sigma[5] = np.nan
    patched = Spots(broken, sigma, spots.intensity, spots.sigma_intensity, spots.radius * np.nan)
    (lattice,) = fit_lattices(patched, centre, SHAPE)
    assert 3 not in lattice.members


def test_impossible_arguments_are_refused_in_one_line():
    _, spots, centre, _ = simple(1)
    with pytest.raises(DiskernError, match="flaws have shape"):
        fit_lattices(spots, centre, SHAPE, flaws=np.zeros((4, 4), dtype=np.uint16))
    with pytest.raises(DiskernError, match="max_lattices"):
        fit_lattices(spots, centre, SHAPE, max_lattices=0)
    with pytest.raises(DiskernError, match="shape"):
        fit_lattices(spots, centre, (0, 512))
