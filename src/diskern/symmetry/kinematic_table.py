"""What a crystal can diffract: one table of reflections per crystal, computed once.

Indexing asks the same few things of every candidate, thousands of times: the nearest reflection
to a point, how strong it is, which directions are equivalent.  `KinematicTable` answers from
arrays; `kinematic_table` keeps the tables of the crystals it has seen.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import spglib
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import reciprocal_vectors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

G_MAX = 2.4
"""1/Å; a pattern is seldom wider, and large cells are cut earlier."""
LEAST_REACH = 1.2
"""1/Å that every table goes to: symmetry is told from its reflections."""
REACH_STEP = 0.3
"""1/Å in which reaches are rounded up, so that patterns alike share tables."""
MAX_REFLECTIONS = 6000
TYPICAL_U_ISO = 0.006
"""Å², given to atoms whose displacement is unknown (B = 0.5 Å², a hard crystal at 300 K)."""
EXTINCT = 1e-3
"""|F| relative to the strongest below which a reflection counts as absent."""
SAME_METRIC = 1e-3
"""Relative change of a cell's metric within which a rotation maps the lattice on itself."""
FORBIDDEN = 0.03
"""Relative amplitude that multiple scattering lends to a forbidden reflection, as a rule."""
MULTIPLE = 0.25
"""Least relative amplitude where a pattern shows much of it: thick foils, bent plates, incomplete
cells."""
GENERATORS = 120
"""Shortest reflections that fix the primitive reciprocal lattice."""
LOOKED_AT = (320, 1000)
"""Shortest reflections among which those are sought, and among how many more if need be."""
TESTED = 400
"""Shortest reflections whose strengths must agree for a rotation to count as a symmetry."""
HALF_SPACE = np.array([1_000_000, 1_000, 1])
"""Of hkl and its Friedel mate one has a positive product with this."""
SAME_STRENGTH = 0.02
GENERIC = np.array([[0.8427, 0.4561, 0.2863], [0.3319, 0.5237, 0.7846]])
"""Two directions near which no axis or plane of symmetry lies."""
ZONE_INDEX = 5
"""Zone axes up to this index are counted; the rest hardly matters."""
ZONE_PREFERENCE = 4.0
"""Power of √(u² + v² + w²) by which low zone axes are preferred to high ones."""
PAIR_FIRST = 40
PAIR_SECOND = 600
"""Reflections that the two spots of a pair may be where the scale is unknown."""


