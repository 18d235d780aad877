"""NumPy files, zip archives and Zarr folders; nothing is unpickled, nothing leaves its folder."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from microscope_files import dm_file, frames, mib_file

from diskern import DiskernError
from diskern.io import open_file


class _Bomb:
    """Unpickling this makes a file; no reader may do that."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f4", "f8", "?"])
@pytest.mark.parametrize("shape", [(20, 30), (4, 20, 30), (2, 3, 20, 30)])
def test_npy(tmp_path: Path, order: str, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(frames(*shape), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    recording = open_file(tmp_path / "a.npy")
    np.testing.assert_array_equal(recording.data, array)
    assert recording.data.dtype.isnative
    if len(shape) > 2:
        np.testing.assert_array_equal(recording.data[1, ..., 3:], array[1, ..., 3:])


def test_single_frames_are_images(tmp_path: Path) -> None:
    for shape in ((1, 20, 30), (1, 1, 20, 30), (1, 1, 1, 20, 30)):
        np.save(tmp_path / "a.npy", frames(*shape))
        assert open_file(tmp_path / "a.npy").data.shape == (20, 30)


def test_colour_array_is_an_image(tmp_path: Path) -> None:
    grey = frames(20, 30, dtype=np.uint8)
    np.save(tmp_path / "a.npy", np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(open_file(tmp_path / "a.npy").data, grey)


@pytest.mark.parametrize(
    ("array", "why"),
    [(np.ones((20, 20), complex), "real numbers"), (np.ones(400), "2-D array"),
     (np.array([["a"] * 20] * 20), "real numbers"), (np.ones((2, 2, 2, 20, 20)), "2-, 3- or 4-D"),
     (np.zeros((0, 20, 20)), "impossible shape"), (np.zeros((20, 20), "M8[s]"), "real numbers")],
)  # fmt: skip
def test_what_is_no_image(tmp_path: Path, array: np.ndarray, why: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DiskernError, match=why):
        open_file(tmp_path / "a.npy")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    objects = np.empty((20, 20), object)
    objects[...] = _Bomb(mark)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", data=objects)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DiskernError, match="never unpickled"):
            open_file(tmp_path / name)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(_Bomb(mark)))
    with pytest.raises(DiskernError, match="not a format"):
        open_file(tmp_path / "a.pkl")
    assert not mark.exists()


def test_npz_with_calibration(tmp_path: Path) -> None:
    stack = frames(3, 20, 30)
    np.savez_compressed(tmp_path / "a.npz", data=stack, pixel_size=0.01, energy=200e3)
    recording = open_file(tmp_path / "a.npz")
    np.testing.assert_array_equal(recording.data, stack)
    assert recording.pixel_size == 0.01
    assert recording.energy == 200e3
    np.savez(tmp_path / "b.npz", one=stack, two=stack)
    with pytest.raises(DiskernError, match=r"one \(3×20×30\); two \(3×20×30\)"):
        open_file(tmp_path / "b.npz")
    assert open_file(tmp_path / "b.npz", "two").data.shape == (3, 20, 30)


def _npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("shape", ["(99999999, 99999999)", "(-20, 20)", "(20,)", "'x'", "(1e3, 2)"])
def test_hostile_npy_headers(tmp_path: Path, shape: str) -> None:
    (tmp_path / "a.npy").write_bytes(_npy_header(shape) + bytes(1600))
    with pytest.raises(DiskernError, match=r"a\.npy"):
        open_file(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("data.npy", _npy_header(shape) + bytes(1600))
    with pytest.raises(DiskernError, match=r"a\.npz"):
        open_file(tmp_path / "a.npz")


# --- zip ------------------------------------------------------------------------------------
def test_zip_with_one_file_and_its_companion(tmp_path: Path) -> None:
    stack = frames(6, 64, 64)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan/a.mib", mib_file(stack))
        archive.writestr("scan/a.hdr", "HDR,\t\r\nScanX:\t3\r\nScanY:\t2\r\nEnd\t")
        archive.writestr("readme.txt", "hello")
    recording = open_file(tmp_path / "a.zip")
    assert recording.data.shape == (2, 3, 64, 64)
    np.testing.assert_array_equal(recording.data, stack.reshape(2, 3, 64, 64))
    assert recording.metadata["archive member"] == "scan/a.mib"


def test_the_unpacked_copy_goes_with_its_data(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.mib", mib_file(frames(6, 64, 64)))
        archive.writestr("broken.dm4", b"\0\0\0\4")
    recording = open_file(tmp_path / "a.zip", "a.mib")
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    del recording
    assert not list((tmp_path / "temporary").iterdir())
    with pytest.raises(DiskernError, match=r"a\.zip \(broken\.dm4\): no DM4 file"):
        open_file(tmp_path / "a.zip", "broken.dm4")
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("name", ["../evil.dm4", "/evil.dm4", "a/../../evil.dm4", "..\\evil.dm4"])
def test_members_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    content = dm_file(frames(64, 80), [(1.0, 0.0, "")] * 2)
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        archive.writestr(name, content)
    before = set(tmp_path.rglob("*"))
    assert open_file(tmp_path / "in" / "a.zip").data.shape == (64, 80)
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/evil.dm4").exists()


def test_archives_without_anything_to_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DiskernError, match="holds no dataset"):
        open_file(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w"):
        pass
    with pytest.raises(DiskernError, match="holds no dataset"):
        open_file(tmp_path / "b.zip")


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dm4", bytes(1 << 20))
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\1\2")
    raw[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")  # the directory's own claim
    path.write_bytes(raw)
    with pytest.raises(DiskernError, match=r"a\.zip: a member claims 4294967280 bytes"):
        open_file(path)


# --- Zarr ---------------------------------------------------------------------------------------
@pytest.fixture
def zarr() -> ModuleType:
    return pytest.importorskip("zarr")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_scan(tmp_path: Path, zarr: ModuleType, version: int) -> None:
    if version == 3 and int(zarr.__version__.split(".")[0]) < 3:
        pytest.skip("needs zarr 3")
    scan = frames(2, 3, 20, 30)
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    array = root.create_array("detector/data", data=scan, chunks=(1, 1, 20, 30))
    array.attrs.update({"pixel_size": 0.02, "energy": 300e3})
    recording = open_file(tmp_path / "a.zarr")
    assert recording.data.shape == (2, 3, 20, 30)
    np.testing.assert_array_equal(recording.data[1, 2], scan[1, 2])
    assert recording.pixel_size == 0.02
    again = pickle.loads(pickle.dumps(recording.data))  # noqa: S301
    np.testing.assert_array_equal(again, scan)
    assert open_file(tmp_path / "a.zarr" / "detector" / "data").data.shape == (2, 3, 20, 30)
    with pytest.raises(DiskernError, match=r"detector/data \(2×3×20×30\)"):
        open_file(tmp_path / "a.zarr", "other")


def test_zspy(tmp_path: Path, zarr: ModuleType) -> None:
    folder = tmp_path / "a.zspy"
    root = zarr.open_group(str(folder), mode="w", zarr_format=2)
    root.attrs["file_format"] = "HyperSpy"
    group = root.create_group("Experiments/scan")
    group.create_array("data", data=frames(4, 20, 30))
    for i, (units, navigate) in enumerate([("nm", True), ("1/nm", False), ("1/nm", False)]):
        axis = {"scale": 0.1, "offset": 0.0, "units": units, "navigate": navigate}
        group.create_group(f"axis-{i}").attrs.update(axis)
    group.create_group("metadata/Acquisition_instrument/TEM").attrs["beam_energy"] = 200.0
    recording = open_file(folder)
    assert recording.format == "HyperSpy"
    assert recording.data.shape == (4, 20, 30)
    assert recording.pixel_size == pytest.approx(0.01)
    assert recording.energy == 200e3


@pytest.mark.parametrize(
    "change",
    [{"filters": [{"id": "pickle"}]}, {"compressor": {"id": "json2"}}, {"dtype": "|O"},
     {"chunks": [1 << 20, 1 << 20]}, {"shape": [-1, 20]}, {"shape": [1 << 30, 1 << 30]},
     {"filters": 3}, {"chunks": [0, 0]}],
)  # fmt: skip
def test_hostile_zarr_arrays(tmp_path: Path, change: dict) -> None:
    meta = {"zarr_format": 2, "shape": [20, 30], "chunks": [20, 30], "dtype": "<u2",
            "compressor": None, "filters": None, "fill_value": 0, "order": "C"}  # fmt: skip
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / ".zarray").write_text(json.dumps({**meta, **change}))
    with pytest.raises(DiskernError, match=r"a\.zarr"):
        open_file(folder)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DiskernError, match="a folder, not a file"):
        open_file(tmp_path)
