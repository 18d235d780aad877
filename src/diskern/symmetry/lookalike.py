"""Look-alike labels: zone-axis patterns that geometry and absences cannot tell apart.

The labelling of Ra et al., RSC Adv. 11, 38307 (2021), as an algorithm for any list of space
groups and zones.  A pattern is reduced to the lattice that its visible spots generate
(category A square, B rectangle, C hexagonal, D parallelogram) and to the nodes of that
lattice which stay dark; patterns that share both, up to scale and in-plane rotation, share
a label such as ``B11-2``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.crystal.spacegroups import absent_by, operations
from diskern.errors import DiskernError

Ints = NDArray[np.int64]
Zone = tuple[int, int, int]
Category = Literal["A", "B", "C", "D"]

REACH = 3
"""Absences are compared for lattice indices |m|, |n| ≤ REACH."""
SPAN = 8
"""Zone-lattice indices searched for visible spots."""

RA_ZONES: tuple[Zone, ...] = (
    (0, 0, 1), (0, 1, 1), (1, 1, 1), (0, 1, 2), (1, 1, 2), (1, 2, 2), (0, 1, 3), (1, 1, 3),
    (0, 2, 3), (1, 2, 3), (2, 2, 3), (1, 3, 3), (2, 3, 3), (0, 1, 4), (1, 1, 4), (1, 2, 4),
)  # fmt: skip
"""The 13 primitive ⟨uvw⟩ with indices up to 3 and three with a 4: the 16 zones of the 2021 set."""


@dataclass(frozen=True)
class Setting:
    """A space group, optionally with all atoms on one special position.

    Attributes
    ----------
    number : 1 to 230, in the reference setting.
    site : fractional coordinates of the one occupied orbit, or None for the general position.
        The reflections its geometric structure factor kills are then absent too, as for
        Wyckoff 8a of group 227.
    name : what to print, e.g. ``"227-8a/8b"``.
    lattice : (3, 3) cell rows in Å; only its shape matters. Cubic by default.
    """

    number: int
    site: tuple[float, float, float] | None = None
    name: str = ""
    lattice: tuple[tuple[float, float, float], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))

    @property
    def title(self) -> str:
        """The printed name; the group's number where none was given."""
        return self.name or str(self.number)

    @cached_property
    def _operations(self) -> gemmi.GroupOps:
        group = gemmi.find_spacegroup_by_number(self.number)
        if group is None:
            raise DiskernError(f"space group {self.number} does not exist; give 1 to 230")
        return group.operations()

    @cached_property
    def _orbit(self) -> NDArray[np.float64] | None:
        if self.site is None:
            return None
        images = np.array([op.apply_to_xyz(list(self.site)) for op in self._operations])
        return np.unique(np.round(images % 1.0, 9) % 1.0, axis=0)

    def visible(self, hkl: ArrayLike) -> NDArray[np.bool_]:
        """(N,) True where a reflection of (N, 3) hkl is not systematically absent."""
        indices = np.ascontiguousarray(hkl, dtype=np.int32)
        seen = ~np.asarray(self._operations.systematic_absences(indices), dtype=bool)
        if self._orbit is not None:
            phase = np.exp(2j * np.pi * (indices @ self._orbit.T))
            seen &= np.abs(phase.sum(axis=1)) > 1e-6
        return seen

    def lit(self, zone: Zone) -> Callable[[ArrayLike], NDArray[np.bool_]]:
        """A function of (N, 3) hkl: False where even multiple scattering leaves them dark.

        Asked of reflections in the lattice that the allowed ones of the zone generate.  Dark
        rows come from operations that keep the zone axis: glide planes that hold the beam, and
        screw axes across it.
        """
        rotations, translations = operations(self.number)
        axis = np.asarray(zone, dtype=np.int64)
        turned = rotations @ axis
        kept = (turned == axis).all(1) | (turned == -axis).all(1)

        def seen(hkl: ArrayLike) -> NDArray[np.bool_]:
            return ~absent_by(rotations[kept], translations[kept], hkl)

        return seen


RA_SETTINGS: tuple[Setting, ...] = (
    Setting(213), Setting(221), Setting(225), Setting(229),
    Setting(227, (0.0, 0.0, 0.0), "227-8a/8b"),
    Setting(227, (0.125, 0.125, 0.125), "227-16c/16d"),
    Setting(227, None, "227-general"),
)  # fmt: skip
"""The five groups of the 2021 set, 227 split by characteristic Wyckoff absences."""


