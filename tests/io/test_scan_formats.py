"""SER/EMI, MRC, blo, mib, SMV, EMLab and EMPAD files written byte by byte."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from microscope_files import (
    EMI,
    blo_file,
    cbf_file,
    emlab_file,
    frames,
    mib_file,
    mrc_file,
    raw_mib_file,
    ser_file,
    smv_file,
    tvips_file,
    write_empad,
)

from diskern import DiskernError, physics
from diskern.io import open_file


# --- TIA ------------------------------------------------------------------------------------
@pytest.mark.parametrize("gap", [False, True])
def test_ser_scan(tmp_path: Path, gap: bool) -> None:
    scan = frames(3, 5, 24, 32)
    path = tmp_path / "map_1.ser"
    path.write_bytes(ser_file(scan, gap=gap))
    recording = open_file(path)
    assert recording.data.shape == scan.shape
    np.testing.assert_array_equal(recording.data[2, 3], scan[2, 3])
    np.testing.assert_array_equal(recording.data[1:, 0, 3:5], scan[1:, 0, 3:5])
    assert recording.pixel_size == pytest.approx(0.02)  # 2e8 1/m
    assert recording.scan_step == pytest.approx((30.0, 30.0))
    # Element rows/4 counted from the bottom, columns/4 from the left, is zero.
    assert recording.centre == pytest.approx((24 - 1 - 6, 8))


def test_ser_image_in_metres_is_no_pattern_scale(tmp_path: Path) -> None:
    path = tmp_path / "image_1.ser"
    path.write_bytes(ser_file(frames(1, 24, 32), pixel=1e-10))
    recording = open_file(path)
    assert recording.data.shape == (24, 32)
    assert recording.pixel_size is None
    assert any("real space" in note for note in recording.notes)


def test_emi_leads_to_its_series_and_gives_the_energy(tmp_path: Path) -> None:
    (tmp_path / "map_1.ser").write_bytes(ser_file(frames(1, 24, 32)))
    (tmp_path / "map.emi").write_bytes(EMI)
    for name in ("map.emi", "map_1.ser"):
        recording = open_file(tmp_path / name)
        assert recording.energy == 200e3
        assert recording.camera_length == 0.51
    (tmp_path / "map_1.ser").unlink()
    with pytest.raises(DiskernError, match=r"map_1\.ser, which is not there"):
        open_file(tmp_path / "map.emi")


def test_ser_agrees_with_rosettasciio(tmp_path: Path) -> None:
    tia = pytest.importorskip("rsciio.tia")
    path = tmp_path / "map_1.ser"
    path.write_bytes(ser_file(frames(2, 3, 24, 32)))
    signal = tia.file_reader(str(path))[0]
    np.testing.assert_array_equal(signal["data"].reshape(2, 3, 24, 32), open_file(path).data)


# --- MRC --------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i2", "f4", "u2", "i1"])
def test_mrc_stack(tmp_path: Path, order: str, dtype: str) -> None:
    stack = frames(4, 20, 30, dtype=dtype)
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_file(stack, order))
    recording = open_file(path)
    np.testing.assert_array_equal(recording.data, stack)
    assert recording.pixel_size is None
    assert any("real space (2 Å per px)" in note for note in recording.notes)


def test_mrc_with_thermo_fisher_header(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_file(frames(1, 20, 30), diffraction=True))
    recording = open_file(path)
    assert recording.data.shape == (20, 30)
    assert recording.pixel_size == pytest.approx(3e-3)
    assert recording.energy == 300e3
    assert recording.camera_length == 0.66


def test_mrc_written_by_mrcfile(tmp_path: Path) -> None:
    mrcfile = pytest.importorskip("mrcfile")
    stack = frames(3, 40, 20, dtype=np.float32)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(stack)
    np.testing.assert_array_equal(open_file(tmp_path / "a.mrc").data, stack)


# --- blockfile ----------------------------------------------------------------------------------
def test_blo(tmp_path: Path) -> None:
    scan = frames(3, 2, 32, 32, dtype=np.uint8)
    path = tmp_path / "a.blo"
    path.write_bytes(blo_file(scan))
    recording = open_file(path)
    np.testing.assert_array_equal(recording.data, scan)
    assert recording.scan_step == (128, 128)
    angle = 1 / 6226 / 0.2
    assert recording.pixel_size == pytest.approx(angle / physics.wavelength(200e3))


# --- Merlin -----------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_mib_stack(tmp_path: Path, dtype: type) -> None:
    stack = frames(6, 64, 128, dtype=dtype)
    path = tmp_path / "a.mib"
    path.write_bytes(mib_file(stack))
    recording = open_file(path)
    assert recording.data.dtype == dtype
    np.testing.assert_array_equal(recording.data, stack)
    assert any("scan's shape is not stated" in note for note in recording.notes)


@pytest.mark.parametrize(
    "words",
    [
        "ScanX:\t3\r\nScanY:\t2",
        "Frames in Acquisition (Number):\t6\r\nFrames per Trigger (Number):\t3",
    ],
)
def test_mib_scan_by_its_hdr(tmp_path: Path, words: str) -> None:
    stack = frames(6, 64, 64)
    (tmp_path / "a.mib").write_bytes(mib_file(stack))
    (tmp_path / "a.hdr").write_text(f"HDR,\t\r\n{words}\r\nEnd\t\r\n")
    recording = open_file(tmp_path / "a.mib")
    assert recording.data.shape == (2, 3, 64, 64)
    np.testing.assert_array_equal(recording.data, stack.reshape(2, 3, 64, 64))
    np.testing.assert_array_equal(recording.data[1, ::2], stack[[3, 5]])


def test_mib_scan_by_the_pauses_between_lines(tmp_path: Path) -> None:
    (tmp_path / "a.mib").write_bytes(mib_file(frames(20, 16, 64), line=5))
    assert open_file(tmp_path / "a.mib").data.shape == (4, 5, 16, 64)
    (tmp_path / "b.mib").write_bytes(mib_file(frames(18, 16, 64), line=5))
    assert open_file(tmp_path / "b.mib").data.shape == (18, 16, 64)  # 18 is no multiple of 5


def test_mib_with_a_broken_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib_file(frames(3, 64, 64))[:-100])
    recording = open_file(path)
    assert recording.data.shape == (2, 64, 64)
    assert any("last frame is incomplete" in note for note in recording.notes)


@pytest.mark.parametrize("quad", [False, True])
@pytest.mark.parametrize(("depth", "largest"), [(1, 1), (6, 63), (12, 4095), (24, 16_777_215)])
def test_raw_mib(tmp_path: Path, depth: int, largest: int, quad: bool) -> None:
    side = 128 if quad else 64
    rng = np.random.default_rng(depth)
    stack = rng.integers(0, largest, (3, side, side), endpoint=True)
    path = tmp_path / "a.mib"
    path.write_bytes(raw_mib_file(stack, depth, quad))
    recording = open_file(path)
    np.testing.assert_array_equal(recording.data, stack)
    np.testing.assert_array_equal(recording.data[1, 5:9, ::2], stack[1, 5:9, ::2])


def test_mib_agrees_with_rosettasciio(tmp_path: Path) -> None:
    quantum = pytest.importorskip("rsciio.quantumdetector")
    stack = frames(4, 256, 256)
    path = tmp_path / "a.mib"
    path.write_bytes(mib_file(stack))
    data = quantum.file_reader(str(path))[0]["data"].reshape(stack.shape)
    np.testing.assert_array_equal(open_file(path).data, data)


# --- SMV, EMLab -----------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["<", ">"])
def test_smv_with_the_centre_in_millimetres(tmp_path: Path, order: str) -> None:
    image = frames(100, 120)
    words = {"PIXEL_SIZE": 0.05, "DISTANCE": 500, "WAVELENGTH": 0.0196875,
             "BEAM_CENTER_X": 3.0, "BEAM_CENTER_Y": 2.0}  # fmt: skip
    path = tmp_path / "a.img"
    path.write_bytes(smv_file(image, words, order))
    recording = open_file(path)
    np.testing.assert_array_equal(recording.data, image)
    assert recording.centre == pytest.approx((40, 60))
    assert recording.energy == pytest.approx(300e3, rel=1e-4)
    assert recording.pixel_size == pytest.approx(0.05 / 500 / 0.0196875)


def test_smv_without_calibration(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(smv_file(frames(20, 20), {"DISTANCE": -1, "WAVELENGTH": "none"}))
    recording = open_file(path)
    assert (recording.pixel_size, recording.energy, recording.centre) == (None, None, None)


def test_emlab_needs_exactly_its_size(tmp_path: Path) -> None:
    image = frames(20, 30, dtype=np.float32)
    path = tmp_path / "a.img"
    path.write_bytes(emlab_file(image))
    np.testing.assert_array_equal(open_file(path).data, image)
    path.write_bytes(emlab_file(image) + b"\0")
    with pytest.raises(DiskernError, match=r"a\.img"):
        open_file(path)


# --- CBF ------------------------------------------------------------------------------------------
def test_cbf(tmp_path: Path) -> None:
    image = frames(20, 30, dtype=np.int64)
    image[3, 4], image[5, 6], image[7, 8] = 200, 70_000, 2**31 - 5
    comments = (
        "# Detector: EIGER2\r\n# Pixel_size 75e-6 m x 75e-6 m\r\n# Wavelength 0.02508 A\r\n"
        "# Detector_distance 0.60 m\r\n# Beam_xy (14.5, 9.25) pixels"
    )
    path = tmp_path / "a.cbf"
    path.write_bytes(cbf_file(image, comments))
    recording = open_file(path)
    assert recording.format == "CBF"
    np.testing.assert_array_equal(recording.data, image)
    assert recording.centre == (9.25, 14.5)
    assert recording.energy == pytest.approx(200e3, rel=1e-3)
    assert recording.pixel_size == pytest.approx(75e-6 / 0.6 / 0.02508)
    assert recording.camera_length == 0.6


def test_cbf_mask_is_missing(tmp_path: Path) -> None:
    image = frames(20, 30, dtype=np.int64)
    image[3, 4] = -2
    (tmp_path / "a.cbf").write_bytes(cbf_file(image))
    data = open_file(tmp_path / "a.cbf").data
    assert np.isnan(data[3, 4])
    assert np.isnan(data).sum() == 1


def test_cbf_agrees_with_fabio(tmp_path: Path) -> None:
    fabio = pytest.importorskip("fabio")
    rng = np.random.default_rng(0)
    image = (rng.exponential(1, (50, 60)) ** 6 * 10).astype(np.int32)
    fabio.factory("cbfimage").__class__(data=image).write(str(tmp_path / "a.cbf"))
    np.testing.assert_array_equal(open_file(tmp_path / "a.cbf").data, image)


# --- TVIPS ----------------------------------------------------------------------------------------
def test_tvips_run(tmp_path: Path) -> None:
    stack = frames(7, 20, 30)
    (tmp_path / "a_000.tvips").write_bytes(tvips_file(stack[:3]))
    (tmp_path / "a_001.tvips").write_bytes(tvips_file(stack[3:5], first=False))
    (tmp_path / "a_002.tvips").write_bytes(tvips_file(stack[5:], first=False))
    recording = open_file(tmp_path / "a_000.tvips")
    np.testing.assert_array_equal(recording.data, stack)
    np.testing.assert_array_equal(recording.data[2:6:3, 4], stack[2:6:3, 4])
    angle = 2 * 15.5e-6 / 0.4
    assert recording.pixel_size == pytest.approx(angle / physics.wavelength(200e3))
    assert recording.energy == 200e3
    assert recording.camera_length == pytest.approx(0.4)


def test_tvips_agrees_with_rosettasciio(tmp_path: Path) -> None:
    tvips = pytest.importorskip("rsciio.tvips")
    (tmp_path / "a_000.tvips").write_bytes(tvips_file(frames(3, 20, 30)))
    recording = open_file(tmp_path / "a_000.tvips")
    expected = tvips.file_reader(str(tmp_path / "a_000.tvips"))[0]["data"]
    np.testing.assert_array_equal(recording.data, expected)


# --- EMPAD ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", [".xml", ".raw"])
def test_empad(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "acq"
    folder.mkdir()
    scan = frames(2, 3, 128, 128, dtype=np.float32)
    measured = (
        "<high_voltage>300000</high_voltage><nominal_camera_length>0.3</nominal_camera_length>"
        "<calibrated_pixelsize>1.8e-10</calibrated_pixelsize>"
        "<optics.get_full_scan_field_of_view>(2e-9, 3e-9)</optics.get_full_scan_field_of_view>"
    )
    xml = write_empad(folder, scan, measured)
    xml.rename(folder / "acq.xml")
    path = next(folder.glob(f"*{ending}"))
    recording = open_file(path)
    assert recording.format == "EMPAD"
    np.testing.assert_array_equal(recording.data, scan)
    assert recording.pixel_size == pytest.approx(0.018)
    assert recording.energy == 300e3
    assert recording.camera_length == 0.3
    assert recording.scan_step == pytest.approx((10, 10))


def test_empad_angle_of_the_second_generation(tmp_path: Path) -> None:
    measured = (
        "<ColumnSourceHighVoltage>300000.0</ColumnSourceHighVoltage>"
        "<calibrated_diffraction_angle>0.000259</calibrated_diffraction_angle>"
        "<calibrated_pixelsize>2.1e-12</calibrated_pixelsize>"
    )
    xml = write_empad(tmp_path, frames(2, 2, 128, 128, dtype=np.float32), measured)
    recording = open_file(xml)
    assert recording.pixel_size == pytest.approx(0.259e-3 / physics.wavelength(300e3), rel=1e-4)


def test_empad_xml_cannot_lead_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "scan_x1_y1.raw"
    secret.write_bytes(bytes(130 * 128 * 4))
    folder = tmp_path / "inside"
    folder.mkdir()
    xml = folder / "a.xml"
    xml.write_text('<root><raw_file filename="../scan_x1_y1.raw"/><pix_x>1</pix_x></root>')
    with pytest.raises(DiskernError, match="are not there"):
        open_file(xml)
    xml.write_text('<!DOCTYPE r [<!ENTITY a "b">]><root><raw_file filename="&a;"/></root>')
    with pytest.raises(DiskernError, match="document type"):
        open_file(xml)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a_1.ser", ser_file(frames(2, 3, 24, 32))),
     ("b_1.ser", ser_file(frames(2, 3, 24, 32), gap=True)),
     ("a.blo", blo_file(frames(2, 3, 32, 32, dtype=np.uint8))),
     ("a.mib", raw_mib_file(frames(6, 64, 64), 6)), ("a.mrc", mrc_file(frames(6, 20, 30)))],
)  # fmt: skip
def test_data_can_be_sent_to_another_process(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    data = open_file(tmp_path / name).data
    data[0]  # opened here
    packed = pickle.dumps(data)
    assert len(packed) < 2000  # the description, not the numbers
    np.testing.assert_array_equal(pickle.loads(packed), data)  # noqa: S301
