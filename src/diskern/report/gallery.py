"""An index page over several reports: a picture, the answer, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diskern._version import __version__
from diskern.report import figures
from diskern.report.markup import Html, element, join, page, picture
from diskern.symmetry.identification import Identification


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One answer on the index page.

    Attributes
    ----------
    words : what was given, a sentence or two.
    command : the command line that asks the same.
    answer : in a sentence or two.
    image : PNG that shows it.
    address : the report, relative to the page.
    truth : what the specimen is, ``""`` where that is not known.
    agrees : whether the answer fits the truth, None where that is not known.
    """

    title: str
    words: str
    command: str
    answer: str
    image: bytes
    address: str
    truth: str = ""
    agrees: bool | None = None


def picture_of(answer: Identification, shown: int = 0) -> bytes:
    """PNG of one pattern of an identification."""
    return figures.png_bytes(figures.pattern_figure(answer, shown, size=4.2))


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
        return f"{len(exhibits)} answers."
    return f"{sum(known)} of {len(known)} answers agree with what was simulated."


def _card(exhibit: Exhibit) -> Html:
    image = picture(exhibit.image, exhibit.title)
    answer: list[Any] = [
        element("h3", exhibit.title),
        element("p", exhibit.words, class_="soft"),
        element("p", element("code", exhibit.command)),
        element("p", element("strong", exhibit.answer)),
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