@dataclass(frozen=True, eq=False)
class KinematicTable:
    """Reflections of a crystal with |g| ≤ ``g_max``, shortest first.

    Reflections that only glide planes and screw axes forbid are kept with no strength, for
    multiple scattering lights them; nodes that centring removes are left out.

    Attributes
    ----------
    lattice : (3, 3) the crystal's own cell rows in Å.
    hkl : (G, 3) indices in the crystal's own cell.
    g : (G, 3) crystal-frame vectors in 1/Å.
    length : (G,) |g| in 1/Å.
    strength : (G,) |F|² over the largest |F|² of the table.
    rotations : (R, 3, 3) proper cartesian rotations of the Laue class, as matrices on columns.
    basis : (3, 3) rows are a reduced basis of the lattice that the lit reflections generate, 1/Å.
    faintest : least amplitude of an allowed reflection, relative to the largest.
    forbidden : amplitude of forbidden reflections, likewise.
    """

    lattice: Floats
    g_max: float
    hkl: Ints
    g: Floats
    length: Floats
    strength: Floats
    rotations: Floats
    basis: Floats
    faintest: float = FORBIDDEN
    forbidden: float = FORBIDDEN

    def __len__(self) -> int:
        return len(self.hkl)

    @cached_property
    def _grid(self) -> tuple[Ints, Floats, Floats]:
        """Rows of the table at whole coordinates in ``basis``, -1 where nothing diffracts.

        A rim of -1 surrounds them.  Flattened, with the largest coordinates and the steps.
        """
        nodes = np.rint(self.g @ self._to_basis).astype(np.int64)
        rim = (np.abs(nodes).max(0) if len(nodes) else np.zeros(3, dtype=np.int64)) + 1
        grid = np.full(tuple(2 * rim + 1), -1, dtype=np.int64)
        grid[tuple((nodes + rim).T)] = np.arange(len(nodes))
        steps = np.array([grid.shape[1] * grid.shape[2], grid.shape[2], 1], dtype=np.float64)
        return grid.ravel(), rim.astype(np.float64), steps

    @cached_property
    def _to_basis(self) -> Floats:
        return np.asarray(np.linalg.inv(self.basis))

    def nearest(self, points: Floats) -> tuple[Ints, Floats]:
        """The lattice node nearest to each crystal-frame point.

        Parameters
        ----------
        points : (..., 3) in 1/Å.

        Returns
        -------
        (...) row of the table, -1 where that node is the origin or beyond ``g_max``; and
        (..., 3) node vector in 1/Å.
        """
        nodes = np.rint(points.reshape(-1, 3) @ self._to_basis)
        grid, rim, steps = self._grid
        at = np.clip(nodes, -rim, rim) @ steps + rim @ steps
        rows = np.take(grid, at.astype(np.int64), mode="clip")
        return rows.reshape(points.shape[:-1]), (nodes @ self.basis).reshape(points.shape)

    @cached_property
    def representatives(self) -> Ints:
        """Rows of one allowed reflection of each orbit under the proper rotations."""
        # The largest component of a reflection's images along a direction of no symmetry names
        # its orbit; two directions leave no room for coincidences.
        along = np.einsum("rji,dj->dri", self.rotations, GENERIC)
        name = np.rint((along @ self.g.T).max(1) / 1e-4).astype(np.int64)
        _, first = np.unique(name[0] * (1 << 32) + name[1], return_index=True)
        first = np.sort(first).astype(np.int64)
        return first[self.strength[first] > 0]

    @cached_property
    def is_representative(self) -> NDArray[np.bool_]:
        """(G,) whether a row is among ``representatives``."""
        out = np.zeros(len(self), dtype=np.bool_)
        out[self.representatives] = True
        return out

    @cached_property
    def visibility(self) -> Floats:
        """(G,) |F| over the largest |F|: integrated intensity where diffraction is dynamical.

        It falls off more slowly than |F|², as weak reflections do in crystals of usual thickness
        (Vainshtein, Structure Analysis by Electron Diffraction, 1964, ch. 4).  Forbidden
        reflections keep a little, from multiple scattering.
        """
        floor = np.where(self.strength > 0, self.faintest, self.forbidden)
        return np.asarray(np.maximum(np.sqrt(self.strength), floor))

    @cached_property
    def multiple(self) -> tuple[KinematicTable, ...]:
        """The same crystal where it scatters many times over.

        Weak reflections gain in every zone.  Forbidden ones do only where two allowed ones of the
        zone add up to them (200 of diamond in [011], not in [001]; none of rutile in [100]), so
        they come dark and lit.
        """
        floors = [(MULTIPLE, FORBIDDEN)]
        if (self.strength == 0).any():
            floors.append((MULTIPLE, MULTIPLE))
        others = [replace(self, faintest=a, forbidden=f) for a, f in floors]
        for other in others:
            other.__dict__["_grid"] = self._grid  # a cached property: the same nodes
        return tuple(others)

    @cached_property
    def zones(self) -> tuple[Floats, Floats]:
        """(Z, 3) unit vectors along the zone axes in the crystal frame, and (Z,) the share of
        patterns near each: operators tilt to low indices, and plates and needles lie on them."""
        side = np.arange(-ZONE_INDEX, ZONE_INDEX + 1)
        uvw = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
        uvw = uvw[np.gcd.reduce(uvw, axis=1) == 1]
        axes = uvw @ self.lattice
        share = np.linalg.norm(uvw, axis=1) ** -ZONE_PREFERENCE
        return axes / np.linalg.norm(axes, axis=1, keepdims=True), share / share.sum()

    @cached_property
    def allowed(self) -> Ints:
        """Rows of the reflections that symmetry allows."""
        return np.flatnonzero(self.strength > 0)

    @cached_property
    def direction(self) -> Floats:
        """(G, 3) unit vectors along g."""
        return np.asarray(self.g / self.length[:, None])

    @cached_property
    def log_length(self) -> Floats:
        """(G,) ln |g|."""
        return np.asarray(np.log(self.length))

    @cached_property
    def pair_geometry(self) -> tuple[Floats, Ints, Floats]:
        """Pairs of the first representatives (A) and the first rows (B), by ratio of lengths.

        What indexing with an unknown scale compares spot pairs with.

        Returns
        -------
        (A·B,) ln of the second length over the first, ascending; (A·B,) position of the pair in
        the (A, B) table; (A·B,) rad between the two.
        """
        first, second = self.representatives[:PAIR_FIRST], self.allowed[:PAIR_SECOND]
        cosine = self.direction[first] @ self.direction[second].T
        ratio = (self.log_length[second] - self.log_length[first][:, None]).ravel()
        order = np.argsort(ratio)
        return ratio[order], order, np.arccos(np.clip(cosine, -1, 1)).ravel()[order]

    @cached_property
    def powder(self) -> tuple[Floats, Floats, Ints]:
        """Lines of a powder: (L,) 1/d in 1/Å, (L,) kinematic intensity, (L, 3) hkl of each.

        Intensity is multiplicity × |F|² × d², relative to the strongest line: one d for the
        chance that a grain meets the Ewald sphere (Lorentz factor at small angles), one for the
        circumference over which the flux spreads.  Lines closer than 0.05 % are one.
        """
        length, strength = self.length[self.allowed], self.strength[self.allowed]
        hkl = self.hkl[self.allowed]
        if not len(length):
            return length, strength, hkl
        first = np.concatenate([[True], np.diff(length) > 5e-4 * length[1:]])
        line = np.cumsum(first) - 1
        flux = np.bincount(line, strength / length**2)
        start = np.flatnonzero(first)
        # Name a line by the index triple with the most positive leading indices.
        order = np.lexsort((*(-hkl.T[::-1]), line))
        names = hkl[order[np.searchsorted(line[order], np.arange(len(start)))]]
        return length[start], flux / flux.max(), names


