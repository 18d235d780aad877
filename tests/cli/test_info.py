"""`diskern info`: the page for people, the JSON for machines, one line for errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diskern.cli._app import run
from diskern.cli.info import describe, statistics
from diskern.io import open_file


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    scan = np.random.default_rng(0).poisson(3, (2, 3, 40, 50)).astype(np.uint16)
    scan[0, 0, :2, :5] = 65535
    known = {"pixel_size": 0.02, "energy": 200e3, "camera_length": 0.3, "centre": (19.5, 25.0)}
    np.savez(tmp_path / "scan.npz", data=scan, scan_step=(10.0, 20.0), **known)
    return tmp_path / "scan.npz"


def test_page(scan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(scan_file)]) == 0
    page = capsys.readouterr().out
    for expected in (
        "scan.npz", "NumPy archive", "2 × 3 × 40 × 50 px, uint16", "0.02 1/Å",
        "camera constant 50 px·Å", "field 0.8 × 1 1/Å", "spacings down to 2.5 Å",
        "200 kV (wavelength 0.02508 Å)", "300 mm", "row 19.50, column 25.00 px", "10 × 20 Å",
        "0 to 65535", "saturated: 10 px at the maximum",
    ):  # fmt: skip
        assert expected in page
    assert "not stated" not in page


def test_page_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((20, 20)))
    assert run(["info", str(tmp_path / "a.npy")]) == 0
    page = capsys.readouterr().out
    assert page.count("not stated") == 4
    assert "--pixel-size" in page
    assert "--voltage" in page


def test_json(scan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(scan_file), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == str(scan_file)
    assert answer["kind"] == "scan"
    assert answer["shape"] == [2, 3, 40, 50]
    assert answer["pixel_size"] == 0.02
    assert answer["voltage"] == 200
    assert answer["centre"] == [19.5, 25]
    assert answer["scan_step"] == [10, 20]
    assert answer["first_frame"]["saturated"] is True
    assert answer["notes"] == []


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.dm4").write_bytes(b"\0\0\0\4" + bytes(50))
    assert run(["info", str(tmp_path / "a.dm4")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("diskern: ")
    assert captured.err.count("\n") == 1
    assert "a.dm4" in captured.err
    assert run(["info"]) == 2


def test_odd_numbers_in_a_file_do_not_break_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.ones((20, 20))
    image[0] = np.inf
    image[1] = np.nan
    np.savez(tmp_path / "a.npz", data=image, pixel_size=np.inf, energy=-3.0)
    assert run(["info", str(tmp_path / "a.npz"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["pixel_size"] is None
    assert answer["first_frame"]["missing_fraction"] == pytest.approx(0.1)


def test_statistics() -> None:
    frame = np.arange(100, dtype=np.int32).reshape(10, 10) - 10
    found = statistics(frame)
    assert (found["minimum"], found["median"], found["maximum"]) == (-10, 39.5, 89)
    assert found["zero_fraction"] == 0.01
    assert not found["saturated"]
    assert statistics(np.minimum(frame, 50))["saturated"]  # a plateau below the type's limit
    assert statistics(np.array([[1, 255]], np.uint8))["saturated"]
    assert not statistics(np.full((10, 10), 7))["saturated"]  # constant: nothing can be said
    assert statistics(np.full((4, 4), np.nan))["maximum"] is None


def test_markup_in_a_file_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "[red]a[", np.ones((20, 20)))
    assert run(["info", str(tmp_path / "[red]a[.npy")]) == 0
    assert "[red]a[.npy" in capsys.readouterr().out


def test_first_frame_only_is_read(tmp_path: Path) -> None:
    """A scan far larger than memory is described at once."""
    path = tmp_path / "a.npy"
    shape = (512, 512, 256, 256)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=shape)  # a sparse file
    recording = open_file(path)
    answer = describe(recording, recording.data[0, 0])
    assert answer["bytes"] == 2 * np.prod(shape)
