"""Run by the python of an environment with abTEM: JSON question on stdin, JSON answer on stdout.

Question: {"task": "factors" | "bloch", "cell", "numbers", "positions", "energy", "g_max",
"s_max", "orientation" (3×3 crystal → lab), "thicknesses"}.
"""

import json
import sys

import abtem
import numpy as np
from abtem.bloch import BlochWaves, StructureFactor
from ase import Atoms

abtem.config.set({"precision": "float64"})


def factors(question, atoms):
    """Indices and |F| in arbitrary units."""
    table = StructureFactor(
        atoms, g_max=question["g_max"], parametrization="lobato", cutoff="hard", centering="P"
    )
    return {"hkl": table.hkl.tolist(), "F": np.abs(table.build(lazy=False).array).tolist()}


def bloch(question, atoms):
    """Indices and intensities (T, N)."""
    table = StructureFactor(
        atoms,
        g_max=2 * question["g_max"] + 0.1,
        parametrization="lobato",
        cutoff="hard",
        centering="P",
    )
    waves = BlochWaves(
        table,
        energy=question["energy"],
        sg_max=question["s_max"],
        g_max=question["g_max"],
        orientation_matrix=np.array(question["orientation"]),
        centering="P",
    )
    found = waves.calculate_diffraction_patterns(question["thicknesses"], lazy=False)
    return {
        "hkl": np.asarray(found.miller_indices).tolist(),
        "intensity": np.asarray(found.array).tolist(),
    }


def main():
    question = json.load(sys.stdin)
    atoms = Atoms(
        question["numbers"],
        scaled_positions=question["positions"],
        cell=question["cell"],
        pbc=True,
    )
    answer = {"factors": factors, "bloch": bloch}[question["task"]](question, atoms)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
