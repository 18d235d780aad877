"""One level of the symmetry tree as a card with bars."""

from __future__ import annotations

from collections import Counter

from diskern.crystal.spacegroups import space_group
from diskern.report import notation
from diskern.report.markup import Html, bar, element, html, join
from diskern.symmetry.identification import Ranked

RANKED_AT_MOST = 8


def ranked_card(title: str, ranked: tuple[Ranked, ...], groups: bool = False) -> Html:
    """The most probable classes; nothing where there are none."""
    if not ranked:
        return Html("")
    rows = []
    times = Counter(item.name for item in ranked[:RANKED_AT_MOST])
    for item in ranked[:RANKED_AT_MOST]:
        if groups and len(item.space_groups) == 1:
            number = item.space_groups[0]
            name = join([Html(notation.space_group_html(number)), f" ({number})"])
        elif title == "Crystal system":
            name = html(item.name)
        else:
            name = Html(notation.symbol_html(item.name))
            if times[item.name] > 1:
                # Extinction symbols of two systems can read alike.
                system = space_group(item.space_groups[0]).system
                name = join([name, element("div", system, class_="soft")])
        rows.append((name, bar(item.probability), notation.percent(item.probability)))
    lines = [element("tr", join(element("td", cell) for cell in row)) for row in rows]
    left = len(ranked) - RANKED_AT_MOST
    more = element("p", f"and {left} less probable", class_="soft") if left > 0 else ""
    inner = element("table", element("tbody", join(lines)), class_="ranked")
    return element("div", join([element("h3", title), inner, more]), class_="card")
