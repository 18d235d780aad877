"""HTML from data, escaped by default: a value becomes markup only through `Html`."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

SHORT_CELL = 20


class Html(str):
    """Text that is already markup; everything else is escaped by `html`."""

    __slots__ = ()


def html(value: Any) -> Html:
    """Markup of a value: escaped, unless it is `Html` already; control characters are shown."""
    if isinstance(value, Html):
        return value
    shown = "".join(
        c if c.isprintable() or c in " \n" else "\N{REPLACEMENT CHARACTER}" for c in str(value)
    )
    return Html(escape(shown, quote=True))


def join(parts: Iterable[Any], joint: str = "") -> Html:
    """Several values as one piece of markup."""
    return Html(joint.join(html(part) for part in parts))


def element(tag: str, content: Any = "", **attributes: str) -> Html:
    """``<tag attributes>content</tag>``; ``class_`` is the attribute class; empty ones go."""
    pairs = "".join(f' {k.rstrip("_")}="{html(v)}"' for k, v in attributes.items() if v)
    return Html(f"<{tag}{pairs}>{html(content)}</{tag}>")


def section(title: str, *content: Any) -> Html:
    """A titled section, or nothing where all its content is empty."""
    body = join(content)
    return element("section", join([element("h2", title), body])) if body.strip() else Html("")


def table(headings: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Html:
    """A table that scrolls sideways on a narrow screen; nothing where there are no rows.

    Short cells are kept on one line, long ones fold.
    """
    lines = [element("tr", join(_cell(cell) for cell in row)) for row in rows]
    if not lines:
        return Html("")
    head = element("tr", join(element("th", h, scope="col") for h in headings))
    inner = join([element("thead", head), element("tbody", join(lines))])
    return element("div", element("table", inner), class_="scroll")


def _cell(content: Any) -> Html:
    words = re.sub(r"<[^>]*>|&[^;]*;", "", html(content))
    return element("td", content, class_="short" if len(words) <= SHORT_CELL else "")


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Name and value pairs as a definition list; empty values are left out."""
    lines = [
        join([element("dt", name), element("dd", value)])
        for name, value in pairs
        if value is not None and str(value)
    ]
    return element("dl", join(lines)) if lines else Html("")


def bar(share: float) -> Html:
    """A horizontal bar for a number between 0 and 1 (the number itself stands beside it)."""
    width = 100 * min(max(share, 0.0), 1.0) if share == share else 0.0
    inner = f'<span class="fill" style="width:{width:.1f}%"></span>'
    return Html(f'<span class="track" aria-hidden="true">{inner}</span>')


def picture(png: bytes, words: str) -> Html:
    """An image inside the page itself."""
    data = base64.b64encode(png).decode("ascii")
    return Html(f'<img alt="{html(words)}" src="data:image/png;base64,{data}">')


def page(title: str, body: Any) -> str:
    """A complete page with its style inside; it asks for nothing from elsewhere.

    The content policy forbids scripts and every outside address, whatever the text says.
    """
    css = files("diskern.report").joinpath("page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html(title)}</title>\n<style>\n{css}</style>\n</head>\n"
        f"<body>\n{html(body)}\n</body>\n</html>\n"
    )
