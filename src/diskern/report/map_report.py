"""The report of a scan's maps: one HTML file with everything in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diskern._version import __version__
from diskern.bragg.find import how_found
from diskern.bragg.vectors import BraggVectors
from diskern.compute.files import write_text
from diskern.errors import DiskernError
from diskern.mapping.calibration import ScanCalibration
from diskern.mapping.deformation import COMPONENTS
from diskern.mapping.lattice_map import LatticeMap, Reason
from diskern.mapping.strain import StrainMap
from diskern.mapping.thickness import ThicknessMap
from diskern.mapping.tilt import TiltMap
from diskern.mapping.virtual import virtual_image_of
from diskern.report import map_figures as figures
from diskern.report import map_style as look
from diskern.report import notation
from diskern.report.markup import Html, element, facts, join, page, picture, section, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_LATTICES = 12  # rows of the table of lattices
_DPI = 130


@dataclass(frozen=True, eq=False)
class MapResults:
    """What a report of maps shows; what is None is left out.

    Attributes
    ----------
    title : name of the scan.
    provenance : command, configuration, input; may nest.
    notes : further sentences for the reader.
    """

    title: str
    vectors: BraggVectors
    lattices: LatticeMap | None = None
    calibration: ScanCalibration | None = None
    strain: StrainMap | None = None
    tilt: TiltMap | None = None
    thickness: ThicknessMap | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write_map_report(results: MapResults, path: str | Path) -> Path:
    """Write the report as one self-contained HTML file and return its path.

    Raises
    ------
    DiskernError
        Where the file cannot be written.
    """
    target = Path(path)
    text = render_map_report(results)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text)
    except OSError as error:
        reason = error.strerror or error
        raise DiskernError(f"cannot write the report to {target}: {reason}") from error
    return target


def render_map_report(results: MapResults) -> str:
    """The report as a string; see `write_map_report`."""
    body = join(
        [
            _header(results),
            _strain(results),
            _tilt(results),
            _lattices(results),
            _vectors(results),
            _images(results),
            _calibration(results),
            _provenance(results),
        ]
    )
    return page(f"diskern: {results.title}", element("main", body))


def map_picture(results: MapResults) -> bytes:
    """PNG of the map that says most: strain where there is one, else all Bragg vectors."""
    strain = results.strain
    return look.png(_vector_map(results) if strain is None else figures.strain_figure(strain))


def save_map_figures(results: MapResults, folder: str | Path) -> list[Path]:
    """The report's figures as PNG files in a folder; returns their paths."""
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskernError(f"cannot make {target}: {error.strerror or error}") from error
    drawn = _drawn(results)
    return [figures.save_figure(figure, target / f"{name}.png") for name, figure in drawn.items()]


def _drawn(results: MapResults) -> dict[str, Figure]:
    out = {"bragg_vectors": _vector_map(results)}
    if results.strain is not None:
        out["strain"] = figures.strain_figure(results.strain)
    if results.tilt is not None:
        out["tilt"] = figures.tilt_figure(results.tilt)
    if results.lattices is not None:
        out["lattices"] = figures.grain_figure(
            results.lattices, results.vectors.calibration.scan_step
        )
        out["virtual_images"] = _image_figure(results, results.lattices)
    return out


# --- parts --------------------------------------------------------------------------------------
def _header(results: MapResults) -> Html:
    vectors, lattices = results.vectors, results.lattices
    ny, nx = vectors.scan_shape
    parts: list[Any] = [
        element("p", f"diskern {__version__} · {results.title}", class_="kicker"),
        element("h1", _sentence(results), class_="found"),
    ]
    pairs: list[tuple[str, Any]] = [
        ("Scan", f"{ny} × {nx} patterns of {' × '.join(map(str, vectors.pattern_shape))} px"),
        ("Bragg vectors", f"{len(vectors):,} disks, {np.median(vectors.counts):.0f} a pattern"),
        *((name.capitalize(), words) for name, words in how_found(vectors.provenance).items()),
    ]
    if lattices is not None:
        missing = [
            f"{int((lattices.reason == why).sum()):,} positions: {why.words}"
            for why in Reason
            if why is not Reason.INDEXED and (lattices.reason == why).any()
        ]
        pairs.append(("Not indexed", "; ".join(missing)))
    parts.append(facts(pairs))
    parts += [element("p", note, class_="warning") for note in results.notes]
    return element("header", join(parts))


def _sentence(results: MapResults) -> str:
    lattices = results.lattices
    if lattices is None:
        return f"{len(results.vectors):,} Bragg vectors."
    share = lattices.indexed.mean()
    if not lattices.indexed.any():
        return "No lattice explains the disks of any pattern."
    grains = f"{lattices.grains} grain" + ("s" if lattices.grains > 1 else "")
    words = f"{share:.1%} of the patterns indexed, {grains}"
    if results.strain is not None:
        sigma = np.nanmedian(results.strain.sigma_e_xx) * 100
        if np.isfinite(sigma):
            words += f"; strain known to ±{sigma:.2g} %"
    if results.tilt is not None and np.isfinite(results.tilt.magnitude).any():
        words += f"; median tilt {np.nanmedian(results.tilt.magnitude):.2g} mrad"
    return words + "."