_tables: weakref.WeakKeyDictionary[Crystal, tuple[float, KinematicTable]] = (
    weakref.WeakKeyDictionary()
)


def kinematic_table(crystal: Crystal, reach: float = G_MAX) -> KinematicTable:
    """The crystal's table, computed on first use and kept as long as the crystal lives.

    Parameters
    ----------
    reach : 1/Å as far as reflections are needed; the table may go farther, and of large cells
        it goes less far.
    """
    wanted = min(max(np.ceil(reach / REACH_STEP) * REACH_STEP, LEAST_REACH), G_MAX)
    kept = _tables.get(crystal)
    if kept is None or kept[0] < wanted:
        kept = _tables[crystal] = wanted, _build(crystal, wanted)
    return kept[1]


def _build(crystal: Crystal, reach: float = G_MAX) -> KinematicTable:
    # Room for about MAX_REFLECTIONS in the ball; centring leaves fewer.
    g_max = min(reach, float((MAX_REFLECTIONS * 0.75 / (np.pi * crystal.volume)) ** (1 / 3)))
    every = reciprocal_vectors(crystal, g_max)
    basis = _primitive_basis(crystal, *every)
    hkl, g = _generated(*every, basis)
    if g_max < reach and len(hkl) < MAX_REFLECTIONS / 1.5:
        g_max = min(reach, g_max * (MAX_REFLECTIONS / max(len(hkl), 1)) ** (1 / 3))
        hkl, g = _generated(*reciprocal_vectors(crystal, g_max), basis)
    length = np.linalg.norm(g, axis=1)
    # Row n - 1 - i is the Friedel mate of row i.
    half = len(hkl) // 2
    strength = _squared_structure_factors(crystal, hkl[half:], length[half:])
    strength = _relative(np.concatenate([strength[::-1], strength]))
    order = np.argsort(np.round(length, 9), kind="stable")
    table = KinematicTable(
        crystal.lattice,
        g_max,
        hkl[order],
        g[order],
        length[order],
        strength[order],
        np.eye(3)[None],
        _reduced_reciprocal(basis @ crystal.reciprocal),
    )
    return replace(table, rotations=_laue_rotations(table))


