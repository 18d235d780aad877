"""EMPAD recordings: headerless float32 frames (``.raw``) with an ``.xml`` beside them.

A frame is 130 rows of 128, of which the last two are the detector's own record, or 128 × 128 in
later programs.  The first generation states 1e-9 of 1/nm per pixel, the second the angle in rad.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from diskern.io.calibration import Axis, Stated, finish, number
from diskern.io.files import fault, refuse_dataset
from diskern.io.lazy import LazyArray, RawArray
from diskern.io.recording import Recording
from diskern.io.registry import Format

_SIDE = 128
_STORED_ROWS = (130, 128)
_NAMED_SCAN = re.compile(r"_x(\d{1,5})_y(\d{1,5})")
_MOST_XML_BYTES = 16 << 20


def _is_xml(head: bytes, path: Path) -> bool:
    return head.lstrip()[:1] == b"<" and re.search(rb"<raw_?file[\s>]", head) is not None


def _is_raw(head: bytes, path: Path) -> bool:
    whole = path.suffix.lower() == ".raw" and any(
        path.stat().st_size % (rows * _SIDE * 4) == 0 for rows in _STORED_ROWS
    )
    return whole and (_NAMED_SCAN.search(path.stem) is not None or _xml_beside(path) is not None)


def _xml_beside(path: Path) -> Path | None:
    """The description of a ``.raw``: the file of its name, or the only one in the folder."""
    if path.with_suffix(".xml").is_file():
        return path.with_suffix(".xml")
    described = [p for p in path.parent.glob("*.xml") if p.stem.startswith(path.parent.name)]
    return described[0] if len(described) == 1 else None


def read_empad(path: Path, dataset: str | None = None) -> Recording:
    """Read the scan lazily; either file may be given."""
    refuse_dataset(path, dataset, "EMPAD")
    if path.suffix.lower() == ".raw":
        beside = _xml_beside(path)
        words, raw = (_words(beside) if beside else {}), path
    else:
        words = _words(path)
        # Only the name counts: a description must not lead to a file elsewhere.
        name = words.get("raw_file@filename") or words.get("rawfile/filename") or ""
        raw = path.parent / re.split(r"[\\/]", name)[-1]
        if not (name and raw.is_file()):
            raise fault(path, f"its pixels ({raw.name or 'raw file'}) are not there", "copy both")
    scan = _scan_shape(words, raw)
    size = raw.stat().st_size
    frames = 1
    for n in scan:
        frames *= n
    rows = next((r for r in _STORED_ROWS if frames * r * _SIDE * 4 == size), _STORED_ROWS[0])
    line, frame = _SIDE * 4, rows * _SIDE * 4
    strides = tuple(frame * (scan[1] if i == 0 and len(scan) == 2 else 1) for i in range(len(scan)))
    data: LazyArray = RawArray(raw, "<f4", (*scan, _SIDE, _SIDE), 0, (*strides, line, 4))
    return finish(path, data, "EMPAD", _stated(words, scan))


def _words(path: Path) -> dict[str, str]:
    """The description as ``group/name`` → text; entities are refused, they are never used."""
    with path.open("rb") as stream:
        text = stream.read(_MOST_XML_BYTES)
    if b"<!" in text.replace(b"<!--", b""):
        raise fault(path, "an XML with a document type is not accepted", "remove <!DOCTYPE …>")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise fault(path, f"damaged XML ({error})") from error
    words: dict[str, str] = {}
    queue = [("", child, 0) for child in root]
    while queue:
        prefix, node, depth = queue.pop()
        key = f"{prefix}{node.tag}"
        words.update({f"{key}@{name}": value for name, value in node.attrib.items()})
        if node.text and node.text.strip():
            words[key] = node.text.strip()
        if depth < 8:
            queue += [(f"{key}/", child, depth + 1) for child in node]
    return words


def _scan_shape(words: dict[str, str], raw: Path) -> tuple[int, ...]:
    if series := number(words.get("scan_parameters/series_count")):
        return (int(series),)
    x, y = number(words.get("pix_x")), number(words.get("pix_y"))
    if x and y:
        return int(y), int(x)
    if named := _NAMED_SCAN.search(raw.stem):
        return int(named[2]), int(named[1])
    frame = _STORED_ROWS[0] * _SIDE * 4
    return (raw.stat().st_size // frame,)


def _stated(words: dict[str, str], scan: tuple[int, ...]) -> Stated:
    def said(*names: str) -> float | None:
        return next((v for n in names if (v := number(words.get(f"iom_measurements/{n}")))), None)

    stated = Stated(
        energy=said("high_voltage", "ColumnSourceHighVoltage"),
        camera_length=said(
            "nominal_camera_length", "ColumnOpticsGetCameraLengthNominalCameraLength"
        ),
        metadata=words,
    )
    if angle := said("calibrated_diffraction_angle"):
        stated.detector = (Axis(angle, "rad"), Axis(angle, "rad"))
    elif pixel := said("calibrated_pixelsize"):
        stated.detector = (Axis(pixel * 1e9, "1/nm"), Axis(pixel * 1e9, "1/nm"))
    if len(scan) == 2:
        stated.scan = _scan_axes(words, scan[0], scan[1])
    return stated


def _scan_axes(words: dict[str, str], rows: int, columns: int) -> tuple[Axis, Axis] | None:
    """Scan step from the field of view in m; later programs state the longer side, scaled."""
    pair = words.get("iom_measurements/optics.get_full_scan_field_of_view", "")
    fields = [number(w) for w in re.findall(r"[-+.\deE]{1,30}", pair)]
    if len(fields) == 2 and fields[0] and fields[1]:
        return Axis(fields[0] / rows, "m"), Axis(fields[1] / columns, "m")
    field = number(words.get("iom_measurements/full_scan_field_of_view/x"))
    factor = number(words.get("iom_measurements/full_scan_field_of_view/scale_factor"))
    if not (field and factor):
        return None
    step = Axis(field / factor / max(rows, columns), "m")
    return step, step


FORMATS = (
    Format("EMPAD", (".xml",), _is_xml, read_empad),
    Format("EMPAD", (".raw",), _is_raw, read_empad),
)
