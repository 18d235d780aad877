"""Search of a whole scan with a stand-in for the search of a block: plumbing, keys, resuming."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from disk_patterns import grid_places, simulate

from diskern.bragg.disk_probe import Probe
from diskern.bragg.disks import DiskOptions, Disks
from diskern.bragg.find import (
    DiskTask,
    find_bragg_vectors,
    how_found,
    prepare_search,
    sample_patterns,
)
from diskern.errors import DiskernError
from diskern.patterns.pattern import Pattern, Scan


class Finder:
    """Finds one disk a pattern, at its brightest pixel, and remembers what it was asked."""

    def __init__(self) -> None:
        self.patterns, self.masks = 0, []

    def __call__(self, patterns, probe, *, mask=None, options=None, proposer=None) -> Disks:
        self.patterns += len(patterns)
        self.masks.append(mask)
        assert patterns.dtype == np.float32
        assert np.isfinite(patterns).all()
        row, col = np.unravel_index(patterns.reshape(len(patterns), -1).argmax(1), mask.shape)
        return Disks.from_columns(
            np.arange(len(patterns)), row, col, intensity=patterns.max((1, 2)), order=2
        )


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> Finder:
    found = Finder()
    module = types.ModuleType("diskern.bragg.disk_search")
    module.find_disks = found
    monkeypatch.setitem(sys.modules, "diskern.bragg.disk_search", module)
    return found


def numbered(shape=(21, 18, 32, 40)) -> Scan:
    """A scan whose pattern p has its only bright pixels, worth p + 1, at a place of its own."""
    data = np.zeros(shape, np.float32)
    for p in range(shape[0] * shape[1]):
        data[p // shape[1], p % shape[1], p % 32, p % 40] = p + 1
    return Scan.from_array(data, pixel_size=0.02, energy=2e5, scan_step=(10, 10), source="a.h5")


PROBE = Probe.synthetic((32, 40), 3)
ALL = np.ones((32, 40), bool)


def test_every_disk_lands_at_its_scan_position(finder: Finder, monkeypatch) -> None:
    monkeypatch.setattr("diskern.compute.source.BLOCK_BYTES", 64 * 4 * 32 * 40)
    vectors = find_bragg_vectors(numbered(), PROBE, mask=ALL)
    assert len(finder.masks) > 4
    numbers = np.arange(21 * 18)
    np.testing.assert_array_equal(vectors["intensity"], numbers + 1)
    np.testing.assert_array_equal(vectors["row"], numbers % 32)
    assert (vectors["order"] == 2).all()
    assert vectors.counts.tolist() == np.ones((21, 18), int).tolist()
    known = vectors.calibration
    assert (known.pixel_size, known.energy, known.scan_step) == (0.02, 2e5, (10, 10))
    assert known.origin is None
    assert np.isnan(vectors["q_y"]).all()


def test_provenance_names_version_input_and_configuration(finder: Finder) -> None:
    vectors = find_bragg_vectors(
        numbered((4, 4, 32, 40)), PROBE, mask=ALL, options=DiskOptions(spacing=0.5, gain=1.0)
    )
    about = vectors.provenance
    assert about["program"].startswith("diskern ")
    assert about["input"]["source"] == "a.h5"
    told = about["configuration"]["options"]
    assert (told["spacing"], told["gain"], told["orders"]) == (0.5, 1.0, None)
    assert about["configuration"]["probe"]["radius"] == 3
    assert about["probe_estimated"] is False


def test_the_key_follows_everything_that_decides_the_disks() -> None:
    scan = numbered((4, 4, 32, 40))
    mask = ALL.copy()
    mask[3, 3] = False

    class Net:
        def __init__(self, sha: str) -> None:
            self.configuration = {"weights": "n", "sha256": sha}

    searches = [
        prepare_search(scan, PROBE, mask=ALL),
        prepare_search(scan, Probe.synthetic((32, 40), 3.1), mask=ALL),
        prepare_search(scan, PROBE, mask=mask),
        prepare_search(scan, PROBE, mask=ALL, options=DiskOptions(spacing=0.5)),
        prepare_search(scan, PROBE, mask=ALL, proposer=Net("a")),
        prepare_search(scan, PROBE, mask=ALL, proposer=Net("b")),
    ]
    assert len({s.work.key for s in searches}) == len(searches)
    assert prepare_search(scan, PROBE, mask=ALL).work.key == searches[0].work.key


def test_finished_blocks_are_not_searched_again(finder: Finder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("diskern.compute.source.BLOCK_BYTES", 64 * 4 * 32 * 40)
    search = prepare_search(numbered(), PROBE, mask=ALL)
    first = search.run(directory=tmp_path / "b")
    assert finder.patterns == 21 * 18
    block = next((tmp_path / "b" / search.work.key).glob("*1.npz"))
    block.unlink()
    again = prepare_search(numbered(), PROBE, mask=ALL).run(directory=tmp_path / "b")
    assert 21 * 18 < finder.patterns < 21 * 18 + 100
    for name in ("row", "col", "intensity", "order", "chi2"):
        np.testing.assert_array_equal(again[name], first[name])
    search.forget(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_pattern_is_a_scan_of_one_position(finder: Finder) -> None:
    image = numbered((1, 2, 32, 40)).data[0, 1]
    vectors = find_bragg_vectors(Pattern.from_array(image), PROBE, mask=ALL)
    assert vectors.scan_shape == (1, 1)
    assert vectors["intensity"].tolist() == [2]


def test_missing_numbers_reach_no_fit(finder: Finder) -> None:
    data = numbered((4, 4, 32, 40)).data
    data[0, 0, 5, 5] = np.nan
    data[0, 1, 5, 5] = np.inf
    find_bragg_vectors(Scan.from_array(data), PROBE, mask=ALL)  # Finder asserts


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (64, 64), (5, 1)])
def test_the_sample_is_spread_and_bounded(shape) -> None:
    asked = []

    class Data:
        dtype = np.dtype(np.float32)

        def __init__(self) -> None:
            self.shape = (*shape, 16, 16)

        def __getitem__(self, key):
            asked.append(key)
            return np.ones((16, 16), np.float32)

    assert sample_patterns(Scan(Data())).shape[1:] == (16, 16)
    assert len(set(asked)) == len(asked)
    assert min(shape[0] * shape[1], 40) <= len(asked) <= 110
    assert max(np.diff(sorted({y for y, _ in asked})), default=0) <= max(1, shape[0] // 4)


def test_what_does_not_fit_is_named() -> None:
    scan = numbered((4, 4, 32, 40))
    with pytest.raises(DiskernError, match="the probe is 16×16 px, the patterns are 32×40"):
        prepare_search(scan, Probe.synthetic((16, 16), 3), mask=ALL)
    with pytest.raises(DiskernError, match="the mask has shape"):
        prepare_search(scan, PROBE, mask=ALL[:5])
    with pytest.raises(DiskernError, match="leaves no pixel"):
        prepare_search(scan, PROBE, mask=~ALL)
    with pytest.raises(DiskernError, match="ndarray is no scan"):
        prepare_search(scan.data, PROBE, mask=ALL)
    with pytest.raises(DiskernError, match="the probe has shape"):
        prepare_search(scan, np.zeros((2, 32, 40)), mask=ALL)


def test_tasks_travel(finder: Finder) -> None:
    import pickle

    task = DiskTask(PROBE, ALL)
    assert task.configuration
    again = pickle.loads(pickle.dumps(task))  # noqa: S301 - our own, as an executor does it
    assert again.configuration == task.configuration


def test_a_suspected_bias_is_a_note_until_it_is_named() -> None:
    place = grid_places(9, 96, 26)
    counts = simulate(place, np.full((9, 9), 5000.0), background=2.0).counts.reshape(3, 3, 96, 96)
    probe = Probe.synthetic((96, 96), 5.0)
    scan = Scan.from_array(counts + np.float32(800))
    plain = prepare_search(scan, probe, options=DiskOptions())
    assert "--dark-level 80" in plain.notes[0]
    assert plain.provenance["notes"] == list(plain.notes)
    assert not prepare_search(scan, probe, options=DiskOptions(dark=800.0)).notes
    noise = np.random.default_rng(1).poisson(2.0, counts.shape).astype(np.float32)
    with pytest.raises(DiskernError, match=r"no disk; .*--dark-level [12]"):
        prepare_search(Scan.from_array(noise + np.float32(20_000)))
    assert not prepare_search(Scan.from_array(counts), probe, options=DiskOptions()).notes


def test_probe_and_detector_are_told_in_words(finder: Finder) -> None:
    options = DiskOptions(gain=12.5, read_noise=21.0)
    vectors = find_bragg_vectors(numbered((4, 4, 32, 40)), PROBE, mask=ALL, options=options)
    assert how_found(vectors.provenance) == {
        "probe": "round, radius 3.00 px, rim 0.60 px, given",
        "detector": "12.5 counts per electron, read-out noise 21 counts, dark level 0",
    }
    plain = find_bragg_vectors(numbered((4, 4, 32, 40)), PROBE, options=DiskOptions(gain=1.0))
    assert how_found(plain.provenance)["detector"] == "counts electrons"
    for strange in ({}, {"configuration": 3}, {"configuration": {"probe": {}, "options": None}}):
        assert how_found(strange) == {}
