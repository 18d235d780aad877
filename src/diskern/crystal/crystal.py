"""The crystal: a unit cell and what fills it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.errors import DiskernError

if TYPE_CHECKING:
    from diskern.crystal.symmetry import SymmetryLabel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Crystal:
    """A periodic structure; cartesian = fractional @ lattice.

    Attributes
    ----------
    lattice : (3, 3) rows are the direct cell vectors in Å.
    fractional : (N, 3) positions in the cell, all atoms, in [0, 1).
    numbers : (N,) atomic numbers.
    occupancy : (N,) site occupancies in (0, 1].
    u_iso : (N,) isotropic mean-square displacements ⟨u²⟩ in Å² along one axis (B = 8π²U).
    u_aniso : (N, 3, 3) cartesian displacement tensors in Å², or None where all are isotropic.
    name : what to call it in a report.
    """

    lattice: Floats
    fractional: Floats
    numbers: Ints
    occupancy: Floats
    u_iso: Floats
    u_aniso: Floats | None = None
    name: str = ""
    source: str = ""

    @classmethod
    def from_arrays(
        cls,
        lattice: ArrayLike,
        fractional: ArrayLike,
        numbers: ArrayLike,
        occupancy: ArrayLike | None = None,
        u_iso: ArrayLike | float | None = None,
        *,
        u_aniso: ArrayLike | None = None,
        name: str = "",
        source: str = "",
    ) -> Crystal:
        """Build from plain arrays.

        Parameters are as the attributes; ``occupancy`` defaults to 1 and ``u_iso`` to 0.
        ``lattice`` may also be six numbers a, b, c (Å), α, β, γ (degrees).

        Raises
        ------
        DiskernError
            Where shapes disagree, a value is not finite, the cell has no volume, an atomic
            number or an occupancy is impossible.
        """
        cell = np.asarray(lattice, dtype=np.float64)
        if cell.shape == (6,):
            cell = lattice_from_parameters(*cell)
        positions = np.atleast_2d(np.asarray(fractional, dtype=np.float64))
        z = np.atleast_1d(np.asarray(numbers))
        n = len(z)
        occ = np.ones(n) if occupancy is None else np.asarray(occupancy, dtype=np.float64)
        u = np.zeros(n) if u_iso is None else np.asarray(u_iso, dtype=np.float64)
        u = np.broadcast_to(u, (n,)).copy()
        aniso = None if u_aniso is None else np.asarray(u_aniso, dtype=np.float64)
        _check(cell, positions, z, occ, u, aniso)
        positions = positions - np.floor(positions)
        positions[positions >= 1.0] = 0.0
        return cls(cell, positions, z.astype(np.int64), occ.copy(), u, aniso, name, source)

    @staticmethod
    def from_cif(path: str | Path) -> Crystal:
        """Read the first structure of a CIF file (gemmi), all symmetry copies expanded."""
        from diskern.crystal.cif import read_cif

        return read_cif(Path(path))

    @classmethod
    def from_pymatgen(cls, structure: Any) -> Crystal:
        """Convert a ``pymatgen.core.Structure``; partial occupancies become several atoms."""
        rows = [
            (site.frac_coords, element.Z, amount)
            for site in structure
            for element, amount in site.species.items()
        ]
        positions, numbers, occupancy = zip(*rows, strict=True)
        return cls.from_arrays(
            structure.lattice.matrix,
            np.array(positions),
            numbers,
            occupancy,
            name=structure.composition.reduced_formula,
        )

    @classmethod
    def from_ase(cls, atoms: Any) -> Crystal:
        """Convert an ``ase.Atoms`` that is periodic in three directions."""
        return cls.from_arrays(
            atoms.cell.array,
            atoms.get_scaled_positions(),
            atoms.numbers,
            name=atoms.get_chemical_formula(mode="metal", empirical=True),
        )

    # --- the cell -------------------------------------------------------------------
    @cached_property
    def reciprocal(self) -> Floats:
        """(3, 3) rows are a*, b*, c* in 1/Å (no 2π): g = hkl @ reciprocal."""
        return np.asarray(np.linalg.inv(self.lattice).T)

    @cached_property
    def volume(self) -> float:
        """Cell volume in Å³."""
        return float(abs(np.linalg.det(self.lattice)))

    @cached_property
    def parameters(self) -> tuple[float, float, float, float, float, float]:
        """a, b, c in Å and α, β, γ in degrees."""
        return parameters_from_lattice(self.lattice)

    @cached_property
    def cartesian(self) -> Floats:
        """(N, 3) atom positions in Å."""
        return self.fractional @ self.lattice

    def __len__(self) -> int:
        return len(self.numbers)

    # --- chemistry ------------------------------------------------------------------
    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Element symbols, by atomic number, each once."""
        import gemmi

        return tuple(gemmi.Element(int(z)).name for z in sorted(set(self.numbers.tolist())))

    @cached_property
    def formula(self) -> str:
        """Reduced formula, elements in order of first appearance."""
        import gemmi

        amounts: Counter[int] = Counter()
        for z, occ in zip(self.numbers.tolist(), self.occupancy.tolist(), strict=True):
            amounts[z] += occ
        whole = all(abs(v - round(v)) < 1e-6 for v in amounts.values())
        divisor = np.gcd.reduce([round(v) for v in amounts.values()]) if whole else 1
        parts = []
        for z, amount in amounts.items():
            value = amount / divisor
            text = "" if abs(value - 1) < 1e-6 else f"{value:.3g}"
            parts.append(f"{gemmi.Element(z).name}{text}")
        return "".join(parts)

    # --- other settings of the same crystal -------------------------------------------
    def symmetry(self, symprec: float = 0.01) -> SymmetryLabel:
        """Space group found by spglib at a tolerance in Å."""
        from diskern.crystal.symmetry import find_symmetry

        return find_symmetry(self, symprec)

    def primitive(self, symprec: float = 1e-3) -> Crystal:
        """The primitive cell in the same cartesian frame (spglib, no idealisation)."""
        from diskern.crystal.symmetry import primitive_cell

        return primitive_cell(self, symprec)

    def conventional(self, symprec: float = 0.01) -> Crystal:
        """The standardised conventional cell (spglib); its cartesian frame may differ."""
        from diskern.crystal.symmetry import conventional_cell

        return conventional_cell(self, symprec)

    def with_u_iso(self, u_iso: float) -> Crystal:
        """A copy with one isotropic ⟨u²⟩ in Å² for all atoms."""
        return replace(self, u_iso=np.full(len(self), float(u_iso)), u_aniso=None)

    def __repr__(self) -> str:
        a, b, c, al, be, ga = self.parameters
        return (
            f"Crystal({self.name or self.formula}: {len(self)} atoms, "
            f"a={a:.4f} b={b:.4f} c={c:.4f} Å, α={al:.2f} β={be:.2f} γ={ga:.2f}°)"
        )


