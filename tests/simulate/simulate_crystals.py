"""Crystals of every kind of cell, and other programs to ask, for the tests of this room."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from diskern.crystal.crystal import Crystal

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def cubic(a, sites, numbers, **known):
    return Crystal.from_arrays((a, a, a, 90, 90, 90), sites, numbers, **known)


SILICON = cubic(5.4310, np.concatenate([FCC, FCC + 0.25]), [14] * 8, name="Si")
SALT = cubic(5.6402, np.concatenate([FCC, FCC + 0.5]), [11] * 4 + [17] * 4, name="NaCl")
IRON = cubic(2.8665, [[0, 0, 0], [0.5, 0.5, 0.5]], [26] * 2, name="Fe")

# Wurtzite has no centre of inversion.
WURTZITE = Crystal.from_arrays(
    (3.811, 3.811, 6.234, 90, 90, 120),
    [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.375], [2 / 3, 1 / 3, 0.875]],
    [30, 30, 16, 16],
    u_iso=0.008,
    name="ZnS",
)
RHOMBOHEDRAL = Crystal.from_arrays(
    (4.75, 4.75, 4.75, 57.2, 57.2, 57.2), [[0.23] * 3, [0.77] * 3], [33, 33], u_iso=0.01, name="As"
)
MONOCLINIC = Crystal.from_arrays(
    (5.15, 5.21, 5.32, 90, 99.2, 90),
    [
        [0.275, 0.040, 0.208], [0.725, 0.540, 0.292], [0.725, 0.960, 0.792], [0.275, 0.460, 0.708],
        [0.070, 0.332, 0.345], [0.930, 0.832, 0.155], [0.930, 0.668, 0.655], [0.070, 0.168, 0.845],
    ],
    [40] * 4 + [8] * 4,
    u_iso=0.006,
    name="ZrO",
)  # fmt: skip
TRICLINIC = Crystal.from_arrays(
    (4.1, 5.3, 6.2, 81, 97, 106),
    [[0.1, 0.2, 0.3], [0.55, 0.47, 0.81], [0.83, 0.9, 0.05]],
    [22, 8, 14],
    occupancy=[1.0, 0.7, 0.9],
    u_iso=[0.004, 0.012, 0.008],
    name="TiOSi",
)
ALL = (SILICON, SALT, IRON, WURTZITE, RHOMBOHEDRAL, MONOCLINIC, TRICLINIC)
NAMES = [c.name for c in ALL]


def supercell(crystal, repeats=(2, 1, 1)):
    """The same crystal described in a cell repeated along its axes."""
    shifts = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), -1).reshape(-1, 3)
    n = len(shifts)
    return Crystal.from_arrays(
        crystal.lattice * np.array(repeats)[:, None],
        (crystal.fractional[None] + shifts[:, None]).reshape(-1, 3) / np.array(repeats),
        np.tile(crystal.numbers, n),
        np.tile(crystal.occupancy, n),
        np.tile(crystal.u_iso, n),
    )


def by_index(pattern):
    """Intensities of a spot pattern by (h, k, l)."""
    return dict(zip(map(tuple, pattern.hkl.tolist()), pattern.intensity.tolist(), strict=True))


def bare(crystal):
    """The crystal without displacements and vacancies, which other programs spell differently."""
    return Crystal.from_arrays(crystal.lattice, crystal.fractional, crystal.numbers)


def described(crystal):
    """Cell, atomic numbers and positions as JSON knows them."""
    return {
        "cell": crystal.lattice.tolist(),
        "numbers": crystal.numbers.tolist(),
        "positions": crystal.fractional.tolist(),
    }


def ask(program, **question):
    """The answer of another program, run by the python named in DISKERN_<PROGRAM>_PYTHON."""
    python = os.environ.get(f"DISKERN_{program.upper()}_PYTHON")
    if not python:
        pytest.skip(f"set DISKERN_{program.upper()}_PYTHON to a python that imports {program}")
    script = Path(__file__).with_name(f"oracle_{program}.py")
    done = subprocess.run(
        [python, script], input=json.dumps(question), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
