"""An index page over several reports: a picture, the answer, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diskern._version import __version__
from diskern.report import figures
from diskern.report.markup import Html, element, join, page, picture
from diskern.report.verdict import verdict
from diskern.symmetry.identification import Identification


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One identification on the index page.

    Attributes
    ----------
    words : what was given, a sentence or two.
    command : the command line that asks the same.
    truth : what the specimen is, ``""`` where that is not known.
    agrees : whether the answer fits the truth, None where that is not known.
    address : the report, relative to the page.
    shown : which pattern stands for all.
    """

    title: str
    words: str
    command: str
    identification: Identification
    address: str
    truth: str = ""
    agrees: bool | None = None
    shown: int = 0


def write_gallery(title: str, exhibits: Sequence[Exhibit], path: Path) -> Path:
    """Write the index page, one self-contained HTML file beside the reports it links to."""
    head = [
        element("p", f"diskern {__version__}", class_="kicker"),
        element("h1", title),
        element("p", _score(exhibits)),
    ]
    cards = join(_card(exhibit) for exhibit in exhibits)
    path.write_text(page(title, join([element("header", join(head)), cards])), encoding="utf-8")
    return path


def _score(exhibits: Sequence[Exhibit]) -> str:
    known = [e.agrees for e in exhibits if e.agrees is not None]
    if not known:
        return f"{len(exhibits)} identifications."
    return f"{sum(known)} of {len(known)} answers agree with what was simulated."


def _card(exhibit: Exhibit) -> Html:
    figure = figures.pattern_figure(exhibit.identification, exhibit.shown, size=4.2)
    image = picture(figures.png_bytes(figure), exhibit.title)
    answer: list[Any] = [
        element("h3", exhibit.title),
        element("p", exhibit.words, class_="soft"),
        element("p", element("code", exhibit.command)),
        element("p", element("strong", verdict(exhibit.identification))),
    ]
    if exhibit.truth:
        answer.append(_truth(exhibit))
    answer.append(element("p", element("a", "The full report", href=exhibit.address)))
    right = element("div", join(answer))
    return element("div", join([element("figure", image), right]), class_="card pattern")


def _truth(exhibit: Exhibit) -> Html:
    words = f"Truth: {exhibit.truth}."
    if exhibit.agrees is None:
        return element("p", words)
    mark = ("✗ The answer does not fit.", "✓ The answer fits.")[exhibit.agrees]
    state = ("wrong", "right")[exhibit.agrees]
    return element("p", join([words, " ", element("span", mark, class_=state)]))
