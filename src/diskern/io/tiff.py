"""TIFF images and stacks, through tifffile; calibration from the tags that TEM programs write."""

from __future__ import annotations

import logging
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern import physics
from diskern.io.calibration import (
    MAX_FRAME_PIXELS,
    Axis,
    Stated,
    finish,
    luminance,
    number,
    pixel_on_screen,
)
from diskern.io.files import fault, printable
from diskern.io.lazy import FrameStack, LazyArray, RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

# tifffile logs what it finds odd; the user is told what matters by our notes and errors.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_COMPRESSION = 4000
_MOST_PAGES = 1_000_000
_GATAN_UNIT, _GATAN_ORIGIN, _GATAN_SCALE = (65004, 65003), (65007, 65006), (65010, 65009)  # y, x
_TVIPS, _TVIPS_DIFFRACTION = 37706, 3


def sniff(head: bytes, path: Path) -> bool:
    """Whether the file has a TIFF or BigTIFF signature."""
    return head[:4] in _SIGNATURES


def read_tiff(path: Path, dataset: str | None = None) -> Recording:
    """Read an image, or a stack lazily; ``dataset`` is the number of a series within the file."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        index = _choose(path, len(tiff.series), dataset)
        series = tiff.series[index]
        page = series.pages[0]
        _check_page(path, page, len(series.pages))
        stated = _stated(tiff, page)
        if len(tiff.series) > 1 and dataset is None:
            stated.notes.append(f"first of {len(tiff.series)} series; choose another by dataset")
        data = _data(path, series, index, stated)
    return finish(path, data, "TIFF", stated)


def _choose(path: Path, count: int, dataset: str | None) -> int:
    """The number of the wanted series."""
    if dataset is None:
        return 0
    if not dataset.isdecimal() or int(dataset) >= count:
        wrong = f"dataset={printable(dataset, 40)!r}"
        raise fault(path, wrong, f"give a number from 0 to {count - 1}")
    return int(dataset)


def _check_page(path: Path, page: Any, count: int) -> None:
    """Refuse what the file cannot hold, before anything is allocated."""
    height, width = int(page.imagelength), int(page.imagewidth)
    size = path.stat().st_size
    if height * width > MAX_FRAME_PIXELS or count > _MOST_PAGES:
        raise fault(path, f"{count} pages of {height}×{width} px are beyond any detector", "bin it")
    stored = sum(page.databytecounts)
    if stored > size or any(o >= size for o in page.dataoffsets):
        raise fault(path, f"truncated TIFF: {stored} bytes of pixels announced, {size} there")
    if page.nbytes > _MOST_COMPRESSION * max(stored, 1):
        raise fault(path, f"claims {height}×{width} px in {stored} bytes")


def _data(path: Path, series: Any, index: int, stated: Stated) -> LazyArray | NDArray[Any]:
    page, shape = series.pages[0], tuple(int(n) for n in series.shape)
    if len(series.pages) == 1 or page.samplesperpixel > 1:
        if len(series.pages) > 1:
            stated.notes.append(f"first of {len(series.pages)} colour pages")
        return _grey(page.asarray(), page, stated)
    offset = series.dataoffset
    if offset is not None and series.dtype is not None:
        order = series.keyframe.parent.byteorder
        return RawArray(path, np.dtype(series.dtype).newbyteorder(order), shape, offset)
    scan = shape[:-2]
    if math.prod(scan) != len(series.pages):
        scan = (len(series.pages),)
    return FrameStack(path, scan, (shape[-2], shape[-1]), page.dtype, _Pages(path, index))


def _grey(image: NDArray[Any], page: Any, stated: Stated) -> NDArray[Any]:
    """(H, W) grey levels of one page: colours, palette and inverted scales resolved."""
    if image.ndim == 3 and page.planarconfig == 2:
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[-1] == 2:
        image = image[..., 0]  # grey and alpha
    if page.photometric == 3 and page.colormap is not None:
        image = np.moveaxis(page.colormap, 0, -1)[image]
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        stated.notes.append("colours were turned into grey levels")
        return luminance(image)
    if page.photometric == 0 and image.dtype.kind == "u":
        return np.asarray(
            np.invert(image)
        )  # white is zero: only the display is inverted in such files
    return image


class _Pages:
    """Decodes one page of a compressed or scattered stack; the page table is read once."""

    def __init__(self, path: Path, series: int) -> None:
        self.path, self.series = path, series
        self._pages: Any = None

    def __call__(self, index: int) -> NDArray[Any]:
        if self._pages is None:
            import tifffile

            tiff = tifffile.TiffFile(self.path)
            weakref.finalize(self, tiff.close)
            tiff.filehandle.set_lock(True)  # several threads may ask
            self._pages = tiff.series[self.series].pages
        return np.asarray(self._pages[index].asarray())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pages": None}


def _stated(tiff: Any, page: Any) -> Stated:
    """What the tags say, from the program that says most."""
    metadata = {
        tag.name: tag.value for tag in page.tags if isinstance(tag.value, str | int | float)
    }
    stated = Stated(metadata=metadata)
    if _TVIPS in page.tags and isinstance(page.tags[_TVIPS].value, dict):
        _from_tvips(page.tags[_TVIPS].value, stated)
    elif all(code in page.tags for code in (*_GATAN_SCALE, *_GATAN_UNIT)):
        stated.detector = _from_gatan(page.tags)
    elif tiff.is_imagej:
        stated.detector = _from_imagej(tiff.imagej_metadata or {}, page.tags)
    elif tiff.is_fei:
        fei = tiff.fei_metadata or {}
        stated.energy = number(fei.get("Beam", {}).get("HV"))
        scan = fei.get("Scan", {})
        sizes = [number(scan.get(key)) for key in ("PixelHeight", "PixelWidth")]
        if sizes[0] and sizes[1]:
            stated.detector = (Axis(sizes[0], "m"), Axis(sizes[1], "m"))
    return stated


def _from_gatan(tags: Any) -> tuple[Axis, Axis]:
    """Axes from the private tags of DigitalMicrograph (also written by HyperSpy)."""

    def value(code: int) -> Any:
        return tags[code].value if code in tags else None

    def axis(i: int) -> Axis:
        scale, origin = number(value(_GATAN_SCALE[i])), number(value(_GATAN_ORIGIN[i]))
        return Axis(scale or 0.0, _text(value(_GATAN_UNIT[i])), -(origin or 0.0) * (scale or 0.0))

    return axis(0), axis(1)


def _from_imagej(metadata: dict[str, Any], tags: Any) -> tuple[Axis, Axis] | None:
    """Axes from ImageJ's unit and the resolution tags (pixels per unit)."""
    scales = []
    for name in ("YResolution", "XResolution"):
        value = tags[name].value if name in tags else (0, 1)
        per_unit = value[0] / value[1] if isinstance(value, tuple) and value[1] else number(value)
        if not per_unit:
            return None
        scales.append(1 / per_unit)
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ").replace("\\u00C5", "Å")
    return Axis(scales[0], unit), Axis(scales[1], unit)


