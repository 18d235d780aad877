"""The report of an identification: one HTML file with everything in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diskern._version import __version__
from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.errors import DiskernError
from diskern.report import figures, notation, style, verdict
from diskern.report.markup import (
    Html,
    bar,
    element,
    facts,
    join,
    page,
    picture,
    section,
    table,
)
from diskern.report.measures import lattice_measure, masked_shares
from diskern.report.ranked import ranked_card
from diskern.report.second_opinion import second_opinion
from diskern.report.tree import symmetry_tree
from diskern.symmetry.identification import Identification, PhaseMatch

PHASES_AT_MOST = 15


def write_report(identification: Identification, path: str | Path) -> Path:
    """Write the report as one self-contained HTML file and return its path.

    The file needs no network and no other file; text from outside (file names, phase names,
    metadata) is escaped.

    Raises
    ------
    DiskernError
        Where the file cannot be written.
    """
    path = Path(path)
    text = render_report(identification)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise DiskernError(f"cannot write the report to {path}: {reason}") from error
    return path


def render_report(identification: Identification) -> str:
    """The report as a string; see `write_report`."""
    names = [_source(a, i) for i, a in enumerate(identification.analyses)]
    sentence = verdict.verdict(identification)
    body = join(
        [
            _header(identification, sentence, names),
            _answer(identification),
            second_opinion(identification),
            _phases(identification),
            section(
                "Pattern" if len(names) == 1 else "Patterns",
                *(_pattern(identification, i) for i in range(len(names))),
            ),
            section("Reasons", _bullets(identification.reasons)),
            _provenance(identification.provenance),
        ]
    )
    return page(f"diskern: {notation.listing(names[:3])}", element("main", body))


# --- the answer -------------------------------------------------------------------------------
def _header(identification: Identification, sentence: str, names: list[str]) -> Html:
    sure = identification.crystal and not identification.doubtful
    state = "found" if sure else "refused"
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    parts: list[Any] = [
        element("p", f"diskern {__version__} · {notation.listing(shown)}", class_="kicker"),
        element("h1", sentence, class_=state),
    ]
    if identification.crystal:
        parts += [
            element("p", words)
            for words in (verdict.ambiguity(identification), verdict.next_step(identification))
            if words
        ]
        if all(a.pattern.pixel_size is None for a in identification.analyses):
            parts.append(
                element(
                    "p",
                    "No calibration was given: lengths are in pixels, and only ratios and angles "
                    "were used.",
                    class_="warning",
                )
            )
    else:
        parts.append(
            element(
                "p",
                "No lattice, symmetry or phase is reported, because nothing on the image "
                "supports one. The figures below show what was seen.",
            )
        )
    return element("header", join(parts))


def _answer(identification: Identification) -> Html:
    cards = [
        ranked_card("Crystal system", identification.system),
        ranked_card("Laue class", identification.laue_class),
        ranked_card("Extinction symbol", identification.extinction_symbol),
        ranked_card("Space group", identification.space_group, groups=True),
    ]
    cards = [card for card in cards if card]
    if not cards:
        return Html("")
    tree = symmetry_tree(identification)
    return section(
        "Symmetry",
        element("div", join(cards), class_="columns"),
        *(element("p", words) for words in verdict.truth_sets(identification)),
        element("div", tree, class_="card", style="margin-top:1.1rem") if tree else "",
    )


# --- candidate phases -------------------------------------------------------------------------
def _phases(identification: Identification) -> Html:
    tried = [p for p in identification.phases if p.explained > 0]
    rows = [_phase_row(phase) for phase in tried[:PHASES_AT_MOST]]
    heads = (
        *("Phase", "Formula", "Space group", "Score", "", "Explained"),
        *("Residual", "Scale", "Zone axes", "Source"),
    )
    shown = table(heads, rows)
    if not shown:
        return Html("")
    left = len(tried) - PHASES_AT_MOST
    note = (
        "Score: share of the evidence among all candidates and an unlisted phase. Explained: share "
        "of the measured spots or rings that the phase indexes. Residual: rms distance of measured "
        "from computed positions, relative to |q|. Scale: fitted over stated pixel size."
    )
    if left > 0:
        note = f"{left} candidates with a lower score are not listed. {note}"
    comments = [f"{p.name}: {words}" for p in tried[:1] for words in p.notes]
    return section("Candidate phases", shown, element("p", note, class_="soft"), _bullets(comments))


def _phase_row(phase: PhaseMatch) -> tuple[Any, ...]:
    zones = [
        join([Html(notation.direction_html(uvw)), f" {degrees:.1f}°" if degrees >= 0.5 else ""])
        for uvw, degrees in (zone for zone in phase.zone_axes if zone is not None)
    ]
    group = phase.space_group
    symbol = Html(f"{notation.space_group_html(group)} ({group})") if group else "not stated"
    error = phase.scale - 1
    scale = f"{100 * error:+.1f} %" if np.isfinite(error) else "fitted freely"
    return (
        element("strong", phase.name),
        phase.formula,
        symbol,
        bar(phase.score),
        notation.percent(phase.score),
        notation.percent(phase.explained),
        f"{100 * phase.residual:.2g} %" if np.isfinite(phase.residual) else "",
        scale,
        join(zones, ", "),
        element("span", _short_source(phase.source), class_="soft"),
    )


def _short_source(source: str) -> str:
    """A publication as it stands; of a CIF file only its name."""
    return Path(source).name if source.lower().endswith(".cif") else source


# --- one pattern --------------------------------------------------------------------------------
def _pattern(identification: Identification, index: int) -> Html:
    analysis = identification.analyses[index]
    name = _source(analysis, index)
    figure = figures.pattern_figure(identification, index)
    words = f"{name}: {verdict.kind_words(identification, index)}"
    left = element("figure", join([picture(figures.png_bytes(figure), words), _legend(analysis)]))
    notes = [*analysis.pattern.notes, *analysis.notes]
    refused = (
        element("p", analysis.refusal, class_="warning") if analysis.refusal is not None else ""
    )
    right = element(
        "div",
        join(
            [
                element("h3", name),
                refused,
                facts(_pattern_facts(identification, index)),
                _lattices(analysis),
                _rings(identification, index),
                _bullets(notes, "note"),
            ]
        ),
    )
    return element("div", join([left, right]), class_="card pattern")


def _legend(analysis: Analysis) -> Html:
    parts = ["Log intensity."]
    if len(analysis.spots):
        parts.append("Circles: measured spots, one colour a lattice, grey where in none.")
    if analysis.lattices:
        parts.append("Arrows: basis of the lattice.")
    if analysis.kind == "rings":
        parts.append("Dashed: fitted rings.")
    if analysis.flaws.any():
        parts.append("Blue: masked.")
    return element("figcaption", " ".join(parts))


def _pattern_facts(identification: Identification, index: int) -> list[tuple[str, Any]]:
    analysis = identification.analyses[index]
    pattern, centre = analysis.pattern, analysis.centre
    masked = [
        f"{words} {100 * share:.2g} %" for words, share in masked_shares(analysis.flaws).items()
    ]
    zones = identification.zone_axes[index] if index < len(identification.zone_axes) else ()
    axes = [
        join([Html(notation.direction_html(z.uvw)), f" {notation.percent(z.probability)}"])
        for z in zones[:5]
    ]
    return [
        ("Found", verdict.kind_words(identification, index)),
        ("Zone axis", join(axes, ", ")),
        ("Image", f"{pattern.shape[0]} × {pattern.shape[1]} px"),
        ("Calibration", _calibration(analysis)),
        ("Beam", "" if pattern.energy is None else f"{pattern.energy / 1e3:g} kV"),
        (
            "Centre",
            f"row {centre.row:.1f}, column {centre.col:.1f} ± {centre.sigma:.1f} px "
            f"({centre.method})",
        ),
        ("Distortion", _distortion(analysis)),
        ("Masked", ", ".join(masked)),
    ]


def _calibration(analysis: Analysis) -> str:
    pattern = analysis.pattern
    if pattern.pixel_size is None:
        return "none"
    percent = 100 * pattern.pixel_size_error
    return f"{pattern.pixel_size:.5g} 1/Å per px ± {percent:.2g} %"


def _distortion(analysis: Analysis) -> str:
    excess = 100 * (analysis.ellipse.ratio - 1)
    if not excess:
        return ""
    return f"ellipse {excess:.2g} % along {analysis.ellipse.angle:.0f}°"


def _lattices(analysis: Analysis) -> Html:
    parts: list[Html] = []
    for number, lattice in enumerate(analysis.lattices):
        colour = style.LATTICE_COLOURS[number % len(style.LATTICE_COLOURS)]
        swatch = element("span", "", class_="swatch", style=f"background:{colour}")
        title = "Lattice" if len(analysis.lattices) == 1 else f"Lattice {number + 1}"
        parts.append(element("h3", join([swatch, title])))
        parts.append(facts(_lattice_facts(lattice, analysis.pattern.pixel_size)))
    return join(parts)


def _lattice_facts(lattice: Lattice2D, pixel_size: float | None) -> list[tuple[str, Any]]:
    m = lattice_measure(lattice, pixel_size)
    spacings = [f", d = {d:.4g} Å" if np.isfinite(d) else "" for d in m.spacings]
    length = [
        notation.with_uncertainty(value, sigma, m.unit) + spacing
        for value, sigma, spacing in zip((m.a, m.b), (m.sigma_a, m.sigma_b), spacings, strict=True)
    ]
    whole = lattice.rank == 2
    return [
        ("a", length[0]),
        ("b", length[1] if whole else "not seen: a single row of spots"),
        ("Angle", f"{notation.with_uncertainty(m.angle, m.sigma_angle)}°" if whole else ""),
        ("Fit", f"{len(lattice.members)} spots, rms distance {lattice.residual:.2f} px"),
    ]


def _rings(identification: Identification, index: int) -> Html:
    analysis = identification.analyses[index]
    if analysis.rings is None or analysis.kind != "rings":
        return Html("")
    rings, size = analysis.rings, analysis.pattern.pixel_size
    hkl = None
    if identification.phases and index < len(identification.phases[0].hkl):
        hkl = identification.phases[0].hkl[index]
    rows = []
    for number, (radius, sigma) in enumerate(zip(rings.radius, rings.sigma, strict=True)):
        indexed = ""
        if hkl is not None and len(hkl) == len(rings.radius):
            known = (np.asarray(hkl[number]) != notation.UNINDEXED).all()
            indexed = Html(notation.plane_html(hkl[number])) if known else "not indexed"
        spacing = "" if size is None else f"{1 / (radius * size):.4g}"
        rows.append((notation.with_uncertainty(radius, sigma), spacing, indexed))
    heads = ("radius (px)", "d (Å)", "hkl")
    return join([element("h3", "Rings"), table(heads, rows)])


def _source(analysis: Analysis, index: int) -> str:
    source = analysis.pattern.source
    return source.replace("\\", "/").rsplit("/", 1)[-1] or f"pattern {index + 1}"


def _bullets(sentences: tuple[str, ...] | list[str], kind: str = "") -> Html:
    if not sentences:
        return Html("")
    return element("ul", join(element("li", s) for s in sentences), class_=kind)


# --- provenance ---------------------------------------------------------------------------------
def _provenance(provenance: Mapping[str, Any]) -> Html:
    rows = _flat({"program": f"diskern {__version__}", **provenance})
    return section("Provenance", facts((name, element("code", value)) for name, value in rows))


def _flat(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value pairs; nested values as compact JSON."""
    rows = []
    for name, value in values.items():
        nested = isinstance(value, Mapping | list | tuple)
        text = json.dumps(value, default=str, ensure_ascii=False) if nested else str(value)
        rows.append((str(name), text))
    return rows
