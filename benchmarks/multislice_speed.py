"""Multislice against abTEM: Si [001], 200 Å, 256² px, 2 mrad, one thread.

Run with the interpreter that has diskern; ``DISKERN_ABTEM_PYTHON`` names one that has abTEM and
ase (they need not be the same).  Without it only diskern is timed.

    python benchmarks/multislice_speed.py [--json FILE]

Times are processor seconds of one thread, the least of several runs, potential included where
said.  Both programs use the same box (9 × 9 cells of 5.431 Å), slices (a/4), thickness (37
cells), energy (200 kV), aperture and Lobato scattering factors; diskern also computes the same
pattern through one periodic cell, which is what `cbed_multislice` does by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

A, REPEATS, CELLS, PIXELS, ENERGY, SEMIANGLE = 5.431, 9, 37, 256, 200e3, 2.0
SITES = [
    [0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
    [0.25, 0.25, 0.25], [0.25, 0.75, 0.75], [0.75, 0.25, 0.75], [0.75, 0.75, 0.25],
]  # fmt: skip


def least_time(task: Callable[[], Any], runs: int) -> float:
    """Least processor time in s of several runs, after one to warm up."""
    task()
    times = []
    for _ in range(runs):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return min(times)


def time_diskern(runs: int) -> dict[str, float]:
    """Processor seconds of diskern's routes, and the 000 disk for a check."""
    import numpy as np
    import torch

    from diskern.crystal.crystal import Crystal
    from diskern.crystal.orientation import zone_axis_orientation
    from diskern.crystal.supercell import oriented_box
    from diskern.simulate.multislice import multislice, propagator, transmission
    from diskern.simulate.multislice_cbed import MultisliceOptions, cbed_multislice
    from diskern.simulate.multislice_grid import Grid
    from diskern.simulate.potential import Slicing, slice_potentials
    from diskern.simulate.probe import Probe, probe_wave

    torch.set_num_threads(1)
    silicon = Crystal.from_arrays((A, A, A, 90, 90, 90), SITES, [14] * 8)
    orientation = zone_axis_orientation(silicon, (0, 0, 1), (2, 0, 0))
    edge = REPEATS * A
    grid, slicing = Grid((PIXELS, PIXELS), (edge, edge)), Slicing(A / 4, 4)
    atoms = oriented_box(silicon, orientation, (edge, edge, A))

    def potential() -> torch.Tensor:
        found = slice_potentials(atoms, grid, slicing, parametrization="lobato")
        return transmission(found, grid, ENERGY)

    waves = potential()
    step = propagator(grid, ENERGY, slicing.thickness)
    probe = probe_wave(Probe(ENERGY, SEMIANGLE), grid).to(torch.complex64)
    series = [4 * n for n in range(1, CELLS + 1)]

    def patterns(exits: list[int]) -> torch.Tensor:
        out = multislice(probe, waves, step, exits)
        return out.real**2 + out.imag**2

    def periodic(count: int) -> Any:
        depths = [A * n for n in range(1, CELLS + 1)][-count:]
        options = MultisliceOptions(route="periodic", k_max=1.74, parametrization="lobato")
        return cbed_multislice(
            silicon, orientation, ENERGY, SEMIANGLE, depths, (128, 128), 1 / edge, options=options
        )

    image = np.fft.fftshift(patterns([4 * CELLS])[0, 0].numpy())
    rows, cols = np.indices(image.shape) - PIXELS // 2
    return {
        "potential of one cell": least_time(potential, runs),
        "one probe": least_time(lambda: patterns([4 * CELLS]), runs),
        "37 thicknesses": least_time(lambda: patterns(series), runs),
        "periodic route, whole call": least_time(lambda: periodic(1), runs),
        "periodic route, 37 thicknesses": least_time(lambda: periodic(CELLS), runs),
        "000 disk": float(image[np.hypot(rows, cols) < 6].sum()),
    }


ABTEM = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import abtem, numpy as np
from ase.build import bulk
abtem.config.set({"device": "cpu", "precision": "float32", "diagnostics.progress_bar": False})
try:
    abtem.config.set({"fftw.threads": 1, "scheduler": "synchronous"})
    import dask; dask.config.set(scheduler="synchronous")
except Exception:
    pass
a, repeats, cells, pixels, energy, angle, runs = json.loads(sys.argv[1])
atoms = bulk("Si", "diamond", a=a, cubic=True) * (repeats, repeats, 1)
make = lambda: abtem.Potential(atoms, gpts=(pixels, pixels), slice_thickness=a / 4,
    parametrization="lobato", projection="infinite").build(lazy=False)
probe = abtem.Probe(energy=energy, semiangle_cutoff=angle, gpts=(pixels, pixels),
    extent=repeats * a)
unit = make()
one = abtem.CrystalPotential(unit, repetitions=(1, 1, cells))
every = abtem.CrystalPotential(unit, repetitions=(1, 1, cells), exit_planes=4)
scan = abtem.CustomScan([[repeats * a / 2] * 2])
def run(potential):
    # The wave at the exit, its Fourier transform and square: what the other program does.
    wave = probe.multislice(potential, scan=scan, lazy=False)
    return wave.diffraction_patterns(max_angle="full", parity="same").array
def least(task):
    task(); times = []
    for _ in range(runs):
        start = time.process_time(); task(); times.append(time.process_time() - start)
    return min(times)
image = np.squeeze(run(one)).reshape(-1, pixels, pixels)[-1]
y, x = np.indices(image.shape) - pixels // 2
out = {"potential of one cell": least(make), "one probe": least(lambda: run(one)),
    "000 disk": float(image[np.hypot(y, x) < 6].sum() / image.sum())}
try:
    out["37 thicknesses"] = least(lambda: run(every))
except Exception as error:
    out["37 thicknesses failed"] = repr(error)
out["version"] = abtem.__version__
print("RESULT" + json.dumps(out))
"""


def time_abtem(python: str, runs: int) -> dict[str, Any]:
    """The same in abTEM, in its own interpreter."""
    arguments = json.dumps([A, REPEATS, CELLS, PIXELS, ENERGY, SEMIANGLE, runs])
    done = subprocess.run(
        [python, "-c", ABTEM, arguments], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    return dict(json.loads(lines[-1].removeprefix("RESULT")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"diskern": time_diskern(given.runs)}
    ours = found["diskern"]
    found["series over one thickness"] = ours["37 thicknesses"] / ours["one probe"]
    python = os.environ.get("DISKERN_ABTEM_PYTHON")
    if python:
        found["abtem"] = theirs = time_abtem(python, given.runs)
        if "one probe" in theirs:
            found["abtem over diskern"] = theirs["one probe"] / ours["one probe"]
    text = json.dumps(found, indent=2)
    sys.stdout.write(text + "\n")
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