def _from_tvips(header: dict[str, Any], stated: Stated) -> None:
    """EM-MENU's header: energy, and in diffraction mode the camera length (as magnification, mm).

    The pixel in 1/Å then follows from the physical pixel (nm) and the binning.
    """
    tension = number(header.get("TemHighTension")) or number(header.get("HighTension"))
    stated.energy = tension * 1e3 if tension and tension < 5000 else tension
    stated.metadata = {**stated.metadata, **{f"TVIPS.{k}": v for k, v in header.items()}}
    if header.get("TemMode") != _TVIPS_DIFFRACTION:
        stated.notes.append("recorded in an imaging mode, by the file's own account")
        return
    length = number(header.get("TemMagnification"))
    pixel = number(header.get("PhysicalPixelSizeX"))
    if length and pixel and stated.energy and 1e3 <= stated.energy <= 1e7:
        stated.camera_length = length * 1e-3
        binning = number(header.get("BinningX")) or 1.0
        stated.pixel_size = pixel_on_screen(
            pixel * 1e-9 * binning, stated.camera_length, physics.wavelength(stated.energy)
        )


def _text(value: Any) -> str:
    """A private tag's text: str, UTF-16 bytes or a tuple of 16-bit numbers."""
    if isinstance(value, bytes):
        return value.decode("utf-16-le" if b"\0" in value else "utf-8", "ignore").strip("\0")
    if isinstance(value, tuple):
        return "".join(chr(c) for c in value if isinstance(c, int) and 0 < c < 0x10000)
    return str(value or "").strip("\0")


FORMATS = (Format("TIFF", (".tif", ".tiff"), sniff, read_tiff),)
