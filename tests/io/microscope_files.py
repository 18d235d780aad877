"""Writes small files of the formats that have no sample, byte by byte, for the tests of `io`."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def frames(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    """Reproducible counts in which no two frames, rows or columns are alike."""
    rng = np.random.default_rng(sum(shape))
    return rng.integers(0, 60, shape).astype(dtype)


# --- DigitalMicrograph ----------------------------------------------------------------------
class DmWriter:
    """A DM3 or DM4 tag tree."""

    def __init__(self, version: int, order: str = "<") -> None:
        self.version, self.order = version, order

    def count(self, number: int) -> bytes:
        return struct.pack(">q" if self.version == 4 else ">i", number)

    def tag(self, kind: int, name: str, body: bytes) -> bytes:
        label = name.encode("latin-1")
        size = struct.pack(">q", len(body)) if self.version == 4 else b""
        return struct.pack(">BH", kind, len(label)) + label + size + body

    def leaf(self, name: str, info: list[int], raw: bytes) -> bytes:
        words = b"".join(self.count(i) for i in info)
        return self.tag(21, name, b"%%%%" + self.count(len(info)) + words + raw)

    def value(self, name: str, value: Any) -> bytes:
        if isinstance(value, dict):
            return self.group(name, value)
        if isinstance(value, list):
            return self.group(name, {f"#{i}": v for i, v in enumerate(value)})
        if isinstance(value, str):
            raw = value.encode("utf-16-le" if self.order == "<" else "utf-16-be")
            return self.leaf(name, [20, 4, len(raw) // 2], raw)
        if isinstance(value, float):
            return self.leaf(name, [6], struct.pack(f"{self.order}f", value))
        if isinstance(value, int):
            return self.leaf(name, [5], struct.pack(f"{self.order}I", value))
        if isinstance(value, tuple):
            info = [15, 0, len(value), *(n for _ in value for n in (0, 6))]
            return self.leaf(name, info, struct.pack(f"{self.order}{len(value)}f", *value))
        code = {"u2": 4, "i4": 3, "f4": 6, "u1": 10, "i2": 2}[value.dtype.str[1:]]
        raw = value.astype(value.dtype.newbyteorder(self.order)).tobytes()
        return self.leaf(name, [20, code, value.size], raw)

    def group(self, name: str, tags: dict[str, Any]) -> bytes:
        return self.tag(20, name, self.body(tags))

    def body(self, tags: dict[str, Any]) -> bytes:
        inside = b"".join(self.value("" if k.startswith("#") else k, v) for k, v in tags.items())
        return b"\1\0" + self.count(len(tags)) + inside

    def file(self, tags: dict[str, Any]) -> bytes:
        body = self.body(tags) + b"\0" * 8
        little = int(self.order == "<")
        head = struct.pack(">i", self.version) + self.count(len(body)) + struct.pack(">i", little)
        return head + body


def dm_file(
    array: np.ndarray,
    axes: list[tuple[float, float, str]],
    *,
    version: int = 4,
    order: str = "<",
    voltage: float = 200e3,
    extra: dict[str, Any] | None = None,
) -> bytes:
    """A file with a thumbnail and ``array``; ``axes``: (scale, origin px, unit), fastest first."""
    kinds = {"u2": 10, "i4": 7, "f4": 2, "u1": 6, "i2": 1}

    def image(data: np.ndarray, described: list[tuple[float, float, str]]) -> dict[str, Any]:
        dims = [{"Origin": o, "Scale": s, "Units": u} for s, o, u in described]
        return {
            "ImageData": {
                "Calibrations": {"Dimension": dims},
                "Data": data,
                "DataType": kinds[data.dtype.str[1:]],
                "Dimensions": [int(n) for n in data.shape[::-1]],
            },
            "ImageTags": {
                "Microscope Info": {"Voltage": voltage, "STEM Camera Length": 250.0},
                **(extra or {}),
            },
            "Name": "test",
        }

    plain = [(1.0, 0.0, "")] * 2
    thumbnail = np.zeros((64, 64), np.int32)
    return DmWriter(version, order).file(
        {
            "ImageList": [image(thumbnail, plain), image(array, axes)],
            "Thumbnails": [{"ImageIndex": 0}],
        }
    )


# --- TIA ------------------------------------------------------------------------------------
def ser_file(
    array: np.ndarray, pixel: float = 2.0e8, step: float = 3e-9, *, gap: bool = False
) -> bytes:
    """(scan_y, scan_x, Q_y, Q_x) or (N, Q_y, Q_x) counts, top row first in ``array``."""
    scan, (rows, columns) = array.shape[:-2], array.shape[-2:]
    count = int(np.prod(scan))
    text = b"".join(
        struct.pack("<iddi", n, 0.0, step, 0)
        + struct.pack("<i", 8) + b"Position" + struct.pack("<i", 6) + b"meters"
        for n in scan[::-1]
    )  # fmt: skip
    where = 30 + len(text)
    head = struct.pack("<2shhiiiii", b"II", 0x197, 0x210, 0x4122, 0x4142, count, count, where)
    head += struct.pack("<i", len(scan)) + text
    kind = {"u1": 1, "u2": 2, "i4": 6, "f4": 7}[array.dtype.str[1:]]
    body, offsets, at = b"", [], where + 8 * count
    for i, frame in enumerate(array.reshape(-1, rows, columns)):
        padding = b"\0" * (i % 3) if gap else b""
        piece = padding + struct.pack(
            "<ddiddihii", 0, pixel, columns // 4, 0, pixel, rows // 4, kind, columns, rows
        ) + frame[::-1].tobytes() + b"\0" * 24  # fmt: skip
        offsets.append(at + len(body) + len(padding))
        body += piece
    return head + struct.pack(f"<{count}i", *offsets) + b"\0" * (4 * count) + body


EMI = (
    b"JK\0\2 binary <ObjectInfo><ExperimentalConditions><MicroscopeConditions>"
    b"<AcceleratingVoltage>200000</AcceleratingVoltage></MicroscopeConditions>"
    b"</ExperimentalConditions><ExperimentalDescription><Data><Label>Camera length</Label>"
    b"<Value>0.51</Value><Unit>m</Unit></Data></ExperimentalDescription></ObjectInfo>"
)


# --- others -----------------------------------------------------------------------------------
def mrc_file(array: np.ndarray, order: str = "<", diffraction: bool = False) -> bytes:
    """An image or stack, with an ``FEI2`` extended header if ``diffraction``."""
    nz, ny, nx = array.shape
    mode = {"i1": 0, "i2": 1, "f4": 2, "u2": 6}[array.dtype.str[1:]]
    head = bytearray(1024)
    struct.pack_into(f"{order}10i", head, 0, nx, ny, nz, mode, 0, 0, 0, nx, ny, nz)
    struct.pack_into(f"{order}3f", head, 40, 2.0 * nx, 2.0 * ny, 2.0 * nz)
    head[208:212] = b"MAP "
    head[212:216] = b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0"
    more = b""
    if diffraction:
        extended = bytearray(888)
        struct.pack_into("<d", extended, 84, 300e3)
        struct.pack_into("<2d", extended, 156, 3e7, 3e7)
        struct.pack_into("<i", extended, 248, 1)
        struct.pack_into("<d", extended, 301, 0.66)
        more = bytes(extended)
        struct.pack_into(f"{order}i", head, 92, len(more))
        head[104:108] = b"FEI2"
    return bytes(head) + more + array.astype(array.dtype.newbyteorder(order)).tobytes()


def blo_file(array: np.ndarray) -> bytes:
    """A (scan_y, scan_x, N, N) uint8 scan at 200 kV, 200 mm, 62.26 px/cm, 12.8 nm steps."""
    ny, nx, side, _ = array.shape
    start = 0x1000 + nx * ny
    head = struct.pack(
        "<6sHIIIHHHHHddIHId22d",
        b"IMGBLO", 0x102, 0x1000, start, 0, side, 0, nx, ny, 0, 12.8, 12.8, 200_000, 6226, 2000,
        0.0, *([0.0] * 22),
    )  # fmt: skip
    body = b"".join(
        struct.pack("<HI", 0xAA55, i) + f.tobytes()
        for i, f in enumerate(array.reshape(-1, side, side))
    )
    return head.ljust(0x1000, b"\0") + b"\0" * (nx * ny) + body


def _mib_header(
    number: int, kind: str, shape: tuple[int, int], depth: int, chips: int, time: str
) -> bytes:
    layout, size = ("2x2", 768) if chips == 4 else ("1x1", 384)
    thresholds = "1.5E+1,5.11E+2" + ",0.0E+0" * 6
    text = (
        f"MQ1,{number:06d},{size:05d},{chips:02d},{shape[1]:04d},{shape[0]:04d},{kind},"
        f"{layout:>6},{'0F' if chips == 4 else '01'},{time},0.001000,0,0,0,{thresholds},3RX,"
        f"MQ1A,{time.replace(' ', 'T')}000Z,1000000ns,{depth},"
    )
    return text.encode().ljust(size, b"\0" if number % 2 else b" ")


def mib_file(array: np.ndarray, line: int | None = None) -> bytes:
    """A finished (N, Q_y, Q_x) stack, top row first in ``array``; a pause after every ``line``."""
    kind, depth = {1: ("U08", 6), 2: ("U16", 12), 4: ("U32", 24)}[array.dtype.itemsize]
    out, clock = b"", 0
    for i, frame in enumerate(array):
        clock += 1000 if line is None or i % line else 3500
        time = f"2021-05-07 18:51:{10 + clock // 1_000_000:02d}.{clock % 1_000_000:06d}"
        out += _mib_header(i + 1, kind, frame.shape, depth, 1, time)
        out += frame[::-1].astype(frame.dtype.newbyteorder(">")).tobytes()
    return out


def _packed(image: np.ndarray, depth: int) -> bytes:
    """Chip data in 64-bit words, pixels reversed within each."""
    if depth == 1:
        return np.packbits(image.reshape(-1, 8, 8)[:, ::-1], axis=-1, bitorder="little").tobytes()
    if depth == 6:
        return image.astype(np.uint8).reshape(-1, 8)[:, ::-1].tobytes()
    return image.astype(">u2").reshape(-1, 4)[:, ::-1].tobytes()


def raw_mib_file(array: np.ndarray, depth: int, quad: bool = False) -> bytes:
    """An R64 stack as the chips deliver it, for the (N, Q_y, Q_x) that should be read."""
    out = b""
    for i, shown in enumerate(array):
        image = shown[::-1]
        if quad:
            half = len(image) // 2
            first, second = image[:half, :half], image[:half, half:]
            third, fourth = image[half:, :half][::-1, ::-1], image[half:, half:][::-1, ::-1]
            image = np.hstack([fourth, third, second, first])
        wide = image.shape[1] * (2 if depth == 24 else 1)
        time = f"2021-05-07 18:51:10.{i:06d}"
        out += _mib_header(i + 1, "R64", (image.shape[0], wide), depth, 4 if quad else 1, time)
        halves = [image >> 12, image & 0xFFF] if depth == 24 else [image]
        out += b"".join(_packed(half, min(depth, 12)) for half in halves)
    return out


def smv_file(array: np.ndarray, words: dict[str, Any], order: str = "<") -> bytes:
    """A uint16 frame with the given header words."""
    named = {
        "HEADER_BYTES": 512, "DIM": 2,
        "BYTE_ORDER": "little_endian" if order == "<" else "big_endian",
        "TYPE": "unsigned_short", "SIZE1": array.shape[1], "SIZE2": array.shape[0], **words,
    }  # fmt: skip
    text = "{\n" + "".join(f"{k}={v};\n" for k, v in named.items()) + "}\n"
    return text.encode().ljust(512) + array.astype(f"{order}u2").tobytes()


def emlab_file(array: np.ndarray) -> bytes:
    """A float32 image behind four 16-bit numbers."""
    return struct.pack("<4H", *array.shape[::-1], 4, 2) + array.astype("<f4").tobytes()


def write_empad(folder: Path, array: np.ndarray, measured: str) -> Path:
    """An EMPAD ``.xml`` and its ``.raw`` (with the two extra rows); gives the xml."""
    ny, nx = array.shape[:2]
    stored = np.full((ny, nx, 130, 128), 1e9, "<f4")
    stored[:, :, :128] = array
    raw = folder / f"scan_x{nx}_y{ny}.raw"
    raw.write_bytes(stored.tobytes())
    xml = folder / "acquisition.xml"
    xml.write_text(
        f'<?xml version="1.0"?><root><raw_file filename="{raw.name}"/><pix_x>{nx}</pix_x>'
        f"<pix_y>{ny}</pix_y><iom_measurements>{measured}</iom_measurements></root>"
    )
    return xml


def write_velox(path: Path, movie: np.ndarray, words: dict[str, Any]) -> None:
    """A Velox file with a (Q_y, Q_x, N) movie."""
    raw = np.frombuffer(json.dumps(words).encode().ljust(4096, b"\0"), np.uint8)
    with h5py.File(path, "w") as file:
        group = file.create_group("Data/Image/0123456789abcdef")
        group["Data"] = movie
        group["Metadata"] = np.repeat(raw[:, None], movie.shape[2], axis=1)


def write_emd(path: Path, cube: np.ndarray, name: str, kind: Any, first: int, units: str) -> None:
    """Berkeley (``kind`` 1, dims from 1) or EMD 1.0 (``kind`` "array", dims from 0)."""
    with h5py.File(path, "w") as file:
        group = file.create_group(name)
        group.attrs["emd_group_type"] = kind
        group["data"] = cube
        scales = (5.0, 5.0, 0.02, 0.02)
        for i, n in enumerate(cube.shape):
            vector = group.create_dataset(f"dim{first + i}", data=np.arange(n) * scales[i])
            vector.attrs["units"] = "Å" if i < 2 else units


def write_hspy(path: Path, data: np.ndarray, axes: list[dict[str, Any]]) -> None:
    """A HyperSpy file at 80 kV and 250 mm."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        group = file.create_group("Experiments/scan")
        group["data"] = data
        for i, axis in enumerate(axes):
            group.create_group(f"axis-{i}").attrs.update(axis)
        tem = group.create_group("metadata/Acquisition_instrument/TEM")
        tem.attrs.update({"beam_energy": 80.0, "camera_length": 250.0})


