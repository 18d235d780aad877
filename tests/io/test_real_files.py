"""Every real file opens with the right shape, type and calibration (manifest.csv)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from diskern import DiskernError
from diskern.io import open_file

# name: format, shape, dtype, pixel size (1/Å), energy (eV), camera length (m), centre
KNOWN = {
    "00001.tiff": ("TIFF", (516, 516), "uint16", None, None, None, None),
    "au_xgrating_20cm.tif": ("TIFF", (256, 256), "float32", None, None, None, None),
    "moo3_20cm.tif": ("TIFF", (256, 256), "float32", None, None, None, None),
    "hotspots.tif": ("TIFF", (256, 256), "uint16", None, None, None, None),
    "Amorphous.hspy": ("HyperSpy", (512, 512), "int64", None, 200e3, 0.51, None),
    "bismuth.dm4": ("DM4", (256, 256), "int8", None, 90e3, None, None),
    "dd020.dm3": ("DM3", (256, 256), "int32", None, 300e3, 0.037, None),
    "test.mib": ("Merlin", (256, 256), "uint16", None, None, None, None),
    "TIMEPIX_SU_512-stdgoni_0001.img": (
        "SMV", (512, 512), "uint16", 0.055 / 531.85 / 0.0251, 199.72e3, 0.53185, (240, 246),
    ),
    "test1.blo": ("blockfile", (3, 2, 144, 144), "uint8", 0.03202, 200e3, 0.2, None),
    "al.img": ("EMLab image", (200, 200), "float32", None, None, None, None),
    **{f"diff{a}.png": ("PNG", (576, 720), "uint8", None, None, None, None)
       for a in ("+1.8", "+21.5", "-2", "-26.6", "-34.8")},
    **{f"{n}.png": ("PNG", (1023, 1023), "uint8", None, None, None, None)
       for n in ("Au_Nano_1", "Au_Nano_2", "Ag_Nano1", "Ag_Nano2", "Fe3O4_Nano1", "ZnO_Nano")},
    "twinsFault_crop.png": ("PNG", (247, 246), "uint8", None, None, None, None),
    "stackingFault_crop.png": ("PNG", (584, 584), "uint8", None, None, None, None),
    **{f"0{i}-on_zone_{t}nm.jpg": ("JPEG", (1024, 1024), "uint8", None, None, None, None)
       for i, t in ((1, "50-51"), (2, "49-51"), (3, "52-53"), (4, "55-57"), (5, "61-63"))},
}  # fmt: skip


def _find(folder: Path, name: str) -> Path:
    return next(folder.rglob(name))


@pytest.mark.parametrize("name", KNOWN)
def test_opens_as_the_manifest_says(experimental: Path, name: str) -> None:
    form, shape, dtype, pixel, energy, length, centre = KNOWN[name]
    recording = open_file(_find(experimental, name))
    assert recording.format == form
    assert recording.data.shape == shape
    assert recording.data.dtype == np.dtype(dtype)
    assert recording.pixel_size == (None if pixel is None else pytest.approx(pixel, rel=1e-3))
    assert recording.energy == (None if energy is None else pytest.approx(energy, rel=1e-3))
    assert recording.camera_length == (None if length is None else pytest.approx(length))
    assert recording.centre == centre
    missing = " ".join(recording.missing)
    assert (pixel is None) == ("no pixel size" in missing)
    assert (energy is None) == ("no beam energy" in missing)
    assert np.asarray(recording.data).std() > 0


def test_all_files_of_the_manifest_are_covered(experimental: Path) -> None:
    """Images open; tables, texts and CIFs are refused in one line that names the file."""
    with (experimental / "manifest.csv").open() as stream:
        names = [row["file"] for row in csv.DictReader(stream)]
    refused = []
    for name in names:
        path = experimental / name
        if path.name in KNOWN or path.suffix == ".zip":
            continue
        with pytest.raises(DiskernError) as error:
            open_file(path)
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)
        refused.append(path.suffix)
    assert set(refused) == {
        ".txt", ".pts", ".rpl", ".cor", ".cenloc", ".celllist", ".hkl", ".cif_pets",
        ".framestats", ".cif",
    }  # fmt: skip


def test_members_of_the_merlin_archive(experimental: Path) -> None:
    path = _find(experimental, "Merlin_navigation4x2_ROI.zip")
    with pytest.raises(DiskernError, match=r"001_4x2_6bit\.mib; 002_4x2_6bit_roi128\.mib"):
        open_file(path)
    whole = open_file(path, "001_4x2_6bit.mib")
    region = open_file(path, "002_4x2_6bit_roi128.mib")
    assert whole.data.shape == (8, 256, 256)
    assert region.data.shape == (8, 128, 256)
    assert whole.data.dtype == np.uint8
    # the .hdr came along
    assert whole.metadata["Frames in Acquisition (Number)"] == "8"


def test_implausible_axes_are_not_used(experimental: Path) -> None:
    recording = open_file(_find(experimental, "Amorphous.hspy"))
    assert any("7.84e-21 1/Å is impossible" in note for note in recording.notes)


def test_smv_centre_is_where_the_beam_is(experimental: Path) -> None:
    from scipy.ndimage import gaussian_filter

    recording = open_file(_find(experimental, "TIMEPIX_SU_512-stdgoni_0001.img"))
    image = np.asarray(recording.data, float)
    smooth = gaussian_filter(np.minimum(image, np.percentile(image, 99)), 12)
    peak = np.unravel_index(smooth.argmax(), smooth.shape)
    assert np.hypot(*np.subtract(peak, recording.centre)) < 5


@pytest.mark.parametrize(
    ("name", "module"), [("dd020.dm3", "digitalmicrograph"), ("bismuth.dm4", "digitalmicrograph"),
                         ("test.mib", "quantumdetector")],
)  # fmt: skip
def test_pixels_agree_with_rosettasciio(experimental: Path, name: str, module: str) -> None:
    reader = pytest.importorskip(f"rsciio.{module}")
    path = _find(experimental, name)
    expected = reader.file_reader(str(path))[0]["data"]
    np.testing.assert_array_equal(open_file(path).data, expected)


def test_pixels_agree_with_fabio(experimental: Path) -> None:
    fabio = pytest.importorskip("fabio")
    path = _find(experimental, "TIMEPIX_SU_512-stdgoni_0001.img")
    np.testing.assert_array_equal(open_file(path).data, fabio.open(str(path)).data)