def lattice_from_parameters(
    a: float, b: float, c: float, alpha: float, beta: float, gamma: float
) -> Floats:
    """(3, 3) cell rows in Å from a, b, c in Å and angles in degrees; a ∥ x, b in the xy plane.

    Raises
    ------
    DiskernError
        Where lengths are not positive or the three angles close no cell.
    """
    if not (np.isfinite([a, b, c]).all() and min(a, b, c) > 0):
        raise DiskernError(f"cell lengths a={a}, b={b}, c={c} must be positive numbers in Å")
    ca, cb, cg = np.cos(np.radians([alpha, beta, gamma]))
    sg = np.sin(np.radians(gamma))
    square = 1 - ca**2 - cb**2 - cg**2 + 2 * ca * cb * cg
    if not square > 1e-10:
        raise DiskernError(f"cell angles α={alpha}, β={beta}, γ={gamma}° close no cell")
    rows = np.array(
        [
            [a, 0, 0],
            [b * cg, b * sg, 0],
            [c * cb, c * (ca - cb * cg) / sg, c * np.sqrt(square) / sg],
        ]
    )
    rows[np.abs(rows) < 1e-14 * max(a, b, c)] = 0.0
    return rows


def parameters_from_lattice(lattice: Floats) -> tuple[float, float, float, float, float, float]:
    """a, b, c in Å and α, β, γ in degrees of (3, 3) cell rows."""
    lengths = np.linalg.norm(lattice, axis=1)
    unit = lattice / lengths[:, None]
    cosines = np.clip([unit[1] @ unit[2], unit[2] @ unit[0], unit[0] @ unit[1]], -1, 1)
    a, b, c = lengths.tolist()
    alpha, beta, gamma = np.degrees(np.arccos(cosines)).tolist()
    return a, b, c, alpha, beta, gamma


def _check(
    cell: Floats, positions: Floats, z: NDArray[Any], occ: Floats, u: Floats, aniso: Floats | None
) -> None:
    n = len(z)
    if cell.shape != (3, 3):
        raise DiskernError(f"lattice has shape {cell.shape}; give (3, 3) rows in Å or a b c α β γ")
    if n == 0:
        raise DiskernError("a crystal needs at least one atom; numbers is empty")
    if positions.shape != (n, 3):
        raise DiskernError(f"fractional has shape {positions.shape}; {n} numbers need ({n}, 3)")
    if occ.shape != (n,):
        raise DiskernError(f"occupancy has shape {occ.shape}; {n} atoms need ({n},)")
    for label, array in (("lattice", cell), ("fractional", positions), ("u_iso", u)):
        if not np.isfinite(array).all():
            raise DiskernError(f"{label} holds a value that is not finite; mend the input")
    if abs(np.linalg.det(cell)) < 1e-3:
        raise DiskernError(f"the cell volume is {abs(np.linalg.det(cell)):.2g} Å³; check lattice")
    if not (np.issubdtype(z.dtype, np.integer) or np.all(z == np.round(z))):
        raise DiskernError("numbers must be whole atomic numbers")
    if z.min() < 1 or z.max() > 118:
        raise DiskernError(f"atomic number {z.min() if z.min() < 1 else z.max()} does not exist")
    if not (np.isfinite(occ).all() and occ.min() > 0 and occ.max() <= 1 + 1e-6):
        raise DiskernError("occupancy must lie in (0, 1]; drop empty sites")
    if u.min() < 0:
        raise DiskernError(f"u_iso={u.min()} Å² is negative; displacements are mean squares")
    if aniso is not None and aniso.shape != (n, 3, 3):
        raise DiskernError(f"u_aniso has shape {aniso.shape}; {n} atoms need ({n}, 3, 3)")
