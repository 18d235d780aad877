"""Patterns without a lattice: empty, amorphous, quasicrystal; and the sentence that says so."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from diskern.bragg.lattice import Lattice2D
from diskern.bragg.rings import BROADEST, Rings
from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre

Floats = NDArray[np.float64]

FORBIDDEN = (5, 8, 10, 12)
"""Rotational orders that no lattice has and quasicrystals show."""
TAU = (1 + 5**0.5) / 2
WIDEST_DISK = 0.08
"""Radius of the direct disk, over the image's side, past which its neighbours overlap it."""
SURE = 20.0
"""Evidence of a lattice that is there: overlapping disks leave none such, and its nodes say where
the direct beam can be."""
BRIGHT = 20.0
"""Signal-to-noise ratio that speckle does not reach."""
LEAST_SPOTS = 12
"""Fewest spots from which a forbidden symmetry is claimed."""


@dataclass(frozen=True)
class Symmetry:
    """A rotational order of a spot pattern: spots that have their turned partners, and odds."""

    order: int
    matched: float
    log_odds: float


def refusal(
    spots: Spots,
    lattices: tuple[Lattice2D, ...],
    rings: Rings | None,
    halo: float | None,
    centre: Centre,
    shape: tuple[int, int],
) -> str | None:
    """Why a pattern has no crystal lattice to identify, in a sentence, or None if it may.

    Parameters
    ----------
    halo : radius in px of a broad maximum of the radial profile, or None.
    """
    explained = sum(len(lattice.members) for lattice in lattices)
    if len(spots) >= LEAST_SPOTS and explained < 0.8 * len(spots):
        order = forbidden_order(spots, centre, shape)
        if order is not None:
            return (
                f"{order.order}-fold rotational symmetry of sharp spots, which no lattice has: "
                "a quasicrystal or multiple twin"
            )
    # Disks that overlap leave no lattice; a beam that flooded its neighbourhood does.
    apart = any(lattice.rank == 2 and lattice.evidence > SURE for lattice in lattices)
    if rings is None and centre.radius > WIDEST_DISK * min(shape) and not apart:
        return (
            f"the direct disk is {2 * centre.radius:.0f} px wide: a convergent-beam pattern whose "
            "disks overlap, not one of separate spots"
        )
    if rings is not None or lattices:
        return None
    # The speckle of an amorphous film passes for a spot now and then, never for a bright one;
    # a two-beam frame has few spots, but bright ones.
    if len(spots) >= (3 if halo is None else 6) or (spots.snr > BRIGHT).sum() >= 2:
        return None
    if halo is not None:
        few = "" if len(spots) == 0 else f" and only {len(spots)} spot(s)"
        return f"only broad haloes (at {halo:.0f} px){few}: amorphous"
    if len(spots) == 0:
        return "no spots, rings or haloes above the noise"
    return f"only {len(spots)} spot(s) beside the direct beam: too few for a lattice"


def forbidden_order(spots: Spots, centre: Centre, shape: tuple[int, int]) -> Symmetry | None:
    """The non-crystallographic rotation that a spot pattern has, or None.

    Strong spots are turned about the centre by 360°/n; the share that falls on spots is
    compared with chance and with what the crystallographic orders (2, 3, 4, 6) reach: a
    five-fold pattern recorded flat is ten-fold by Friedel's law.  Twins and moirés of few
    grains match some spots only; here at least 60 % of them must have all their partners.
    """
    strong = spots.select(np.arange(min(len(spots), 80)))
    place = strong.position - centre.as_array()
    radius = np.linalg.norm(place, axis=1)
    # Turned spots must still lie on the image.
    inscribed = min(centre.row, centre.col, shape[0] - 1 - centre.row, shape[1] - 1 - centre.col)
    if inscribed <= 0:
        return None
    tolerance = float(np.clip(2.5 * np.median(strong.sigma), 1.0, 2.5)) + min(centre.sigma, 2.0)
    inside = (radius < 0.97 * inscribed) & (radius > 6 * tolerance)
    if inside.sum() < LEAST_SPOTS:
        return None
    tested = place[inside]
    found = {n: _turned(tested, place, n, tolerance) for n in (2, 3, 4, 6, *FORBIDDEN)}
    # A ten-fold pattern is five-fold as well: the higher order, if it matches as well.
    best = max((found[n] for n in FORBIDDEN), key=lambda s: (round(s.matched, 1), s.order))
    crystallographic = max(found[n].matched for n in (3, 4, 6))
    if best.matched < 0.6 or best.log_odds < 12 or best.matched < crystallographic + 0.25:
        return None
    if not _self_similar(radius[inside], tolerance) and best.order in (5, 10):
        return None
    return best


