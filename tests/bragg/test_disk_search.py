"""The search for disks without any number set by hand."""

from dataclasses import replace

import numpy as np
import pytest
from disk_patterns import grid_places, paired, probe_of, simulate

from diskern.bragg.disk_candidates import search_disks
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_search import find_disks
from diskern.bragg.disks import Candidates, DiskOptions, Disks
from diskern.errors import DiskernError


@pytest.mark.parametrize("dose", [1e2, 1e3, 1e4, 1e5, 1e6, 1e7])
def test_noise_alone_makes_no_disks(dose: float) -> None:
    rng = np.random.default_rng(int(np.log10(dose)))
    rows, cols = np.indices((96, 96)) - 48
    for shape in (np.ones((96, 96)), 1 / (rows**2 + cols**2 + 30.0**2)):
        counts = rng.poisson(dose * shape / shape.sum(), (20, 96, 96)).astype(np.float32)
        assert len(find_disks(counts, probe_of())) <= 3


@pytest.mark.parametrize("contrast", [0.0, 0.9])
@pytest.mark.parametrize("radius", [2.5, 6.0])
def test_all_disks_and_nothing_else(contrast: float, radius: float) -> None:
    place = grid_places(20, 96, 4.2 * radius)
    seen = simulate(place, np.full((20, 9), 30_000.0), radius=radius, contrast=contrast)
    disks = find_disks(seen.counts, probe_of(radius=radius))
    error, sigma, false = paired(seen, disks, within=0.35 * radius + 0.5)
    assert np.isfinite(error).all(axis=2).mean() >= (1.0 if contrast == 0 else 0.97)
    assert false <= (0 if contrast == 0 else 3)
    known = np.isfinite(error)
    assert 0.8 < 1.4826 * np.median(np.abs(error[known] / sigma[known])) < 1.25


def test_faint_disks_beside_a_bright_one() -> None:
    place = grid_places(20, 96, 26)
    electrons = np.full((20, 9), 400.0)
    electrons[:, 4] = 1e6
    seen = simulate(place, electrons, contrast=0.5)
    error, _, false = paired(seen, find_disks(seen.counts, probe_of()))
    assert np.isfinite(error).all(axis=2).mean() > 0.97
    assert false <= 1


def test_a_proposer_that_reads_is_shown_what_was_measured() -> None:
    """Of round probes: what it says of q_z stays with the disks."""

    class Reading:
        def __call__(self, patterns: np.ndarray, probe: np.ndarray) -> Candidates:
            return search_disks(patterns, self.probe)

        def read(self, disks: Disks, patterns: np.ndarray, radius: float) -> Disks:
            assert radius == self.probe.radius
            assert patterns.shape == (3, 96, 96)
            return replace(disks, q_z=disks.contrast[:, 0])

    place = grid_places(3, 96, 26)
    seen = simulate(place, np.full((3, 9), 30_000.0), radius=5.0, contrast=0.9)
    reading = Reading()
    reading.probe = probe_of(radius=5.0)
    disks = find_disks(seen.counts, reading.probe, proposer=reading)
    assert len(disks) >= 25
    assert np.abs(disks.q_z).max() > 0.1
    reading.probe = Probe.synthetic((96, 96), 5.0, kind="square")
    assert np.isnan(find_disks(seen.counts, reading.probe, proposer=reading).q_z).all()


def test_strongest_first_in_each_pattern() -> None:
    place = grid_places(4, 96, 26)
    electrons = np.random.default_rng(0).uniform(2e3, 2e4, (4, 9))
    disks = find_disks(simulate(place, electrons).counts, probe_of())
    assert (np.diff(disks.pattern) >= 0).all()
    for n in range(4):
        assert (np.diff(disks.intensity[disks.pattern == n]) <= 0).all()


@pytest.mark.parametrize(("dark", "told"), [(-200.0, None), (300.0, 300.0)])
def test_a_dark_level_moves_no_disk(dark: float, told: float | None) -> None:
    place = grid_places(4, 96, 26)
    seen = simulate(place, np.full((4, 9), 5000.0), background=2.0)
    plain = find_disks(seen.counts, probe_of())
    moved = find_disks(seen.counts + np.float32(dark), probe_of(), options=DiskOptions(dark=told))
    assert len(plain) == 36
    np.testing.assert_allclose(moved.row, plain.row, atol=1e-4)
    np.testing.assert_allclose(moved.sigma_row, plain.sigma_row, rtol=1e-3)
    np.testing.assert_allclose(moved.background, plain.background + dark, atol=0.01)


