"""Crystallographic notation for people: overbars, symbols, values with their uncertainty.

Text functions give plain Unicode for a terminal; ``_html`` functions give escaped HTML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from html import escape

UNINDEXED = -999
"""Marks an index that was not assigned in `PhaseMatch.hkl`."""


def direction_text(uvw: Iterable[int]) -> str:
    """Zone axis as ``[0 1 -1]``, without spaces where every index is one digit: ``[011]``."""
    return f"[{_indices(uvw)}]"


def plane_text(hkl: Iterable[int]) -> str:
    """Reflection as ``1 -1 1``, or ``111`` where nothing can be misread."""
    return _indices(hkl)


def _indices(values: Iterable[int]) -> str:
    numbers = [int(v) for v in values]
    gap = "" if all(0 <= n <= 9 for n in numbers) else " "
    return gap.join(str(n) for n in numbers)


def direction_html(uvw: Iterable[int]) -> str:
    """Zone axis with overbars for negative indices."""
    return f"[{_overbarred(uvw)}]"


def plane_html(hkl: Iterable[int]) -> str:
    """Reflection with overbars for negative indices."""
    return _overbarred(hkl)


def _overbarred(values: Iterable[int]) -> str:
    numbers = [int(v) for v in values]
    gap = "" if all(abs(n) <= 9 for n in numbers) else "&#8201;"
    return gap.join(f'<span class="bar">{-n}</span>' if n < 0 else str(n) for n in numbers)


def plane_mathtext(hkl: Iterable[int]) -> str:
    r"""Reflection for matplotlib: ``$\bar{1}11$``."""
    numbers = [int(v) for v in hkl]
    gap = "" if all(abs(n) <= 9 for n in numbers) else r"\,"
    return "$" + gap.join(rf"\bar{{{-n}}}" if n < 0 else str(n) for n in numbers) + "$"


@lru_cache(maxsize=256)
def _hermann_mauguin(number: int) -> tuple[str, ...]:
    """The symbol in its parts, ``("F", "m", "-3", "m")``; monoclinic ones without the 1s."""
    import gemmi

    if not 1 <= number <= 230:
        return (f"no. {number}",)
    group = gemmi.find_spacegroup_by_number(int(number))
    parts = group.hm.split()
    if group.crystal_system_str() == "monoclinic":
        parts = [parts[0], *(p for p in parts[1:] if p != "1")]
    return tuple(parts)


def space_group_text(number: int) -> str:
    """Short Hermann-Mauguin symbol of a space-group number, ``Fm-3m`` for 225."""
    return "".join(_hermann_mauguin(number))


def space_group_html(number: int) -> str:
    """The symbol as it is printed: italic letters, overbars, screw axes with subscripts."""
    return "".join(symbol_html(part) for part in _hermann_mauguin(number))


def symbol_html(symbol: str) -> str:
    """Extinction symbol or one part of a Hermann-Mauguin symbol.

    ``-3`` becomes 3 with an overbar, ``42`` a screw axis; a lone ``-`` (no condition along that
    direction) stays a dash.
    """
    pieces = []
    for token in re.findall(r"-\d|[2346]_?[1-5]|[A-Za-z]+|.", symbol):
        if re.fullmatch(r"-\d", token):
            pieces.append(f'<span class="bar">{token[1]}</span>')
        elif re.fullmatch(r"\d_?\d", token) and token[0] > token[-1]:
            pieces.append(f"{token[0]}<sub>{token[-1]}</sub>")
        elif token.isalpha():
            pieces.append(f"<i>{escape(token)}</i>")
        else:
            pieces.append("&#8211;" if token == "-" else escape(token))
    return "".join(pieces)


def percent(probability: float) -> str:
    """Probability for reading: ``97 %``, ``< 1 %``, ``> 99 %``."""
    if not math.isfinite(probability):
        return "unknown"
    if probability > 0.99:
        return "> 99 %"
    if 0 < probability < 0.01:
        return "< 1 %"
    return f"{100 * probability:.0f} %"


def with_uncertainty(value: float, sigma: float, unit: str = "") -> str:
    """``0.4938(12)`` style, two digits of uncertainty; the bare value where sigma is unknown."""
    tail = f" {unit}" if unit else ""
    if not math.isfinite(value):
        return "unknown"
    if not (math.isfinite(sigma) and sigma > 0):
        return f"{value:.4g}{tail}"
    decimals = 1 - math.floor(math.log10(sigma))
    if decimals <= 0:
        return f"{value:.0f}({sigma:.0f}){tail}"
    return f"{value:.{decimals}f}({round(sigma * 10**decimals)}){tail}"


def listing(words: Iterable[str], joint: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {joint} {items[-1]}"


def one_line(words: str) -> str:
    """Whitespace and line breaks folded to single spaces, control characters made visible."""
    folded = " ".join(words.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in folded)
