"""NanoMEGAS ASTAR blockfiles (``.blo``): a scan of square 8-bit patterns.

Layout: a 240-byte little-endian header, a note, a virtual image, then per scan point 6 bytes
(mark and number) and the pattern.  SDP is the sampling of the screen in 1/100 px per cm, the
camera length is in 1/10 mm.
"""

from __future__ import annotations

import struct
from pathlib import Path

from diskern import physics
from diskern.io.calibration import Axis, Stated, finish, pixel_on_screen
from diskern.io.files import Cursor, refuse_dataset
from diskern.io.lazy import RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_HEADER = struct.Struct("<6sHIIIHHHHHddIHId22d")
_NAMES = (
    "signature", "version", "note_end", "data_start", "flags", "pattern_size", "pattern_rotation",
    "scan_x", "scan_y", "scan_rotation", "step_x", "step_y", "beam_energy", "screen_sampling",
    "camera_length", "date",
)  # fmt: skip
_FRAME_MARK = 6


def sniff(head: bytes, path: Path) -> bool:
    """Whether the file has the blockfile signature."""
    return head.startswith(b"IMGBLO")


def read_blo(path: Path, dataset: str | None = None) -> Recording:
    """Read the scan lazily, with step, energy and pixel size of the header."""
    refuse_dataset(path, dataset, "blockfile")
    with Cursor(path) as cursor:
        values = cursor.unpack(_HEADER.format)
        note = cursor.take(min(max(0, values[2] - _HEADER.size), 4096, cursor.size - cursor.tell()))
    head = dict(zip(_NAMES, values, strict=False))
    distortion = values[len(_NAMES) + 8 :]

    side, nx, ny = head["pattern_size"], head["scan_x"], head["scan_y"]
    frame = _FRAME_MARK + side * side
    data = RawArray(
        path,
        "u1",
        (ny, nx, side, side),
        head["data_start"] + _FRAME_MARK,
        (nx * frame, frame, side, 1),
    )

    energy, length = float(head["beam_energy"]), head["camera_length"] * 1e-4
    sampling = head["screen_sampling"]
    pixel_size = None
    if 1e3 <= energy <= 1e7 and length > 0 and sampling > 0:
        pixel_size = pixel_on_screen(1.0 / sampling, length, physics.wavelength(energy))
    notes = []
    if distortion[1] not in (0.0, 1.0):
        notes.append("the camera's perspective (distortion in the header) is not corrected")
    stated = Stated(
        scan=(Axis(head["step_y"], "nm"), Axis(head["step_x"], "nm")),
        pixel_size=pixel_size,
        energy=energy,
        camera_length=length,
        metadata={**head, "note": note.strip(b"\0")},
        notes=notes,
    )
    return finish(path, data, "blockfile", stated)


FORMATS = (Format("blockfile", (".blo",), sniff, read_blo),)
