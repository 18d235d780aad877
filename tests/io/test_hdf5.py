"""HyperSpy, Velox, Berkeley, py4DSTEM and plain HDF5 files; what they must not lead to."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from microscope_files import frames, write_emd, write_hspy, write_velox

from diskern import DiskernError, physics
from diskern.io import open_file


def _axis(scale: float, units: str, navigate: bool, offset: float = 0.0) -> dict[str, Any]:
    return {"scale": scale, "units": units, "navigate": navigate, "offset": offset}


def test_hspy_scan(tmp_path: Path) -> None:
    scan = frames(3, 4, 20, 30)
    axes = [_axis(2, "nm", True), _axis(3, "nm", True), _axis(0.2, "mrad", False, -2.0),
            _axis(0.2, "mrad", False, -3.5)]  # fmt: skip
    write_hspy(tmp_path / "a.hspy", scan, axes)
    recording = open_file(tmp_path / "a.hspy")
    assert recording.format == "HyperSpy"
    np.testing.assert_array_equal(recording.data[1, 2], scan[1, 2])
    assert recording.energy == 80e3
    assert recording.camera_length == 0.25
    assert recording.scan_step == (20, 30)
    assert recording.pixel_size == pytest.approx(0.2e-3 / physics.wavelength(80e3))
    assert recording.centre == pytest.approx((10, 17.5))


def test_hspy_spectra_are_refused(tmp_path: Path) -> None:
    axes = [_axis(1, "nm", True), _axis(1, "nm", True), _axis(1, "eV", False)]
    write_hspy(tmp_path / "a.hspy", frames(20, 20, 30), axes)
    with pytest.raises(DiskernError, match="holds spectra"):
        open_file(tmp_path / "a.hspy")


def test_velox_movie(tmp_path: Path) -> None:
    movie = frames(20, 30, 5)
    words = {
        "Optics": {"AccelerationVoltage": "300000", "CameraLength": "0.46"},
        "BinaryResult": {"PixelSize": {"width": "2e7", "height": "2e7"},
                         "PixelUnitX": "1/m", "PixelUnitY": "1/m"},
    }  # fmt: skip
    write_velox(tmp_path / "a.emd", movie, words)
    recording = open_file(tmp_path / "a.emd")
    assert recording.data.shape == (5, 20, 30)
    np.testing.assert_array_equal(recording.data[3], movie[..., 3])
    np.testing.assert_array_equal(recording.data, movie.transpose(2, 0, 1))
    assert recording.pixel_size == pytest.approx(2e-3)
    assert recording.energy == 300e3
    assert recording.camera_length == 0.46


@pytest.mark.parametrize(
    ("name", "kind", "first", "units"),
    [("data/cube", 1, 1, "[n_m^-1]"), ("scan_root/datacube", "array", 0, "nm^-1")],
)
def test_emd(tmp_path: Path, name: str, kind: Any, first: int, units: str) -> None:
    scan = frames(3, 4, 20, 30)
    write_emd(tmp_path / "a.emd", scan, name, kind, first, units)
    recording = open_file(tmp_path / "a.emd")
    assert recording.format == "EMD"
    np.testing.assert_array_equal(recording.data[2, 1], scan[2, 1])
    assert recording.pixel_size == pytest.approx(0.002)
    assert recording.scan_step == pytest.approx((5, 5))


def test_py4dstem_calibration_and_choice_of_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_emd(path, frames(3, 4, 20, 30), "dm_root/datacube", "array", 0, "pixels")
    with h5py.File(path, "a") as file:
        probe = file.create_group("dm_root/probe")
        probe.attrs["emd_group_type"] = "array"
        probe["data"] = frames(20, 30)
        group = file.create_group("dm_root/metadatabundle/calibration")
        for key, value in {"Q_pixel_size": 0.021, "Q_pixel_units": "A^-1",
                           "R_pixel_size": 2.0, "R_pixel_units": "nm"}.items():  # fmt: skip
            group[key] = value
    recording = open_file(path)
    assert recording.data.shape == (3, 4, 20, 30)
    assert recording.pixel_size == pytest.approx(0.021)
    assert recording.scan_step == pytest.approx((20, 20))
    assert open_file(path, "dm_root/probe").data.shape == (20, 30)
    assert open_file(path, "probe/data").data.shape == (20, 30)


def test_plain_hdf5_by_path_or_by_elimination(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    with h5py.File(path, "w") as file:
        file["entry/data/counts"] = frames(2, 3, 20, 30)
        file["entry/time"] = np.arange(100.0)
        file["entry/data/counts"].attrs.update(
            {"pixel_size": 0.01, "energy": 200e3, "scan_step": [10.0, 20.0], "centre": [9, 14.0]}
        )
    recording = open_file(path)
    assert recording.data.shape == (2, 3, 20, 30)
    assert recording.pixel_size == 0.01
    assert recording.energy == 200e3
    assert recording.scan_step == (10, 20)
    assert recording.centre == (9, 14)
    del recording  # closes the file, which is written to next
    with h5py.File(path, "a") as file:
        file["entry/other/counts"] = frames(25, 35)
    with pytest.raises(DiskernError, match=r"entry/data/counts \(2×3×20×30\); entry/other/counts"):
        open_file(path)
    assert open_file(path, "entry/other/counts").data.shape == (25, 35)
    with pytest.raises(DiskernError, match="no dataset 'nothing'"):
        open_file(path, "nothing")
    with pytest.raises(DiskernError, match="2-D array"):
        open_file(path, "entry/time")


def test_matlab_user_block(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["pattern"] = frames(20, 30)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file")
    np.testing.assert_array_equal(open_file(path).data, frames(20, 30))


def test_links_to_other_folders_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = frames(20, 30)
    (tmp_path / "secret.bin").write_bytes(bytes(5000))
    with h5py.File(folder / "part.h5", "w") as file:
        file["data"] = frames(20, 40)
    layout = h5py.VirtualLayout((20, 30), "u2")
    layout[...] = h5py.VirtualSource("../secret.h5", "data", (20, 30))
    with h5py.File(folder / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("../secret.h5", "/data")
        file["near"] = h5py.ExternalLink("part.h5", "/data")
        file.create_dataset(
            "raw", (50, 50), "u2", external=[(str(tmp_path / "secret.bin"), 0, 5000)]
        )
        file.create_virtual_dataset("virtual", layout)
    for name in ("link", "raw", "virtual"):
        with pytest.raises(DiskernError, match="in another folder"):
            open_file(folder / "a.h5", name)
    assert open_file(folder / "a.h5", "near").data.shape == (20, 40)


def test_huge_and_unwritten_datasets_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("big", (1 << 20, 1 << 20), "f8", chunks=(64, 64))
        file.create_dataset("unwritten", (4000, 4000), "f4", chunks=(64, 64))
    with pytest.raises(DiskernError, match=r"beyond any detector|never written"):
        open_file(path, "big")
    with pytest.raises(DiskernError, match="never written"):
        open_file(path, "unwritten")


def test_a_group_that_contains_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a/data"] = frames(20, 30)
        file["a/self"] = file["a"]
        file["soft"] = h5py.SoftLink("/soft")
    assert open_file(path).data.shape == (20, 30)
    with pytest.raises(DiskernError, match="too many links"):
        open_file(path, "soft")


def test_compressed_with_a_plug_in(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "a.h5"
    stack = frames(4, 20, 30)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=stack, chunks=(1, 20, 30), **hdf5plugin.Bitshuffle())
    recording = open_file(path)
    np.testing.assert_array_equal(recording.data, stack)
    packed = pickle.dumps(recording.data)
    np.testing.assert_array_equal(pickle.loads(packed)[2], stack[2])  # noqa: S301


@pytest.mark.parametrize("cut", [10, 100, 600, 2000, 5000])
def test_truncated(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = frames(4, 60, 60)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DiskernError, match=r"a\.h5"):
        open_file(path)


def test_velox_words_nested_without_end_cost_only_the_calibration(tmp_path: Path) -> None:
    path = tmp_path / "a.emd"
    write_velox(path, frames(20, 30, 2), {})
    with h5py.File(path, "a") as file:
        group = file["Data/Image/0123456789abcdef"]
        del group["Metadata"]
        group["Metadata"] = np.full((500_000, 2), ord("["), np.uint8)
    assert open_file(path).data.shape == (2, 20, 30)
