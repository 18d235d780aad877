"""From one image to everything it tells before crystallography."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.analysis import Analysis, Kind
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.noncrystal import halo_radius, refusal
from diskern.bragg.rings import Rings, find_rings
from diskern.bragg.spots import Spots, find_spots
from diskern.patterns.background import radial_background, radial_profile, with_rings
from diskern.patterns.centre import find_centre
from diskern.patterns.geometry import Centre, Ellipse, Flaw
from diskern.patterns.levels import upright
from diskern.patterns.masks import find_flaws
from diskern.patterns.pattern import Pattern
from diskern.patterns.scalebar import ScaleBar, find_scale_bar

STATED_SIGMA = 2.0
"""Standard uncertainty in px of a centre that a file's header states: it drifts."""


def analyse(pattern: Pattern, *, ellipse: Ellipse | None = None) -> Analysis:
    """Flaws, centre, background, rings, spots and lattices of one image, and what kind it is.

    Parameters
    ----------
    pattern : as read.  Where dark means many electrons the image is inverted first; the
        analysis then holds the upright pattern.
    ellipse : distortion known from a standard at the same setting; without it, the rings' own
        is used where there are rings.
    """
    notes: list[str] = []
    pattern = _in_range(pattern, notes)
    image, inverted = upright(pattern.image)
    if inverted:
        notes.append("Dark means many electrons here: the image was inverted.")
        pattern = replace(pattern, image=image)
    flaws = find_flaws(image)
    notes += _flaw_notes(flaws)
    bar = find_scale_bar(np.nan_to_num(pattern.image))
    centre = _centre(pattern, flaws)
    rings = find_rings(image, flaws, centre, ellipse)
    if rings is not None:
        centre = _common_centre(centre, rings.centre)
    notes += _centre_notes(centre)
    background = radial_background(image, centre, flaws)
    distortion = ellipse or (rings.ellipse if rings is not None else Ellipse())
    behind = with_rings(background, image, centre, flaws, distortion)
    spots = find_spots(image, flaws, centre, behind)
    lattices = _lattices(spots, centre, pattern.shape, flaws, distortion)
    halo = halo_radius(*radial_profile(image, centre, flaws, distortion, spots=False))
    reason = refusal(spots, lattices, rings, halo, centre, pattern.shape)
    kind = _kind(spots, lattices, rings, reason)
    if rings is not None and kind == "spots":
        # Spots at like distances make a crooked ring; its ellipse is no lens's.
        distortion = ellipse or Ellipse()
        notes.append("Rings beside the spots: a polycrystal or amorphous film shares the area.")
    return Analysis(
        pattern=pattern,
        flaws=flaws,
        background=background,
        centre=centre,
        spots=spots,
        lattices=lattices,
        rings=rings,
        kind=kind,
        refusal=reason,
        ellipse=distortion,
        scale_bar=None if bar is None else bar.length_px,
        notes=tuple(notes + _bar_notes(bar)),
    )


def _in_range(pattern: Pattern, notes: list[str]) -> Pattern:
    """Levels whose squares a float32 cannot hold are brought to a largest of 10⁴."""
    largest = float(np.nanmax(np.abs(pattern.image), initial=0.0))
    if largest == 0 or 1e-6 < largest < 1e12:
        return pattern
    notes.append(f"Levels up to {largest:.1e} were scaled to 10000.")
    scaled = pattern.image.astype(np.float64) * (1e4 / largest)
    return replace(pattern, image=scaled.astype(np.float32))


def _centre(pattern: Pattern, flaws: NDArray[np.uint16]) -> Centre:
    """The measured centre; the stated one where nothing could be measured near it."""
    found = find_centre(pattern.image, flaws)
    if pattern.centre is None:
        return found
    stated = Centre(*pattern.centre, STATED_SIGMA, "stated")
    away = float(np.hypot(found.row - stated.row, found.col - stated.col))
    agrees = away < 4 * float(np.hypot(found.sigma, STATED_SIGMA))
    return found if agrees and found.sigma < STATED_SIGMA else stated


def _common_centre(beam: Centre, rings: Centre) -> Centre:
    """The rings' centre, unless the direct beam is seen and both agree no better."""
    if beam.method == "direct beam" and beam.sigma < rings.sigma:
        return beam
    return rings


def _lattices(
    spots: Spots,
    centre: Centre,
    shape: tuple[int, int],
    flaws: NDArray[np.uint16],
    ellipse: Ellipse,
) -> tuple[Lattice2D, ...]:
    if len(spots) < 2:
        return ()
    from diskern.bragg.lattice_fit import fit_lattices

    return fit_lattices(spots, centre, shape, flaws=flaws, ellipse=ellipse)


def _kind(
    spots: Spots, lattices: tuple[Lattice2D, ...], rings: Rings | None, reason: str | None
) -> Kind:
    """Rings make a polycrystal unless lattices explain most of the strong spots."""
    if reason is not None:
        return "none"
    if rings is None:
        return "spots"
    strong = min(len(spots), 30)
    members = {int(i) for lattice in lattices for i in lattice.members}
    explained = sum(i in members for i in range(strong))
    best = max((lattice.evidence for lattice in lattices), default=0.0)
    if strong >= 8 and explained > 0.7 * strong and best > 20 and len(lattices) <= 2:
        return "spots"
    if len(rings.radius) == 1 and strong >= 5:
        # One ring among spots elsewhere is a film's; the spots of a polycrystal lie on its rings.
        away = np.linalg.norm(spots.position[:strong] - rings.centre.as_array(), axis=1)
        near = np.abs(away[:, None] - rings.radius) < 3 * rings.width + 0.03 * rings.radius
        return "rings" if near.any(1).mean() > 0.5 else "spots"
    return "rings"


def _flaw_notes(flaws: NDArray[np.uint16]) -> list[str]:
    words = {
        Flaw.BEAM_STOP: "beam stop",
        Flaw.MISSING: "no detector",
        Flaw.OVERLAY: "drawn overlay",
        Flaw.SATURATED: "saturated",
        Flaw.BLOOMING: "blooming",
        Flaw.HOT: "hot",
        Flaw.DEAD: "dead",
        Flaw.CROSS: "chip edges",
    }
    shares = {word: float(np.mean((flaws & np.uint16(flag)) != 0)) for flag, word in words.items()}
    said = [f"{word} {100 * share:.2g} %" for word, share in shares.items() if share > 0]
    return [f"Pixels set aside: {', '.join(said)}."] if said else []


def _centre_notes(centre: Centre) -> list[str]:
    said = [
        f"Centre at row {centre.row:.1f}, column {centre.col:.1f} px (±{centre.sigma:.2g}) "
        f"from: {centre.method}."
    ]
    if centre.rivals:
        row, col = centre.rivals[0]
        said.append(f"The spot at row {row:.0f}, column {col:.0f} px might be the direct beam too.")
    return said


def _bar_notes(bar: ScaleBar | None) -> list[str]:
    if bar is None:
        return []
    return [f"A scale bar of {bar.length_px:.0f} px is drawn on the image; its label gives 1/Å."]
