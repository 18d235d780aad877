"""Formats read through rosettasciio, and what its dictionaries become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from microscope_files import frames

from diskern import DiskernError, physics
from diskern.io import open_file
from diskern.io.vendor import from_rosetta


def _axis(index: int, scale: float, units: str, navigate: bool, size: int) -> dict[str, Any]:
    return {"index_in_array": index, "name": "xyuv"[index], "scale": scale, "offset": 0.0,
            "units": units, "navigate": navigate, "size": size}  # fmt: skip


def test_dictionary_of_rosettasciio(tmp_path: Path) -> None:
    scan = frames(2, 3, 20, 30)
    signal = {
        "data": scan,
        "axes": [_axis(3, 0.3, "mrad", False, 30), _axis(2, 0.3, "mrad", False, 20),
                 _axis(0, 5, "nm", True, 2), _axis(1, 5, "nm", True, 3)],
        "metadata": {"Acquisition_instrument": {"TEM": {"beam_energy": 120.0,
                                                        "camera_length": 200.0, "Stage": {}}}},
    }  # fmt: skip
    recording = from_rosetta(tmp_path / "a.x", signal, "X")
    np.testing.assert_array_equal(recording.data[1, 2], scan[1, 2])
    assert recording.energy == 120e3
    assert recording.camera_length == 0.2
    assert recording.scan_step == (50, 50)
    assert recording.pixel_size == pytest.approx(0.3e-3 / physics.wavelength(120e3))


def test_ripple(tmp_path: Path) -> None:
    pytest.importorskip("rsciio.ripple")
    stack = frames(4, 20, 30)
    (tmp_path / "a.raw").write_bytes(stack.tobytes())
    words = {"width": 30, "height": 20, "depth": 4, "offset": 0, "data-length": 2,
             "data-type": "unsigned", "byte-order": "little-endian",
             "record-by": "image"}  # fmt: skip
    table = "key\tvalue\n" + "".join(f"{k}\t{v}\n" for k, v in words.items())
    (tmp_path / "a.rpl").write_text(table)
    recording = open_file(tmp_path / "a.rpl")
    assert recording.format == "Ripple"
    np.testing.assert_array_equal(recording.data, stack)
    with pytest.raises(DiskernError, match="no dataset '1'"):
        open_file(tmp_path / "a.rpl", "1")