def _turned(tested: Floats, all_places: Floats, order: int, tolerance: float) -> Symmetry:
    """Share of spots whose partners under every power of a rotation are there too."""
    hits = np.ones(len(tested), dtype=bool)
    total = np.zeros(len(tested))
    for step in range(1, order):
        turn = 2 * np.pi * step / order
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        away = np.linalg.norm((tested @ rotation)[:, None, :] - all_places[None], axis=2).min(1)
        total += away < tolerance
    # One missing partner is forgiven in five: weak spots drown.
    hits = total >= 0.75 * (order - 1)
    reach = float(np.linalg.norm(all_places, axis=1).max())
    chance = min(0.9, len(all_places) * (tolerance / reach) ** 2)
    found, trials = int(total.sum()), len(tested) * (order - 1)
    log_odds = -float(np.log10(max(special.bdtrc(max(found - 1, 0), trials, chance), 1e-300)))
    return Symmetry(order, float(hits.mean()), log_odds)


def _self_similar(radius: Floats, tolerance: float) -> bool:
    """Whether spots recur at radii scaled by τ = 1.618, as in five- and ten-fold patterns.

    Five crystal grains turned by 36° about each other have the symmetry, not the scaling.
    """
    rest = np.abs(radius[:, None] * TAU - radius[None, :]).min(1)
    possible = radius * TAU < radius.max() + tolerance
    if possible.sum() < 5:
        return True
    return float(np.mean(rest[possible] < 1.5 * tolerance)) > 0.5


def halo_radius(profile: Floats, sigma: Floats) -> float | None:
    """Radius in px of the highest broad maximum of a radial profile, or None.

    Parameters
    ----------
    profile, sigma : (R,) from `radial_profile`; NaN where unknown.
    """
    known = np.isfinite(profile) & np.isfinite(sigma)
    where = np.nonzero(known)[0]
    if len(where) < 20 or where[-1] < 30:
        return None
    # Widths grow with radius: smooth by a twelfth of it.
    edges = np.unique(np.round(np.geomspace(6, where[-1] + 1, 90)).astype(int))
    middle, value, error = [], [], []
    for low, high in pairwise(edges):
        part = slice(low, high)
        use = known[part]
        if use.any():
            middle.append((low + high) / 2)
            value.append(profile[part][use].mean())
            error.append(float(np.sqrt(np.mean(sigma[part][use] ** 2) / use.sum())))
    level, noise, at = np.array(value), np.array(error), np.array(middle)
    if len(level) < 6:
        return None
    # The beam's foot is no measure of how high a halo is.
    span = float(np.median(level) - level.min())
    best, radius = 0.0, None
    for i in range(2, len(level) - 2):
        foot = max(level[:i].min(), level[i + 1 :].min())
        rise = level[i] - foot
        summit = level[i] == level[i - 2 : i + 3].max()
        if not summit or rise <= max(5 * noise[i], 0.05 * span, best):
            continue
        low = level < foot + rise / 2
        inner = np.nonzero(low[:i])[0]
        outer = i + 1 + np.nonzero(low[i + 1 :])[0]
        full = at[outer[0]] - at[inner[-1]] if len(inner) and len(outer) else 0.0
        if full > BROADEST * at[i] + 2 * (at[i + 1] - at[i]):
            best, radius = rise, float(at[i])
    return radius
