"""Training and validation crystals, parted so that no structure type is in both."""

from __future__ import annotations

import hashlib
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from diskern.crystal.spacegroups import operations, space_group
from diskern.errors import DiskernError
from diskern.train.materials import Material
from diskern.train.recipe import SplitTable

Side = Literal["train", "validation"]
SIDES: tuple[Side, ...] = ("train", "validation")


@dataclass(frozen=True, eq=False)
class Split:
    """Materials of both sides.

    Attributes
    ----------
    dropped : training crystals left out because their formula is validated.
    """

    train: tuple[Material, ...]
    validation: tuple[Material, ...]
    dropped: tuple[Material, ...]

    def side(self, name: Side) -> tuple[Material, ...]:
        """The materials of one side."""
        if name not in SIDES:
            raise DiskernError(f"side {name!r} is unknown; use train or validation")
        return self.train if name == "train" else self.validation


@dataclass(frozen=True)
class Leak:
    """Something that stands on both sides of a split."""

    kind: Literal["crystal", "prototype", "formula"]
    what: str


def split_materials(materials: Sequence[Material], table: SplitTable, seed: int) -> Split:
    """Part crystals into training and validation; see `SplitTable`.

    The order of the materials does not matter, so crystals added to a source move few others.
    """
    if table.validation == 0:
        return Split(tuple(materials), (), ())
    if table.by == "crystal":
        held = _by_crystal(materials, table.validation, seed)
        return Split(
            tuple(m for m in materials if m.key not in held),
            tuple(m for m in materials if m.key in held),
            (),
        )
    families = _by_prototype(materials, table.validation, seed)
    validation = tuple(m for m in materials if prototype_family(m) in families)
    formulas = {m.formula for m in validation} - {""}
    rest = [m for m in materials if prototype_family(m) not in families]
    return Split(
        tuple(m for m in rest if m.formula not in formulas),
        validation,
        tuple(m for m in rest if m.formula in formulas),
    )


def find_leaks(split: Split) -> tuple[Leak, ...]:
    """Crystals, prototypes (enantiomorphs counted as one) and formulas that are on both sides."""
    leaks = []
    for kind, names in (
        ("crystal", lambda m: m.key),
        ("prototype", prototype_family),
        ("formula", lambda m: m.formula),
    ):
        both = {names(m) for m in split.train} & {names(m) for m in split.validation} - {""}
        leaks += [Leak(kind, what) for what in sorted(both)]  # type: ignore[arg-type]
    return tuple(leaks)


def prototype_family(material: Material) -> str:
    """What two labels of one structure type have in common.

    Wyckoff letters depend on the choice among equivalent origins, so only the amount and the
    number of orbits of each species are kept, and the lower of two enantiomorphic groups.
    Different types may share a family; one type never has two.
    """
    number, _, rest = material.prototype.partition("_")
    if not number.isdigit():
        return material.prototype
    species = (
        (int(part.rstrip(string.ascii_letters)), sum(map(str.isalpha, part)))
        for part in rest.split("_")
    )
    words = (f"{amount}x{orbits}" for amount, orbits in sorted(species))
    return "_".join([str(enantiomorph(int(number))), *words])


@cache
def enantiomorph(number: int) -> int:
    """The lower number of an enantiomorphic pair such as P4₁32 and P4₃32; else the group's own.

    The pairs are found from the operations: the same rotations, translations inverted.
    """
    entry = space_group(number)
    for other in range(1, number):
        twin = space_group(other)
        if twin.point_group != entry.point_group or twin.centring != entry.centring:
            continue
        if twin.symbol != entry.symbol and _mirrored(number) == _as_set(other):
            return other
    return number


def _as_set(number: int) -> frozenset[tuple[int, ...]]:
    rotations, shifts = operations(number)
    return frozenset(
        (*r.ravel().tolist(), *(t % 24).tolist()) for r, t in zip(rotations, shifts, strict=True)
    )


def _mirrored(number: int) -> frozenset[tuple[int, ...]]:
    """The group's operations seen through an inversion at the origin."""
    rotations, shifts = operations(number)
    if any(round(_determinant(r)) < 0 for r in rotations.tolist()):
        return frozenset()
    return frozenset(
        (*r.ravel().tolist(), *(-t % 24).tolist()) for r, t in zip(rotations, shifts, strict=True)
    )


def _determinant(rows: list[list[int]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _rank(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def _by_crystal(materials: Sequence[Material], share: float, seed: int) -> set[str]:
    """Keys held out: of each space group the share, rounded down."""
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for m in materials:
        groups[m.space_group].append(m.key)
    held: set[str] = set()
    for keys in groups.values():
        held.update(sorted(keys, key=lambda k: _rank(k, seed))[: int(share * len(keys))])
    return held


def _by_prototype(materials: Sequence[Material], share: float, seed: int) -> set[str]:
    """Prototype families held out, in a random order, until they hold the share of crystals."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for m in materials:
        sizes[prototype_family(m)] += 1
    wanted, taken, held = share * len(materials), 0, set()
    for family in sorted(sizes, key=lambda f: _rank(f, seed)):
        # A family so large that it alone overshoots is left for training.
        if taken + sizes[family] <= wanted * 1.1 + 1:
            held.add(family)
            taken += sizes[family]
        if taken >= wanted:
            break
    return held
