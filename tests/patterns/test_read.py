"""`read`: an image becomes a `Pattern`, everything else a lazy `Scan`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import diskern as dk
from diskern import DiskernError, Pattern, Scan

CALIBRATION = {"pixel_size": 0.02, "energy": 200e3, "camera_length": 0.3, "centre": (9.0, 14.5)}


def _save(path: Path, data: np.ndarray, **known: object) -> Path:
    np.savez(path, data=data, **known)
    return path


def test_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 99, (20, 30)).astype(np.uint16)
    pattern = dk.read(_save(tmp_path / "a.npz", image, **CALIBRATION))
    assert isinstance(pattern, Pattern)
    assert pattern.image.dtype == np.float32
    np.testing.assert_array_equal(pattern.image, image)
    for name, value in CALIBRATION.items():
        assert getattr(pattern, name) == value
    assert pattern.source == "a.npz"
    assert pattern.metadata["format"] == "NumPy archive"


def test_scan(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).integers(0, 99, (2, 3, 20, 30)).astype(np.float32)
    path = _save(tmp_path / "a.npz", scan, scan_step=(10.0, 20.0), **CALIBRATION)
    opened = dk.read(str(path))
    assert isinstance(opened, Scan)
    assert opened.shape == (2, 3, 20, 30)
    assert opened.scan_step == (10, 20)
    pattern = opened.pattern(1, 2)
    np.testing.assert_array_equal(pattern.image, scan[1, 2])
    assert pattern.centre == (9.0, 14.5)
    np.testing.assert_allclose(opened.mean_pattern().image, scan.mean((0, 1)), rtol=1e-6)


def test_stack_is_one_row_and_stays_in_its_file(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 99, (5, 20, 30)).astype(np.uint8)
    np.save(tmp_path / "a.npy", stack)
    opened = dk.read(tmp_path / "a.npy")
    assert isinstance(opened, Scan)
    assert opened.shape == (1, 5, 20, 30)
    assert not isinstance(opened.data, np.ndarray)
    np.testing.assert_array_equal(opened.pattern(0, 3).image, stack[3])
    assert [int(p.image.sum()) for p in opened.patterns()] == stack.sum((1, 2)).tolist()


def test_nan_marks_missing_pixels(tmp_path: Path) -> None:
    image = np.ones((20, 20))
    image[3, 4] = np.nan
    np.save(tmp_path / "a.npy", image)
    pattern = dk.read(tmp_path / "a.npy")
    assert np.isnan(pattern.image[3, 4])


def test_the_dataset_is_passed_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.ones((20, 20)), two=np.ones((20, 40)))
    assert dk.read(tmp_path / "a.npz", dataset="two").shape == (20, 40)
    with pytest.raises(DiskernError, match=r"a\.npz: holds 2 arrays"):
        dk.read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("data", "why"),
    [(np.ones((8, 8)), "at least 16×16"), (np.full((20, 20), np.nan), "no finite value"),
     (np.ones((3, 8, 8)), "at least 16"), (np.ones(7), "2-D array")],
)  # fmt: skip
def test_what_is_no_pattern_names_the_file(tmp_path: Path, data: np.ndarray, why: str) -> None:
    np.save(tmp_path / "a.npy", data)
    with pytest.raises(DiskernError, match=rf"a\.npy: .*{why}"):
        dk.read(tmp_path / "a.npy")


def test_real_files(experimental: Path) -> None:
    endings = (".png", ".jpg", ".tif", ".tiff", ".dm3", ".dm4", ".img", ".hspy", ".mib", ".blo")
    files = [p for p in sorted(experimental.rglob("*")) if p.suffix in endings]
    assert len(files) > 20
    for path in files:
        opened = dk.read(path)
        pattern = opened.pattern(0, 0) if isinstance(opened, Scan) else opened
        assert np.isfinite(pattern.image).all()
        assert isinstance(opened, Scan) == (path.suffix == ".blo")
