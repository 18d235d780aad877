"""Spots that may not be those of one crystal, in words.

Hundreds of small grains, noise, and quasicrystals all give spots, and a search for lattices or
phases finds something in any of them.  Whoever reads the answer has to know first.
"""

from __future__ import annotations

from collections.abc import Sequence

from diskern.bragg.analysis import Analysis

REFUSED = 0.5
"""Probability of one crystal below which the network's refusal counts."""
LEAST_LIGHT = 0.3
"""Part of the spots' intensity that lattices must explain."""
FEWEST = 4
"""Spots that make a net: fewer lie on one by chance."""
MOST_LATTICES, LEADING = 2, 0.5
"""Lattices of a crystal and its twin, or of two grains: more are of many, or found by chance,
unless the first explains this part of the light."""


def doubts(analyses: Sequence[Analysis], crystal: Sequence[float | None]) -> tuple[str | None, ...]:
    """Why each pattern may show no single crystal; None where nothing speaks against one.

    Parameters
    ----------
    crystal : the network's probability that each shows one crystal; None where it was not asked.
    """
    return tuple(_doubt(a, p) for a, p in zip(analyses, crystal, strict=True))


def _doubt(analysis: Analysis, crystal: float | None) -> str | None:
    if analysis.kind != "spots":
        return None
    spots = len(analysis.spots)
    if not analysis.lattices:
        return f"{spots} spots on no common lattice, as far off a zone axis or of many grains"
    nets = [len(lattice.members) for lattice in analysis.lattices if lattice.rank == 2]
    if nets and max(nets) < FEWEST:
        return f"a lattice of {max(nets)} of {spots} spots"
    if len(nets) > MOST_LATTICES and _explained(analysis, 1) < LEADING:
        return f"{len(nets)} lattices on top of each other, as of several grains"
    light = _explained(analysis)
    if light < LEAST_LIGHT:
        return f"the lattices found explain {100 * light:.0f} % of the light of {spots} spots"
    if crystal is not None and crystal < REFUSED:
        return f"the network gives {100 * crystal:.0f} % to the spots being of one crystal"
    return None


def _explained(analysis: Analysis, first: int | None = None) -> float:
    """Part of the spots' intensity that lies on lattices, or on the first of them."""
    members = {int(i) for lattice in analysis.lattices[:first] for i in lattice.members}
    total = float(analysis.spots.intensity.sum())
    own = float(sum(analysis.spots.intensity[i] for i in members))
    return own / total if total > 0 else 0.0
