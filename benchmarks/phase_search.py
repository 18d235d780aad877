"""Time the phase search: one tilted pattern of 40-odd spots against 100 candidate phases.

Run ``python benchmarks/phase_search.py``; the tables of reflections are computed once per crystal
and timed apart.
"""

from __future__ import annotations

import logging
import time

import numpy as np

from diskern.crystal.common import common_phases
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.physics import wavelength
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.kinematic_table import kinematic_table
from diskern.symmetry.phases import search_views

log = logging.getLogger("benchmark")
PIXEL = 0.01


def pattern(name: str) -> SpotView:
    """Spots of a phase 12 mrad off [001], a third of them stray."""
    rng = np.random.default_rng(0)
    crystal = {c.name: c for c in common_phases()}[name]
    table = kinematic_table(crystal)
    matrix = tilted(zone_axis_orientation(crystal, (0, 0, 1)), 12.0, 30.0).as_matrix()
    g = table.g @ matrix.T
    s_g = -g[:, 2] - wavelength(200e3) * table.length**2 / 2
    intensity = table.strength * np.sinc(80 * s_g) ** 2
    p = g[:, :2] / PIXEL
    keep = (intensity > 2e-3) & (np.hypot(*p.T) < 120) & (np.abs(s_g) < 0.0125)
    p, intensity = p[keep], intensity[keep]
    stray = rng.uniform(-110, 110, (len(p) // 3, 2))
    p = np.concatenate([p + rng.normal(0, 0.4, p.shape), stray])
    intensity = np.concatenate([intensity, rng.choice(intensity, len(stray))])
    order = np.argsort(-intensity)[:60]
    return SpotView.from_spots(p[order], intensity[order], 0.5, scale=1.02 * PIXEL)


def main() -> None:
    """Print the times and the first three phases of each search."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = ("Al", "Si", "TiO2 (rutile)", "SiO2 (quartz)", "ZrO2 (monoclinic)")
    crystals = list(common_phases())
    wanted = [c for c in crystals if c.name in names]
    others = [c for c in crystals if c.name not in names]
    candidates = wanted + others[::2][: 100 - len(wanted)]
    start = time.perf_counter()
    for crystal in candidates:
        table = kinematic_table(crystal)
        _ = table.representatives
    log.info("%d tables: %.2f s", len(candidates), time.perf_counter() - start)
    for name in names:
        view = pattern(name)
        for known in (True, False):
            seen = view if known else view.with_scale(None, 1.0)
            start = time.perf_counter()
            found = search_views([seen], candidates)
            took = time.perf_counter() - start
            best = ", ".join(f"{m.name} {m.score:.2f}" for m in found[:3])
            scale = "known" if known else "unknown"
            log.info("%s, %d spots, scale %s: %.2f s; %s", name, len(view), scale, took, best)


if __name__ == "__main__":
    main()
