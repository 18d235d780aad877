"""From one image to everything it tells before crystallography."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.analysis import Analysis, Kind
from diskern.bragg.beam_node import beam_node
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.noncrystal import SURE, halo_radius, refusal
from diskern.bragg.rings import Rings, find_rings
from diskern.bragg.spots import Spots, find_spots
from diskern.patterns.background import radial_background, radial_profile, with_rings
from diskern.patterns.centre import diffuse_centre, find_centre
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
    beam = _centre(pattern, flaws)
    rings = find_rings(image, flaws, beam, ellipse)
    centre = beam if rings is None else _common_centre(beam, rings.centre)
    found = _crystals(image, flaws, centre, rings, ellipse)
    if rings is not None and found.kind == "spots":
        # Spots at like distances make a crooked ring; neither its ellipse nor its centre counts.
        found = _crystals(image, flaws, beam, None, ellipse)
        centre = beam
        notes.append("Rings beside the spots: a polycrystal or amorphous film shares the area.")
    if found.kind == "spots":
        centre, found = _at_beam(image, flaws, centre, ellipse, found)
    return Analysis(
        pattern=pattern,
        flaws=flaws,
        background=found.background,
        centre=centre,
        spots=found.spots,
        lattices=found.lattices,
        rings=rings,
        kind=found.kind,
        refusal=found.refusal,
        ellipse=found.ellipse,
        scale_bar=None if bar is None else bar.length_px,
        notes=tuple(notes + _centre_notes(centre) + _bar_notes(bar)),
    )


class _Crystals(NamedTuple):
    """What an image shows about one centre."""

    background: NDArray[np.float32]
    spots: Spots
    lattices: tuple[Lattice2D, ...]
    ellipse: Ellipse
    refusal: str | None
    kind: Kind


def _crystals(
    image: NDArray[Any],
    flaws: NDArray[np.uint16],
    centre: Centre,
    rings: Rings | None,
    ellipse: Ellipse | None,
) -> _Crystals:
    background = radial_background(image, centre, flaws)
    distortion = ellipse or (rings.ellipse if rings is not None else Ellipse())
    behind = with_rings(background, image, centre, flaws, distortion)
    spots = find_spots(image, flaws, centre, behind)
    shape = (image.shape[0], image.shape[1])
    lattices = _lattices(spots, centre, shape, flaws, distortion)
    halo = halo_radius(*radial_profile(image, centre, flaws, distortion, spots=False))
    reason = refusal(spots, lattices, rings, halo, centre, shape)
    kind = _kind(spots, lattices, rings, reason)
    return _Crystals(background, spots, lattices, distortion, reason, kind)


def _at_beam(
    image: NDArray[Any],
    flaws: NDArray[np.uint16],
    centre: Centre,
    ellipse: Ellipse | None,
    found: _Crystals,
) -> tuple[Centre, _Crystals]:
    """The centre on that node of the strongest lattice which is the direct beam.

    A centre that the file states, and nothing on the image contradicts, is left alone.
    """
    nets = [lattice for lattice in found.lattices if lattice.rank == 2]
    if not nets or nets[0].evidence < SURE or centre.method == "stated":
        return centre, found
    aim = diffuse_centre(image, flaws)
    node = beam_node(nets[0], found.spots, centre, aim, flaws)
    if node is None:
        return centre, found
    sigma = max(nets[0].residual / len(nets[0].members) ** 0.5, 0.05)
    rival = (centre.row, centre.col)
    moved = Centre(float(node[0]), float(node[1]), sigma, "lattice", 0.0, (rival,))
    again = _crystals(image, flaws, moved, None, ellipse)
    better = again.kind == "spots" and any(lattice.rank == 2 for lattice in again.lattices)
    return (moved, again) if better else (centre, found)


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
    if strong >= 8 and explained > 0.7 * strong and best > SURE and len(lattices) <= 2:
        return "spots"
    return "rings" if _on_rings(spots.position[:strong], rings) else "spots"


def _on_rings(spots: NDArray[np.float64], rings: Rings) -> bool:
    """Whether spots keep to the rings, as those of a polycrystal do; True for too few to tell.

    One ring among spots elsewhere is a film's, and a row of streaks or a halo with a shoulder may
    pass for two.
    """
    if len(spots) < 5:
        return True
    away = np.linalg.norm(spots - rings.centre.as_array(), axis=1)
    reach = 3 * rings.width + 0.03 * rings.radius
    near = float((np.abs(away[:, None] - rings.radius) < reach).any(1).mean())
    # Spots anywhere between the innermost and the outermost would meet the rings by their area.
    radius = np.arange(away.min(), away.max() + 1)
    covered = (np.abs(radius[:, None] - rings.radius) < reach).any(1)
    chance = float(radius[covered].sum() / radius.sum())
    scatter = np.sqrt(chance * (1 - chance) / len(spots))
    return near > chance + scatter and (len(rings.radius) > 1 or near > 0.5)


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
