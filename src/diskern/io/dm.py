"""Gatan DigitalMicrograph files, DM3 and DM4.

The layout is known from public descriptions (C. Boothroyd, "dm3 file format"; the DM4 changes
are 64-bit sizes): a tree of tags; each leaf says how its bytes are to be taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diskern.io.calibration import Axis, Stated, finish, number
from diskern.io.files import Cursor, fault, printable
from diskern.io.lazy import LazyArray, Permuted, RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format
from diskern.io.units import parse_unit

_GROUP, _LEAF = 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20
# Codes of simple values, as `struct` letters.
_SIMPLE = {
    2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "?", 9: "b", 10: "B", 11: "q", 12: "Q",
}  # fmt: skip
_SIZES = {"b": 1, "B": 1, "?": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}
# ImageData.DataType to numpy; complex, packed and 1-bit images are left out.
_PIXELS = {
    1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "u1",
    39: "i8", 40: "u8",
}  # fmt: skip
_COLOUR = 23
_DEEPEST = 48
_MOST_TAGS = 100_000
_LONGEST_PATH = 800
_LONGEST_TEXT = 4096


@dataclass(frozen=True)
class Block:
    """An array left in the file: where, how many bytes."""

    offset: int
    size: int


@dataclass
class _Tags:
    """The tag tree as a flat dictionary: ``ImageList.1.ImageData.DataType`` → value."""

    cursor: Cursor
    version: int
    order: str
    values: dict[str, Any] = field(default_factory=dict)
    seen: int = 0

    def count(self) -> int:
        """A size field: 32 bits in DM3, 64 in DM4, always big-endian."""
        return int(self.cursor.one(">q" if self.version == 4 else ">i"))

    def group(self, prefix: str, depth: int) -> None:
        """Read the tags of one group."""
        if depth > _DEEPEST:
            raise ValueError("tags nested too deeply")
        self.cursor.skip(2)  # sorted, open
        for index in range(self.count()):
            self.seen += 1
            if self.seen > _MOST_TAGS:
                raise ValueError(f"more than {_MOST_TAGS} tags")
            kind, length = self.cursor.unpack(">BH")
            if kind == 0:
                return
            name = self.cursor.take(length).decode("latin-1") or str(index)
            if self.version == 4:
                self.cursor.skip(8)  # bytes of this tag
            path = f"{prefix}.{name}" if prefix else name
            if len(path) > _LONGEST_PATH:
                raise ValueError("tag names too long")
            if kind == _GROUP:
                self.group(path, depth + 1)
            elif kind == _LEAF:
                self.values[path] = self.leaf()
            else:
                raise ValueError(f"unknown tag type {kind}")

    def leaf(self) -> Any:
        """Read one value by its own description."""
        if self.cursor.take(4) != b"%%%%":
            raise ValueError("tag data without their mark")
        words = self.count()
        if not 1 <= words <= 1024:
            raise ValueError(f"description of {words} words")
        info = [self.count() for _ in range(words)]
        code = info[0]
        if code in _SIMPLE:
            return self.cursor.one(self.order + _SIMPLE[code])
        if code == _STRUCT:
            return self.cursor.unpack(self.order + _fields(info[1:]))
        if code == _STRING:
            raw = self.cursor.take(2 * info[1])
            return raw.decode("utf-16-le" if self.order == "<" else "utf-16-be", "replace")
        if code == _ARRAY:
            return self.array(info[1:])
        raise ValueError(f"unknown data code {code}")

    def array(self, info: list[int]) -> Any:
        """Short arrays of 16-bit numbers are texts; the rest is left in the file."""
        letters = _fields(info[1:-1]) if info[0] == _STRUCT else _SIMPLE[info[0]]
        count = info[-1]
        block = Block(self.cursor.tell(), count * sum(_SIZES[c] for c in letters))
        if letters == "H" and 0 <= count < _LONGEST_TEXT:
            raw = self.cursor.take(2 * count)
            return raw.decode("utf-16-le" if self.order == "<" else "utf-16-be", "replace")
        self.cursor.skip(block.size)
        return block


def _fields(info: list[int]) -> str:
    """The `struct` letters of a structure: (name length, number, (name length, code) …)."""
    return "".join(_SIMPLE[code] for code in info[3 : 2 + 2 * info[1] : 2])


def sniff(head: bytes, path: Path) -> bool:
    """Whether version and byte order are those of DM3 or DM4."""
    version = int.from_bytes(head[:4], "big")
    at = {3: 8, 4: 12}.get(version)
    return at is not None and int.from_bytes(head[at : at + 4], "big") in (0, 1) and len(head) > 20


def read_tags(path: Path) -> tuple[dict[str, Any], int, str]:
    """The flat tags of a DM file, its version (3 or 4) and byte order (``<`` or ``>``)."""
    with Cursor(path) as cursor:
        version = cursor.one(">i")
        cursor.skip(8 if version == 4 else 4)  # bytes that follow
        order = "<" if cursor.one(">i") else ">"
        tags = _Tags(cursor, version, order)
        tags.group("", 0)
    return tags.values, version, order


def read_dm(path: Path, dataset: str | None = None) -> Recording:
    """Read an image, stack or scan; ``dataset`` is the number or name of one of several images."""
    tags, version, order = read_tags(path)
    prefix = _choose(path, tags, dataset)
    image = _below(tags, f"{prefix}.ImageData")
    shape = _listed(image, "Dimensions", len(image))[::-1]
    kind = _PIXELS.get(int(image.get("DataType", 0)))
    block = image.get("Data")
    if int(image.get("DataType", 0)) == _COLOUR:
        kind, shape = "u1", [*shape, 4]
    if kind is None or not isinstance(block, Block):
        raise fault(path, f"holds pixels of DM type {image.get('DataType')}", "save real numbers")
    data: LazyArray = RawArray(path, order + kind, tuple(shape), block.offset)

    axes = [_axis(image, i) for i in range(len(shape))][::-1]
    if any(parse_unit(axis.unit).kind == "energy" for axis in axes):
        raise fault(path, "holds a spectrum image (an axis in eV)", "give a diffraction image")
    if len(axes) == 4 and _detector_is_slow(axes):
        data, axes = Permuted(data, (2, 3, 0, 1)), axes[2:] + axes[:2]
    stated = _stated(_below(tags, f"{prefix}.ImageTags"), axes)
    stated.metadata = {"Name": tags.get(f"{prefix}.Name", ""), **stated.metadata}
    return finish(path, data, f"DM{version}", stated)


def _choose(path: Path, tags: dict[str, Any], dataset: str | None) -> str:
    """The prefix of the wanted image; by default the largest that is no thumbnail."""
    sizes = {
        key.removesuffix(".ImageData.Data"): value.size
        for key, value in tags.items()
        if key.startswith("ImageList.") and key.endswith(".ImageData.Data")
        and isinstance(value, Block)
    }  # fmt: skip
    if not sizes:
        raise fault(path, "holds no image", "give a diffraction image")
    if dataset is not None:
        for prefix in sizes:
            if dataset in (prefix.split(".")[1], tags.get(f"{prefix}.Name")):
                return prefix
        names = ", ".join(prefix.split(".")[1] for prefix in sizes)
        raise fault(path, f"no image {printable(dataset, 40)!r}", f"give one of: {names}")
    thumbnails = {
        f"ImageList.{v}" for k, v in tags.items()
        if k.startswith("Thumbnails.") and k.endswith(".ImageIndex")
    }  # fmt: skip
    return max(sizes, key=lambda p: (p not in thumbnails, sizes[p]))


def _below(tags: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k[len(prefix) + 1 :]: v for k, v in tags.items() if k.startswith(prefix + ".")}


def _listed(tags: dict[str, Any], name: str, most: int) -> list[int]:
    """The unnamed numbers 0, 1, 2 … of a group."""
    found = []
    for i in range(most):
        value = tags.get(f"{name}.{i}")
        if not isinstance(value, int):
            break
        found.append(value)
    return found


def _axis(image: dict[str, Any], index: int) -> Axis:
    """Axis ``index`` (0 the fastest); value = (i − origin)·scale, origin in pixels."""
    prefix = f"Calibrations.Dimension.{index}"
    scale = number(image.get(f"{prefix}.Scale")) or 0.0
    origin = number(image.get(f"{prefix}.Origin")) or 0.0
    unit = image.get(f"{prefix}.Units")
    return Axis(scale, unit if isinstance(unit, str) else "", -origin * scale)


def _detector_is_slow(axes: list[Axis]) -> bool:
    """Whether the detector's axes come before the scan's, as their units tell."""
    kinds = [parse_unit(axis.unit).kind for axis in axes]
    return all(k in ("inverse", "angle") for k in kinds[:2]) and "length" in kinds[2:]


def _stated(tags: dict[str, Any], axes: list[Axis]) -> Stated:
    """Energy and camera length from the microscope's tags, wherever a script has moved them."""
    words = {k: v for k, v in tags.items() if not isinstance(v, Block | tuple)}

    def found(name: str) -> float | None:
        keys = sorted((k for k in words if k.endswith(f"Microscope Info.{name}")), key=len)
        return number(words[keys[0]]) if keys else None

    length = found("STEM Camera Length") or found("Camera Length")
    return Stated(
        detector=(axes[-2], axes[-1]) if len(axes) > 1 else None,
        scan=(axes[0], axes[1]) if len(axes) == 4 else None,
        energy=found("Voltage"),
        camera_length=length * 1e-3 if length else None,
        metadata={k: v for k, v in words.items() if "Microscope Info" in k or "DataBar" in k
                  or "Meta Data" in k},
    )  # fmt: skip


FORMATS = (
    Format("DM3", (".dm3",), lambda head, path: sniff(head, path) and head[3] == 3, read_dm),
    Format("DM4", (".dm4",), lambda head, path: sniff(head, path) and head[3] == 4, read_dm),
)
