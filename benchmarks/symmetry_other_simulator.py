"""Learned symmetry on patterns of a simulator that took no part in its training.

DISKERN_ABTEM_PYTHON=… python benchmarks/symmetry_other_simulator.py [--crystals 60]
    [--structures FILE.parquet]

Known structures whose types were held out of training and calibration, five short zones each,
up to 0.7° off, 50 to 400 Å thick.  abTEM makes their patterns by multislice of a plane wave, with
the potentials of Lobato and Van Dyck and atoms at rest; for the same crystals, directions and
thicknesses our Bloch waves make others, with the factors of Peng, thermal motion and absorption,
as in training.  Both go through the same instrument to the same network.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from structures_file import held_out_structures

from diskern.crystal.crystal import Crystal
from diskern.crystal.supercell import PeriodicCell, periodic_zone_cell
from diskern.errors import DiskernError
from diskern.nets.registry import load
from diskern.train.camera import SpotLists
from diskern.train.exposures import WEAKEST, zone_list
from diskern.train.samples import Block, sides_of
from diskern.train.spot_sets import SpotSets, as_lists, bloch_pattern, lists_joined
from diskern.train.symmetry_answers import FIRST, Answers, held_out, is_real
from diskern.train.symmetry_answers import network_answers as answers_of
from diskern.train.symmetry_evaluate import rows_of
from diskern.train.symmetry_judges import judge_of
from diskern.train.train_recipe import parse_train_recipe

ENERGY = 200e3
ZONES = 5
COUNTS = (1, 3, 5)
LONGEST, MOST_ATOMS = 40.0, 600
"""Å of an edge, and atoms, of the orthogonal cells that are handed over."""

ABTEM = """
import sys, warnings
warnings.filterwarnings("ignore")
import abtem, ase, numpy as np
abtem.config.set({"device": "cpu", "precision": "float32", "diagnostics.progress_bar": False})
try:
    abtem.config.set({"fftw.threads": 1})
    import dask; dask.config.set(scheduler="synchronous")
except Exception:
    pass
given, out = np.load(sys.argv[1]), {}
for i in range(int(given["count"])):
    atoms = ase.Atoms(given[f"{i}_numbers"], positions=given[f"{i}_positions"],
        cell=given[f"{i}_size"], pbc=True)
    unit = abtem.Potential(atoms, sampling=0.07, slice_thickness=1.0,
        parametrization="lobato", projection="infinite").build(lazy=False)
    whole = abtem.CrystalPotential(unit, repetitions=(1, 1, int(given[f"{i}_layers"])))
    wave = abtem.PlaneWave(energy=float(given["energy"]), tilt=tuple(given[f"{i}_tilt"]))
    exit = np.asarray(wave.multislice(whole, lazy=False).array).squeeze()
    beams = np.abs(np.fft.fft2(exit)) ** 2
    out[str(i)] = (beams / beams.sum()).astype(np.float32)
    print(i, flush=True)
np.savez(sys.argv[2], **out)
"""


@dataclass(frozen=True, eq=False)
class View:
    """One direction of one crystal."""

    crystal: Crystal
    cell: PeriodicCell
    zone: tuple[int, int, int]
    tilt: NDArray[np.float64]
    """mrad"""
    layers: int

    @property
    def thickness(self) -> float:
        """Å"""
        return float(self.layers * self.cell.size[2])


def views_of(crystal: Crystal, rng: np.random.Generator) -> list[View]:
    """Some short zones that close an orthogonal cell; none where fewer than `ZONES` do."""
    zones = zone_list(2)
    length = np.linalg.norm(zones @ crystal.lattice, axis=1)
    thickness = np.exp(rng.uniform(np.log(50), np.log(400)))
    spread = 1e3 * np.radians(np.exp(rng.uniform(np.log(0.05), np.log(0.7))))
    found: list[View] = []
    for zone in zones[np.argsort(length * rng.uniform(0.6, 1.6, len(length)))][:14]:
        cell = periodic_zone_cell(crystal, zone, max_edge=LONGEST)
        if cell is None or len(cell.atoms.numbers) > MOST_ATOMS:
            continue
        layers = max(1, round(thickness / cell.size[2]))
        tilt = rng.normal(0, spread / np.sqrt(2), 2)
        u, v, w = (int(i) for i in zone)
        found.append(View(crystal, cell, (u, v, w), tilt, layers))
        if len(found) == ZONES:
            return found
    return []


def by_abtem(views: list[View], python: str) -> list[NDArray[np.float32]]:
    """Intensities at the nodes of each cell's Fourier transform, of 1 in all."""
    given: dict[str, Any] = {"count": len(views), "energy": ENERGY}
    for i, view in enumerate(views):
        given |= {
            f"{i}_numbers": view.cell.atoms.numbers,
            f"{i}_positions": view.cell.atoms.positions,
            f"{i}_size": view.cell.size,
            f"{i}_layers": view.layers,
            f"{i}_tilt": view.tilt,
        }
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "asked.npz", Path(folder) / "told.npz"
        np.savez(asked, **given)
        subprocess.run([python, "-c", ABTEM, str(asked), str(told)], check=True, stdout=sys.stderr)
        with np.load(told) as found:
            return [found[str(i)] for i in range(len(views))]


