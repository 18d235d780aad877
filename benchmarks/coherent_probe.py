"""Overlapping disks by Bloch waves against multislice through a cut box: time and difference.

    python benchmarks/coherent_probe.py [--thickness 200]

200 kV, 8 mrad, 256² px, one thread; processor seconds of one call each.  The difference is the
share of the intensity that lies elsewhere once both patterns are smoothed by a pixel, since the
two draw the edges of disks differently; beside it that of a plain sum of disks.  Then what the
usual number of directions to a fringe moves against four times as many, pixel by pixel.  Where
``DISKERN_ABTEM_PYTHON`` names an interpreter that has abTEM and ase, Si [001] is compared with
that program's multislice too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.simulate import bloch_cbed
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.bloch_cbed import cbed_disks, coherent_cbed
from diskern.simulate.multislice_cbed import MultisliceOptions, cbed_multislice
from diskern.simulate.probe import Probe

CASES = [("Si", (0, 1, 1)), ("GaAs", (0, 0, 1)), ("TiO2 (rutile)", (1, 1, 0)), ("Si", None)]
SHAPE, PIXEL, ENERGY, SEMIANGLE = (256, 256), 1 / 64, 200e3, 8.0
PROBE = Probe(ENERGY, SEMIANGLE)
FOILS = [210.0, 460.0]
"""Å, of the series that the grid of directions is tried on."""
KEPT = BlochOptions(g_max=2.5, s_max=0.1, dtype="float32")


def timed(task: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """What a task gives and its processor seconds, after one call to warm up."""
    task()
    start = time.process_time()
    return task(), time.process_time() - start


def coherent(crystal: Crystal, turn: Rotation, depth: list[float]) -> np.ndarray:
    """By Bloch waves."""
    return coherent_cbed(crystal, turn, [PROBE], depth, SHAPE, PIXEL, options=KEPT)[0, 0]


def through_box(crystal: Crystal, turn: Rotation, depth: list[float]) -> np.ndarray:
    """By multislice."""
    options = MultisliceOptions(route="box", k_max=3.0)
    place = (crystal, turn, ENERGY, SEMIANGLE, depth, SHAPE, PIXEL)
    return cbed_multislice(*place, options=options)[0]


ABTEM = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import abtem, dask, numpy as np
from ase.build import bulk
abtem.config.set({"device": "cpu", "precision": "float32", "diagnostics.progress_bar": False})
dask.config.set(scheduler="synchronous")
a, repeats, cells, pixels = 5.431, 11, 18, 640
atoms = bulk("Si", "diamond", a=a, cubic=True) * (repeats, repeats, 1)
unit = abtem.Potential(atoms, gpts=(pixels, pixels), slice_thickness=a / 4,
    parametrization="lobato", projection="infinite").build(lazy=False)
potential = abtem.CrystalPotential(unit, repetitions=(1, 1, cells))
probe = abtem.Probe(energy=200e3, semiangle_cutoff=8.0, gpts=(pixels, pixels),
    extent=repeats * a)
start = time.process_time()
scan = abtem.CustomScan([[repeats * a / 2] * 2])
wave = probe.multislice(potential, scan=scan, lazy=False)
image = np.squeeze(wave.diffraction_patterns(max_angle="full", parity="same").array)
np.savez(sys.argv[1], image=image / image.sum(), seconds=time.process_time() - start)
"""


def beside_abtem(python: str) -> str:
    """Si [001], atoms at rest, 98 Å, the probe over an atom: both programs in words."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "abtem.npz"
        subprocess.run([python, "-c", ABTEM, str(file)], check=True)
        with np.load(file) as found:
            image, other = found["image"], float(found["seconds"])
    middle = image.shape[0] // 2
    image = image[middle - 128 : middle + 128, middle - 128 : middle + 128]
    crystal = {phase.name: phase for phase in common_phases()}["Si"]
    silicon = Crystal.from_arrays([5.431, 5.431, 5.431, 90, 90, 90], crystal.fractional, [14] * 8)
    turn = zone_axis_orientation(silicon, (0, 0, 1), (2, 0, 0))
    pixel, depth = 1 / (11 * 5.431), [18 * 5.431]
    kept = replace(KEPT, g_max=2.0, s_max=0.06, parametrization="lobato")
    ours, own = timed(
        lambda: coherent_cbed(silicon, turn, [PROBE], depth, SHAPE, pixel, options=kept)[0, 0]
    )
    waves = BlochWaves(silicon, turn, ENERGY, kept, k_reach=PROBE.k_reach)
    plain = cbed_disks(waves, SEMIANGLE, depth, SHAPE, pixel)[0].numpy()
    return (
        f"Si (0, 0, 1) beside abTEM: {own:.2f} {other:.2f} {other / own:.1f} "
        f"{apart(ours, image):.3f} {apart(plain, image):.3f}"
    )


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the intensity that lies elsewhere."""
    one, other = gaussian_filter(one, 1), gaussian_filter(other, 1)
    return float(np.abs(one - other).sum() / other.sum())


def of_the_grid(crystal: Crystal, turn: Rotation, depths: list[float]) -> np.ndarray:
    """(T,) shares of the intensity that a grid of directions four times as fine moves."""
    usual = bloch_cbed.WAVE_STEPS
    found = []
    for steps in (usual, 4 * usual):
        bloch_cbed.WAVE_STEPS = steps
        found.append(coherent_cbed(crystal, turn, [PROBE], depths, SHAPE, PIXEL, options=KEPT)[0])
    bloch_cbed.WAVE_STEPS = usual
    return np.abs(found[0] - found[1]).sum((1, 2)) / found[1].sum((1, 2))


def main() -> None:
    """Print a line a crystal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--thickness", type=float, default=200.0, help="Å")
    depth = [parser.parse_args().thickness]
    phases = {phase.name: phase for phase in common_phases()}
    sys.stdout.write("crystal, zone: Bloch s, multislice s, ratio, difference, of a plain sum\n")
    for name, zone in CASES:
        crystal = phases[name].with_u_iso(0.08**2)
        turn = Rotation.from_euler("xyz", [20, 33, 51], degrees=True)
        if zone is not None:
            turn = zone_axis_orientation(crystal, zone)
        found, own = timed(partial(coherent, crystal, turn, depth))
        boxed, other = timed(partial(through_box, crystal, turn, depth))
        waves = BlochWaves(crystal, turn, ENERGY, KEPT, k_reach=PROBE.k_reach)
        plain = cbed_disks(waves, SEMIANGLE, depth, SHAPE, PIXEL)[0].numpy()
        sys.stdout.write(
            f"{name} {zone or 'any'}: {own:.2f} {other:.2f} {other / own:.1f} "
            f"{apart(found, boxed):.3f} {apart(plain, boxed):.3f}\n"
        )
        moved = of_the_grid(crystal, turn, FOILS)
        told = ", ".join(f"{m:.2%} at {t:g} Å" for m, t in zip(moved, FOILS, strict=True))
        sys.stdout.write(f"    a finer grid moves {told} of a series\n")
    if python := os.environ.get("DISKERN_ABTEM_PYTHON"):
        sys.stdout.write(beside_abtem(python) + "\n")


if __name__ == "__main__":
    main()