def test_gain_scales_counts_and_nothing_else() -> None:
    place = grid_places(8, 96, 26)
    seen = simulate(place, np.full((8, 9), 6000.0))
    plain = find_disks(seen.counts, probe_of())
    scaled = find_disks(seen.counts * 20, probe_of(), options=DiskOptions(gain=20.0))
    assert scaled.row == pytest.approx(plain.row, abs=1e-4)
    assert scaled.sigma_row == pytest.approx(plain.sigma_row, rel=1e-3)
    assert scaled.intensity == pytest.approx(20 * plain.intensity, rel=1e-4)
    guessed = find_disks(seen.counts * 20.5, probe_of())
    assert np.median(guessed.sigma_row) == pytest.approx(np.median(plain.sigma_row), rel=0.2)


def test_masked_pixels_make_no_disks() -> None:
    place = grid_places(6, 96, 26)
    seen = simulate(place, np.full((6, 9), 6000.0))
    mask = np.ones((96, 96), bool)
    mask[:, 20:24] = mask[60, 60] = False
    spoilt = seen.counts.copy()
    spoilt[:, ~mask] = np.nan
    error, _, false = paired(seen, find_disks(spoilt, probe_of(), mask=mask))
    assert false == 0
    assert np.isfinite(error).all(axis=2).mean() > 0.95


def test_two_overlapping_disks_are_two() -> None:
    rng = np.random.default_rng(4)
    first = 48 + rng.uniform(-0.5, 0.5, (30, 2))
    place = np.stack([first, first + np.array([8.5, 5.0])], axis=1)
    seen = simulate(place, np.tile([30_000.0, 20_000.0], (30, 1)))
    error, _, false = paired(seen, find_disks(seen.counts, probe_of()))
    assert np.isfinite(error).all(axis=2).mean() > 0.95
    assert false == 0
    assert np.sqrt(np.nanmean(error**2)) < 0.1


def test_candidates_of_a_proposer_are_measured() -> None:
    place = grid_places(3, 96, 26)
    seen = simulate(place, np.full((3, 9), 6000.0))

    def proposer(patterns: np.ndarray, probe: np.ndarray) -> Candidates:
        assert probe.sum() == pytest.approx(1)
        found = search_disks(patterns, probe_of())
        return Candidates(
            found.pattern, found.row, found.col, found.probability,
            np.full(len(found), 3.0), *(np.full(len(found), 0.1),) * 3,
        )  # fmt: skip

    disks = find_disks(seen.counts, probe_of(), proposer=proposer)
    assert len(disks) == 27
    assert (disks.v_g == 3.0).all()


def test_faint_disks_that_a_proposer_names_stay() -> None:
    """An eighth of what the search asks for: the proposer has looked at more than the mean."""
    place = grid_places(20, 96, 26)
    electrons = np.full((20, 9), 1e5)
    electrons[:, ::2] = 75.0
    seen = simulate(place, electrons, background=2.0)

    def proposer(patterns: np.ndarray, probe: np.ndarray) -> Candidates:
        return Candidates.at(np.repeat(np.arange(20), 9), *(place.reshape(-1, 2).T + 0.3))

    named = paired(seen, find_disks(seen.counts, probe_of(), proposer=proposer))
    searched = paired(seen, find_disks(seen.counts, probe_of()))
    share = [np.isfinite(found[0]).all(axis=2)[:, ::2].mean() for found in (named, searched)]
    assert share[0] > 0.95 > 0.7 > share[1]
    assert named[2] == 0
    strong = named[0][:, 1::2]
    assert np.sqrt(np.mean(strong**2)) < 0.1


def test_what_a_proposer_half_believes_must_show_in_the_counts() -> None:
    """A lattice goes on beyond the last disk that can be seen."""
    place = grid_places(20, 96, 26)
    electrons = np.full((20, 9), 2e4)
    electrons[:, ::2] = 0
    seen = simulate(place, electrons, background=0.5)
    kept = []
    for probability in (0.35, 0.7, 0.999):
        named = np.full(180, probability)

        def proposer(patterns: np.ndarray, probe: np.ndarray) -> Candidates:
            start = place.reshape(-1, 2).T + 0.3
            return Candidates.at(np.repeat(np.arange(20), 9), *start, named)  # noqa: B023

        found = find_disks(seen.counts, probe_of(), proposer=proposer)
        assert (np.bincount(found.pattern[found.intensity > 1e4]) == 4).all()
        kept.append((found.intensity < 1e4).sum() / 100)
    assert kept[0] < 0.03
    assert kept[1] < 0.3
    assert kept[0] < kept[1] < kept[2]


