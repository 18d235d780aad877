"""How often the zone reasoner names the symmetry of simulated crystals, beside what is possible.

    python benchmarks/reasoner.py cubic  [--crystals 200] [--double 0.5] [--seed 0]
    python benchmarks/reasoner.py systems [--crystals 10]

``cubic``: the 17 cubic extinction groups, random symmetric crystals, k zones drawn from the 22
families with indices up to 4, scale unknown, kinematic intensities (``--double`` is the share of
patterns with strong double diffraction).  The ceilings, 49/72/83/94 % for k = 1/2/3/5, are those
of perfect knowledge of geometry and absences; intensities may exceed them.
``systems``: all 122 diffraction symbols, low-index zones, crystal system and symbol.
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.crystal import lattice_from_parameters
from diskern.crystal.extinction_groups import diffraction_symbols, extinction_groups
from diskern.crystal.spacegroups import (
    DENOMINATOR,
    SYSTEMS,
    operations,
    space_group,
    systematically_absent,
)
from diskern.errors import DiskernError
from diskern.simulate.spot_pattern import SpotPattern
from diskern.symmetry.evidence import PatternEvidence, evidence_of_simulation
from diskern.symmetry.hypotheses_zones import plane_basis, zones
from diskern.symmetry.posterior import Posterior
from diskern.symmetry.reasoner import Settings, reason

Floats = NDArray[np.float64]
CEILING = {1: 0.49, 2: 0.72, 3: 0.83, 5: 0.94}


@dataclass(frozen=True, eq=False)
class Material:
    """A random crystal: cell, atoms in general and special positions, their weights."""

    number: int
    lattice: Floats
    positions: Floats
    weights: Floats


def random_material(number: int, rng: np.random.Generator) -> Material:
    """One to three atoms in general positions and sometimes one at the origin.

    Light atoms at special sites keep accidental absences alive; heavy general ones keep the
    symbol true.
    """
    rotations, shifts = operations(number)
    places, weights = [], []
    for i in range(int(rng.integers(1, 4)) + 1):
        at = np.zeros(3) if i == 0 else rng.random(3)
        orbit = (rotations @ at + shifts / DENOMINATOR) % 1.0
        orbit = np.unique(np.round(orbit, 6) % 1.0, axis=0)
        places.append(orbit)
        strength = rng.uniform(0.3, 1.0) * (math.sqrt(24 / len(orbit)) if i == 0 else 1.0)
        weights.append(np.full(len(orbit), strength * (rng.random() < 0.5 if i == 0 else 1.0)))
    return Material(
        number, _random_cell(number, rng), np.concatenate(places), np.concatenate(weights)
    )


def _random_cell(number: int, rng: np.random.Generator) -> Floats:
    system = space_group(number).system
    a, b, c = (6.0 * np.exp(rng.normal(0, 0.35, 3))).tolist()
    beta = 90 + abs(rng.normal(0, 14))
    alpha, gamma = (90 + rng.normal(0, 12, 2)).tolist()
    cells = {
        "triclinic": (a, b, c, alpha, beta, gamma),
        "monoclinic": (a, b, c, 90, beta, 90),
        "orthorhombic": (a, b, c, 90, 90, 90),
        "tetragonal": (a, a, c, 90, 90, 90),
        "trigonal": (a, a, c, 90, 90, 120),
        "hexagonal": (a, a, c, 90, 90, 120),
        "cubic": (a, a, a, 90, 90, 90),
    }
    return lattice_from_parameters(*cells[system])


def zone_pattern(
    material: Material,
    uvw: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    nodes: int = 120,
    double: float = 0.0,
    noise: float = 0.08,
    strain: float = 0.002,
) -> SpotPattern:
    """Kinematic zone pattern of about ``nodes`` spots, with double diffraction at will.

    ``double`` is the amplitude of the second Born term relative to the strongest beam.
    """
    basis = plane_basis(np.array(uvw))
    reciprocal = np.linalg.inv(material.lattice).T
    plane = _in_plane(basis @ reciprocal, np.array(uvw) @ material.lattice)
    side = 40
    grid = np.stack(np.meshgrid(*[np.arange(-side, side + 1)] * 2, indexing="ij"), -1)
    index = grid.reshape(-1, 2)
    q = index @ plane
    length = np.linalg.norm(q, axis=1)
    allowed = ~systematically_absent(material.number, index @ basis)
    area = abs(np.linalg.det(plane)) * len(allowed) / max(int(allowed.sum()), 1)
    reach = math.sqrt(nodes * area / math.pi)
    keep = (length <= reach) & (length > 0) & (np.abs(index) < side).all(1)
    index, q, length = index[keep], q[keep], length[keep]
    phase = np.exp(2j * np.pi * (index @ basis) @ material.positions.T)
    amplitude = (phase @ material.weights) * np.exp(-1.2 * (length / reach) ** 2)
    amplitude /= np.abs(amplitude).max()
    if double > 0:
        amplitude = amplitude + 1j * double * _second_born(index, amplitude, side)
    intensity = np.abs(amplitude) ** 2 * np.exp(rng.normal(0, noise, len(index)))
    turn = rng.uniform(0, 2 * np.pi)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    bend = np.eye(2) + _strain(rng, strain)
    order = np.argsort(-intensity)
    return SpotPattern(
        (index @ basis)[order], (q @ rotate @ bend)[order], np.zeros(len(q)), intensity[order]
    )


def _in_plane(vectors: Floats, beam: Floats) -> Floats:
    z = beam / np.linalg.norm(beam)
    x = vectors[0] / np.linalg.norm(vectors[0])
    return np.asarray(vectors @ np.stack([x, np.cross(z, x)], 1))


def _strain(rng: np.random.Generator, size: float) -> Floats:
    stretch, shear = rng.normal(0, size, 2)
    return np.array([[stretch, shear], [shear, -stretch]])


def _second_born(index: NDArray[np.int64], amplitude: Floats, side: int) -> Floats:
    size = 2 * side + 1
    field = np.zeros((2 * size, 2 * size), dtype=complex)
    field[index[:, 0] % (2 * size), index[:, 1] % (2 * size)] = amplitude
    spectrum = np.fft.fft2(field)
    twice = np.fft.ifft2(spectrum * spectrum)
    values = twice[index[:, 0] % (2 * size), index[:, 1] % (2 * size)]
    return np.asarray(values / max(float(np.abs(values).max()), 1e-12))


def measured(
    material: Material,
    uvw: tuple[int, int, int],
    rng: np.random.Generator,
    double: float = 0.0,
    *,
    calibrated: bool = False,
) -> PatternEvidence:
    """Evidence of one pattern with a random detection threshold."""
    pattern = zone_pattern(material, uvw, rng, double=double)
    threshold = 10 ** rng.uniform(-3.0, -2.0)
    evidence = evidence_of_simulation(pattern, threshold)
    return evidence.with_scale(1.0 if calibrated else None, 0.01)


def calibration_error(confidence: Floats, right: Floats, bins: int = 10) -> float:
    """Expected calibration error of top-1 probabilities."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return float(total)