def _strain(results: MapResults) -> Html:
    strain = results.strain
    if strain is None:
        return Html("")
    axes = (
        strain.axes if isinstance(strain.axes, str) else f"{strain.axes:g}° from the detector's x"
    )
    caption = (
        f"Strain against the {strain.reference.words}, {strain.measure}, axes: {axes}. Red is "
        "stretched, or turned from x towards y. Below: standard uncertainties from the "
        "disks' own. Striped positions are unknown, none is filled in."
    )
    rows = []
    for name in COMPONENTS:
        values, sigma = strain.component(name), strain.component(f"sigma_{name}")
        scale, unit = (np.degrees(1), "°") if name == "rotation" else (100, "%")
        known = values[np.isfinite(values)] * scale
        if known.size:
            low, middle, high = np.percentile(known, [2, 50, 98])
            spread = f"{np.nanmedian(sigma) * scale:.2g}"
            rows.append((name, f"{low:+.3f}", f"{middle:+.3f}", f"{high:+.3f}", spread, unit))
    heads = ("component", "2 %", "median", "98 %", "median σ", "unit")
    parts: list[Any] = [_figure(figures.strain_figure(strain), "Strain maps", caption)]
    for k in range(1, len(strain.values)):
        if np.isfinite(strain.values[k]).any():
            words = f"Lattice {k + 1} of positions where several overlap."
            parts.append(_figure(figures.strain_figure(strain, k), "Strain maps", words))
    return section("Strain", *parts, table(heads, rows))


def _tilt(results: MapResults) -> Html:
    tilt = results.tilt
    if tilt is None:
        return Html("")
    if tilt.rough:
        caption = (
            "A rough estimate from the intensities of Friedel pairs: trust its direction and its "
            "trends, not its size."
        )
    else:
        caption = (
            "Tilt of the zone axis off the beam from the excitation errors of the disks, no "
            "crystal given. The colour says where the axis points on the detector. The disks of a "
            "pattern err together: many of them bring σ to 0.7 of what one would give, not to less."
        )
    return section("Tilt", _figure(figures.tilt_figure(tilt), "Tilt map", caption))


def _lattices(results: MapResults) -> Html:
    lattices = results.lattices
    if lattices is None:
        return Html("")
    size = results.vectors.calibration.pixel_size
    if results.calibration is not None and results.calibration.pixel_size is not None:
        size = results.calibration.pixel_size
    unit, scale = ("px", 1.0) if size is None else ("1/Å", size)
    rows = []
    for k, (a, b) in enumerate(lattices.bases[:_LATTICES]):
        lengths = np.linalg.norm([a, b], axis=1)
        angle = np.degrees(np.arccos(a @ b / lengths.prod()))
        spacing = "" if size is None else " · ".join(f"{1 / v / size:.4g} Å" for v in lengths)
        share = (lattices.label == k).any(axis=0).mean()
        values = [f"{v * scale:.5g}" for v in lengths]
        rows.append((str(k + 1), *values, f"{angle:.2f}°", spacing, f"{share:.1%}"))
    heads = ("lattice", f"|a| ({unit})", f"|b| ({unit})", "angle", "d", "of the scan")
    caption = (
        "Grains are connected positions of one lattice. The fit is as good as the disks' "
        "uncertainties promise where the last map is white."
    )
    figure = figures.grain_figure(lattices, results.vectors.calibration.scan_step)
    excess = np.sqrt(lattices.noise.excess)
    words = f"Disks scatter by {excess:.3f} px beyond their own uncertainties."
    quiet = excess < 1e-3
    return section(
        "Lattices",
        _figure(figure, "Grain map", caption),
        table(heads, rows),
        "" if quiet else element("p", words, class_="soft"),
    )


def _vectors(results: MapResults) -> Html:
    words = "The disks of all patterns as points on one detector"
    if _centred(results):
        words += ", each pattern's origin taken off"
    return section(
        "Bragg vectors",
        element(
            "div",
            join(
                [
                    _figure(_vector_map(results), "Bragg vector map", words + "."),
                    element("div", facts(_vector_facts(results.vectors))),
                ]
            ),
            class_="pattern",
        ),
    )


def _vector_facts(vectors: BraggVectors) -> list[tuple[str, Any]]:
    columns = {
        "row": ("sigma_row", "Position σ", "px"),
        "v_g": ("v_g", "V_g", "V"),
        "q_z": ("sigma_q_z", "q_z σ", "1/Å"),
        "chi2": ("chi2", "Reduced χ²", ""),
    }
    pairs: list[tuple[str, Any]] = []
    for column, words, unit in columns.values():
        values = np.asarray(vectors[column], dtype=np.float64)
        known = values[np.isfinite(values)]
        if known.size:
            low, middle, high = np.percentile(known, [10, 50, 90])
            pairs.append((words, f"{low:.3g} … {middle:.3g} … {high:.3g} {unit}".strip()))
    return pairs


