"""Space groups as diffraction sees them: Laue class, absences, and the 122 diffraction symbols.

Everything is computed from the symmetry operations that gemmi holds; nothing is a typed-in
table.  All answers are for the reference setting: unique axis b, hexagonal axes for R lattices
(the origin choice does not matter to absences).

Sources: International Tables for Crystallography A, chapter 1.6 (extinction and diffraction
symbols, doi:10.1107/97809553602060000925); Looijenga-Vos & Buerger, chapter 3.1 of the 5th edition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

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
    return tuple((entry.hm, *_arrays(entry.operations())) for entry in entries(number))


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


def entries(number: int) -> list[gemmi.SpaceGroup]:
    """The settings of `settings`, as gemmi tells them."""
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
