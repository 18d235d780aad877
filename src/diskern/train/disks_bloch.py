"""Tables of Bloch-wave rocking curves for disk finders: solved once, drawn many times.

A table holds one crystal under one beam in a few orientations and thicknesses.  Its curves are
in calibration-free units (`diskern.train.disks_rocking`), so any camera length, sub-pixel
position, distortion, dose and one of eight turns and reflections are drawn from it at no cost.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import excitation_error
from diskern.errors import DiskernError
from diskern.nets.disk_units import unit_of
from diskern.physics import wavelength
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.train.disks_rocking import RockedDisks, axis

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

NODES = 17
"""Directions along either side of a table."""
ABSORPTION = 0.05
"""Imaginary over real part of the potential."""


@dataclass(frozen=True, eq=False)
class BlochTable:
    """Diffraction of one crystal, P = orientations × thicknesses patterns.

    Attributes
    ----------
    energy : eV.
    aperture : k_R in 1/Å.
    material : key of the crystal.
    thickness : (P,) in Å.
    rocked : its disks, pattern by pattern.
    """

    energy: float
    aperture: float
    material: str
    thickness: Floats
    rocked: RockedDisks


def solve_table(
    crystal: Crystal,
    material: str,
    orientations: Sequence[Rotation],
    energy: float,
    aperture: float,
    thicknesses: Floats,
    *,
    g_max: float = 1.7,
    s_max: float = 0.025,
    most_beams: int = 90,
) -> BlochTable:
    """Solve one table; orientations with too many beams keep those nearest the Ewald sphere.

    Parameters
    ----------
    crystal : with its displacements.
    thicknesses : (O, T) in Å, T for each orientation.
    """
    found = [
        _one_orientation(crystal, turn, energy, aperture, t, g_max, s_max, most_beams)
        for turn, t in zip(orientations, thicknesses, strict=True)
    ]
    parts = [part for parts in found for part in parts]
    counts = [len(p) for p in parts]
    joined = RockedDisks(
        np.repeat(np.arange(len(parts)), counts),
        *(
            np.concatenate([getattr(p, name) for p in parts])
            for name in ("G", "Q", "W", "curves", "direct")
        ),
    )
    return BlochTable(energy, aperture, material, thicknesses.reshape(-1), joined)


def _one_orientation(
    crystal: Crystal,
    turn: Rotation,
    energy: float,
    aperture: float,
    thicknesses: Floats,
    g_max: float,
    s_max: float,
    most_beams: int,
) -> list[RockedDisks]:
    """One pattern per thickness."""
    for _ in range(12):
        options = BlochOptions(g_max=g_max, s_max=s_max, absorption=ABSORPTION, dtype="float32")
        waves = BlochWaves(crystal, turn, energy, options, k_reach=aperture)
        if len(waves) <= most_beams:
            break
        s_max, g_max = 0.75 * s_max, 0.95 * g_max
    k, source = _directions()
    intensity = waves.intensities(thicknesses, k * aperture).numpy()
    g = waves.beams.g
    unit = unit_of(energy, aperture)
    Q = excitation_error(g, wavelength(energy)) / unit
    W = np.abs(waves.beams.U[:, 0]) / aperture**2
    out = []
    for curves in np.moveaxis(intensity, 0, 2):
        tables = curves[:, source].astype(np.float32)
        seen = tables.max(axis=(1, 2)) > 1e-6
        seen[0] = False
        G = g[:, 1::-1] / aperture
        frame = np.zeros(int(seen.sum()), dtype=np.int64)
        out.append(RockedDisks(frame, G[seen], Q[seen], W[seen], tables[seen], tables[:1]))
    return out


@lru_cache(maxsize=1)
def _directions() -> tuple[Floats, Ints]:
    """(K, 2) directions (k_x, k_y) solved, in aperture radii, and where each node reads them."""
    line = axis(NODES).astype(np.float64)
    rows, cols = np.meshgrid(line, line, indexing="ij")
    inside = np.hypot(rows, cols) <= 1.1
    k = np.stack([cols[inside], rows[inside]], 1)
    source = cKDTree(k).query(np.stack([cols.ravel(), rows.ravel()], 1))[1]
    return k, source.reshape(rows.shape)


def write_table(path: Path, table: BlochTable) -> None:
    """Write a table, whole or not at all; intensities in half precision."""
    rocked = table.rocked
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            energy=table.energy,
            aperture=table.aperture,
            material=table.material,
            thickness=table.thickness,
            frame=rocked.frame,
            G=rocked.G,
            Q=rocked.Q,
            W=rocked.W,
            # Square roots: half precision then reaches down to 1e-9 of the beam.
            curves=np.sqrt(np.maximum(rocked.curves, 0)).astype(np.float16),
            direct=np.sqrt(np.maximum(rocked.direct, 0)).astype(np.float16),
        )
    os.replace(partial, path)


@lru_cache(maxsize=512)
def read_table(path: Path) -> BlochTable:
    """Read a table.

    Raises
    ------
    DiskernError
        For a file that is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            rocked = RockedDisks(
                file["frame"],
                file["G"],
                file["Q"],
                file["W"],
                file["curves"].astype(np.float32) ** 2,
                file["direct"].astype(np.float32) ** 2,
            )
            return BlochTable(
                float(file["energy"]),
                float(file["aperture"]),
                str(file["material"]),
                file["thickness"],
                rocked,
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DiskernError(f"{path} is no table of Bloch waves: {error}") from error


def turned(rocked: RockedDisks, patterns: Ints, rng: np.random.Generator) -> RockedDisks:
    """Some patterns of a table, each turned by a quarter or mirrored at random."""
    parts = []
    for place, pattern in enumerate(patterns):
        mine = rocked.frame == pattern
        quarters, mirror = int(rng.integers(4)), bool(rng.integers(2))
        parts.append(
            RockedDisks(
                np.full(int(mine.sum()), place),
                _turned_places(rocked.G[mine], quarters, mirror),
                rocked.Q[mine],
                rocked.W[mine],
                _turned_maps(rocked.curves[mine], quarters, mirror),
                _turned_maps(rocked.direct[pattern : pattern + 1], quarters, mirror),
            )
        )
    names = ("frame", "G", "Q", "W", "curves", "direct")
    return RockedDisks(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def _turned_maps(maps: Singles, quarters: int, mirror: bool) -> Singles:
    turned_ = np.rot90(maps, quarters, axes=(1, 2))
    return np.ascontiguousarray(turned_[:, :, ::-1] if mirror else turned_)


def _turned_places(G: Floats, quarters: int, mirror: bool) -> Floats:
    """The same turn for (row, column) places: `numpy.rot90` takes (r, c) to (−c, r)."""
    row, col = G.T
    for _ in range(quarters):
        row, col = -col, row
    return np.stack([row, -col if mirror else col], 1)
