"""PNG, JPEG, BMP and GIF pictures, through Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diskern.io.calibration import MAX_FRAME_PIXELS, Stated, finish, luminance
from diskern.io.files import fault, printable, refuse_dataset
from diskern.io.recording import Recording
from diskern.io.registry import Format

if TYPE_CHECKING:
    from PIL.Image import Image

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the header versions in use

# A pixel costs at least this many bytes in any picture of a detector; deflate and LZW reach
# three thousand to one only on a constant image.
_BYTES_PER_PIXEL = 1 / 4000


def _kind(head: bytes) -> str | None:
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return None


def read_image(path: Path, dataset: str | None = None) -> Recording:
    """Read a picture as grey levels: colours by luminance, alpha ignored, 16 bits kept."""
    from PIL import Image

    with path.open("rb") as stream:
        kind = _kind(stream.read(32)) or "image"
    refuse_dataset(path, dataset, kind)
    # The size is checked here, before a pixel is decoded, so Pillow need not warn about it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            picture = Image.open(path, formats=[kind])
        except Image.DecompressionBombError as error:
            raise fault(path, f"{printable(error, 60)}", "bin or crop it") from error
        with picture:
            _check_size(path, *picture.size)
            notes = _remarks(picture, kind)
            grey = _grey(picture, notes)
            about = {k: v for k, v in picture.info.items() if isinstance(v, str | int | float)}
            about["mode"] = picture.mode
    return finish(path, grey, kind, Stated(metadata=about, notes=notes))


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise fault(path, f"{width}×{height} px is beyond any detector", "bin or crop it")
    if width * height * _BYTES_PER_PIXEL > path.stat().st_size:
        raise fault(path, f"claims {width}×{height} px in {path.stat().st_size} bytes")


def _remarks(picture: Image, kind: str) -> list[str]:
    notes = []
    if getattr(picture, "n_frames", 1) > 1:
        notes.append(f"first of {getattr(picture, 'n_frames', 1)} pictures of an animation")
    if kind == "JPEG":
        notes.append("JPEG compression may have changed weak spots")
    if picture.mode not in ("I;16", "I;16B", "I", "F"):
        notes.append("8-bit grey levels: scaled for display, perhaps not linear in intensity")
    return notes


def _grey(picture: Image, notes: list[str]) -> NDArray[Any]:
    """(H, W) grey levels of a picture of any mode."""
    mode = picture.mode
    if mode == "1":
        return np.asarray(picture.convert("L"))
    if mode in ("L", "I", "F") or mode.startswith("I;16"):
        pixels = np.array(picture)
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if mode in ("LA", "La"):
        return np.array(picture.getchannel(0))
    colours = np.asarray(picture.convert("RGBA" if mode in ("P", "PA") else "RGB"))
    grey = luminance(colours)
    if any(not np.array_equal(grey, colours[..., i]) for i in range(3)):
        notes.append("colours were turned into grey levels")
    return grey


FORMATS = tuple(
    Format(name, extensions, lambda head, path, name=name: _kind(head) == name, read_image)  # type: ignore[misc]
    for name, extensions in {
        "PNG": (".png",),
        "JPEG": (".jpg", ".jpeg", ".jpe"),
        "BMP": (".bmp", ".dib"),
        "GIF": (".gif",),
    }.items()
)
