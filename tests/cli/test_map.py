"""`map`, `bragg`, `strain`, `tilt`: files in, files out, one line where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import stand_in_search
from PIL import Image

from diskern.bragg.disk_probe import Probe
from diskern.bragg.vectors import BraggVectors
from diskern.cli._app import run
from diskern.cli._scan_options import parse_axes, parse_region, parse_zone
from diskern.cli._search import pace
from diskern.compute.blocks import Progress
from diskern.errors import DiskernError

STRAIN = 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of a square lattice of disks, stretched along x in its right half, and its probe."""
    place = tmp_path_factory.mktemp("scan")
    probe = Probe.synthetic((64, 64), 3.0, 0.6)
    spectrum = np.fft.rfft2(np.fft.ifftshift(probe.image / probe.image.max()))
    freq = np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None, :]
    rng = np.random.default_rng(0)
    data = np.zeros((12, 14, 64, 64), np.float32)
    mn = np.array([(m, n) for m in range(-2, 3) for n in range(-2, 3)])
    heights = 400 * np.exp(-(mn**2).sum(1) / 5)
    for y in range(12):
        for x in range(14):
            g = mn * np.array([11.0, 11.0 / (1 + STRAIN * (x >= 7))])
            where = 32 + g + rng.uniform(-0.3, 0.3, 2)
            phase = sum(
                h * np.exp(-2j * np.pi * (freq[0] * r + freq[1] * c))
                for h, (r, c) in zip(heights, where, strict=True)
            )
            data[y, x] = rng.poisson(np.maximum(np.fft.irfft2(spectrum * phase, (64, 64)), 0) + 1)
    with h5py.File(place / "scan.h5", "w") as file:
        file["scan"] = data
        file["scan"].attrs.update({"pixel_size": 0.02, "energy": 2e5, "scan_step": [20.0, 20.0]})
    np.save(place / "probe.npy", probe.image)
    return place