@dataclass(frozen=True)
class Shape:
    """The lattice of visible spots, free of scale and in-plane rotation.

    Attributes
    ----------
    category : A square, B rectangle, C hexagonal, D parallelogram.
    angles : degrees; () for A and C, (atan(a/b),) for B, (∠BOA, ∠OAB) of the reduced triangle
        for D.
    chirality : +1 or -1 for oblique lattices that differ from their mirror image, else 0.
    """

    category: Category
    angles: tuple[float, ...] = ()
    chirality: int = 0


@dataclass(frozen=True)
class LookAlike:
    """One class of indistinguishable patterns."""

    label: str
    shape: Shape
    absent: frozenset[tuple[int, int]]
    members: tuple[tuple[Setting, Zone], ...]


@dataclass(frozen=True)
class LookAlikeTable:
    """All classes of a list of settings and zones, and the way between both names."""

    classes: tuple[LookAlike, ...]
    _of: dict[tuple[str, Zone], LookAlike] = field(repr=False)

    def __len__(self) -> int:
        return len(self.classes)

    def label(self, setting: Setting | str | int, zone: Iterable[int]) -> str:
        """The label of one (setting, zone); a setting may be given by its title."""
        title = setting.title if isinstance(setting, Setting) else str(setting)
        key = (title, _zone(zone))
        if key not in self._of:
            raise DiskernError(f"({title}, {key[1]}) is not in this look-alike table")
        return self._of[key].label

    def members(self, label: str) -> tuple[tuple[Setting, Zone], ...]:
        """The (setting, zone) pairs that carry a label."""
        for entry in self.classes:
            if entry.label == label:
                return entry.members
        raise DiskernError(f"no label {label!r}; this table has {self.classes[0].label} …")


def lookalike_labels(
    settings: Sequence[Setting | int] = RA_SETTINGS, zones: Sequence[Iterable[int]] = RA_ZONES
) -> LookAlikeTable:
    """Partition (setting, zone) pairs into look-alike classes.

    The default lists give the 61 labels of the 2021 set (112 pairs).

    Raises
    ------
    DiskernError
        For an impossible group number or zone.
    """
    chosen = [s if isinstance(s, Setting) else Setting(int(s)) for s in settings]
    groups: dict[tuple[Shape, frozenset[tuple[int, int]]], list[tuple[Setting, Zone]]]
    groups = defaultdict(list)
    for setting, zone in product(chosen, map(_zone, zones)):
        groups[look(setting, zone)].append((setting, zone))
    shapes = sorted(
        {shape for shape, _ in groups}, key=lambda s: (s.category, s.angles, s.chirality)
    )
    classes = []
    counts: dict[str, int] = defaultdict(int)
    for shape in shapes:
        counts[shape.category] += 1
        looks = [(absent, members) for (s, absent), members in groups.items() if s == shape]
        looks.sort(key=lambda pair: (len(pair[0]), sorted(pair[0])))
        for rank, (absent, members) in enumerate(looks):
            label = f"{shape.category}{counts[shape.category]}-{rank}"
            classes.append(LookAlike(label, shape, absent, tuple(members)))
    return LookAlikeTable(
        tuple(classes), {(s.title, z): entry for entry in classes for s, z in entry.members}
    )


def look(
    setting: Setting, zone: Zone, *, dynamical: bool = False
) -> tuple[Shape, frozenset[tuple[int, int]]]:
    """Shape of the visible lattice, and its dark nodes (m, n) in a canonical orientation.

    Parameters
    ----------
    dynamical : multiple scattering within the zone lights every node of the lattice that the
        allowed spots generate, but for rows that a glide line of the projection keeps dark
        (Gjønnes & Moodie, Acta Cryst. 19, 65 (1965), doi:10.1107/S0365110X65002773).
    """
    seen = setting.lit(zone) if dynamical else setting.visible
    basis = zone_basis(zone)
    metric = np.asarray(setting.lattice, dtype=float)
    star = np.linalg.inv(metric).T
    ij = np.array(list(product(range(-SPAN, SPAN + 1), repeat=2)))
    generated = lattice_of_points(ij[setting.visible(ij @ basis)])
    visible = reduced(generated @ basis, star)
    vectors: NDArray[np.float64] = np.asarray(visible @ star, dtype=float)
    shape = _shape(vectors @ _plane(vectors))
    turns = _turns(shape.category)
    window = np.array(list(product(range(-REACH, REACH + 1), repeat=2)))
    masks = []
    power = np.eye(2, dtype=np.int64)
    for _ in range(turns[1]):
        masks.append(~seen(window @ power @ visible))
        power = power @ turns[0]
    best = min(masks, key=lambda m: m.tolist())
    return shape, frozenset(map(tuple, window[best].tolist()))


