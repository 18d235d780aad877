"""Another direct beam: the same measurements about one of the rival centres.

Where a Bragg spot is as bright as the direct beam one image cannot always tell them apart.
Other frames of the camera can, and so can a crystal that fits about one centre only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre

SAME_PLACE = 0.012
"""Over the image's smaller side: frames of one camera have their beams this near each other."""


def recentred(analysis: Analysis, position: tuple[float, float]) -> Analysis:
    """The analysis with the direct beam at a rival's (row, column) in px.

    The spot there leaves the list; the former centre joins it, as bright as the brightest.
    """
    old = analysis.centre
    place = np.array(position)
    spots = analysis.spots
    away = np.linalg.norm(spots.position - place, axis=1)
    near = away <= max(4.0, 2 * old.radius)
    kept = np.flatnonzero(~near)
    new = Centre(
        float(place[0]), float(place[1]), old.sigma, old.method, old.radius, ((old.row, old.col),)
    )
    renumbered = np.full(len(spots) + 1, -1)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    return replace(
        analysis,
        centre=new,
        spots=_with_former_beam(spots.select(kept), old),
        lattices=tuple(_moved(lattice, place, renumbered) for lattice in analysis.lattices),
        notes=(*analysis.notes, f"Direct beam taken at row {new.row:.1f}, column {new.col:.1f}."),
    )


def _with_former_beam(spots: Spots, beam: Centre) -> Spots:
    top = float(spots.intensity.max(initial=1.0))
    radius = beam.radius or float(np.median(spots.radius)) if len(spots) else 1.0
    return Spots(
        np.vstack([[beam.row, beam.col], spots.position]),
        np.vstack([[beam.sigma, beam.sigma], spots.sigma]),
        np.concatenate([[top], spots.intensity]),
        np.concatenate([[0.5 * top], spots.sigma_intensity]),
        np.concatenate([[radius], spots.radius]),
    )


def _moved(
    lattice: Lattice2D, place: np.ndarray[tuple[int], np.dtype[np.float64]], renumbered: np.ndarray
) -> Lattice2D:
    """The lattice with its node nearest to ``place`` as node (0, 0)."""
    offset = place - lattice.origin
    if lattice.rank == 2:
        step = np.rint(offset @ np.linalg.inv(lattice.basis)).astype(np.int64)
        origin = lattice.origin + step @ lattice.basis
    else:
        a = lattice.basis[0]
        step = np.array([round(float(offset @ a / (a @ a))), 0], dtype=np.int64)
        origin = lattice.origin + step[0] * a
    members = renumbered[lattice.members]
    keep = members >= 0
    return replace(
        lattice,
        origin=origin,
        members=members[keep],
        indices=lattice.indices[keep] - step,
    )


def agreed(analyses: Sequence[Analysis]) -> tuple[Analysis, ...]:
    """Frames of one camera with their direct beams in one place, as far as rivals allow.

    The place that most frames of one image shape name, as centre or as rival, is taken for
    those frames that named it only as a rival.
    """
    out = list(analyses)
    for shape in {a.pattern.shape for a in analyses}:
        group = [i for i, a in enumerate(analyses) if a.pattern.shape == shape]
        named = {i: np.array([_place(analyses[i]), *analyses[i].centre.rivals]) for i in group}
        reach = max(4.0, SAME_PLACE * min(shape))

        def votes(place: np.ndarray, named: dict[int, np.ndarray] = named, r: float = reach) -> int:
            return sum(bool((np.linalg.norm(p - place, axis=1) < r).any()) for p in named.values())

        place = max((p for all_named in named.values() for p in all_named), key=votes)
        if votes(place) < 3:  # two frames may share a Bragg spot as well as the beam
            continue
        for i in group:
            away = np.linalg.norm(named[i] - place, axis=1)
            best = int(away.argmin())
            if best > 0 and away[best] < reach:
                row, col = named[i][best]
                out[i] = recentred(analyses[i], (float(row), float(col)))
    return tuple(out)


def _place(analysis: Analysis) -> tuple[float, float]:
    return analysis.centre.row, analysis.centre.col