def _images(results: MapResults) -> Html:
    if results.lattices is None:
        return Html("")
    caption = "Sums over indexed disks: the direct beam, and all diffracted ones."
    return section(
        "Virtual images",
        _figure(_image_figure(results, results.lattices), "Virtual images", caption),
    )


def _image_figure(results: MapResults, lattices: LatticeMap) -> Figure:
    points = lattices.points
    direct = virtual_image_of(lattices, (0, 0))
    indexed = (lattices.slot >= 0) & (lattices.indices != 0).any(axis=1)
    total = np.bincount(points.pattern[indexed], points.intensity[indexed], points.patterns)
    dark = np.where(lattices.indexed, total.reshape(lattices.scan_shape), np.nan)
    images = {"direct beam": direct, "diffracted": dark}
    labels = ["counts", "counts"]
    if np.isfinite(points.v_g).any():
        v_g = np.bincount(
            points.pattern[indexed], np.nan_to_num(points.v_g[indexed]), points.patterns
        )
        images["$V_g$"] = np.where(lattices.indexed, v_g.reshape(lattices.scan_shape), np.nan)
        labels.append("sum of $V_g$ (V)")
    if results.thickness is not None and np.isfinite(results.thickness.scattered).any():
        images["thickness indicator"] = results.thickness.scattered
        labels.append("−ln of the direct beam's share")
    return figures.images_figure(images, results.vectors.calibration.scan_step, labels)


def _calibration(results: MapResults) -> Html:
    known = results.calibration
    if known is None:
        return Html("")
    pairs: list[tuple[str, Any]] = []
    if np.isfinite(known.origin).any():
        row, col = np.nanmedian(known.origin, axis=(0, 1))
        sigma = np.nanmedian(known.origin_sigma)
        pairs.append(("Origin", f"row {row:.2f}, column {col:.2f} px, σ {sigma:.3f} px"))
    if known.descan is not None:
        r, c = known.descan.residual
        pairs.append(
            (
                "Descan",
                f"order {known.descan.order}; residual {r:.3f} and {c:.3f} px (rows, columns)",
            )
        )
    pairs.append(("Pixel size", _with_sigma(known.pixel_size, known.sigma_pixel_size, " 1/Å")))
    pairs.append(("Ellipse", _with_sigma(known.ellipse_ratio, known.sigma_ellipse, " (axes)")))
    if known.rotation is not None:
        pairs.append(("Scan rotation", f"{np.degrees(known.rotation):.2f}°"))
    notes = element("ul", join(element("li", note) for note in known.notes)) if known.notes else ""
    return section("Calibration", facts(pairs), notes)


def _with_sigma(value: float | None, sigma: float | None, unit: str) -> str:
    if value is None:
        return "not known"
    shown = f"{value:.6g}" if not sigma else notation.with_uncertainty(value, sigma)
    return shown + unit


def _provenance(results: MapResults) -> Html:
    rows: list[tuple[str, str]] = [("program", f"diskern {__version__}")]
    merged = {**results.vectors.provenance, **results.provenance}
    for name, value in merged.items():
        nested = isinstance(value, Mapping | list | tuple)
        text = json.dumps(value, default=str, ensure_ascii=False) if nested else str(value)
        rows.append((str(name), text))
    return section("Provenance", facts((name, element("code", value)) for name, value in rows))


# --- figures ------------------------------------------------------------------------------------
def _figure(figure: Figure, words: str, caption: str) -> Html:
    image = picture(look.png(figure, _DPI), words)
    return element("figure", join([image, element("figcaption", caption)]), class_="card")


def _centred(results: MapResults) -> bool:
    known = results.calibration
    return known is not None and known.descan is not None


def _vector_map(results: MapResults) -> Figure:
    vectors, known = results.vectors, results.calibration
    bases = None if results.lattices is None else results.lattices.bases
    if known is None or known.descan is None:
        origin = None
        if results.lattices is not None and results.lattices.indexed.any():
            row, col = np.nanmedian(results.lattices.origin[0], axis=(0, 1))
            origin = (float(row), float(col))
        histogram = vectors.histogram()
        size = vectors.calibration.pixel_size
        return figures.vector_map_figure(histogram, size, bases=bases, origin=origin)
    histogram = known.apply(vectors, smooth_origin=True).histogram(centred=True)
    middle = (vectors.pattern_shape[0] // 2, vectors.pattern_shape[1] // 2)
    if bases is not None and known.ellipse is not None:
        bases = bases @ known.ellipse
    return figures.vector_map_figure(histogram, known.pixel_size, bases=bases, origin=middle)