def _relative(strength: Floats) -> Floats:
    """Strengths over the largest, those of absent reflections nought."""
    strength = strength / max(float(strength.max(initial=0.0)), 1e-30)
    strength[strength < EXTINCT**2] = 0.0
    return strength


def _primitive_basis(crystal: Crystal, hkl: Ints, g: Floats) -> Floats:
    """(3, 3) rows of hkl that generate the primitive reciprocal lattice.

    Centring absences hold for every reflection, so the shortest that are lit generate it.
    """
    length = np.linalg.norm(g, axis=1)
    order = np.argsort(np.round(length, 9), kind="stable")
    for count in LOOKED_AT:
        few = order[:count]
        strength = _relative(_squared_structure_factors(crystal, hkl[few], length[few]))
        lit = hkl[few][strength > 0]
        if len(lit) >= GENERATORS:
            break
    return _generated_basis(lit)


def _generated(hkl: Ints, g: Floats, basis: Floats) -> tuple[Ints, Floats]:
    """Those hkl and g that are in the lattice which rows of hkl generate."""
    if abs(abs(np.linalg.det(basis)) - 1) < 1e-6:
        return hkl, g
    whole = hkl @ np.linalg.inv(basis)
    node = (np.abs(whole - np.rint(whole)) < 1e-6).all(-1)
    return hkl[node], g[node]


def _generated_basis(hkl: Ints) -> Floats:
    """(3, 3) rows that generate the same lattice of whole indices (Hermite normal form)."""
    # A reflection and its Friedel mate generate the same.
    rows = [row for row in hkl[:GENERATORS].tolist() if row < [0, 0, 0]]
    basis: list[list[int]] = []
    for column in range(3):
        while True:
            rows = sorted((r for r in rows if any(r)), key=lambda r: abs(r[column]) or 10**9)
            if not rows or rows[0][column] == 0:
                break
            pivot = rows[0]
            reduced = []
            for row in rows[1:]:
                factor = row[column] // pivot[column]
                reduced.append([a - factor * b for a, b in zip(row, pivot, strict=True)])
            # Equal rows need no second look.
            rows = [list(r) for r in {tuple(r) for r in reduced}]
            if not any(r[column] for r in rows):
                basis.append(pivot)
                break
            rows.append(pivot)
    if len(basis) < 3:
        return np.eye(3)
    return np.array(basis, dtype=np.float64)


def _laue_rotations(table: KinematicTable) -> Floats:
    """Proper rotations of the lattice that leave |F|² alone, as (R, 3, 3) on columns.

    For Friedel-symmetric amplitudes these are the proper rotations of the Laue class (and any
    higher symmetry that the amplitudes happen to have, which no pattern could tell apart).
    """
    if not len(table):
        return np.eye(3)[None]
    direct: Floats = np.asarray(np.linalg.inv(table.basis).T, dtype=np.float64)
    matrices = _lattice_rotations(direct)
    # A reflection and its Friedel mate say the same.
    few = np.flatnonzero((table.hkl[:TESTED] @ HALF_SPACE) > 0)
    row, _ = table.nearest(table.g[few] @ np.swapaxes(matrices, 1, 2))
    image = np.where(row < 0, 0.0, table.strength[row])
    original = table.strength[few]
    same = np.abs(image - original) <= SAME_STRENGTH * (image + original) + 1e-4
    return np.asarray(matrices[same.all(1)])