def zone_basis(zone: Zone) -> Ints:
    """(2, 3) integer basis of all (h, k, l) with hu + kv + lw = 0, right-handed about the zone."""
    u, v, w = zone
    g = math.gcd(u, v)
    if g == 0:
        return np.asarray(np.array([[1, 0, 0], [0, 1, 0]]) * np.array([1, int(np.sign(w)), 1]))
    s, t = _bezout(u, v)
    first = np.array([v // g, -u // g, 0])
    second = np.array([-s * w, -t * w, g])
    right_handed = bool(np.cross(first, second) @ np.array(zone) > 0)
    return np.array([first, second] if right_handed else [second, first])


def lattice_of_points(points: Ints) -> Ints:
    """(2, 2) integer basis (Hermite form) of the lattice that (N, 2) integer points generate."""
    a, c, d = 0, 0, 0  # rows (a, c) and (0, d)
    for x, y in np.asarray(points).tolist():
        while x:
            q = a // x
            a, c, x, y = x, y, a - q * x, c - q * y
        d = math.gcd(d, y)
    if a == 0 or d == 0:
        raise DiskernError("the visible spots lie on one line; this zone shows no 2-D lattice")
    return np.array([[a, c % d], [0, d]])


def reduced(hkl: Ints, star: NDArray[np.float64]) -> Ints:
    """Lagrange–Gauss reduce (2, 3) reflections in the metric of reciprocal rows; keeps the hand.

    Of equally short choices the one with the acute angle is returned.
    """
    a, b = (np.asarray(row) for row in hkl)

    def dot(x: Ints, y: Ints) -> float:
        return float((x @ star) @ (y @ star))

    while True:
        if dot(b, b) < dot(a, a) * (1 - 1e-9):
            a, b = b, -a
        step = math.floor(dot(a, b) / dot(a, a) + 0.5 - 1e-9)
        if step == 0:
            break
        b = b - step * a
    tie_side = abs(dot(a, a) - dot(b, b)) < 1e-9 * dot(a, a)
    if tie_side and dot(a, b) < -1e-9 * dot(a, a):
        a, b = b, -a
    if abs(2 * dot(a, b) + dot(a, a)) < 1e-9 * dot(a, a):
        b = b + a
    return np.array([a, b])


def _plane(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 2) projection of two 3-D rows onto an orthonormal frame of their plane."""
    x = vectors[0] / np.linalg.norm(vectors[0])
    y = vectors[1] - (vectors[1] @ x) * x
    return np.stack([x, y / np.linalg.norm(y)], axis=1)


def _shape(rows: NDArray[np.float64]) -> Shape:
    """Category and angles of a reduced, right-handed (2, 2) basis."""
    a, b = (math.hypot(*row) for row in rows)
    gamma = math.degrees(math.acos(float(rows[0] @ rows[1]) / (a * b)))
    equal = abs(a - b) < 1e-6 * b
    if abs(gamma - 90) < 1e-4:
        return Shape("A") if equal else Shape("B", (round(math.degrees(math.atan2(a, b)), 2),))
    if equal and abs(gamma - 60) < 1e-4:
        return Shape("C")
    acute = min(gamma, 180 - gamma)
    side = math.sqrt(a * a + b * b - 2 * a * b * math.cos(math.radians(acute)))
    oab = math.degrees(math.acos((a * a + side * side - b * b) / (2 * a * side)))
    achiral = equal or abs(side - b) < 1e-6 * b
    hand = 0 if achiral else (1 if gamma < 90 else -1)
    return Shape("D", (round(acute, 2), round(oab, 2)), hand)


def _turns(category: Category) -> tuple[Ints, int]:
    """The generator of a lattice's proper rotations in its reduced basis, and its order."""
    if category == "A":
        return np.array([[0, 1], [-1, 0]]), 4
    if category == "C":
        return np.array([[0, 1], [-1, 1]]), 6
    return -np.eye(2, dtype=np.int64), 2


def _zone(zone: Iterable[int]) -> Zone:
    values = [int(v) for v in zone]
    divisor = math.gcd(*values) if len(values) == 3 else 0
    if divisor == 0:
        raise DiskernError(f"zone {values} is no direction; give three integers, e.g. 0,1,1")
    u, v, w = (v // divisor for v in values)
    return u, v, w


def _bezout(a: int, b: int) -> tuple[int, int]:
    """s, t with s·a + t·b = gcd(a, b)."""
    s0, s1, t0, t1 = 1, 0, 0, 1
    while b:
        q = a // b
        a, b = b, a - q * b
        s0, s1, t0, t1 = s1, s0 - q * s1, t1, t0 - q * t1
    return (s0, t0) if a > 0 else (-s0, -t0)
