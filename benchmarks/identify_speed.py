"""Time and memory of `identify`: one 512×512 pattern against 100 candidate phases.

Run ``python benchmarks/identify_speed.py``.  Every case runs twice in a process of its own, so that
the first call pays for all tables, the second for none.  Aim: under 3 s on two cores and 1.5 GB.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.physics import wavelength
from diskern.symmetry.identify import identify

log = logging.getLogger("benchmark")
SIZE = 512
PIXEL = 0.006
"""1/Å per pixel."""
ENERGY = 200e3
PHASES = ("Al", "Si", "TiO2 (rutile)", "MoO3 (alpha)")


def candidates(wanted: str) -> list[Crystal]:
    """One phase among 99 others of the table of common phases."""
    crystals = list(common_phases())
    others = [c for c in crystals if c.name != wanted]
    chosen = np.linspace(0, len(others) - 1, 99).astype(int)
    return [c for c in crystals if c.name == wanted] + [others[i] for i in chosen]


def pattern(crystal: Crystal) -> NDArray[np.float64]:
    """A noisy image of Gaussian spots down [001]."""
    from diskern.symmetry.kinematic_table import _build

    rng = np.random.default_rng(1)
    table = _build(crystal)  # not the kept one: the timed call is to build its own
    g = table.g @ zone_axis_orientation(crystal, (0, 0, 1)).as_matrix().T
    s_g = -g[:, 2] - wavelength(ENERGY) * table.length**2 / 2
    intensity = np.sqrt(table.strength) / (1 + (s_g / 0.01) ** 2)
    centre = np.array([260.3, 251.8])
    place = centre + g[:, :2] / PIXEL
    lit = (intensity > 3e-3) & (np.abs(s_g) < 0.05)
    lit &= ((place > 5) & (place < SIZE - 6)).all(1)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    image = 20 + 400 * np.exp(-np.hypot(x - centre[0], y - centre[1]) / 25)
    spots = [(*centre, 30_000.0)]
    spots += [(*p, 3000 * i) for p, i in zip(place[lit], intensity[lit], strict=True)]
    for col, row, height in spots:
        image += height * np.exp(-0.5 * ((x - col) ** 2 + (y - row) ** 2) / 2.5**2)
    return np.asarray(rng.poisson(image), dtype=np.float64)


def case(name: str, known: bool) -> None:
    """Identify a pattern of one phase twice in this process."""
    chosen = candidates(name)
    image = pattern(chosen[0])
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        found = identify(
            image, pixel_size=PIXEL if known else None, energy=ENERGY, candidates=chosen
        )
        seconds.append(time.perf_counter() - start)
    best = ", ".join(f"{m.name} {m.score:.2f}" for m in found.phases[:2])
    scale = "known" if known else "unknown"
    log.info(
        "%-14s scale %-7s cold %.2f s, warm %.2f s, %.0f MB; %d spots; %s",
        name,
        scale,
        *seconds,
        peak_memory(),
        len(found.analyses[0].spots),
        best,
    )


def peak_memory() -> float:
    """Largest resident memory of this process in MB; NaN where the system does not say."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Every case in a process of its own."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(sys.argv) == 3:
        case(sys.argv[1], sys.argv[2] == "known")
        return
    for name in PHASES:
        for known in ("known", "unknown"):
            subprocess.run([sys.executable, __file__, name, known], check=True)


if __name__ == "__main__":
    main()
