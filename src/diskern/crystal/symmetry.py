"""The symmetry of a structure, its primitive and its conventional cell (through spglib)."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError

COINCIDENT = 0.01
"""Atoms closer than this (Å) share a site, as the species of a mixed site do."""


@dataclass(frozen=True)
class SymmetryLabel:
    """A space group together with the tolerance at which it was found.

    Attributes
    ----------
    number : 1 to 230.
    symbol : international short symbol, e.g. ``"Fd-3m"``.
    hall_number : spglib's index of the setting, 1 to 530.
    point_group : e.g. ``"m-3m"``.
    tolerance : distance tolerance in Å.
    """

    number: int
    symbol: str
    hall_number: int
    point_group: str
    tolerance: float


def find_symmetry(crystal: Crystal, symprec: float = 0.01) -> SymmetryLabel:
    """Space group at a distance tolerance in Å.

    Raises
    ------
    DiskernError
        Where spglib finds no symmetry at this tolerance (atoms too close, broken cell).
    """
    found = symmetry_dataset(crystal, symprec)[0]
    return SymmetryLabel(
        int(found.number),
        str(found.international),
        int(found.hall_number),
        str(found.pointgroup),
        symprec,
    )


@lru_cache(maxsize=128)
def primitive_cell(crystal: Crystal, symprec: float = 1e-3) -> Crystal:
    """The primitive cell in the crystal's own cartesian frame; positions are not idealised.

    Returns the crystal itself where its cell is primitive already.  Kept for the crystals used
    last, since every simulation of one asks anew.
    """
    found, sites = symmetry_dataset(crystal, symprec)
    mapping = np.asarray(found.mapping_to_primitive)
    if mapping.max() + 1 == len(mapping):
        return crystal
    cell = np.asarray(found.primitive_lattice, dtype=np.float64)
    first = [int(np.argmax(mapping == i)) for i in range(mapping.max() + 1)]
    atoms = np.concatenate([sites[i] for i in first])
    positions = crystal.cartesian[atoms] @ np.linalg.inv(cell)
    return _rebuilt(crystal, cell, positions, atoms, np.eye(3))


def conventional_cell(crystal: Crystal, symprec: float = 0.01) -> Crystal:
    """The standardised conventional cell, idealised within ``symprec`` Å.

    Its cartesian frame is spglib's standard one; anisotropic displacements turn with it.
    """
    found, sites = symmetry_dataset(crystal, symprec)
    to_primitive = np.asarray(found.mapping_to_primitive)
    origin_of = [int(np.argmax(to_primitive == i)) for i in found.std_mapping_to_primitive]
    groups = [sites[i] for i in origin_of]
    atoms = np.concatenate(groups)
    positions = np.repeat(found.std_positions, [len(g) for g in groups], axis=0)
    rotation = np.asarray(found.std_rotation_matrix, dtype=np.float64)
    return _rebuilt(crystal, np.asarray(found.std_lattice), positions, atoms, rotation)


def _rebuilt(
    crystal: Crystal,
    cell: NDArray[np.float64],
    positions: NDArray[np.float64],
    atoms: NDArray[np.int64],
    rotation: NDArray[np.float64],
) -> Crystal:
    aniso = crystal.u_aniso
    turned = None if aniso is None else rotation @ aniso[atoms] @ rotation.T
    made = Crystal.from_arrays(
        cell,
        positions,
        crystal.numbers[atoms],
        crystal.occupancy[atoms],
        crystal.u_iso[atoms],
        u_aniso=turned,
    )
    return replace(made, name=crystal.name, source=crystal.source)


def symmetry_dataset(crystal: Crystal, symprec: float) -> tuple[Any, list[NDArray[np.int64]]]:
    """Spglib's dataset over sites, and the atoms of each site."""
    sites = _sites(crystal)
    kinds: dict[tuple[Any, ...], int] = {}
    types = []
    for atoms in sites:
        key = tuple(
            sorted((int(crystal.numbers[i]), round(float(crystal.occupancy[i]), 4)) for i in atoms)
        )
        types.append(kinds.setdefault(key, len(kinds) + 1))
    first = [int(s[0]) for s in sites]
    found = None
    # spglib returns None up to 2.x and raises its own error from 3 on, with a warning between.
    with (
        contextlib.suppress(getattr(spglib, "SpglibError", RuntimeError)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_symmetry_dataset(
            (crystal.lattice, crystal.fractional[first], types), symprec=symprec
        )
    if found is None:
        raise DiskernError(
            f"{crystal!r} has no symmetry at symprec={symprec} Å: atoms may overlap; "
            "check the positions or lower symprec"
        )
    return found, sites


def _sites(crystal: Crystal) -> list[NDArray[np.int64]]:
    """Groups of atoms that share a position, in order of their first atom."""
    if np.all(crystal.occupancy > 1 - 1e-6):
        return [np.array([i]) for i in range(len(crystal))]
    difference = crystal.fractional[:, None] - crystal.fractional[None]
    difference -= np.round(difference)
    near = np.linalg.norm(difference @ crystal.lattice, axis=-1) < COINCIDENT
    leader = near.argmax(axis=1)
    return [np.flatnonzero(leader == i) for i in np.unique(leader)]
