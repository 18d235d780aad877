"""Structures from CIF files (through gemmi), with all symmetry copies expanded."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError

log = logging.getLogger(__name__)

SAME_SITE = 0.1
"""Symmetry copies closer than this (Å) are one atom: CIF coordinates are rounded (0.333)."""
CLASH = 0.5
"""Two different atoms closer than this (Å) mean a wrong origin or a broken file."""
MAX_BYTES = 50_000_000

Floats = NDArray[np.float64]


def read_cif(path: Path) -> Crystal:
    """First structure of a CIF file.

    Partial occupancies are kept as they are.  Where the file names a group of two origin
    choices without its operators, the choice without clashes and with fewer atoms (more of
    them on special positions) is taken.

    Raises
    ------
    DiskernError
        For a missing, unreadable or oversized file, one without cell or atoms, unknown
        elements, or sites filled to more than one.
    """
    block = _first_structure_block(path)
    structure = gemmi.make_small_structure_from_block(block)
    if not structure.sites:
        raise DiskernError(f"{path.name}: the CIF lists no atoms with coordinates")
    if not structure.cell.is_crystal():
        raise DiskernError(f"{path.name}: the CIF gives no unit cell")
    lattice = np.array(structure.cell.orth.mat.tolist()).T
    choices = [_expand(structure, ops, lattice, path) for ops in _operators(structure, path)]
    if len(choices) > 1:
        log.warning("%s: no operators and two origin choices; took the likelier", path.name)
    positions, clashes, site_of, rotations = min(choices, key=lambda c: (c[1], len(c[0])))
    if clashes:
        log.warning("%s: %d pairs of atoms are closer than %.1f Å", path.name, clashes, CLASH)
    sites = [structure.sites[i] for i in site_of]
    numbers = [_atomic_number(s, path) for s in sites]
    u_iso, u_aniso = _displacements(sites, rotations, structure.cell, lattice)
    crystal = Crystal.from_arrays(
        lattice,
        positions,
        numbers,
        [_occupancy(s, path) for s in sites],
        u_iso,
        u_aniso=u_aniso,
        source=path.name,
    )
    _check_filling(crystal, path)
    return replace(crystal, name=_name(block, crystal))


def _first_structure_block(path: Path) -> gemmi.cif.Block:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DiskernError(f"{path.name}: {size / 1e6:.0f} MB is no CIF of one structure")
        document = gemmi.cif.read_string(path.read_bytes().decode("utf-8", "replace"))
    except OSError as error:
        raise DiskernError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DiskernError(f"{path.name}: not a valid CIF ({reason})") from error
    for block in document:
        if block.find_loop("_atom_site_fract_x") or block.find_value("_atom_site_fract_x"):
            return block
    raise DiskernError(f"{path.name}: no block of this CIF holds fractional coordinates")


def _operators(structure: gemmi.SmallStructure, path: Path) -> list[list[gemmi.Op]]:
    """Lists of symmetry operators to try: the file's own, or both origins of its symbol."""
    if structure.symops:
        try:
            return [[gemmi.Op(text) for text in structure.symops]]
        except (ValueError, RuntimeError) as error:
            raise DiskernError(f"{path.name}: bad symmetry operator ({error})") from error
    # gemmi's stub says this is never None; a file without symmetry makes it so.
    group: gemmi.SpaceGroup | None = structure.spacegroup
    if group is None and structure.spacegroup_number:
        group = gemmi.find_spacegroup_by_number(structure.spacegroup_number)
    if group is None:
        log.warning("%s: no symmetry given; taken as P 1", path.name)
        return [[gemmi.Op("x,y,z")]]
    same = [s for s in gemmi.spacegroup_table() if s.hm == group.hm and s.ext in "12\0"]
    return [list(s.operations()) for s in (same if len(same) > 1 else [group])]


