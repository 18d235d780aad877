"""How far the scores of the phase search can be trusted: dynamical patterns of known phases.

Run ``python benchmarks/phase_calibration.py [--patterns 120] [--scale known|unknown|both]``.
Every pattern is a common phase, near a zone axis or well off any, 10 to 60 nm thick, by Bloch
waves, with stray and missed spots, an unknown ellipse and a scale that is a few per cent off (or
not given).  It is searched for among all common phases made of its own elements and a few more.
Printed are how often the right phase comes first, and for several temperatures the mean negative
log of the share it gets and the calibration error of the first share.
"""

from __future__ import annotations

import argparse
import logging

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.simulate.saed import simulate_saed
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.phases import _index_all
from diskern.symmetry.phases_unknown import unknown_evidence

log = logging.getLogger("benchmark")
ZONES = [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, 0), (0, 1, 0), (1, 1, 2), (0, 1, 2), (1, 2, 3)]
USUAL = ("C", "O", "Si", "Al", "Fe", "Cu", "Ti")
PIXEL = 0.006
REACH = 240.0
TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)

Floats = NDArray[np.float64]


def pattern(crystal: Crystal, rng: np.random.Generator, known: bool) -> SpotView | None:
    """Spots as they are found; None where too few are lit."""
    if rng.random() < 0.75:
        zone = ZONES[rng.integers(len(ZONES))]
        rotation = tilted(
            zone_axis_orientation(crystal, zone), rng.exponential(6.0), rng.uniform(0, 360)
        )
    else:
        rotation = Rotation.random(random_state=rng)
    rotation = Rotation.from_euler("z", rng.uniform(0, 360), degrees=True) * rotation
    spots = simulate_saed(
        crystal.with_u_iso(float(rng.uniform(0.004, 0.012))),
        orientation=rotation,
        energy=200e3,
        g_max=1.5,
        thickness=float(rng.uniform(100, 600)),
        method="bloch",
    )
    beyond = (spots.hkl != 0).any(1)
    intensity, p = spots.intensity[beyond], spots.q[beyond] / PIXEL
    # Thickness varies within the selected area, and so does every intensity.
    intensity = intensity * rng.lognormal(0, 0.3, len(intensity))
    e = rng.normal(0, 0.006, 2)
    p = p @ np.array([[1 + e[0], e[1]], [e[1], 1 - e[0]]]) + rng.normal(0, 0.25, p.shape)
    limit = intensity.max(initial=0.0) * 10 ** rng.uniform(-3, -1.5)
    found = (intensity > limit) & (np.hypot(*p.T) < REACH) & (rng.random(len(p)) < 0.95)
    if found.sum() < 6:
        return None
    stray = rng.uniform(-REACH, REACH, (rng.poisson(0.05 * found.sum()), 2))
    p = np.concatenate([p[found], stray])
    intensity = np.concatenate([intensity[found], np.full(len(stray), 2 * limit)])
    order = np.argsort(-intensity)[:60]
    scale = PIXEL * float(np.exp(rng.normal(0, 0.02))) if known else None
    return SpotView.from_spots(
        p[order], intensity[order], 0.3, scale=scale, scale_error=0.02, distortion=0.006
    )


def trial(
    crystals: list[Crystal], rng: np.random.Generator, known: bool
) -> tuple[Floats, str] | None:
    """Evidence of each candidate, the true phase first, "unknown phase" last."""
    truth = crystals[rng.integers(len(crystals))]
    view = pattern(truth, rng, known)
    if view is None:
        return None
    elements = set(truth.elements) | set(rng.choice(USUAL, 3, replace=False).tolist())
    rivals = [c for c in crystals if set(c.elements) <= elements and c is not truth]
    found = {c.crystal.name: c.evidence for c in _index_all([view], [truth, *rivals])}
    values = [found.pop(truth.name), *found.values(), unknown_evidence(view)]
    return np.array(values), truth.name


def summary(trials: list[Floats]) -> None:
    """Print the table."""
    first = np.mean([v.argmax() == 0 for v in trials])
    count = np.mean([len(v) - 1 for v in trials])
    log.info("%d patterns among %.0f candidates: %.0f %% first", len(trials), count, 100 * first)
    log.info("temperature   -ln share   first share   of them right")
    for temperature in TEMPERATURES:
        shares = []
        for v in trials:
            share = np.exp((v - v.max()) / temperature)
            shares.append(share / share.sum())
        cost = np.mean([-np.log(max(s[0], 1e-12)) for s in shares])
        sure = np.mean([s.max() for s in shares])
        log.info("%8.0f %12.3f %12.3f %13.3f", temperature, cost, sure, first)


def main() -> None:
    """Run the trials and print."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("--patterns", type=int, default=120)
    parser.add_argument("--scale", choices=("known", "unknown", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    crystals = list(common_phases())
    for name in ("known", "unknown"):
        if chosen.scale not in (name, "both"):
            continue
        rng = np.random.default_rng(chosen.seed)
        trials = []
        while len(trials) < chosen.patterns:
            done = trial(crystals, rng, name == "known")
            if done is None:
                continue
            values, phase = done
            trials.append(values)
            if values.argmax():
                log.debug("%s: %.1f short", phase, values.max() - values[0])
        log.info("scale %s", name)
        summary(trials)


if __name__ == "__main__":
    main()
