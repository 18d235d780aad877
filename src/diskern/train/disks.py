"""Convergent-beam patterns on the fly, with the truth about every disk."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path
from scipy.spatial.transform import Rotation

from diskern.bragg.disks import visibility_of
from diskern.crystal.orientation import excitation_error
from diskern.errors import DiskernError
from diskern.nets.disk_units import unit_of
from diskern.physics import wavelength
from diskern.simulate.instrument import Ellipticity, Labels, Scene
from diskern.simulate.structure_factors import Reflections
from diskern.train.disks_bloch import (
    BlochTable,
    read_table,
    solve_table,
    turned,
    write_table,
)
from diskern.train.disks_camera import Camera
from diskern.train.disks_recipe import DisksRecipe
from diskern.train.disks_render import (
    Aperture,
    Drawn,
    draw_rocked,
    signal_to_noise,
)
from diskern.train.disks_rocking import RockedDisks, two_beam
from diskern.train.exposures import draw
from diskern.train.materials import Material
from diskern.train.recipe import Range
from diskern.train.samples import Block, sides_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIDES = ("train", "validation", "test")
FEWEST = 0.5
"""Disks that cannot bring this many electrons are left out."""
MOST = 180
"""Disks drawn in a pattern, strongest first."""
G_MAX = 2.4
"""1/Å: reflections are known out to here."""


@dataclass(frozen=True)
class Optics:
    """What one block's microscope is: energy in eV, k_R and scale in 1/Å (per px)."""

    energy: float
    aperture: float
    pixel_size: float


@dataclass(frozen=True, eq=False)
class _Specimen:
    """What diffracts, and through which aperture; ``thickness`` is (B,) in Å."""

    rocked: RockedDisks
    optics: Optics
    aperture: Aperture
    thickness: Floats