def test_a_disk_that_its_fit_runs_away_with_stays_where_it_was_named() -> None:
    """As towards a stronger one that nobody has named; here it is the disk itself, far off."""
    place = grid_places(10, 96, 26)
    seen = simulate(place, np.full((10, 9), 6000.0))
    radius = probe_of().radius
    off = np.zeros((10, 9, 2))
    off[:, 0, 0] = 0.5 * radius

    def proposer(patterns: np.ndarray, probe: np.ndarray) -> Candidates:
        return Candidates.at(np.repeat(np.arange(10), 9), *(place + off).reshape(-1, 2).T)

    found = find_disks(seen.counts, probe_of(), proposer=proposer)
    sigma = found.sigma_row.max(initial=0.0)
    assert sigma == pytest.approx(0.3 * radius)
    far = found.sigma_row == sigma
    assert np.bincount(found.pattern[far]).tolist() == [1] * 10
    there = np.sort(found.row[far])
    assert there == pytest.approx(np.sort((place + off)[:, 0, 0]), abs=1e-9)
    # Its neighbours are measured as ever.
    assert found.sigma_row[~far].max() < 0.1


def test_one_disk_named_twice_is_measured_once() -> None:
    place = grid_places(3, 96, 26)
    seen = simulate(place, np.full((3, 9), 6000.0))

    def proposer(patterns: np.ndarray, probe: np.ndarray) -> Candidates:
        twice = np.concatenate([place.reshape(-1, 2), place.reshape(-1, 2) + 2.0])
        pattern = np.tile(np.repeat(np.arange(3), 9), 2)
        return Candidates.at(pattern, *twice.T, np.repeat([0.9, 0.8], 27))

    error, _, false = paired(seen, find_disks(seen.counts, probe_of(), proposer=proposer))
    assert np.isfinite(error).all()
    assert false == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patterns": np.zeros((4, 4))}, "patterns of shape"),
        ({"patterns": np.zeros((0, 96, 96))}, "patterns of shape"),
        ({"patterns": np.zeros((1, 96, 96), complex)}, "patterns of shape"),
        ({"patterns": np.array([["a"]])}, "patterns of shape"),
        ({"patterns": np.full((1, 96, 96), np.nan)}, "not finite"),
        ({"patterns": np.zeros((1, 64, 96))}, "the probe is"),
        ({"mask": np.ones((96, 96))}, "mask of shape"),
        ({"mask": np.ones((9, 96), bool)}, "mask of shape"),
        ({"mask": np.zeros((96, 96), bool)}, "no pixel"),
        ({"options": DiskOptions(gain=-1.0)}, "gain"),
        ({"options": DiskOptions(gain=float("nan"))}, "gain"),
        ({"options": DiskOptions(dark=float("nan"))}, "dark"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict, words: str) -> None:
    given = {"patterns": np.ones((1, 96, 96)), "probe": probe_of()} | change
    with pytest.raises(DiskernError, match=words) as caught:
        find_disks(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.0, -5.0, 7.0, 1e30])
def test_constant_patterns_have_no_disks(value: float) -> None:
    assert len(find_disks(np.full((2, 96, 96), value), probe_of())) == 0


def test_a_probe_as_large_as_the_pattern() -> None:
    counts = np.random.default_rng(0).poisson(5.0, (2, 32, 32))
    assert len(find_disks(counts, Probe.synthetic((32, 32), 15.0))) == 0


@pytest.mark.parametrize("told", [None, 12.0])
def test_read_out_noise_widens_sigma_and_moves_no_intensity(told: float | None) -> None:
    place = grid_places(20, 96, 26)
    seen = simulate(place, np.full((20, 9), 1500.0), background=0.2)
    read = np.random.default_rng(1).normal(0, 3.0, seen.counts.shape)
    counts = (4 * (seen.counts + read)).astype(np.float32)
    options = DiskOptions(gain=None if told is None else 4.0, read_noise=told)
    disks = find_disks(counts, probe_of(), options=options)
    error, sigma, false = paired(seen, disks)
    assert np.isfinite(error).all()
    assert false == 0
    assert 0.85 < 1.4826 * np.median(np.abs(error / sigma)) < 1.15
    assert 0.7 < np.median(disks.chi2) < 1.1
    pull = (disks.intensity / 4 - 1500) / (disks.sigma_intensity / 4)
    assert abs(pull.mean()) < 0.3
    assert np.abs(disks.background / 4 - 0.2).max() < 2
    unaware = find_disks(counts, probe_of(), options=DiskOptions(gain=4.0))
    assert np.median(unaware.chi2) > 2


def test_a_read_out_noise_below_nothing_is_refused() -> None:
    with pytest.raises(DiskernError, match="read_noise -1"):
        find_disks(np.ones((1, 96, 96)), probe_of(), options=DiskOptions(read_noise=-1.0))
