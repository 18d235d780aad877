"""Run by the python of an environment with diffsims: JSON question on stdin, answer on stdout.

Question: {"lattice" [a, b, c, α, β, γ], "symbols", "positions", "energy", "g_max",
"orientation" (3×3 crystal → lab)}; the answer has indices, intensities and detector positions.
"""

import json
import sys

import numpy as np
from diffpy.structure import Atom, Lattice, Structure
from diffsims.generators.simulation_generator import SimulationGenerator
from orix.crystal_map import Phase
from orix.quaternion import Rotation


def main():
    question = json.load(sys.stdin)
    atoms = [Atom(s, p) for s, p in zip(question["symbols"], question["positions"], strict=True)]
    structure = Structure(atoms, lattice=Lattice(*question["lattice"]))
    phase = Phase(name="x", space_group=1, structure=structure)
    generator = SimulationGenerator(
        question["energy"] / 1e3,
        scattering_params="lobato",
        shape_factor_model="linear",
        minimum_intensity=0.0,
    )
    found = generator.calculate_diffraction2d(
        phase,
        # diffsims turns the beam, not the crystal.
        rotation=Rotation.from_matrix(np.array(question["orientation"]).T),
        reciprocal_radius=question["g_max"],
        max_excitation_error=0.02,
        shape_factor_width=1e12,
        with_direct_beam=False,
    )
    spots = found.coordinates
    answer = {
        "hkl": np.rint(spots.hkl).astype(int).tolist(),
        "intensity": np.asarray(spots.intensity).tolist(),
        "q": spots.data[:, :2].tolist(),
    }
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