@pytest.fixture(autouse=True)
def search(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_search.install(monkeypatch)


@pytest.fixture(scope="module")
def mapped(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        stand_in_search.install(patch)
        assert (
            run(words("map", folder, out, "--reference", "0:12,0:7", "--json", f"{out}/a.json"))
            == 0
        )
    return out


def words(verb: str, folder: Path, out: Path, *more: str) -> list[str]:
    probe = ["--probe", f"{folder}/probe.npy", "--proposer", "none"]
    return [verb, f"{folder}/scan.h5", "-o", str(out), *probe, *more]


def error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_map_finds_the_strain_and_writes_everything(mapped: Path) -> None:
    names = {p.name for p in mapped.iterdir()}
    assert names >= {"vectors.h5", "maps.h5", "strain.csv", "strain.png", "report.html"}
    assert "blocks" not in names
    with h5py.File(mapped / "maps.h5") as file:
        e_xx, sigma = file["strain/e_xx"][:], file["strain/sigma_e_xx"][:]
        assert np.nanmedian(file["strain/e_yy"][:]) == pytest.approx(0, abs=1e-3)
    assert np.nanmedian(e_xx[:, :6]) == pytest.approx(0, abs=1e-3)
    assert np.nanmedian(e_xx[:, 8:]) == pytest.approx(STRAIN, abs=1e-3)
    assert 0 < np.nanmedian(sigma) < 2e-3
    answer = json.loads((mapped / "a.json").read_text())
    assert answer["indexed"] > 0.95
    assert answer["scan_shape"] == [12, 14]
    assert "diskern map" in answer["provenance"]["command"] or answer["provenance"]["command"]


def test_vectors_of_map_are_calibrated(mapped: Path) -> None:
    vectors = BraggVectors.from_emd(mapped / "vectors.h5")
    known = vectors.calibration
    assert (known.pixel_size, known.energy) == (pytest.approx(0.02), 2e5)
    assert known.origin.shape == (12, 14, 2)
    g = np.hypot(vectors["q_y"], vectors["q_x"])
    assert np.nanmin(g) < 0.003
    assert vectors.provenance["input"]["source"] == "scan.h5"


def test_what_could_not_be_mapped_is_a_note(mapped: Path) -> None:
    answer = json.loads((mapped / "a.json").read_text())
    assert "tilt" not in answer
    assert any("tilt" in note for note in answer["notes"])


def test_a_second_map_takes_the_vectors_that_are_there(
    folder: Path, mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(stand_in_search, "find_disks", never)
    assert run(words("map", folder, mapped, "--axes", "45", "--pixel-size", "0.03")) == 0
    known = BraggVectors.from_emd(mapped / "vectors.h5").calibration
    assert known.pixel_size == pytest.approx(0.03)
    assert known.origin.shape == (12, 14, 2)
    assert run(words("map", folder, mapped)) == 0
    assert BraggVectors.from_emd(mapped / "vectors.h5").calibration.pixel_size == pytest.approx(
        0.02
    )


@pytest.mark.parametrize("ending", ["h5", "csv"])
def test_bragg_writes_what_the_ending_names(
    folder: Path, tmp_path: Path, ending: str, capsys
) -> None:
    out = tmp_path / f"v.{ending}"
    assert run(words("bragg", folder, out, "--json", "-")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["disks_per_pattern"][1] >= 9
    assert list(tmp_path.iterdir()) == [out]
    if ending == "h5":
        assert len(BraggVectors.from_emd(out)) == facts["disks"]
        assert run(words("bragg", folder, out)) == 0
        assert "Already there" in capsys.readouterr().out
        assert run(words("bragg", folder, out, "--pixel-size", "0.05")) == 0
        assert BraggVectors.from_emd(out).calibration.pixel_size == pytest.approx(0.05)


def test_an_interrupted_search_goes_on(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("diskern.compute.source.BLOCK_BYTES", 16 * 4 * 64 * 64)
    plain, seen = stand_in_search.find_disks, []

    def cut_off(patterns, *rest, **known):
        seen.append(len(patterns))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return plain(patterns, *rest, **known)

    monkeypatch.setattr(stand_in_search, "find_disks", cut_off)
    out = tmp_path / "v.h5"
    assert run(words("bragg", folder, out)) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not out.exists()
    assert run(words("bragg", folder, out)) == 0
    done = len(seen)
    whole = tmp_path / "w.h5"
    assert run(words("bragg", folder, whole)) == 0
    assert done == 1 + len(seen) - done  # the block that was cut off was begun twice
    a, b = BraggVectors.from_emd(out), BraggVectors.from_emd(whole)
    np.testing.assert_array_equal(a["row"], b["row"])


def test_strain_and_tilt_are_steps_of_their_own(mapped: Path, tmp_path: Path) -> None:
    vectors = str(mapped / "vectors.h5")
    assert run(["strain", vectors, "-o", str(tmp_path / "s"), "--reference", "0:12,7:14"]) == 0
    with h5py.File(tmp_path / "s" / "maps.h5") as file:
        assert np.nanmedian(file["strain/e_xx"][:, :6]) == pytest.approx(-STRAIN, abs=2e-3)
        assert "tilt" not in file
    assert run(["tilt", vectors, "-o", str(tmp_path / "t"), "--thickness", "30"]) == 0
    with h5py.File(tmp_path / "t" / "maps.h5") as file:
        assert file["tilt/tilt_x"].shape == (12, 14)


def test_tilt_says_what_it_lacks(mapped: Path, tmp_path: Path, capsys) -> None:
    assert run(["tilt", str(mapped / "vectors.h5"), "-o", str(tmp_path)]) == 1
    assert "no q_z" in error(capsys)


def test_mask_and_flat_pictures(folder: Path, tmp_path: Path, capsys) -> None:
    picture = np.full((64, 64), 255, np.uint8)
    picture[:20] = 0
    Image.fromarray(picture).save(tmp_path / "mask.png")
    out = tmp_path / "v.h5"
    assert run(words("bragg", folder, out, "--mask", str(tmp_path / "mask.png"))) == 0
    about = BraggVectors.from_emd(out).provenance["configuration"]["mask"]
    assert about["masked"] == 20 * 64


@pytest.mark.parametrize(
    ("verb", "more", "said"),
    [
        ("map", ["--reference", "0:4"], "--reference '0:4' must be"),
        ("map", ["--reference", "4:4,0:3"], "--reference '4:4,0:3' must be"),
        ("map", ["--crystal", "Si"], "--crystal and --zone go together"),
        ("map", ["--crystal", "Sii", "--zone", "0,0,1"], "Sii is neither a CIF file"),
        ("map", ["--reference", "crystal"], "--reference crystal needs"),
        ("map", ["--axes", "up"], "--axes 'up' must be"),
        ("map", ["--axes", "scan"], "--axes scan needs --rotation"),
        ("map", ["--crystal", "Si", "--zone", "1,1"], "--zone '1,1' must be"),
        ("map", ["--pixel-size", "-1"], "--pixel-size -1"),
        ("map", ["--voltage", "1e9"], "energy"),
        ("map", ["--jobs", "0"], "jobs=0"),
        ("map", ["--probe", "missing.h5"], "missing.h5"),
        ("map", ["--dark-level", "nan"], "--dark-level nan"),
        ("map", ["--proposer", "nonesuch"], "nonesuch"),
        ("bragg", ["-o", "vectors.txt"], "vectors.txt has no known ending"),
        ("bragg", ["-o", "no/such/v.h5"], "is no folder"),
    ],
)
def test_wrong_wishes_are_one_line(folder, tmp_path, verb, more, said, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = words(verb, folder, tmp_path / "out.h5" if verb == "bragg" else tmp_path / "out")
    assert run([*arguments, *more]) == 1
    assert said in error(capsys)


def test_no_scan_no_vectors(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.h5").write_text("no scan")
    assert run(["map", str(tmp_path / "a.h5"), "-o", str(tmp_path / "o")]) == 1
    assert "a.h5" in error(capsys)
    assert run(["strain", f"{folder}/scan.h5", "-o", str(tmp_path / "o")]) == 1
    assert "holds no Bragg vectors" in error(capsys)


def test_words_mean_what_they_say() -> None:
    assert parse_region(" 0:16, 3:64 ") == (slice(0, 16), slice(3, 64))
    assert parse_zone("[0 1 -1]") == (0, 1, -1)
    assert (parse_axes("scan"), parse_axes("12.5")) == ("scan", 12.5)
    with pytest.raises(DiskernError):
        parse_zone("0,0,0")


def test_the_pace_is_told_in_patterns_and_minutes() -> None:
    assert pace(Progress(0, 100, 0, 0)) == "0/100 patterns"
    assert pace(Progress(40, 1000, 20, 10)) == "40/1000 patterns, 2/s, 8:00 left"
