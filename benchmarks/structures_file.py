"""Known structures from one Parquet file, as materials of training and of tests.

Columns: id, source, formula, sg and sg_loose (space group at 0.01 and 0.1 Å), hall (spglib's number
of the setting), proto (prototype label), n_conv, a to gamma, and one entry for each orbit in Z,
mult and xyz (first position).  Needs pyarrow.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import spglib

from diskern.crystal.crystal import Crystal
from diskern.crystal.extinction_groups import symbol_of
from diskern.errors import DiskernError
from diskern.train.materials import Material
from diskern.train.split import prototype_family

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Of the structure types; a type is on one side alone."""
SAME = 2e-3
"""Fractional distance within which symmetry makes an atom meet its own image."""
COLUMNS = (
    "id", "source", "formula", "sg", "sg_loose", "hall", "proto", "n_conv", "vol_atom",
    "a", "b", "c", "alpha", "beta", "gamma", "Z", "mult", "xyz",
)  # fmt: skip


def side_of(family: str) -> str:
    """The side of a structure type, by its name alone."""
    rank = int(hashlib.sha256(f"structures:{family}".encode()).hexdigest()[:8], 16) / 2**32
    for side, share in SHARES.items():
        if rank < share:
            return side
        rank -= share
    return "test"


def structures(
    file: Path, *, max_volume: float = 1500.0, leave_out: Sequence[str] = ("AFLOW",)
) -> Iterator[Material]:
    """Materials of the file whose space group is steady, in its order.

    Parameters
    ----------
    max_volume : Å³ of the conventional cell.
    leave_out : sources, by the start of their names.
    """
    from pyarrow import parquet

    for row in parquet.read_table(file, columns=list(COLUMNS)).to_pylist():
        volume = row["vol_atom"] * row["n_conv"]
        if row["sg"] != row["sg_loose"] or volume > max_volume:
            continue
        if row["source"].startswith(tuple(leave_out)):
            continue
        yield Material(
            key=f"structure-{row['id']}",
            space_group=int(row["sg"]),
            prototype=row["proto"],
            formula=formula_of(row["Z"], row["mult"]),
            name=row["formula"],
            origin=row["source"],
            build=partial(expanded, row),
        )


def formula_of(numbers: Sequence[int], multiplicities: Sequence[int]) -> str:
    """Reduced formula, elements in alphabetical order."""
    total: dict[str, int] = {}
    for z, count in zip(numbers, multiplicities, strict=True):
        name = gemmi.Element(int(z)).name
        total[name] = total.get(name, 0) + int(count)
    common = int(np.gcd.reduce(list(total.values())))
    parts = ((name, count // common) for name, count in sorted(total.items()))
    return "".join(f"{name}{count if count > 1 else ''}" for name, count in parts)


def expanded(row: Mapping[str, Any]) -> Crystal:
    """The conventional cell of a row, all atoms.

    Raises
    ------
    DiskernError
        Where an orbit has not as many atoms as the row says.
    """
    symmetry = spglib.get_symmetry_from_database(int(row["hall"]))
    places, numbers = [], []
    first = np.asarray(row["xyz"], dtype=np.float64).reshape(-1, 3)
    for z, count, place in zip(row["Z"], row["mult"], first, strict=True):
        orbit = (symmetry["rotations"] @ place + symmetry["translations"]) % 1.0
        apart = orbit[:, None] - orbit
        apart -= np.round(apart)
        alone = (np.abs(apart) < SAME).all(2).argmax(1) == np.arange(len(orbit))
        if alone.sum() != count:
            raise DiskernError(f"{row['id']}: an orbit of {alone.sum()} atoms instead of {count}")
        places.append(orbit[alone])
        numbers += [int(z)] * int(alone.sum())
    cell = [float(row[name]) for name in ("a", "b", "c", "alpha", "beta", "gamma")]
    return Crystal.from_arrays(cell, np.concatenate(places), np.array(numbers))


def held_out_structures(file: Path, side: str, trained: Sequence[Material]) -> list[Material]:
    """Structures of a held-out side, of no structure type and composition trained on."""
    families = {prototype_family(m) for m in trained}
    formulas = {m.formula for m in trained}
    return [
        m
        for m in structures(file)
        if side_of(prototype_family(m)) == side
        and prototype_family(m) not in families
        and m.formula not in formulas
    ]


def parted_by_material(
    file: Path, sides: Sequence[Sequence[Material]], most: int = 120
) -> tuple[list[Material], list[Material]]:
    """Structures that the shipped network was trained on, and others of their structure types.

    Up to ``most`` of each diffraction symbol were trained on, of as many types as there are; the
    others are of other compositions than any that was.

    Parameters
    ----------
    sides : train, validation and test materials of the network's recipe.
    """
    families = {prototype_family(m) for side in sides[1:] for m in side}
    formulas = {m.formula for side in sides[1:] for m in side}
    every = list(structures(file))
    formulas |= {m.formula for m in every if side_of(prototype_family(m)) != "train"}
    own: dict[int, list[Material]] = {}
    for m in every:
        family = prototype_family(m)
        held = family in families or m.formula in formulas
        if side_of(family) == "train" and not held:
            own.setdefault(symbol_of(m.space_group).index, []).append(m)
    trained, others = [], []
    for number in sorted(own):
        ordered = sorted(own[number], key=lambda m: hashlib.sha256(m.key.encode()).hexdigest())
        seen: Counter[str] = Counter()
        turn = {}
        for m in ordered:
            turn[m.key] = seen[prototype_family(m)]
            seen[prototype_family(m)] += 1
        ordered.sort(key=lambda m: turn[m.key])
        trained += ordered[:most]
        others += ordered[most:]
    types = {prototype_family(m) for m in trained}
    known = {m.formula for m in (*trained, *sides[0])}
    return trained, [m for m in others if prototype_family(m) in types and m.formula not in known]
