"""Speed of the simulators beside abTEM, diffsims and pymatgen, in the same run on one core.

DISKERN_ABTEM_PYTHON=… DISKERN_DIFFSIMS_PYTHON=… DISKERN_PYMATGEN_PYTHON=… \
    python benchmarks/simulate_speed.py

Each program runs in its own environment; a program whose python is not named is left out.
Times are processor seconds of one thread, the least of seven repeats after a warm-up; each
program runs twice, in turn, because other work on the machine slows them by changing amounts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
SITES = np.concatenate([FCC, FCC + 0.25])
SILICON = Crystal.from_arrays((5.431, 5.431, 5.431, 90, 90, 90), SITES, [14] * 8)

COMMON = """
import os
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
import time, numpy as np
def least(work, repeats=7):
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time(); work(); times.append(time.process_time() - start)
    return min(times)
"""

ABTEM = """
import abtem, dask
from ase.build import bulk
from abtem.bloch import BlochWaves, StructureFactor
dask.config.set(scheduler="synchronous")
abtem.config.set({"local_diagnostics.progress_bar": False})
si = bulk("Si", "diamond", a=5.431, cubic=True)
def spots():
    table = StructureFactor(si, g_max=2.0)
    waves = BlochWaves(table, energy=200e3, sg_max=0.04, g_max=2.0)
    waves.get_kinematical_diffraction_pattern()
print("spots", least(spots))
cell = si * (9, 9, 1)
potential = abtem.CrystalPotential(
    abtem.Potential(cell, gpts=256, slice_thickness=5.431 / 4).build(lazy=False), (1, 1, 37)
)
probe = abtem.Probe(energy=200e3, semiangle_cutoff=2.0)
probe.grid.match(potential)
def cbed():
    probe.multislice(potential, lazy=False).diffraction_patterns(max_angle=None)
print("cbed", least(cbed))
"""

DIFFSIMS = """
from diffpy.structure import Atom, Lattice, Structure
from diffsims.generators.simulation_generator import SimulationGenerator
from orix.crystal_map import Phase
from orix.quaternion import Rotation
fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
atoms = [Atom("Si", p) for p in np.concatenate([fcc, fcc + 0.25])]
structure = Structure(atoms, lattice=Lattice(5.431, 5.431, 5.431, 90, 90, 90))
phase = Phase(name="Si", space_group=227, structure=structure)
generator = SimulationGenerator(200)
turns = Rotation.random(20)
def spots():
    generator.calculate_diffraction2d(
        phase, rotation=turns, reciprocal_radius=2.0, max_excitation_error=0.04
    )
print("spots", least(spots) / 20)
"""


PYMATGEN = """
from pymatgen.analysis.diffraction.tem import TEMCalculator
from pymatgen.core import Lattice, Structure
fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
si = Structure(Lattice.cubic(5.431), ["Si"] * 8, np.concatenate([fcc, fcc + 0.25]))
print("spots", least(lambda: TEMCalculator(voltage=200, beam_direction=(0, 1, 1)).get_pattern(si)))
"""


def least(work: Callable[[], object], repeats: int = 7) -> float:
    """Least processor time in s of several runs after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def other(name: str, code: str) -> dict[str, float]:
    """What another program measures in its own environment, by name of the task."""
    python = os.environ.get(f"DISKERN_{name.upper()}_PYTHON")
    if not python:
        return {}
    done = subprocess.run(
        [python, "-c", COMMON + code], capture_output=True, text=True, check=True, timeout=900
    )
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 2}


def ours() -> dict[str, float]:
    """Seconds of our own spot list, rendered image, CBED pattern and thickness series."""
    import torch

    from diskern.simulate import (
        BlochOptions,
        render_spots,
        simulate_cbed,
        simulate_saed,
        simulate_saed_batch,
    )

    torch.set_num_threads(1)
    turns = Rotation.random(64, random_state=0)
    batch = simulate_saed_batch(SILICON, turns)
    orientation = zone_axis_orientation(SILICON, (0, 0, 1))
    kept = BlochOptions(g_max=1.75, s_max=0.05, dtype="float32")
    series = np.arange(1, 38) * 5.431

    def cbed(thicknesses: float | NDArray[np.float64]) -> None:
        simulate_cbed(
            SILICON,
            orientation=orientation,
            semiangle=2.0,
            thickness=thicknesses,
            pixel_size=1 / 48.879,
            options=kept,
        )

    return {
        "one spot list": least(lambda: simulate_saed(SILICON, (0, 0, 1))),
        "spot list in a batch": least(lambda: simulate_saed_batch(SILICON, turns)) / 64,
        "spot list and 256² image in a batch": least(
            lambda: render_spots(simulate_saed_batch(SILICON, turns), (256, 256), 0.0157)
        )
        / 64,
        "256² image in a batch": least(lambda: render_spots(batch, (256, 256), 0.0157)) / 64,
        "CBED 256², Si [001], 201 Å": least(lambda: cbed(200.947)),
        "CBED 256², 37 thicknesses": least(lambda: cbed(series)),
    }


def main() -> None:
    """Run everything and print a table."""
    others = (("abtem", ABTEM), ("diffsims", DIFFSIMS), ("pymatgen", PYMATGEN))
    rounds = [(ours(), *(other(name, code) for name, code in others)) for _ in range(2)]
    mine, abtem, diffsims, pymatgen = (
        {name: min(a[name], b[name]) for name in a} for a, b in zip(*rounds, strict=True)
    )
    rivals = {
        "abTEM bare spot list": abtem.get("spots"),
        "diffsims bare spot list": diffsims.get("spots"),
        "pymatgen bare spot list": pymatgen.get("spots"),
        "abTEM multislice CBED": abtem.get("cbed"),
    }
    for name, seconds in {**mine, **rivals}.items():
        text = "not run" if seconds is None else f"{1e3 * seconds:10.3f} ms"
        sys.stdout.write(f"{name:40s}{text}\n")
    image = mine["spot list and 256² image in a batch"]
    pairs = (
        ("our rendered image : abTEM's spot list", rivals["abTEM bare spot list"], image),
        ("our rendered image : diffsims' spot list", rivals["diffsims bare spot list"], image),
        ("our rendered image : pymatgen's spot list", rivals["pymatgen bare spot list"], image),
        (
            "our Bloch CBED : abTEM's multislice",
            rivals["abTEM multislice CBED"],
            mine["CBED 256², Si [001], 201 Å"],
        ),
    )
    one, series = mine["CBED 256², Si [001], 201 Å"], mine["CBED 256², 37 thicknesses"]
    sys.stdout.write(f"{'37 thicknesses : one':45s}{series / one:6.2f} times the time\n")
    for name, theirs, value in pairs:
        if theirs is not None:
            sys.stdout.write(f"{name:45s}{theirs / value:6.1f} times quicker\n")


if __name__ == "__main__":
    main()
