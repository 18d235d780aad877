"""Saved images can be read back with what they are."""

import json

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from diskern.errors import DiskernError
from diskern.simulate.export import save_image

IMAGE = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(64, 48) ** 3


def test_tiff_keeps_numbers_and_scale(tmp_path):
    path = save_image(tmp_path / "a.tif", IMAGE, pixel_size=0.0125, energy=200e3, metadata={"x": 1})
    assert np.array_equal(tifffile.imread(path), IMAGE)
    from diskern.io.registry import open_file

    recording = open_file(path)
    assert recording.pixel_size == pytest.approx(0.0125, rel=1e-4)


def test_tiff_takes_a_series(tmp_path):
    series = np.stack([IMAGE, 2 * IMAGE])
    assert np.array_equal(tifffile.imread(save_image(tmp_path / "s.tiff", series)), series)


def test_hdf5_keeps_numbers_and_facts(tmp_path):
    facts = {"crystal": "Si", "zone_axis": [0, 1, 1]}
    path = save_image(tmp_path / "a.h5", IMAGE, pixel_size=0.01, energy=3e5, metadata=facts)
    with h5py.File(path) as file:
        data = file["image"]
        assert np.array_equal(data[:], IMAGE)
        assert data.attrs["energy_eV"] == 3e5
        assert data.attrs["pixel_size_per_angstrom"] == 0.01
        assert json.loads(data.attrs["zone_axis"]) == [0, 1, 1]


def test_png_is_a_grey_picture_that_says_how(tmp_path):
    path = save_image(tmp_path / "a.png", 7 * IMAGE, pixel_size=0.01, gamma=0.5)
    with Image.open(path) as picture:
        grey = np.asarray(picture)
        facts = json.loads(picture.text["diskern"])
    assert grey.dtype == np.uint8
    assert grey == pytest.approx(255 * np.sqrt(IMAGE), abs=0.51)
    assert facts["pixel_size_per_angstrom"] == 0.01
    assert facts["grey"] == "(I/max)^0.5"


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a.jpg", IMAGE),
        ("a.png", np.stack([IMAGE, IMAGE])),
        ("a.tif", np.zeros(5)),
        ("a.h5", IMAGE * np.nan),
        ("missing/a.tif", IMAGE),
        ("missing/a.h5", IMAGE),
        ("missing/a.png", IMAGE),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, image):
    with pytest.raises(DiskernError) as caught:
        save_image(tmp_path / name, image)
    assert "\n" not in str(caught.value)
