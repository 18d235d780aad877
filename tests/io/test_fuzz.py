"""Bytes flipped, cut and inserted: a recording or one `DiskernError` may come out, nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from microscope_files import (
    blo_file,
    cbf_file,
    dm_file,
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
from PIL import Image

from diskern import DiskernError
from diskern.io import open_file
from diskern.patterns.read import read

logging.getLogger("tifffile").setLevel(logging.CRITICAL)

NM = [(0.05, 10.0, "1/nm"), (0.05, 9.0, "1/nm"), (2.0, 0.0, "nm"), (2.0, 0.0, "nm")]
CALIBRATED = {"PIXEL_SIZE": 0.05, "DISTANCE": 500, "WAVELENGTH": 0.0251, "BEAM_CENTER_X": 9,
              "BEAM_CENTER_Y": 9}  # fmt: skip


def _written(name: str, write: Callable[[Path], object]) -> Callable[[Path], bytes]:
    def content(folder: Path) -> bytes:
        path = folder / f"made.{name}"
        write(path)
        return path.read_bytes()

    return content


def _empad(folder: Path) -> bytes:
    scan = frames(1, 1, 128, 128, dtype=np.float32)
    return write_empad(folder, scan, "<high_voltage>2e5</high_voltage>").read_bytes()


SAMPLES: dict[str, Callable[[Path], bytes]] = {
    "a.dm3": lambda _: dm_file(frames(2, 2, 16, 20), NM, version=3),
    "a.dm4": lambda _: dm_file(frames(20, 24), NM[:2], version=4),
    "a_1.ser": lambda _: ser_file(frames(2, 2, 16, 20)),
    "b_1.ser": lambda _: ser_file(frames(2, 2, 16, 20), gap=True),
    "a.mrc": lambda _: mrc_file(frames(3, 16, 20), diffraction=True),
    "a.blo": lambda _: blo_file(frames(2, 2, 16, 16, dtype=np.uint8)),
    "a.mib": lambda _: mib_file(frames(4, 16, 64), line=2),
    "b.mib": lambda _: raw_mib_file(frames(2, 64, 64), 12, quad=True),
    "c.mib": lambda _: raw_mib_file(frames(2, 16, 64), 1),
    "a.img": lambda _: smv_file(frames(20, 24), CALIBRATED),
    "b.img": lambda _: emlab_file(frames(20, 24, dtype=np.float32)),
    "a.cbf": lambda _: cbf_file(frames(20, 24), "# Wavelength 0.025 A"),
    "a.tvips": lambda _: tvips_file(frames(3, 16, 20)),
    "a.xml": _empad,
    "a.npy": _written("npy", lambda p: np.save(p, frames(2, 16, 20))),
    "a.npz": _written("npz", lambda p: np.savez(p, data=frames(2, 16, 20), energy=2e5)),
    "a.tif": _written("tif", lambda p: tifffile.imwrite(p, frames(2, 16, 20))),
    "b.tif": _written(
        "tif", lambda p: tifffile.imwrite(p, frames(2, 16, 20), compression="zlib", imagej=False)
    ),
    "a.png": _written("png", lambda p: Image.fromarray(frames(20, 24, dtype=np.uint8)).save(p)),
    "a.jpg": _written("jpg", lambda p: Image.fromarray(frames(20, 24, dtype=np.uint8)).save(p)),
    "a.bmp": _written("bmp", lambda p: Image.fromarray(frames(20, 24, dtype=np.uint8)).save(p)),
    "a.gif": _written("gif", lambda p: Image.fromarray(frames(20, 24, dtype=np.uint8)).save(p)),
}


class Samples(dict[str, bytes]):
    """The samples, with a short name in reports of failures."""

    def __repr__(self) -> str:
        return "samples"


def _check_line(text: str, path: Path) -> None:
    assert "\n" not in text
    assert path.name in text


def _survives(path: Path) -> None:
    """Open and take the first frame, as every user of a recording does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            recording = open_file(path)
            frame = recording.data[(0,) * (len(recording.data.shape) - 2)]
            opened = read(path)
    except DiskernError as error:
        _check_line(str(error), path)
        return
    assert np.asarray(frame).shape == recording.data.shape[-2:]
    assert recording.pixel_size is None or 0 < recording.pixel_size < 10
    assert recording.energy is None or 1e3 <= recording.energy <= 1e7
    assert len(opened.shape) in (2, 4)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("samples")
    return Samples({name: make(folder) for name, make in SAMPLES.items()})


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_itself_opens(samples: Samples, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(samples[name])
    if name == "a.xml":
        (tmp_path / "scan_x1_y1.raw").write_bytes(bytes(130 * 128 * 4))
    assert open_file(path).data.shape[-1] >= 16


@pytest.mark.parametrize("name", SAMPLES)
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_changed_bytes(samples: Samples, tmp_path: Path, name: str, data: st.DataObject) -> None:
    raw = bytearray(samples[name])
    # The bytes that steer a reader are at the start (and, for zip, the end) of a file.
    places = st.integers(0, len(raw) - 1) | st.integers(0, 400) | st.integers(-200, -1)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(places) % len(raw)
        raw[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(raw)
    _survives(path)


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_and_inserted_bytes(samples: Samples, tmp_path: Path, name: str) -> None:
    content = samples[name]
    rng = np.random.default_rng(len(content))
    path = tmp_path / name
    for _ in range(25):
        at = int(rng.integers(1, len(content)))
        path.write_bytes(content[:at])
        _survives(path)
        path.write_bytes(content[:at] + rng.bytes(int(rng.integers(1, 9))) + content[at:])
        _survives(path)


@pytest.mark.parametrize("name", ["a.dm4", "a_1.ser", "a.mrc", "a.blo", "a.mib", "a.img"])
def test_random_bytes_behind_a_true_signature(samples: Samples, tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(7)
    for keep in (4, 8, 16, 32, 64):
        path = tmp_path / name
        path.write_bytes(samples[name][:keep] + rng.bytes(3000))
        _survives(path)
