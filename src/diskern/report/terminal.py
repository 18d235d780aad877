"""The answer on a terminal: rich tables, plain where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diskern.report import verdict
from diskern.report.measures import lattice_measure
from diskern.report.notation import direction_text, one_line, percent, space_group_text
from diskern.symmetry.identification import Identification, Ranked, SecondOpinion

BAR_CELLS = 20
ROWS = 6


def show(identification: Identification, console: Console) -> None:
    """Write the whole answer to a console; outside text is never read as rich markup."""
    console.print(Group(*blocks(identification)))


def blocks(identification: Identification) -> Iterator[RenderableType]:
    """The parts of the answer in the order they are read."""
    sure = identification.crystal and not identification.doubtful
    colour = "bold green" if sure else "bold yellow"
    yield Text(one_line(verdict.verdict(identification)), style=colour)
    for words in (verdict.ambiguity(identification), verdict.next_step(identification)):
        if words:
            yield Text(words)
    yield _titled("Patterns", _patterns(identification))
    for index, analysis in enumerate(identification.analyses):
        yield from _lattices(identification, index)
        for note in analysis.pattern.notes:
            yield Text(f"  {_name(identification, index)}: {one_line(note)}", style="dim")
        if analysis.refusal is not None and len(identification.analyses) > 1:
            yield Text(f"  {_name(identification, index)}: {one_line(analysis.refusal)}", "yellow")
    levels = (
        ("Crystal system", identification.system),
        ("Laue class", identification.laue_class),
        ("Extinction symbol", identification.extinction_symbol),
        ("Space group", identification.space_group),
    )
    for title, ranked in levels:
        if ranked:
            yield _titled(title, _ranked(ranked, title))
    for words in verdict.truth_sets(identification):
        yield Text(f"\n{one_line(words)}")
    if identification.network is not None:
        yield _titled("The two opinions apart", _apart(identification.network))
    if identification.phases:
        yield _titled("Phases", _phases(identification))
    if identification.reasons:
        bullets = Text("\n".join(f"· {one_line(r)}" for r in identification.reasons))
        yield _titled("Reasons", bullets)


def _titled(title: str, content: RenderableType) -> RenderableType:
    return Group(Text(f"\n{title}", style="bold"), Padding(content, (0, 0, 0, 2)))


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _name(identification: Identification, index: int) -> str:
    source = identification.analyses[index].pattern.source.replace("\\", "/")
    return one_line(source.rsplit("/", 1)[-1]) or f"pattern {index + 1}"


def _patterns(identification: Identification) -> Table:
    table = _table("file", "found", "zone axis", "calibration")
    for index, analysis in enumerate(identification.analyses):
        zones = identification.zone_axes[index] if index < len(identification.zone_axes) else ()
        axes = ", ".join(f"{direction_text(z.uvw)} {percent(z.probability)}" for z in zones[:3])
        size = analysis.pattern.pixel_size
        error = 100 * analysis.pattern.pixel_size_error
        scale = "none" if size is None else f"{size:.5g} 1/Å per px ± {error:.2g} %"
        found = one_line(verdict.kind_words(identification, index))
        cells = (_name(identification, index), found, axes, scale)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _lattices(identification: Identification, index: int) -> Iterator[Text]:
    analysis = identification.analyses[index]
    for lattice in analysis.lattices:
        m = lattice_measure(lattice, analysis.pattern.pixel_size)
        words = f"|a| = {m.a:.4g}"
        if lattice.rank == 2:
            words += f", |b| = {m.b:.4g} {m.unit}, angle {m.angle:.2f}°"
        else:
            words += f" {m.unit}, a single row of spots"
        d = [f"{value:.4g}" for value in m.spacings if np.isfinite(value)]
        words += f"; d = {', '.join(d)} Å" if d else ""
        yield Text(f"  {_name(identification, index)}: {words}", style="dim")


def _ranked(ranked: tuple[Ranked, ...], title: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for item in ranked[:ROWS]:
        cells = round(BAR_CELLS * min(max(item.probability, 0.0), 1.0))
        name, groups = one_line(item.name), ""
        if title == "Space group" and len(item.space_groups) == 1:
            name = f"{space_group_text(item.space_groups[0])} ({item.space_groups[0]})"
        elif title == "Extinction symbol":
            groups = ", ".join(space_group_text(n) for n in item.space_groups[:8])
            groups += " …" if len(item.space_groups) > 8 else ""
        bar = Text("━" * cells, style="blue") + Text("─" * (BAR_CELLS - cells), style="dim")
        table.add_row(Text(name), bar, Text(percent(item.probability)), Text(groups, style="dim"))
    return table


def _apart(said: SecondOpinion) -> Table:
    """Network and rules, one line a level: the first few, with probabilities."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for who, levels in (("network", said), ("rules", said.rules)):
        if levels is None:
            continue
        for title, ranked in (
            ("crystal system", levels.system),
            ("extinction symbol", levels.extinction_symbol),
            ("space group", levels.space_group),
        ):
            shown = ", ".join(f"{_told(r, title)} {percent(r.probability)}" for r in ranked[:4])
            table.add_row(Text(f"{who}, {title}", style="dim"), Text(shown))
    doubted = [p for p in said.crystal if p is not None and p < 0.5]
    if doubted:
        table.add_row(Text("no crystal", style="yellow"), Text(f"{len(doubted)} doubted"))
    return table


def _told(ranked: Ranked, title: str) -> str:
    if title == "space group":
        return space_group_text(ranked.space_groups[0])
    return one_line(ranked.name)


def _phases(identification: Identification) -> Table:
    right = ("score", "explained", "residual", "scale")
    table = _table("phase", "space group", *right, "zone axes", right=right)
    for phase in [p for p in identification.phases if p.explained > 0][: 2 * ROWS]:
        zones = ", ".join(direction_text(z[0]) for z in phase.zone_axes if z is not None)
        error = 100 * (phase.scale - 1)
        cells = (
            one_line(phase.name),
            f"{space_group_text(phase.space_group)}" if phase.space_group else "",
            percent(phase.score),
            percent(phase.explained),
            f"{100 * phase.residual:.2g} %" if np.isfinite(phase.residual) else "",
            f"{error:+.1f} %" if np.isfinite(error) else "free",
            zones,
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table