class DiskSet:
    """Samples of one side of a recipe, block by block; a block is one crystal and one camera.

    A sample holds ``image`` (H, W) counts, ``disks`` (K, 6) with row, column, log W, Q,
    visibility and whether W and Q are known (0 of direct beams), most visible first and padded
    with zero visibility; ``radius`` and ``edge`` in px of the probe and ``hole``; ``unit`` λ k_R²
    in 1/Å and ``energy`` in eV (see `diskern.nets.disk_units`); ``dose`` in electrons; ``diffuse``,
    the share of them that is in no disk; ``seed``.

    Parameters
    ----------
    side : train, validation or test.  The crystals held out by the recipe's split are parted
        once more, by prototype, into validation (choices are made on it) and test.
    """

    def __init__(self, recipe: DisksRecipe, side: str = "train") -> None:
        if side not in SIDES:
            raise DiskernError(f"side {side!r} is unknown; use {', '.join(SIDES)}")
        self.recipe, self.side = recipe, side
        least = recipe.taught if side == "train" else 0.0
        self._radius = recipe.radius.above(least)
        self.materials = sides_of(recipe)[SIDES.index(side)]
        if not self.materials:
            raise DiskernError(f"{recipe.name}: the {side} side has no crystal")

    @property
    def blocks(self) -> int:
        """Blocks in an epoch; more can be asked for."""
        return self.recipe.blocks

    @property
    def block_size(self) -> int:
        """Patterns in a block."""
        return self.recipe.per_block

    def block(self, number: int) -> Block:
        """The patterns of a block, decided by recipe, side and number alone."""
        seed = (self.recipe.seed, SIDES.index(self.side), number)
        rng = np.random.default_rng(seed)
        dose = draw(self.recipe.dose, rng, self.block_size)
        from_tables = rng.random() < self.recipe.bloch
        specimen = self._bloch(rng) if from_tables else self._two_beam(dose, rng)
        made = self._recorded(specimen, dose, rng)
        made["thickness"] = specimen.thickness.astype(np.float32)
        made["seed"] = np.tile(np.array(seed, dtype=np.int64), (self.block_size, 1))
        return made

    def _two_beam(self, dose: Floats, rng: np.random.Generator) -> _Specimen:
        table = _reflections(self.materials[int(rng.integers(len(self.materials)))], self.recipe)
        optics = _optics(self.recipe, self._radius, table, rng)
        aperture = self._aperture(optics, rng)
        depth = draw(self.recipe.thickness, rng, self.block_size)
        rocked = _rocked(self.recipe, table, optics, depth, aperture, dose, rng)
        return _Specimen(rocked, optics, aperture, depth)

    def _bloch(self, rng: np.random.Generator) -> _Specimen:
        count = self.recipe.bloch_count
        if self.side != "train":
            count = -(-count // 4)
        table = kept_table(self.recipe, self.side, int(rng.integers(count)))
        patterns = rng.integers(0, len(table.thickness), self.block_size)
        for _ in range(50):
            pixel = table.aperture / float(draw(self._radius, rng))
            reach = 0.5 * self.recipe.size * pixel
            if self.recipe.reach.low <= reach <= self.recipe.reach.high:
                break
        optics = Optics(table.energy, table.aperture, pixel)
        rocked = turned(table.rocked, patterns, rng)
        return _Specimen(rocked, optics, self._aperture(optics, rng), table.thickness[patterns])

    def _aperture(self, optics: Optics, rng: np.random.Generator) -> Aperture:
        scene = Scene((self.recipe.size, self.recipe.size), optics.pixel_size)
        radius = optics.aperture / optics.pixel_size
        edge = min(math.exp(rng.uniform(math.log(0.25), math.log(1.6))), 0.35 * radius)
        hole = float(rng.uniform(0.4, 0.8)) if rng.random() < self.recipe.annular else 0.0
        return Aperture(radius, edge, hole, Ellipticity.draw(rng, scene).matrix)

    def _recorded(self, specimen: _Specimen, dose: Floats, rng: np.random.Generator) -> Block:
        rocked, optics, aperture = specimen.rocked, specimen.optics, specimen.aperture
        scene = Scene((self.recipe.size,) * 2, optics.pixel_size)
        camera = Camera.draw(rng, scene, self.recipe.flooded)
        n, b = self.recipe.size, self.block_size
        middle = n / 2 + rng.normal(0, 0.04 * n, 2)
        centres = middle + rng.normal(0, 0.5, (b, 2))
        drawn = draw_rocked(rocked, centres, aperture, (n, n))
        blank = np.zeros((n, n), dtype=np.float32)
        labels = replace(
            Labels.of(blank, centre=middle, pixel_size=optics.pixel_size),
            distortion=aperture.distortion,
        )
        mean, passed = camera.expected(drawn.image, labels, rng)
        electrons = dose.astype(np.float32)[:, None, None]
        ratio = signal_to_noise(
            drawn,
            passed * electrons * ~camera.flooded(mean),
            mean * electrons,
            np.full(b, camera.read_noise**2),
        )
        return {
            "image": camera.record(mean * electrons, labels, rng),
            "disks": self._listed(rocked, drawn, visibility_of(ratio)),
            "radius": np.full(b, aperture.radius, dtype=np.float32),
            "edge": np.full(b, aperture.edge, dtype=np.float32),
            "hole": np.full(b, aperture.hole, dtype=np.float32),
            "unit": np.full(b, unit_of(optics.energy, optics.aperture), dtype=np.float32),
            "energy": np.full(b, optics.energy, dtype=np.float32),
            "pixel_size": np.full(b, optics.pixel_size, dtype=np.float32),
            "dose": dose.astype(np.float32),
            "diffuse": np.full(b, 1 - passed.max(), dtype=np.float32),
        }

    def _listed(self, rocked: RockedDisks, drawn: Drawn, visibility: Floats) -> NDArray[np.float32]:
        b, n, most = self.block_size, self.recipe.size, self.recipe.disks
        direct = np.zeros(b)
        known = np.concatenate([np.ones(len(rocked)), direct])
        columns = (
            *drawn.places.T,
            np.concatenate([np.log(np.maximum(rocked.W, 1e-12)), direct]),
            np.concatenate([rocked.Q, direct]),
            visibility,
            known,
        )
        rows = np.stack(columns, 1)
        keep = (drawn.places > -0.5).all(1) & (drawn.places < n - 0.5).all(1) & (visibility > 1e-3)
        rows, frame = rows[keep], drawn.frame[keep]
        order = np.lexsort((-rows[:, 4], frame))
        rows, frame = rows[order], frame[order]
        rank = np.arange(len(frame)) - np.searchsorted(frame, frame)
        out = np.zeros((b, most, 6), dtype=np.float32)
        fits = rank < most
        out[frame[fits], rank[fits]] = rows[fits]
        return out


@lru_cache(maxsize=1024)
def _reflections(material: Material, recipe: DisksRecipe) -> Reflections:
    crystal = material.crystal(recipe.displacement).primitive()
    table = Reflections.of(crystal, G_MAX)
    return table.select(np.abs(table.F) > 3e-3 * np.abs(table.F).max())


def _optics(
    recipe: DisksRecipe, radius: Range, table: Reflections, rng: np.random.Generator
) -> Optics:
    """A microscope in which this crystal's disks can be told apart and a few are on the screen."""
    energy = float(rng.choice(recipe.voltages)) * 1e3
    shortest = float(np.linalg.norm(table.g, axis=1).min())
    largest = shortest / recipe.spacing
    for _ in range(50):
        aperture = min(1e-3 * float(draw(recipe.semiangle, rng)) / wavelength(energy), largest)
        pixel = aperture / float(draw(radius, rng))
        reach = 0.5 * recipe.size * pixel
        if max(recipe.reach.low, 1.2 * shortest) <= reach <= recipe.reach.high:
            break
    return Optics(energy, aperture, pixel)


def _rocked(
    recipe: DisksRecipe,
    table: Reflections,
    optics: Optics,
    depth: Floats,
    aperture: Aperture,
    dose: Floats,
    rng: np.random.Generator,
) -> RockedDisks:
    """Two-beam disks of patterns about random directions, some with a second grain."""
    unit = unit_of(optics.energy, optics.aperture)
    turns = _orientations(recipe, table, len(depth), rng)
    both = rng.random(len(depth)) < recipe.second_grain
    others = np.flatnonzero(both)
    more = _orientations(recipe, table, len(others), rng)
    frames = np.concatenate([np.arange(len(depth)), others])
    share = np.concatenate([np.ones(len(depth)), rng.uniform(0.15, 1.0, len(others))])
    lab = table.g @ np.swapaxes(np.concatenate([turns, more]), 1, 2)
    G = lab[..., 1::-1] / optics.aperture
    Q = excitation_error(lab, wavelength(optics.energy)) / unit
    W = 1 / (table.extinction_distance(optics.energy) * unit)
    tau = depth * unit
    edge = 0.5 * recipe.size / aperture.radius + 3.0
    length = np.linalg.norm(G, axis=-1)
    nearest = np.maximum(np.abs(Q) - length, 0)
    # Largest two-beam intensity anywhere in the disk; thin foils stay below (π W τ)².
    bright = np.minimum(W * W / (W * W + nearest * nearest), (math.pi * W * tau[frames, None]) ** 2)
    bright = np.where((np.abs(G) < edge).all(-1), bright * share[:, None] ** 2, 0)
    rough = math.pi * unit * float(draw(recipe.roughness, rng))
    fade = np.exp(-2 * np.minimum(rough * nearest, 6.0) ** 2)
    bright *= dose[frames, None] / FEWEST * fade
    return _selected(frames, share, bright, fade, G, Q, W, tau, aperture)


def _selected(
    frames: Ints,
    share: Floats,
    bright: Floats,
    fade: Floats,
    G: Floats,
    Q: Floats,
    W: Floats,
    tau: Floats,
    aperture: Aperture,
) -> RockedDisks:
    count = min(MOST, bright.shape[1])
    top = np.argpartition(-bright, count - 1, axis=1)[:, :count]
    row, col = np.nonzero(np.take_along_axis(bright, top, 1) > 1)
    index = top[row, col]
    order = np.argsort(frames[row], kind="stable")
    row, index = row[order], index[order]
    nodes = int(np.clip(2 * math.ceil(1.25 * aperture.radius) + 3, 9, 23))
    made = two_beam(
        frames[row], G[row, index], Q[row, index], W[index], tau, nodes, fade[row, index]
    )
    if (share == 1).all():
        return made
    # The grains share the column: each diffracts what its part of the beam brings.
    total = np.bincount(frames, weights=share, minlength=len(tau))
    part = (share / total[frames])[row].astype(np.float32)
    return replace(made, curves=made.curves * part[:, None, None])


def _orientations(
    recipe: DisksRecipe, table: Reflections, count: int, rng: np.random.Generator
) -> Floats:
    """(count, 3, 3) rotations crystal → lab."""
    found = np.asarray(Rotation.random(count, random_state=rng).as_matrix()).reshape(count, 3, 3)
    zones = _zones(recipe.max_index)
    for i in np.flatnonzero(rng.random(count) < recipe.zone_share):
        axis = zones[rng.integers(len(zones))] @ table.crystal.lattice
        tilt = math.radians(float(draw(recipe.tilt, rng)))
        found[i] = _along(axis / np.linalg.norm(axis), tilt, rng)
    return found


def _along(axis: Floats, tilt: float, rng: np.random.Generator) -> Floats:
    """A rotation that brings ``axis`` to ``tilt`` rad from +z, turned by any angle about +z."""
    x = np.cross(np.eye(3)[int(np.abs(axis).argmin())], axis)
    x /= np.linalg.norm(x)
    base = np.array([x, np.cross(axis, x), axis])
    turn, towards = rng.uniform(0, 2 * math.pi, 2)
    lean = Rotation.from_rotvec(tilt * np.array([math.cos(towards), math.sin(towards), 0.0]))
    return np.asarray((Rotation.from_rotvec([0, 0, turn]) * lean).as_matrix() @ base)


@lru_cache(maxsize=8)
def _zones(largest: int) -> NDArray[Any]:
    """Primitive zone-axis indices, small ones more often."""
    found = [
        z
        for z in product(range(-largest, largest + 1), repeat=3)
        if any(z) and math.gcd(*z) == 1
        for _ in range(max(1, 8 // sum(i * i for i in z)))
    ]
    return np.array(found)


def kept_table(recipe: DisksRecipe, side: str, number: int) -> BlochTable:
    """A table of Bloch waves from the recipe's folder, solved and put there if it is missing.

    Less than a second for each orientation on one CPU core.
    """
    root = Path(recipe.bloch_tables or user_cache_path("diskern") / "bloch")
    path = root / recipe.table_key / f"{side}-{number:05d}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, bloch_table(recipe, side, number))
    return read_table(path)


def bloch_table(recipe: DisksRecipe, side: str, number: int) -> BlochTable:
    """The table of a number: one crystal, four orientations of it, four thicknesses of each."""
    materials = sides_of(recipe)[SIDES.index(side)]
    rng = np.random.default_rng([recipe.seed, SIDES.index(side), number, 1])
    material = materials[int(rng.integers(len(materials)))]
    table = _reflections(material, recipe)
    optics = _optics(recipe, recipe.radius, table, rng)
    turns = [Rotation.from_matrix(m) for m in _orientations(recipe, table, 4, rng)]
    return solve_table(
        table.crystal,
        material.key,
        turns,
        optics.energy,
        optics.aperture,
        np.sort(draw(recipe.thickness, rng, 16).reshape(4, 4), axis=1),
    )