def as_list(view: View, beams: NDArray[np.float32], g_max: float) -> SpotLists:
    """The beams of one pattern, the direct one left out."""
    size = view.cell.size
    q = [np.fft.fftfreq(n, 1 / n) / edge for n, edge in zip(beams.shape, size[:2], strict=True)]
    x, y = np.meshgrid(*q, indexing="ij")
    radius = np.hypot(x, y)
    keep = (radius > 0) & (radius < g_max) & (beams > WEAKEST)
    place = np.stack([x[keep], y[keep], np.zeros(keep.sum())], 1)
    index = view.cell.orientation.inv().apply(place) @ view.crystal.lattice.T
    hkl = np.rint(index)
    # Beams of higher zones lie between: they are spots like others, of no net.
    hkl[np.abs(index - hkl).max(1) > 0.02] = 0
    order = np.argsort(-beams[keep])
    return SpotLists(
        place[order][None, :, :2],
        beams[keep].astype(np.float64)[order][None],
        hkl[order].astype(np.int64)[None],
    )


def by_bloch(view: View, g_max: float) -> SpotLists:
    """The same pattern as in training."""
    turn = Rotation.from_rotvec([1e-3 * view.tilt[0], 1e-3 * view.tilt[1], 0]) * (
        view.cell.orientation
    )
    return as_lists([bloch_pattern(view.crystal, turn.as_matrix(), ENERGY, view.thickness, g_max)])


def block_of(source: SpotSets, views: list[View], parts: list[SpotLists], number: int) -> Block:
    """One crystal's patterns through the instrument."""
    group = source.materials[source.material_of(FIRST + number)].space_group
    facts: dict[str, NDArray[Any]] = {
        "group": np.full(len(views), group),
        "zone": np.array([view.zone for view in views]),
        "thickness": np.array([view.thickness for view in views]),
        "energy": np.full(len(views), ENERGY),
        "dynamical": np.ones(len(views), dtype=bool),
    }
    return source.recorded(lists_joined(parts), facts, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="spot_set")
    parser.add_argument("--crystals", type=int, default=60)
    parser.add_argument("--structures", type=Path)
    given = parser.parse_args()
    python = os.environ.get("DISKERN_ABTEM_PYTHON")
    if not python:
        sys.stdout.write("DISKERN_ABTEM_PYTHON names no interpreter that has abTEM: nothing done\n")
        return
    torch.set_num_threads(1)
    model = load(given.weights)
    net = judge_of(model)
    recipe = parse_train_recipe(dict(model.card.recipe)).data  # type: ignore[attr-defined]
    known = None
    if given.structures is not None:
        known = held_out_structures(given.structures, "test", sides_of(recipe)[0])
    source = held_out(recipe, keep=is_real, materials=known, per_block=ZONES)
    chosen: list[tuple[int, list[View]]] = []
    number = 0
    while len(chosen) < given.crystals:
        crystal = source.materials[source.material_of(FIRST + number)].crystal(recipe.displacement)
        if crystal.volume < 600 and (crystal.occupancy > 0.999).all():
            try:
                views = views_of(crystal, np.random.default_rng([1, number]))
            except DiskernError:
                views = []
            if views:
                chosen.append((number, views))
        number += 1
    every = [view for _, views in chosen for view in views]
    beams = by_abtem(every, python)
    made: dict[str, list[Block]] = {"abTEM": [], "Bloch waves": []}
    for place, (number, views) in enumerate(chosen):
        own = beams[place * ZONES : (place + 1) * ZONES]
        parts = [as_list(*one, recipe.g_max) for one in zip(views, own, strict=True)]
        made["abTEM"].append(block_of(source, views, parts, number))
        parts = [by_bloch(view, recipe.g_max) for view in views]
        made["Bloch waves"].append(block_of(source, views, parts, number))
    for name, blocks in made.items():
        answers: Answers = answers_of(net, blocks, COUNTS)
        for row in rows_of(answers, net=net, levels=("system", "laue_class", "extinction_group")):
            right, three = 100 * row["top1"], 100 * row["top3"]
            sys.stdout.write(
                f"{name:12} k={row['patterns']} {row['level']:17} right {right:3.0f} %, of three "
                f"{three:3.0f} %, -ln p {row['nll']:.2f}, 90 % sets of {row['set90']:.1f} hold "
                f"{100 * row['coverage90']:3.0f} %\n"
            )


if __name__ == "__main__":
    main()
