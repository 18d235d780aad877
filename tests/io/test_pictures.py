"""Pictures and TIFFs: grey levels, calibration tags, stacks."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from microscope_files import frames
from PIL import Image

from diskern import DiskernError, physics
from diskern.io import open_file

GREY = frames(30, 40, dtype=np.uint8)


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "gif"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "1"])
def test_grey_levels_survive_every_mode(tmp_path: Path, ending: str, mode: str) -> None:
    levels = np.where(GREY > 30, 255, 0).astype(np.uint8) if mode == "1" else GREY
    image = Image.fromarray(levels).convert(mode)
    recording = open_file(_save(tmp_path / f"a.{ending}", image))
    assert recording.format == ending.upper()
    np.testing.assert_array_equal(recording.data, levels)
    assert not any("colours" in note for note in recording.notes)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_ignored(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.fromarray(frames(30, 40, dtype=np.uint8)[::-1]))
    np.testing.assert_array_equal(open_file(_save(tmp_path / "a.png", image)).data, GREY)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    image = frames(30, 40, dtype=np.uint16) * 1000
    recording = open_file(_save(tmp_path / "a.png", Image.fromarray(image)))
    np.testing.assert_array_equal(recording.data, image)
    assert not any("8-bit" in note for note in recording.notes)


def test_colours_become_luminance(tmp_path: Path) -> None:
    colours = np.zeros((20, 20, 3), np.uint8)
    colours[..., 1] = 200
    recording = open_file(_save(tmp_path / "a.png", Image.fromarray(colours)))
    assert np.all(recording.data == round(0.587 * 200))
    assert any("colours" in note for note in recording.notes)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((40, 40), 80, np.uint8)).convert("CMYK")
    recording = open_file(_save(tmp_path / "a.jpg", image))
    assert recording.data.shape == (40, 40)
    assert abs(float(np.mean(recording.data)) - 80) < 4
    assert any("JPEG" in note for note in recording.notes)


def test_animation_gives_its_first_picture(tmp_path: Path) -> None:
    first, second = Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())
    path = _save(tmp_path / "a.gif", first, save_all=True, append_images=[second])
    recording = open_file(path)
    np.testing.assert_array_equal(recording.data, GREY)
    assert any("first of 2 pictures" in note for note in recording.notes)


# --- TIFF -----------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "i4"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_stack(tmp_path: Path, dtype: str, byteorder: str, compression: str | None) -> None:
    stack = frames(4, 24, 32, dtype=dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, stack, byteorder=byteorder, compression=compression, photometric="minisblack"
    )
    recording = open_file(path)
    assert recording.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(recording.data[2], stack[2])
    np.testing.assert_array_equal(recording.data, stack)
    assert not isinstance(recording.data, np.ndarray)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_scan(tmp_path: Path, compression: str | None) -> None:
    scan = frames(2, 3, 24, 32)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scan, compression=compression, photometric="minisblack")
    np.testing.assert_array_equal(open_file(path).data, scan)


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [("1/nm", 20.0, 0.005), ("nm^-1", 20.0, 0.005), ("nm", 20.0, None), ("inch", 72.0, None)],
)
def test_imagej_scale(tmp_path: Path, unit: str, per_unit: float, expected: float | None) -> None:
    path = tmp_path / "a.tif"
    resolution = (per_unit, per_unit)
    tifffile.imwrite(
        path, frames(24, 32), imagej=True, resolution=resolution, metadata={"unit": unit}
    )
    assert open_file(path).pixel_size == (expected and pytest.approx(expected))


def test_digitalmicrograph_tags(tmp_path: Path) -> None:
    def text(unit: str) -> bytes:
        return unit.encode("utf-16-le") + b"\0\0"

    tags = [
        (65003, 1, 0, text("1/nm"), False), (65004, 1, 0, text("1/nm"), False),
        (65006, 12, 1, 20.5, False), (65007, 12, 1, 10.25, False),
        (65009, 12, 1, 0.05, False), (65010, 12, 1, 0.05, False),
    ]  # fmt: skip
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames(24, 32), extratags=tags, metadata=None)
    recording = open_file(path)
    assert recording.pixel_size == pytest.approx(0.005)
    assert recording.centre == pytest.approx((10.25, 20.5))


def test_colour_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.repeat(GREY[..., None], 3, axis=-1), photometric="rgb")
    np.testing.assert_array_equal(open_file(path).data, GREY)


def test_series_are_chosen_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(frames(24, 32))
        tiff.write(frames(40, 20))
    assert open_file(path).data.shape == (24, 32)
    assert open_file(path, "1").data.shape == (40, 20)
    with pytest.raises(DiskernError, match="a number from 0 to 1"):
        open_file(path, "2")


def test_compressed_stack_in_another_process(tmp_path: Path) -> None:
    path, stack = tmp_path / "a.tif", frames(4, 24, 32)
    tifffile.imwrite(path, stack, compression="zlib", photometric="minisblack")
    data = open_file(path).data
    data[1]  # opened here
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data))[2], stack[2])  # noqa: S301


@pytest.mark.parametrize("mode", [1, 3])
def test_tvips_tag(tmp_path: Path, mode: int) -> None:
    first = np.zeros((), tifffile.TIFF.TVIPS_HEADER_V1)
    second = np.zeros((), tifffile.TIFF.TVIPS_HEADER_V2)
    first["Version"], second["Magic"] = 2, 0xAAAAAAAA
    second["TemHighTension"], second["TemMode"], second["TemMagnification"] = 200e3, mode, 400
    second["PhysicalPixelSizeX"], second["BinningX"] = 15_500, 2
    raw = first.tobytes() + second.tobytes()
    path = tmp_path / "a.tif"
    tag = (37706, 1, len(raw), raw, True)
    tifffile.imwrite(path, frames(24, 32), extratags=[tag], metadata=None)
    recording = open_file(path)
    assert recording.energy == 200e3
    if mode == 3:
        angle = 2 * 15.5e-6 / 0.4
        assert recording.pixel_size == pytest.approx(angle / physics.wavelength(200e3))
        assert recording.camera_length == pytest.approx(0.4)
    else:
        assert recording.pixel_size is None
        assert any("imaging mode" in note for note in recording.notes)
