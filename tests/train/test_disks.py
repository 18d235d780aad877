"""Patterns for disk finders: repeatable, honest about every disk, apart by prototype."""

import numpy as np
import pytest
from small_disks import data, disk_set

from diskern.errors import DiskernError
from diskern.train.disks import DiskSet
from diskern.train.disks_recipe import DisksRecipe
from diskern.train.disks_render import Aperture, draw_rocked, signal_to_noise
from diskern.train.disks_rocking import RockedDisks
from diskern.train.recipe import Range
from diskern.train.samples import sides_of
from diskern.train.split import prototype_family


def rocked(places: np.ndarray, nodes: int = 9) -> RockedDisks:
    """Uniform disks of one pattern, half as bright as the direct beam."""
    n = len(places)
    return RockedDisks(
        np.zeros(n, dtype=np.int64),
        places,
        np.zeros(n),
        np.ones(n),
        np.full((n, nodes, nodes), 0.25, dtype=np.float32),
        np.full((1, nodes, nodes), 0.5, dtype=np.float32),
    )


def test_a_block_is_decided_by_its_number() -> None:
    first, again, other = (disk_set().block(n) for n in (3, 3, 4))
    for name, array in first.items():
        assert np.array_equal(array, again[name]), name
    assert not np.array_equal(first["image"], other["image"])


def test_no_prototype_is_on_two_sides() -> None:
    sides = sides_of(data())
    families = [{prototype_family(m) for m in side} for side in sides]
    assert all(families)
    assert not (families[0] & families[1] | families[0] & families[2] | families[1] & families[2])
    with pytest.raises(DiskernError, match="side 'both'"):
        DiskSet(data(), "both")


def test_what_a_block_says_is_within_the_recipe() -> None:
    recipe = data()
    for number in range(6):
        block = disk_set().block(number)
        assert block["image"].shape == (2, 64, 64)
        assert np.isfinite(block["image"]).all()
        disks = block["disks"]
        assert disks.shape == (2, recipe.disks, 6)
        listed = disks[..., 4] > 0
        assert (disks[listed][:, :2] > -0.5).all()
        assert (disks[listed][:, :2] < 63.5).all()
        assert (np.diff(disks[..., 4]) <= 0).all()
        assert ((disks[..., 5] == 0) & listed).sum(1).max() <= 1
        assert (recipe.dose.low <= block["dose"]).all()
        assert (block["dose"] <= recipe.dose.high).all()


def test_disks_that_a_finder_never_sees_are_not_taught() -> None:
    taught = [float(disk_set(taught=5.0).block(n)["radius"][0]) for n in range(12)]
    held = [float(disk_set("validation", taught=5.0).block(n)["radius"][0]) for n in range(12)]
    assert min(taught) >= 5 > min(held)


def test_disks_lie_where_they_are_said_to_lie() -> None:
    rng = np.random.default_rng(2)
    tilt = np.array([[1.03, 0.02], [-0.01, 0.98]])
    for radius, hole in ((2.5, 0.0), (6.3, 0.0), (7.0, 0.6)):
        aperture = Aperture(radius, 0.5, hole, tilt)
        place = rng.uniform(-2.5, 2.5, (1, 2)) + np.array([[3.5, 0.0]])
        centre = 40 + rng.uniform(-1, 1, (1, 2))
        drawn = draw_rocked(rocked(place), centre, aperture, (81, 81))
        assert drawn.places[0] == pytest.approx(centre[0] + tilt @ place[0] * radius)
        alone = draw_rocked(rocked(place[:0]), centre, aperture, (81, 81)).image
        image = (drawn.image - alone)[0].astype(float)
        rows, cols = np.mgrid[:81, :81]
        total = image.sum()
        assert total == pytest.approx(0.25 * np.linalg.det(tilt), rel=0.01)
        assert (image * rows).sum() / total == pytest.approx(drawn.places[0, 0], abs=0.02)
        assert (image * cols).sum() / total == pytest.approx(drawn.places[0, 1], abs=0.02)


def test_disks_off_the_detector_leave_it_alone() -> None:
    aperture = Aperture(4.0, 0.5, 0.0, np.eye(2))
    far = rocked(np.array([[50.0, 0.0], [-10.0, 0.3]]))
    drawn = draw_rocked(far, np.array([[20.0, 20.0]]), aperture, (41, 41))
    assert drawn.image.sum() == pytest.approx(0.5, rel=0.02)


def test_signal_to_noise_is_what_a_matched_filter_measures() -> None:
    aperture = Aperture(4.0, 0.5, 0.0, np.eye(2))
    drawn = draw_rocked(
        rocked(np.array([[3.0, 2.0]])), np.array([[20.0, 20.0]]), aperture, (41, 41)
    )
    dose, floor = np.float32(300.0), np.float32(1.5)
    mean = drawn.image * dose + floor
    expected = signal_to_noise(drawn, np.full((1, 41, 41), dose), mean, np.zeros(1))[0]
    signal = np.zeros(41 * 41)
    signal[drawn.pixels[0]] = drawn.values[0] * dose
    weight = signal / mean.ravel()
    rng = np.random.default_rng(3)
    without = mean.ravel() - signal
    noise = rng.poisson(mean.ravel(), (4000, mean.size)) @ weight
    empty = rng.poisson(without, (4000, mean.size)) @ weight
    measured = (noise.mean() - empty.mean()) / noise.std()
    assert measured == pytest.approx(expected, rel=0.04)


def test_brighter_patterns_show_more() -> None:
    few, many = (disk_set(dose=Range(low=d, high=2 * d), second_grain=0.0) for d in (1e3, 1e6))
    seen = [
        sum(int((s.block(n)["disks"][..., 4] > 0.5).sum()) for n in range(5)) for s in (few, many)
    ]
    assert seen[1] > 2 * seen[0]


def test_recipes_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="size"):
        DisksRecipe(name="a", crystals=({"source": "common"},), size=100)  # type: ignore[arg-type]


def test_a_disk_is_seen_no_better_than_its_own_electrons_allow() -> None:
    aperture = Aperture(4.0, 0.4, 0.0, np.eye(2))
    drawn = draw_rocked(
        rocked(np.array([[0.0, 3.0]])), np.array([[20.0, 20.0]]), aperture, (41, 41)
    )
    # Blur may leave the mean image next to nothing where the disk was drawn.
    dark = np.full((1, 41, 41), 1e-7, dtype=np.float32)
    ratio = signal_to_noise(drawn, np.full((1, 41, 41), 40.0, np.float32), dark, np.zeros(1))
    electrons = drawn.values.sum(1) * 40
    assert (ratio <= 1.001 * np.sqrt(electrons)).all()
