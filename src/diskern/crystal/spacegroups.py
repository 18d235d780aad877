"""Space groups as diffraction sees them: Laue class, absences, and the 122 diffraction symbols.

Everything is computed from the symmetry operations that gemmi holds; nothing is a typed-in
table.  All answers are for the reference setting: unique axis b, hexagonal axes for R lattices
(the origin choice does not matter to absences).

Sources: International Tables for Crystallography A, chapter 1.6 (extinction and diffraction
symbols, doi:10.1107/97809553602060000925); Looijenga-Vos & Buerger, chapter 3.1 of the 5th edition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SYSTEMS = (
    "triclinic",
    "monoclinic",
    "orthorhombic",
    "tetragonal",
    "trigonal",
    "hexagonal",
    "cubic",
)
LAUE_CLASSES = (
    "-1",
    "2/m",
    "mmm",
    "4/m",
    "4/mmm",
    "-3",
    "-3m1",
    "-31m",
    "6/m",
    "6/mmm",
    "m-3",
    "m-3m",
)
"""The eleven Laue classes; -3m comes twice, by the setting of its twofold axes to the lattice."""

DENOMINATOR = 24
"""Translations of symmetry operations are whole multiples of 1/24 of a cell edge."""

_TWOFOLD_AB = ((0, 1, 0), (1, 0, 0), (0, 0, -1))  # twofold axis along a + b, hexagonal axes


@dataclass(frozen=True)
class SpaceGroup:
    """What diffraction needs to know of one of the 230 space groups.

    Attributes
    ----------
    symbol : Hermann–Mauguin symbol of the reference setting, e.g. ``"F d -3 m"``.
    laue_class : one of `LAUE_CLASSES`.
    centring : P, A, C, I, F or R.
    """

    number: int
    symbol: str
    system: str
    laue_class: str
    point_group: str
    centring: str
    centrosymmetric: bool


@dataclass(frozen=True)
class DiffractionSymbol:
    """Space groups that share Laue class and systematic absences (in some axis setting).

    Attributes
    ----------
    index : position in `diffraction_symbols`.
    extinction : extinction symbol in the manner of International Tables A, e.g. ``"F d - -"``.
    representative : the group whose reference setting the symbol and all hkl refer to.
    """

    index: int
    system: str
    laue_class: str
    extinction: str
    space_groups: tuple[int, ...]
    representative: int

    @property
    def name(self) -> str:
        """Laue class and extinction symbol together, unique among all 122."""
        return f"{self.laue_class} {self.extinction}"


@dataclass(frozen=True)
class ExtinctionGroup:
    """Diffraction symbols of one crystal system that share their absences."""

    index: int
    system: str
    extinction: str
    symbols: tuple[int, ...]
    space_groups: tuple[int, ...]


@cache
def space_group(number: int) -> SpaceGroup:
    """Facts of space group ``number`` (1 to 230).

    Raises
    ------
    DiskernError
        For a number that is no space group.
    """
    entry = _reference(number)
    return SpaceGroup(
        number=entry.number,
        symbol=entry.hm,
        system=entry.crystal_system_str(),
        laue_class=_laue_class(entry),
        point_group=entry.point_group_hm(),
        centring=entry.hm[0],
        centrosymmetric=entry.is_centrosymmetric(),
    )


def systematically_absent(number: int, hkl: ArrayLike) -> Bools:
    """Which reflections the symmetry of a space group forbids.

    Parameters
    ----------
    hkl : (..., 3) integer indices in the reference setting.

    Returns
    -------
    (...) True where the structure factor vanishes for every crystal of that group.
    """
    indices = np.asarray(hkl)
    if indices.shape[-1:] != (3,):
        raise DiskernError(f"hkl has shape {indices.shape}; give (..., 3) whole numbers")
    flat = np.ascontiguousarray(indices.reshape(-1, 3), dtype=np.int32)
    absent = _reference(number).operations().systematic_absences(flat)
    return np.asarray(absent, dtype=bool).reshape(indices.shape[:-1])


@cache
def operations(number: int) -> tuple[Ints, Ints]:
    """All operations of the reference setting, centring included.

    Returns
    -------
    (N, 3, 3) rotation parts, acting on positions as columns and on hkl as rows (h' = h R), and
    (N, 3) translations in units of 1/`DENOMINATOR`.
    """
    return _arrays(_reference(number).operations())


@cache
def laue_operations(laue_class: str) -> Ints:
    """(N, 3, 3) rotation parts of a Laue class (inversion included), in the reference axes."""
    if laue_class not in LAUE_CLASSES:
        raise DiskernError(f"laue_class={laue_class!r} is none of {', '.join(LAUE_CLASSES)}")
    number = next(n for n in range(1, 231) if space_group(n).laue_class == laue_class)
    rotations = operations(number)[0]
    both = np.concatenate([rotations, -rotations]).reshape(-1, 9)
    # A set of tuples: np.unique is slow on rows.
    return np.array(sorted(set(map(tuple, both.tolist()))), dtype=np.int64).reshape(-1, 3, 3)


@cache
def settings(number: int) -> tuple[tuple[str, Ints, Ints], ...]:
    """Axis settings of a group whose cell has the volume of the reference cell.

    Returns
    -------
    For each setting its symbol and its operations as in `operations`; other choices of origin
    are left out, as they share all absences.
    """
    return tuple((entry.hm, *_arrays(entry.operations())) for entry in _entries(number))


@cache
def diffraction_symbols() -> tuple[DiffractionSymbol, ...]:
    """The 122 diffraction symbols, by Laue class and then by lowest space-group number."""
    from diskern.crystal.conditions import extinction_name

    clusters = _clusters(lambda n: space_group(n).laue_class)
    clusters.sort(key=lambda c: (LAUE_CLASSES.index(space_group(c[0]).laue_class), c[0]))
    symbols = []
    for index, members in enumerate(clusters):
        # The richest point group stands for the symbol; of enantiomorphs the first.
        point_group = space_group(members[-1]).point_group
        head = next(g for g in map(space_group, members) if g.point_group == point_group)
        symbols.append(
            DiffractionSymbol(
                index=index,
                system=head.system,
                laue_class=head.laue_class,
                extinction=extinction_name(head.number),
                space_groups=tuple(members),
                representative=head.number,
            )
        )
    return tuple(symbols)


@cache
def extinction_groups() -> tuple[ExtinctionGroup, ...]:
    """The 101 extinction groups (crystal system and absences), by lowest space-group number."""
    of_group = {n: s for s in diffraction_symbols() for n in s.space_groups}
    groups = []
    for index, members in enumerate(sorted(_clusters(lambda n: space_group(n).system))):
        symbols = sorted({of_group[n].index for n in members})
        # The higher Laue class names the group: P 42 - - rather than P 21 - - in cubic.
        head = diffraction_symbols()[symbols[-1]]
        groups.append(
            ExtinctionGroup(index, head.system, head.extinction, tuple(symbols), tuple(members))
        )
    return tuple(groups)


@cache
def symbol_of(number: int) -> DiffractionSymbol:
    """The diffraction symbol a space group belongs to."""
    _reference(number)
    return next(s for s in diffraction_symbols() if number in s.space_groups)


def _reference(number: int) -> gemmi.SpaceGroup:
    if isinstance(number, bool) or not (
        isinstance(number, int | np.integer) and 1 <= number <= 230
    ):
        raise DiskernError(f"space group {number!r} does not exist; give a number from 1 to 230")
    return gemmi.find_spacegroup_by_number(int(number))


def _arrays(ops: Iterable[gemmi.Op]) -> tuple[Ints, Ints]:
    pairs = [(op.rot, op.tran) for op in ops]
    rotations = np.array([r for r, _ in pairs], dtype=np.int64) // DENOMINATOR
    translations = np.array([t for _, t in pairs], dtype=np.int64) % DENOMINATOR
    return rotations, translations


def _laue_class(entry: gemmi.SpaceGroup) -> str:
    laue: str = entry.laue_str()
    if laue != "-3m":
        return laue
    rotations, _ = _arrays(entry.operations())
    twofold = np.array(_TWOFOLD_AB)
    along_a = (np.abs(rotations - twofold).sum((1, 2)) == 0).any()
    mirror = (np.abs(rotations + twofold).sum((1, 2)) == 0).any()
    return "-3m1" if along_a or mirror else "-31m"


def _clusters(key: Callable[[int], Hashable]) -> list[list[int]]:
    """Groups 1 to 230 joined where ``key`` and the absences of any two settings agree."""
    seen: dict[tuple[Hashable, bytes], int] = {}
    parent = list(range(231))

    def root(n: int) -> int:
        while parent[n] != n:
            n = parent[n]
        return n

    for number, prints in _fingerprints().items():
        for fingerprint in prints:
            other = seen.setdefault((key(number), fingerprint), number)
            parent[root(number)] = root(other)
    members: dict[int, list[int]] = defaultdict(list)
    for number in range(1, 231):
        members[root(number)].append(number)
    return list(members.values())


def _entries(number: int) -> list[gemmi.SpaceGroup]:
    reference = _reference(number)
    centring = len(list(reference.operations().cen_ops))
    return [
        entry
        for entry in gemmi.spacegroup_table()
        if entry.number == number
        and entry.ext not in ("R", "2")
        # Doubled cells ("C 4 2 2", "B 1 2 1") would merge groups that differ.
        and len(list(entry.operations().cen_ops)) == centring
    ]


@cache
def _fingerprints() -> dict[int, frozenset[bytes]]:
    """For each group the absences of all its settings on a block of reflections."""
    # |hkl| ≤ 6 holds every residue of 2, 3, 4 and 6 on rows, planes and in general position.
    axis = range(-6, 7)
    hkl = np.array(list(product(axis, axis, range(7))), dtype=np.int32)
    return {
        number: frozenset(
            np.packbits(entry.operations().systematic_absences(hkl)).tobytes()
            for entry in _entries(number)
        )
        for number in range(1, 231)
    }


def absent_by(rotations: Ints, translations: Ints, hkl: ArrayLike) -> Bools:
    """Absences under explicit operations: some operation keeps h but shifts its phase.

    Parameters
    ----------
    rotations, translations : (N, 3, 3) and (N, 3) as from `operations`.
    hkl : (M, 3) indices.

    Returns
    -------
    (M,) True where forbidden.
    """
    h = np.asarray(hkl, dtype=np.int64)
    absent = np.zeros(len(h), dtype=bool)
    for rotation in np.unique(rotations.reshape(-1, 9), axis=0).reshape(-1, 3, 3):
        fixed = (h @ rotation == h).all(1)
        if not fixed.any():
            continue
        same = (rotations == rotation).all((1, 2))
        shift = np.unique(translations[same], axis=0)
        absent[fixed] |= ((h[fixed] @ shift.T) % DENOMINATOR != 0).any(1)
    return absent
