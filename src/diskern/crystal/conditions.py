"""Reflection conditions in words, and extinction symbols made from them.

Both are read off the absences themselves (`diskern.crystal.spacegroups`), as International
Tables A, section 1.6.4 (doi:10.1107/97809553602060000925) read them off tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.spacegroups import (
    DENOMINATOR,
    laue_operations,
    space_group,
    systematically_absent,
)

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Form = tuple[tuple[int, int, int], int]

_CLASSES: dict[str, tuple[str, ...]] = {
    "triclinic": (),
    "monoclinic": ("hkl", "h0l", "0kl", "hk0", "0k0", "h00", "00l"),
    "orthorhombic": ("hkl", "0kl", "h0l", "hk0", "h00", "0k0", "00l"),
    "tetragonal": ("hkl", "hk0", "0kl", "hhl", "h00", "00l"),
    "trigonal": ("hkl", "h-hl", "hhl", "00l"),
    "hexagonal": ("hkl", "h-hl", "hhl", "00l"),
    "cubic": ("hkl", "0kl", "hhl", "00l"),
}
_FORMS: tuple[Form, ...] = (
    ((1, 0, 0), 2),
    ((0, 1, 0), 2),
    ((0, 0, 1), 2),
    ((1, 1, 0), 2),
    ((1, 0, 1), 2),
    ((0, 1, 1), 2),
    ((1, 1, 1), 2),
    ((0, 0, 1), 3),
    ((-1, 1, 1), 3),
    ((1, 0, 0), 4),
    ((0, 1, 0), 4),
    ((0, 0, 1), 4),
    ((1, 1, 0), 4),
    ((1, 0, 1), 4),
    ((0, 1, 1), 4),
    ((2, 0, 1), 4),
    ((0, 0, 1), 6),
)
"""Linear forms and moduli that reflection conditions of the reference settings are made of."""

# For each plane through the origin of reciprocal space: its class, and the glide letters that
# may stand for it with the glide vector in 24ths of the cell edges, most usual letter first.
_GLIDES: dict[str, dict[str, tuple[int, int, int]]] = {
    "0kl": {
        "b": (0, 12, 0),
        "c": (0, 0, 12),
        "n": (0, 12, 12),
        "d": (0, 6, 6),
    },
    "h0l": {
        "a": (12, 0, 0),
        "c": (0, 0, 12),
        "n": (12, 0, 12),
        "d": (6, 0, 6),
    },
    "hk0": {
        "a": (12, 0, 0),
        "b": (0, 12, 0),
        "n": (12, 12, 0),
        "d": (6, 6, 0),
    },
    "hhl": {"c": (0, 0, 12), "d": (6, 6, 6)},
    "h-hl": {"c": (0, 0, 12)},
}
# Symmetry directions in the order of the Hermann–Mauguin symbol: plane normal to the direction,
# row along it, and the axis letters by the period of the row.
_Direction = tuple[str, str, dict[int, str]]
_TWO = {2: "21"}
_FOUR = {2: "42", 4: "41"}
_DIRECTIONS: dict[str, tuple[_Direction, ...]] = {
    "2/m": (("h0l", "0k0", _TWO),),
    "mmm": (("0kl", "h00", _TWO), ("h0l", "0k0", _TWO), ("hk0", "00l", _TWO)),
    "4": (("hk0", "00l", _FOUR), ("0kl", "h00", _TWO), ("hhl", "", {})),
    "3": (("", "00l", {3: "31"}), ("h-hl", "", {}), ("hhl", "", {})),
    "6": (("", "00l", {2: "63", 3: "62", 6: "61"}), ("h-hl", "", {}), ("hhl", "", {})),
    "m-3": (("hk0", "00l", _TWO), ("", "", {}), ("", "", {})),
    "m-3m": (("hk0", "00l", _FOUR), ("", "", {}), ("hhl", "", {})),
}


@dataclass(frozen=True)
class Condition:
    """One reflection condition, e.g. ``0kl: k + l = 2n``.

    Attributes
    ----------
    reflections : the class it speaks of, such as ``"0kl"``.
    rule : what it demands, in words.
    forms : the same as (coefficients of h k l, modulus): the sum must be a multiple.
    """

    reflections: str
    rule: str
    forms: tuple[Form, ...]

    def __str__(self) -> str:
        return f"{self.reflections}: {self.rule}"

    def applies(self, hkl: Ints) -> Bools:
        """(N,) which of the (N, 3) reflections belong to its class."""
        return _belongs(hkl, self.reflections)

    def obeyed(self, hkl: Ints) -> Bools:
        """(N,) which reflections meet the rule, whatever their class."""
        return _obey(hkl, self.forms)


@cache
def reflection_conditions(number: int) -> tuple[Condition, ...]:
    """What the reference setting of a space group demands of hkl, class by class.

    A class is named only where it demands more than the more general classes before it.
    """
    return conditions_of(lambda hkl: systematically_absent(number, hkl), space_group(number).system)


def conditions_of(absent: Callable[[Ints], Bools], system: str) -> tuple[Condition, ...]:
    """The reflection conditions that an absence function obeys, in any axis setting.

    Parameters
    ----------
    absent : takes (N, 3) indices and tells which are forbidden.
    system : crystal system, whose classes of reflections are looked at.
    """
    found: list[Condition] = []
    for name in _CLASSES[system]:
        hkl = _members(name)
        general = _general(hkl)
        hkl = hkl[general]
        allowed = ~absent(hkl)
        already = np.ones(len(hkl), dtype=bool)
        for condition in found:
            already &= condition.obeyed(hkl) | ~condition.applies(hkl)
        if (allowed == already).all():
            continue
        forms = _shortest(hkl, allowed)
        if forms:  # none: equivalents of a narrower class, e.g. (h, -2h, l) of hhl
            found.append(Condition(name, _in_words(name, forms), forms))
    return tuple(found)


def extinction_name(number: int) -> str:
    """Extinction symbol of a space group, by the rule of International Tables.

    Centring letter, then for each symmetry direction the glide plane normal to it and the screw
    axis along it, each only where it forbids something that nothing before it forbids; a hyphen
    where neither does.
    """
    group = space_group(number)
    if group.laue_class == "-1":
        return "P -"
    directions = _DIRECTIONS.get(group.laue_class) or _DIRECTIONS[group.laue_class.strip("-")[0]]
    hm = group.symbol.split(":")[0].split()[1:]
    known = _centring_absences(group.centring)
    glides = []
    for place, (plane, _, _) in enumerate(directions):
        letter, known = _glide(number, plane, known, hm[place] if place < len(hm) else "")
        glides.append("n" if letter == "c" and plane == "hhl" and _is_cubic_p(number) else letter)
    parts = []
    for glide, (_, row, axes) in zip(glides, directions, strict=True):
        screw = _screw(number, row, axes, known)
        parts.append(f"{screw}/{glide}" if screw and glide else screw or glide or "-")
    return " ".join([group.centring, *parts])


def _is_cubic_p(number: int) -> bool:
    group = space_group(number)
    return group.system == "cubic" and group.centring == "P"


def _members(name: str, reach: int = 6) -> Ints:
    """Reflections of a class such as ``"hhl"``, indices up to ``reach``."""
    axis = np.arange(-reach, reach + 1)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return grid[_belongs(grid, name)]


def _belongs(hkl: Ints, name: str) -> Bools:
    h, k, m = hkl.T
    if name == "hhl":
        return np.asarray(h == k)
    if name == "h-hl":
        return np.asarray(h == -k)
    inside = np.ones(len(hkl), dtype=bool)
    for letter, index in zip(name, (h, k, m), strict=True):
        if letter == "0":
            inside &= index == 0
    return inside


def _obey(hkl: Ints, forms: tuple[Form, ...]) -> Bools:
    ok = np.ones(len(hkl), dtype=bool)
    for coefficients, modulus in forms:
        ok &= hkl @ np.array(coefficients) % modulus == 0
    return ok


def _general(hkl: Ints) -> Bools:
    """Members of a class that lie on no narrower one: no further zero, no further tie."""
    free = [i for i in range(3) if hkl[:, i].any()]
    general = np.asarray((hkl[:, free] != 0).all(1))
    size = np.abs(hkl[:, free])
    for i, j in combinations(range(len(free)), 2):
        tie = size[:, i] == size[:, j]
        if not tie.all():
            general &= ~tie
    return general


def _shortest(hkl: Ints, allowed: Bools) -> tuple[Form, ...]:
    """The fewest linear conditions that together leave exactly the allowed reflections."""
    free = hkl.any(0)
    needed = [
        form
        for form in _FORMS
        if not (np.array(form[0]) * ~free).any() and _obey(hkl[allowed], (form,)).all()
    ]
    for count in range(1, 4):
        for forms in combinations(needed, count):
            if (_obey(hkl, forms) == allowed).all():
                return forms
    return tuple(needed)


def _in_words(name: str, forms: tuple[Form, ...]) -> str:
    if name == "hkl" and len(forms) == 2 and {m for _, m in forms} == {2}:
        return "h, k, l all odd or all even"
    by_modulus: dict[int, list[str]] = {}
    for coefficients, modulus in forms:
        by_modulus.setdefault(modulus, []).append(_form(coefficients))
    return " and ".join(
        f"{', '.join(terms)} = {modulus}n" for modulus, terms in sorted(by_modulus.items())
    )


def _form(coefficients: tuple[int, int, int]) -> str:
    text = ""
    for value, letter in zip(coefficients, "hkl", strict=True):
        if value:
            sign = "-" if value < 0 else ("+" if text else "")
            size = "" if abs(value) == 1 else str(abs(value))
            text += f" {sign} {size}{letter}" if text else f"{sign}{size}{letter}"
    return text


_CENTRINGS: dict[str, tuple[Form, ...]] = {
    "P": (),
    "A": (((0, 1, 1), 2),),
    "C": (((1, 1, 0), 2),),
    "I": (((1, 1, 1), 2),),
    "F": (((1, 1, 0), 2), ((0, 1, 1), 2)),
    "R": (((-1, 1, 1), 3),),
}
_GRID = np.array(list(product(range(-6, 7), repeat=3)), dtype=np.int64)


def _centring_absences(centring: str) -> Bools:
    return ~_obey(_GRID, _CENTRINGS[centring])


@lru_cache(maxsize=4)
def _absences(number: int) -> Bools:
    """(grid,) where a space group forbids reflections; asked for each of its directions."""
    return systematically_absent(number, _GRID)


def _glide(number: int, plane: str, known: Bools, hint: str) -> tuple[str, Bools]:
    """Letter of the glide plane that explains the absences of ``plane``, and all known now."""
    if not plane:
        return "", known
    absent = _absences(number)
    fits: dict[str, Bools] = {}
    for letter in _GLIDES[plane]:
        made = _made_by(plane, letter)
        # Only planes whose every reflection obeys the letter; more is left to other elements.
        if (made & ~absent).any() or not (made & ~known).any():
            continue
        fits[letter] = made
    if not fits:
        return "", known
    most = max(int((made & ~known).sum()) for made in fits.values())
    best = [letter for letter, made in fits.items() if int((made & ~known).sum()) == most]
    letter = next((c for c in best if c in hint), best[0])
    return letter, known | _spread(number, fits[letter], absent)


@cache
def _made_by(plane: str, letter: str) -> Bools:
    """(grid,) what a glide plane forbids."""
    vector = np.array(_GLIDES[plane][letter])
    return np.asarray((_GRID @ vector % DENOMINATOR != 0) & _belongs(_GRID, plane))


def _spread(number: int, made: Bools, absent: Bools) -> Bools:
    """Absences made on one plane, copied to its equivalents under the Laue class."""
    return np.asarray(made[_images(space_group(number).laue_class)].any(0) & absent)


@cache
def _images(laue_class: str) -> Ints:
    """(N, grid) where each reflection goes under each operation; itself where it leaves."""
    side = 13
    image = _GRID @ laue_operations(laue_class)
    place = (image + 6) @ np.array([side * side, side, 1])
    return np.where((np.abs(image) <= 6).all(-1), place, np.arange(len(_GRID)))


def _screw(number: int, row: str, axes: dict[int, str], known: Bools) -> str:
    """Axis letter where the row along the direction is thinned beyond what planes explain."""
    if not row:
        return ""
    inside = _belongs(_GRID, row)
    absent = _absences(number) & inside
    if not (absent & ~known).any():
        return ""
    steps = np.abs(_GRID[inside & ~absent]).max(1)
    return axes.get(int(np.gcd.reduce(steps)), "")
