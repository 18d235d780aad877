"""The two opinions in the report, network and rules each by itself, and what spoke."""

from __future__ import annotations

import numpy as np

from diskern.report import notation
from diskern.report.markup import Html, element, join, section, table
from diskern.report.ranked import ranked_card
from diskern.symmetry.doubts import REFUSED
from diskern.symmetry.identification import Identification, SecondOpinion, SymmetryLevels, Voice


def second_opinion(identification: Identification) -> Html:
    """The section, or nothing where no network was asked."""
    said = identification.network
    if said is None:
        return Html("")
    words = (
        "The tables above are what rules and a network say together. The network, which learned "
        f"symmetry from simulated spots ({said.weights}), weighs intensities; the rules compare "
        "shapes and absences with all that symmetry allows. Neither knows of the candidate phases."
    )
    return section(
        "The two opinions apart",
        element("p", words, class_="soft"),
        _cards("The network", said),
        *(element("p", line) for line in _refused(identification, said)),
        _voices(identification, said),
        Html("") if said.rules is None else _cards("The rules", said.rules),
    )


def _cards(title: str, said: SecondOpinion | SymmetryLevels) -> Html:
    cards = [
        ranked_card("Crystal system", said.system),
        ranked_card("Laue class", said.laue_class),
        ranked_card("Extinction symbol", said.extinction_symbol),
        ranked_card("Space group", said.space_group, groups=True),
    ]
    shown = element("div", join(card for card in cards if card), class_="columns")
    return join([element("h3", title), shown])


def _refused(identification: Identification, said: SecondOpinion) -> list[str]:
    """Patterns that the network holds for no single crystal."""
    return [
        f"The network doubts that {name(identification, i)} shows one crystal "
        f"({notation.percent(p)})."
        for i, p in enumerate(said.crystal)
        if p is not None and p < REFUSED
    ]


def _voices(identification: Identification, said: SecondOpinion) -> Html:
    """Which spots and dark nodes spoke."""
    rows = [
        _row(identification, place, voice)
        for place, voices in enumerate(said.voices)
        for voice in voices
    ]
    heads = ("Pattern", "What", "Row, column", "d", "Says")
    shown = table(heads, rows)
    if not shown:
        return Html("")
    words = join(
        [
            "Which spots spoke for ",
            Html(notation.symbol_html(said.explained)),
            ": how much its log-probability falls without a spot and its Friedel mate, or were a "
            "dark node lit. Negative values speak against it.",
        ]
    )
    return join([element("p", words, class_="soft"), shown])


def _row(identification: Identification, place: int, voice: Voice) -> tuple[str, ...]:
    analysis = identification.analyses[place]
    nets = [lattice for lattice in analysis.lattices if lattice.rank == 2]
    origin = nets[0].origin if nets else analysis.centre.as_array()
    radius = float(np.linalg.norm(np.array(voice.position) - origin))
    size = analysis.pattern.pixel_size
    spacing = f"{1 / (radius * size):.3f} Å" if size and radius else ""
    return (
        name(identification, place),
        "spot" if voice.lit else "dark node",
        f"{voice.position[0]:.1f}, {voice.position[1]:.1f}",
        spacing,
        f"{voice.nats:+.2f}",
    )


def name(identification: Identification, place: int) -> str:
    """The file of a pattern, or its number."""
    source = identification.analyses[place].pattern.source.replace("\\", "/")
    return source.rsplit("/", 1)[-1] or f"pattern {place + 1}"