def _expand(
    structure: gemmi.SmallStructure, ops: list[gemmi.Op], lattice: Floats, path: Path
) -> tuple[Floats, int, list[int], list[Floats]]:
    """Copies of every site: positions, number of clashes, site index and rotation of each."""
    rotation = np.array([op.rot for op in ops], dtype=float) / gemmi.Op.DEN
    shift = np.array([op.tran for op in ops], dtype=float) / gemmi.Op.DEN
    out: list[Floats] = []
    site_of: list[int] = []
    rotations: list[Floats] = []
    for index, site in enumerate(structure.sites):
        start = np.array(site.fract.tolist())
        if not np.isfinite(start).all():
            raise DiskernError(f"{path.name}: atom {site.label} has no complete coordinates")
        images = rotation @ start + shift
        apart = images[:, None] - images[None]
        apart -= np.round(apart)
        near = np.linalg.norm(apart @ lattice, axis=-1) < SAME_SITE
        leaders = near.argmax(axis=1)
        for leader in np.unique(leaders):
            # The mean over the coincident copies puts a rounded coordinate on its special position.
            members = leaders == leader
            out.append(images[leader] - apart[leader, members].mean(axis=0))
            site_of.append(index)
            rotations.append(rotation[leader])
    positions = np.array(out)
    return positions, _clashes(positions, lattice), site_of, rotations


def _clashes(positions: Floats, lattice: Floats) -> int:
    if len(positions) > 2000:
        positions = positions[:2000]
    apart = positions[:, None] - positions[None]
    apart -= np.round(apart)
    distance = np.linalg.norm(apart @ lattice, axis=-1)
    return int(((distance > SAME_SITE) & (distance < CLASH)).sum() // 2)


def _atomic_number(site: gemmi.SmallStructure.Site, path: Path) -> int:
    number = int(site.element.atomic_number)
    if number == 0:
        raise DiskernError(f"{path.name}: atom {site.label} ({site.type_symbol}) is no element")
    return number


def _occupancy(site: gemmi.SmallStructure.Site, path: Path) -> float:
    if not 0 < site.occ <= 1.05:
        raise DiskernError(f"{path.name}: atom {site.label} has occupancy {site.occ}")
    return min(float(site.occ), 1.0)


def _displacements(
    sites: list[Any], rotations: list[Floats], cell: gemmi.UnitCell, lattice: Floats
) -> tuple[Floats, Floats | None]:
    """(N,) ⟨u²⟩ and, where any site is anisotropic, (N, 3, 3) cartesian tensors in Å²."""
    star = np.array([cell.reciprocal().a, cell.reciprocal().b, cell.reciprocal().c])
    iso = np.array([max(float(s.u_iso), 0.0) for s in sites])
    if not any(s.aniso.nonzero() for s in sites):
        return iso, None
    tensors = iso[:, None, None] * np.eye(3)
    for i, (site, rotation) in enumerate(zip(sites, rotations, strict=True)):
        if site.aniso.nonzero():
            u = np.array(site.aniso.as_mat33().tolist()) * np.outer(star, star)
            tensors[i] = lattice.T @ rotation @ u @ rotation.T @ lattice
            iso[i] = max(np.trace(tensors[i]) / 3, 0.0)
    return iso, tensors


def _check_filling(crystal: Crystal, path: Path) -> None:
    """Refuse sites that hold more than one atom."""
    if len(crystal) > 5000:
        return
    apart = crystal.fractional[:, None] - crystal.fractional[None]
    apart -= np.round(apart)
    near = np.linalg.norm(apart @ crystal.lattice, axis=-1) < 0.05
    filling = near @ crystal.occupancy
    if filling.max() > 1.05:
        raise DiskernError(
            f"{path.name}: a site is filled {filling.max():.2f} times; mend the occupancies"
        )


def _name(block: gemmi.cif.Block, crystal: Crystal) -> str:
    for tag in ("_chemical_name_mineral", "_chemical_name_common"):
        text = gemmi.cif.as_string(block.find_value(tag) or "?").strip()
        if text and text not in "?.":
            return f"{crystal.formula} ({text})"
    return crystal.formula
