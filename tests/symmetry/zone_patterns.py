"""Simulated zone patterns for the tests of this room, from the benchmark beside the tests."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from diskern.crystal.crystal import lattice_from_parameters
from diskern.simulate.spot_pattern import SpotPattern
from diskern.symmetry.evidence import evidence_of_simulation


def benchmark():
    """The benchmark module, or a skip where only the tests were shipped."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "reasoner.py"
    if not path.is_file():
        pytest.skip("the benchmark scripts are not here")
    if "reasoner_benchmark" not in sys.modules:
        spec = importlib.util.spec_from_file_location("reasoner_benchmark", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["reasoner_benchmark"] = module
        spec.loader.exec_module(module)
    return sys.modules["reasoner_benchmark"]


def crystal(number, cell, seed=0):
    """Atoms at random general positions of a space group in a given cell."""
    module = benchmark()
    rng = np.random.default_rng(seed)
    material = module.random_material(number, rng)
    lattice = lattice_from_parameters(*cell)
    return module.Material(number, lattice, material.positions, material.weights)


def spots(material, uvw, seed=0, **options):
    """A `SpotPattern` without noise or distortion unless asked."""
    options = {"noise": 0.02, "strain": 0.0} | options
    return benchmark().zone_pattern(material, uvw, np.random.default_rng(seed), **options)


def evidence(material, uvw, seed=0, threshold=1e-3, pixel_size=None, **options):
    """Evidence of one simulated pattern, uncalibrated unless a pixel size is given."""
    pattern = spots(material, uvw, seed, **options)
    found = evidence_of_simulation(pattern, threshold)
    return found.with_scale(pixel_size, 0.01)


def flat(lattice, hkl, intensity, uvw):
    """A `SpotPattern` from chosen hkl and intensities in the plane of a zone."""
    g = np.asarray(hkl) @ np.linalg.inv(lattice).T
    z = np.asarray(uvw) @ lattice
    z /= np.linalg.norm(z)
    x = g[0] / np.linalg.norm(g[0])
    q = g @ np.stack([x, np.cross(z, x)], 1)
    return SpotPattern(np.asarray(hkl), q, np.zeros(len(q)), np.asarray(intensity, float))
