"""The tree over which symmetry networks spread their probability."""

from __future__ import annotations

from functools import cache

from diskern.crystal.extinction_groups import diffraction_symbols
from diskern.crystal.spacegroups import LAUE_CLASSES, SYSTEMS


@cache
def symmetry_tree() -> tuple[tuple[int, ...], ...]:
    """For each class of each level the class above it.

    Crystal systems (below one root), Laue classes, diffraction symbols, space groups.
    """
    symbols = diffraction_symbols()
    system_of = {s.laue_class: SYSTEMS.index(s.system) for s in symbols}
    symbol_of = {n: s.index for s in symbols for n in s.space_groups}
    return (
        (0,) * len(SYSTEMS),
        tuple(system_of[c] for c in LAUE_CLASSES),
        tuple(LAUE_CLASSES.index(s.laue_class) for s in symbols),
        tuple(symbol_of[n] for n in range(1, 231)),
    )