def byte_offset(values: np.ndarray) -> bytes:
    """Differences in 1, 3 or 7 bytes."""
    out, last = bytearray(), 0
    for value in values.ravel().tolist():
        step, last = value - last, value
        if -128 < step < 128:
            out += struct.pack("<b", step)
        elif -32768 < step < 32768:
            out += b"\x80" + struct.pack("<h", step)
        else:
            out += b"\x80\0\x80" + struct.pack("<i", step)
    return bytes(out)


def cbf_file(array: np.ndarray, comments: str = "") -> bytes:
    """A miniature CBF with the comment lines given."""
    packed = byte_offset(array)
    head = (
        "###CBF: VERSION 1.5\r\ndata_a\r\n_array_data.header_contents\r\n;\r\n"
        f"{comments}\r\n;\r\n_array_data.data\r\n;\r\n--CIF-BINARY-FORMAT-SECTION--\r\n"
        'Content-Type: application/octet-stream;\r\n     conversions="x-CBF_BYTE_OFFSET"\r\n'
        f"X-Binary-Size: {len(packed)}\r\nX-Binary-ID: 1\r\n"
        'X-Binary-Element-Type: "signed 32-bit integer"\r\n'
        f"X-Binary-Number-of-Elements: {array.size}\r\n"
        f"X-Binary-Size-Fastest-Dimension: {array.shape[1]}\r\n"
        f"X-Binary-Size-Second-Dimension: {array.shape[0]}\r\n\r\n"
    )
    return (
        head.encode() + b"\x0c\x1a\x04\xd5" + packed + b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;"
    )


def tvips_file(array: np.ndarray, first: bool = True) -> bytes:
    """One file of a TVIPS run at 200 kV, 400 mm, 15.5 µm pixels binned by 2."""
    rows, columns = array.shape[1:]
    words = (256, 2, columns, rows, 16, 0, 0, 2, 2, 15_500, 200, 400, 72)
    out = struct.pack("<13I", *words) + (b"TVIPS " * 34)[:204] if first else b""
    for i, frame in enumerate(array):
        out += struct.pack("<4IfII", i, 0, 0, 0, 0.0, 0, 2).ljust(72, b"\0") + frame.tobytes()
    return out