def _top(groups: Floats, level: list[tuple[int, ...]], truth: int) -> tuple[float, float]:
    """Probability of the best class and whether it is the true one (ties share)."""
    value = np.array([groups[np.array(members) - 1].sum() for members in level])
    best = np.flatnonzero(value >= value.max() * (1 - 1e-6))
    return float(value.max()), float(truth in best) / len(best)


def cubic(
    crystals: int, seed: int, share_double: float, counts: tuple[int, ...]
) -> dict[int, tuple[float, float]]:
    """Accuracy and calibration error for each number of zones."""
    rng = np.random.default_rng(seed)
    level = [g.space_groups for g in extinction_groups() if g.system == "cubic"]
    families = zones("m-3m", 4).uvw
    settings = Settings(systems=("cubic",))
    scores: dict[int, list[tuple[float, float]]] = {k: [] for k in counts}
    for n in range(crystals):
        truth = n % len(level)
        symbols = [s for s in diffraction_symbols() if s.space_groups[0] in level[truth]]
        symbol = symbols[int(rng.integers(len(symbols)))]
        material = random_material(int(rng.choice(symbol.space_groups)), rng)
        chosen = rng.choice(len(families), max(counts), replace=False)
        found = []
        for z in chosen:
            double = float(rng.uniform(0.2, 0.6)) if rng.random() < share_double else 0.0
            u, v, w = families[z].tolist()
            if rng.random() < 0.5:
                u, v = v, u  # in m-3 [uvw] and [vuw] differ
            try:
                found.append(measured(material, (u, v, w), rng, double))
            except DiskernError:
                continue
        for k in counts:
            if len(found) >= k:
                posterior = reason(found[:k], settings=settings)
                scores[k].append(_top(posterior.groups, level, truth))
    return {k: _summary(v) for k, v in scores.items()}


def _summary(scores: list[tuple[float, float]]) -> tuple[float, float]:
    confidence, right = np.array(scores).T
    return float(right.mean()), calibration_error(confidence, right)


def systems(
    crystals: int, seed: int, count: int, share_double: float
) -> dict[str, tuple[float, float]]:
    """Accuracy and calibration of system and extinction symbol over all diffraction symbols."""
    rng = np.random.default_rng(seed)
    by_system = [tuple(n for n in range(1, 231) if space_group(n).system == s) for s in SYSTEMS]
    level = [g.space_groups for g in extinction_groups()]
    axes = np.array([u for u in product(range(3), repeat=3) if np.gcd.reduce(u) == 1])
    scores: dict[str, list[tuple[float, float]]] = {"system": [], "symbol": []}
    for n in range(crystals * len(SYSTEMS)):
        members = [g for g in extinction_groups() if g.system == SYSTEMS[n % len(SYSTEMS)]]
        group = members[int(rng.integers(len(members)))]
        material = random_material(int(rng.choice(group.space_groups)), rng)
        found: list[PatternEvidence] = []
        for z in rng.permutation(len(axes)):
            if len(found) == count:
                break
            double = float(rng.uniform(0.2, 0.6)) if rng.random() < share_double else 0.0
            try:
                found.append(
                    measured(material, tuple(axes[z].tolist()), rng, double, calibrated=True)
                )
            except DiskernError:
                continue
        posterior: Posterior = reason(found)
        scores["system"].append(_top(posterior.groups, by_system, n % len(SYSTEMS)))
        scores["symbol"].append(_top(posterior.groups, level, group.index))
    return {name: _summary(v) for name, v in scores.items()}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["cubic", "systems"])
    parser.add_argument("--crystals", type=int, default=170)
    parser.add_argument("--double", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    say = logging.getLogger("benchmark").info
    if options.task == "cubic":
        for k, (right, error) in cubic(
            options.crystals, options.seed, options.double, (1, 2, 3, 5)
        ).items():
            say(f"k={k}: top-1 {right:.1%} (kinematic ceiling {CEILING[k]:.0%}), ECE {error:.3f}")
    else:
        for k in (1, 2, 3):
            for name, (right, error) in systems(
                options.crystals, options.seed, k, options.double
            ).items():
                say(f"k={k} {name}: top-1 {right:.1%}, ECE {error:.3f}")


if __name__ == "__main__":
    main()
