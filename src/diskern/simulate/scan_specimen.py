"""What a simulated scan looks at: phases, grains, orientation, strain, tilt and thickness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.errors import DiskernError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Specimen:
    """The truth at every scan position; all arrays begin with (scan_y, scan_x).

    Attributes
    ----------
    crystals : the phases.
    phase : (ny, nx) index into ``crystals``, −1 where the beam meets nothing.
    grain : (ny, nx) label of the grain.
    orientation : (ny, nx, 3, 3) rotation matrices crystal → lab of the undisturbed grains.
    thickness : (ny, nx) in Å.
    strain : (ny, nx, 3) e_xx, e_yy, e_xy of the lattice against the crystal's own cell, in the
        lab frame, x along image columns, y along rows.
    rotation : (ny, nx) lattice rotation about the beam in radians, from +x towards +y, on top of
        ``orientation``.
    tilt : (ny, nx, 2) lattice tilt in mrad about the x and about the y axis (a rotation
        vector), on top of ``orientation``.
    """

    crystals: tuple[Crystal, ...]
    phase: Ints
    grain: Ints
    orientation: Floats
    thickness: Floats
    strain: Floats
    rotation: Floats
    tilt: Floats

    def __post_init__(self) -> None:
        shape = self.phase.shape
        if len(shape) != 2 or 0 in shape:
            raise DiskernError(f"phase has shape {shape}; give (scan_y, scan_x)")
        wanted = {"grain": (), "orientation": (3, 3), "thickness": (), "strain": (3,)}
        wanted |= {"rotation": (), "tilt": (2,)}
        for name, rest in wanted.items():
            array = getattr(self, name)
            if array.shape != (*shape, *rest):
                raise DiskernError(f"{name} has shape {array.shape}; give {(*shape, *rest)}")
            if not np.isfinite(array).all():
                raise DiskernError(f"{name} holds a value that is not finite")
        if self.phase.max() >= len(self.crystals) or self.phase.min() < -1:
            raise DiskernError(f"phase names crystal {self.phase.max()} of {len(self.crystals)}")
        if self.thickness.min() < 0 or np.abs(self.strain).max() > 0.3:
            raise DiskernError("thickness must not be negative, nor strain beyond ±0.3")

    # --- building ---------------------------------------------------------------------

    @classmethod
    def uniform(
        cls,
        crystal: Crystal,
        orientation: Rotation,
        shape: tuple[int, int],
        thickness: float = 300.0,
    ) -> Self:
        """One perfect crystal under (ny, nx) positions; fields are added with `with_fields`."""
        ny, nx = shape
        return cls(
            (crystal,),
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape, dtype=np.int64),
            np.broadcast_to(orientation.as_matrix(), (ny, nx, 3, 3)).copy(),
            np.full(shape, float(thickness)),
            np.zeros((ny, nx, 3)),
            np.zeros(shape),
            np.zeros((ny, nx, 2)),
        )

    @classmethod
    def polycrystal(
        cls,
        crystals: Sequence[Crystal],
        shape: tuple[int, int],
        grains: int,
        *,
        thickness: float = 300.0,
        zone_axis: ArrayLike | None = None,
        spread: float = 0.0,
        seed: int = 0,
    ) -> Self:
        """Voronoi grains, each a random phase in a random orientation.

        Parameters
        ----------
        zone_axis : [u, v, w] common to all grains (a fibre texture, random in the plane); any
            orientation by default.
        spread : rms tilt in degrees of the grains' axes off ``zone_axis``.
        seed : decides everything.
        """
        if not crystals or grains < 1:
            raise DiskernError(f"{len(crystals)} crystals and {grains} grains; give at least one")
        rng = np.random.default_rng(seed)
        seeds = rng.uniform(0, 1, (grains, 2)) * shape
        places = np.indices(shape).reshape(2, -1).T
        nearest: Ints = np.asarray(cKDTree(seeds).query(places)[1], dtype=np.int64)
        grain = nearest.reshape(shape)
        phase = rng.integers(0, len(crystals), grains)
        phase[: len(crystals)] = np.arange(min(len(crystals), grains))
        matrices = np.empty((grains, 3, 3))
        for i, p in enumerate(phase):
            matrices[i] = _grain_orientation(crystals[p], zone_axis, spread, rng).as_matrix()
        base = cls.uniform(crystals[0], Rotation.identity(), shape, thickness)
        return replace(
            base,
            crystals=tuple(crystals),
            phase=phase[grain].astype(np.int64),
            grain=grain,
            orientation=matrices[grain],
        )

    def with_fields(self, **fields: ArrayLike) -> Self:
        """A copy with other fields; numbers and short arrays are spread over the scan."""
        changes: dict[str, Any] = {}
        for name, value in fields.items():
            current = getattr(self, name, None)
            if not isinstance(current, np.ndarray):
                raise DiskernError(f"{name!r} is no field of a specimen; see Specimen's attributes")
            changes[name] = np.array(np.broadcast_to(value, current.shape), dtype=current.dtype)
        return replace(self, **changes)

    def with_gradients(
        self,
        *,
        wedge: tuple[float, float] | None = None,
        strain: float = 0.0,
        bend: float = 0.0,
        rotation: float = 0.0,
    ) -> Self:
        """The fields a demonstration needs, in smooth forms with known values.

        Parameters
        ----------
        wedge : thickness in Å at the first and last column.
        strain : amplitude of a smooth strain field (e_xx and e_yy of opposite sign, e_xy).
        bend : tilt in mrad at the edges of the scan against its middle, about both axes.
        rotation : amplitude in radians of the lattice rotation.
        """
        ny, nx = self.phase.shape
        y = np.linspace(-1, 1, ny)[:, None] if ny > 1 else np.zeros((1, 1))
        x = np.linspace(-1, 1, nx)[None, :] if nx > 1 else np.zeros((1, 1))
        x, y = np.broadcast_to(x, (ny, nx)), np.broadcast_to(y, (ny, nx))
        wave = np.sin(np.pi * x) * np.cos(np.pi * y / 2)
        fields: dict[str, Floats] = {
            "strain": self.strain
            + strain * np.stack([wave, -0.5 * wave, 0.5 * np.sin(np.pi * y)], axis=-1),
            "tilt": self.tilt + bend * np.stack([y**3, x], axis=-1),
            "rotation": self.rotation + rotation * x * y,
        }
        if wedge is not None:
            fields["thickness"] = wedge[0] + (wedge[1] - wedge[0]) * (x + 1) / 2
        return self.with_fields(**fields)

    # --- reading ----------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(scan_y, scan_x)."""
        return self.phase.shape[0], self.phase.shape[1]

    def rotations(self) -> Floats:
        """(ny, nx, 3, 3) crystal → lab with tilt and in-plane rotation included."""
        ny, nx = self.shape
        vector = np.zeros((ny * nx, 3))
        vector[:, :2] = self.tilt.reshape(-1, 2) * 1e-3
        about_beam = np.zeros((ny * nx, 3))
        about_beam[:, 2] = self.rotation.reshape(-1)
        turned = Rotation.from_rotvec(about_beam) * Rotation.from_rotvec(vector)
        return np.asarray(turned.as_matrix().reshape(ny, nx, 3, 3) @ self.orientation)

    def stretches(self) -> Floats:
        """(ny, nx, 3, 3) symmetric I + e in the lab frame; r' = (I + e) r."""
        out = np.tile(np.eye(3), (*self.shape, 1, 1))
        out[..., 0, 0] += self.strain[..., 0]
        out[..., 1, 1] += self.strain[..., 1]
        out[..., 0, 1] += self.strain[..., 2]
        out[..., 1, 0] += self.strain[..., 2]
        return out

    def table(self) -> NDArray[np.void]:
        """(ny, nx) structured array of everything above, for a file."""
        columns: dict[str, NDArray[Any]] = {
            "phase": self.phase.astype(np.int32),
            "grain": self.grain.astype(np.int32),
            "thickness": self.thickness,
            "e_xx": self.strain[..., 0],
            "e_yy": self.strain[..., 1],
            "e_xy": self.strain[..., 2],
            "rotation": self.rotation,
            "tilt_x": self.tilt[..., 0],
            "tilt_y": self.tilt[..., 1],
            "orientation": self.rotations(),
        }
        kinds = [(name, a.dtype, a.shape[2:]) for name, a in columns.items()]
        out = np.zeros(self.shape, dtype=kinds)
        for name, array in columns.items():
            out[name] = array
        return out

    def __repr__(self) -> str:
        names = ", ".join(c.name or c.formula for c in self.crystals)
        ny, nx = self.shape
        return f"Specimen({ny}×{nx}: {len(np.unique(self.grain))} grains of {names})"


def _grain_orientation(
    crystal: Crystal, zone_axis: ArrayLike | None, spread: float, rng: np.random.Generator
) -> Rotation:
    if zone_axis is None:
        return Rotation.random(random_state=rng)
    lean = Rotation.from_rotvec([*np.radians(rng.normal(0, spread, 2)), 0.0])
    spin = Rotation.from_rotvec([0.0, 0.0, rng.uniform(0, 2 * np.pi)])
    return spin * lean * zone_axis_orientation(crystal, zone_axis)
