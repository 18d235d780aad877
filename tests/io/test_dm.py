"""DigitalMicrograph files written tag by tag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from microscope_files import DmWriter, dm_file, frames

from diskern import DiskernError
from diskern.io import open_file

NM = [(0.05, 100.25, "1/nm"), (0.05, 90.5, "1/nm")]
STEP = [(2.0, 0.0, "nm"), (3.0, 0.0, "nm")]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_image(tmp_path: Path, version: int, order: str) -> None:
    image = frames(180, 200, dtype=np.int32)
    path = tmp_path / "a.dm"
    path.write_bytes(dm_file(image, NM, version=version, order=order))
    recording = open_file(path)
    assert recording.format == f"DM{version}"
    np.testing.assert_array_equal(recording.data, image)
    assert recording.pixel_size == pytest.approx(0.005)
    assert recording.energy == 200e3
    assert recording.camera_length == pytest.approx(0.25)
    assert recording.centre == pytest.approx((90.5, 100.25))


def test_the_middle_of_the_frame_is_a_default_not_a_centre(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(dm_file(frames(64, 64), [(0.5, 32.0, "1/nm")] * 2))
    assert open_file(path).centre is None


@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [("1/nm", 0.05, 0.005), ("1/Å", 0.005, 0.005), ("mrad", 0.2, 0.2e-3 / 0.0250793),
     ("nm", 1, None), ("", 1.0, None), ("µm^-1", 50.0, 0.005), ("furlong", 1.0, None)],
)  # fmt: skip
def test_units(tmp_path: Path, unit: str, scale: float, expected: float | None) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(dm_file(frames(64, 64), [(float(scale), 0.0, unit)] * 2))
    recording = open_file(path)
    assert recording.pixel_size == (expected and pytest.approx(expected, rel=1e-4))
    assert (expected is None) == any("no pixel size" in note for note in recording.missing)
    if unit == "nm":
        assert any("real space" in note for note in recording.notes)


def test_scan_is_lazy_and_calibrated(tmp_path: Path) -> None:
    scan = frames(3, 4, 32, 48)
    path = tmp_path / "a.dm4"
    path.write_bytes(dm_file(scan, NM + STEP))
    recording = open_file(path)
    assert not isinstance(recording.data, np.ndarray)
    assert recording.data.shape == (3, 4, 32, 48)
    np.testing.assert_array_equal(recording.data[2, 1], scan[2, 1])
    assert recording.scan_step == pytest.approx((30.0, 20.0))


def test_scan_stored_with_the_detector_slow_is_turned(tmp_path: Path) -> None:
    scan = frames(3, 4, 32, 48)
    path = tmp_path / "a.dm4"
    stored = np.ascontiguousarray(scan.transpose(2, 3, 0, 1))
    path.write_bytes(dm_file(stored, STEP + NM))
    recording = open_file(path)
    assert recording.data.shape == (3, 4, 32, 48)
    np.testing.assert_array_equal(recording.data[1, 3], scan[1, 3])
    np.testing.assert_array_equal(recording.data[:, 2, 5:9, 7], scan[:, 2, 5:9, 7])
    assert recording.scan_step == pytest.approx((30.0, 20.0))
    assert recording.pixel_size == pytest.approx(0.005)


def test_images_are_chosen_by_number_or_refused_with_the_list(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(dm_file(frames(80, 80), NM))
    assert open_file(path, "0").data.shape == (64, 64)
    assert open_file(path, "1").data.shape == (80, 80)
    with pytest.raises(DiskernError, match=r"no image '7'; give one of: 0, 1"):
        open_file(path, "7")


def test_spectra_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(dm_file(frames(20, 30, 40), [(1.0, 0.0, "eV"), *STEP]))
    with pytest.raises(DiskernError, match="spectrum image"):
        open_file(path)


@pytest.mark.parametrize("extra", [{"a": (1.0, 2.0)}, {"deep": {"deeper": {"deepest": "x" * 300}}}])
def test_structures_and_nested_tags_are_passed_over(tmp_path: Path, extra: dict) -> None:
    path = tmp_path / "a.dm3"
    path.write_bytes(dm_file(frames(64, 80), NM, version=3, extra=extra))
    assert open_file(path).data.shape == (64, 80)


def test_tags_nested_without_end_are_refused(tmp_path: Path) -> None:
    tags: dict = {"end": 1}
    for _ in range(100):
        tags = {"g": tags}
    path = tmp_path / "a.dm4"
    path.write_bytes(DmWriter(4).file(tags))
    with pytest.raises(DiskernError, match="nested too deeply"):
        open_file(path)


def test_names_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(DmWriter(4).file({"n" * 60000: {"m" * 60000: 1}}))
    with pytest.raises(DiskernError, match="names too long"):
        open_file(path)