def _lattice_rotations(direct: Floats) -> Floats:
    """Proper cartesian rotations of a lattice given by reduced rows.

    In a reduced basis their matrices hold only -1, 0 and 1, so all images of the three rows are
    among 26 vectors.
    """
    metric = direct @ direct.T
    units = np.array([t for t in product((-1, 0, 1), repeat=3) if any(t)], dtype=np.float64)
    squares = np.einsum("ni,ij,nj->n", units, metric, units)
    rows = [units[np.abs(squares - metric[i, i]) < SAME_METRIC * metric[i, i]] for i in range(3)]
    lengths = np.sqrt(np.diag(metric))
    near = SAME_METRIC * np.outer(lengths, lengths)
    alike = {
        (i, j): np.abs(rows[i] @ metric @ rows[j].T - metric[i, j]) < near[i, j]
        for i, j in ((0, 1), (0, 2), (1, 2))
    }
    fits = alike[0, 1][:, :, None] & alike[0, 2][:, None, :] & alike[1, 2]
    a, b, c = np.nonzero(fits)
    kept = np.stack([rows[0][a], rows[1][b], rows[2][c]], axis=1)
    kept = kept[np.abs(np.linalg.det(kept) - 1) < 1e-6]
    turned = np.linalg.inv(direct) @ kept @ direct
    # The nearest true rotation, where the metric is symmetric only within the tolerance.
    u, _, v = np.linalg.svd(np.swapaxes(turned, 1, 2))
    return np.asarray(u @ v)


def _squared_structure_factors(crystal: Crystal, hkl: Ints, length: Floats) -> Floats:
    """(G,) |F|² in Å², kinematic, with Peng's electron factors (Int. Tables C, 4.3.2.2)."""
    import gemmi

    squared = length**2
    total = np.zeros(len(hkl), dtype=complex)
    u_iso = np.where(crystal.u_iso > 0, crystal.u_iso, TYPICAL_U_ISO)
    kinds: dict[tuple[int, float], list[int]] = {}
    for i, kind in enumerate(zip(crystal.numbers.tolist(), u_iso.tolist(), strict=True)):
        kinds.setdefault(kind, []).append(i)
    for (z, u), atoms in kinds.items():
        table = gemmi.Element(z).c4322
        factor = np.exp(-np.outer(squared / 4, table.b)) @ np.array(table.a)
        factor *= np.exp(-2 * np.pi**2 * u * squared)
        phases = _phases(hkl, crystal.fractional[atoms])
        total += factor * (phases @ crystal.occupancy[atoms])
    return np.asarray(np.abs(total) ** 2)


def _phases(hkl: Ints, fractional: Floats) -> NDArray[np.complex128]:
    """(G, N) exp(2πi h·r), from one table of powers per axis."""
    out = np.ones((1, 1), dtype=complex)
    for axis in range(3):
        low = int(hkl[:, axis].min(initial=0))
        orders = np.arange(low, int(hkl[:, axis].max(initial=0)) + 1)
        powers = np.exp(2j * np.pi * np.outer(orders, fractional[:, axis]))
        out = out * np.take(powers, hkl[:, axis] - low, axis=0)
    return out


def _reduced_reciprocal(rows: Floats) -> Floats:
    """Basis of the same reciprocal lattice whose direct basis is Niggli-reduced.

    The rows themselves where spglib gives up.
    """
    direct = np.asarray(np.linalg.inv(rows).T)
    reduced = spglib.niggli_reduce(direct)
    return np.asarray(np.linalg.inv(direct if reduced is None else reduced).T, dtype=np.float64)
