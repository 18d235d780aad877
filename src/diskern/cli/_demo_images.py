"""Simulated exposures for the demonstration, with the truth that each must lead back to.

Kinematic spots or rings on an inelastic background, an elliptical distortion, a beam stop, a
burnt-in scale bar, and Poisson noise; everything from fixed seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.common import common_phases
from diskern.crystal.orientation import reciprocal_vectors, tilted, zone_axis_orientation
from diskern.simulate.kinematic import simulate_saed
from diskern.simulate.render import render_spots

if TYPE_CHECKING:
    from diskern.crystal.crystal import Crystal

Image = NDArray[np.float64]
Byte = NDArray[np.uint8]

SHAPE = (512, 512)
PIXEL_SIZE = 0.0055
"""1/Å per px of every exposure."""
ENERGY = 200e3


@dataclass(frozen=True)
class Case:
    """One question to `identify`, and what is known because it was simulated.

    Attributes
    ----------
    images : file name → image, uint16 counts (TIFF) or uint8 grey levels (PNG).
    known : keyword arguments of `identify`, and ``options`` as the command line spells them.
    phase, space_group : the truth; None for the specimen that is no crystal.
    """

    name: str
    title: str
    words: str
    images: dict[str, NDArray[Any]]
    phase: str | None
    space_group: int | None
    known: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def cases() -> list[Case]:
    """All demonstrations, simulated anew (about two seconds)."""
    return [_silicon(), _rutile(), _gold(), _glass()]


def _phase(name: str) -> Crystal:
    return next(c for c in common_phases() if c.name == name)


def _silicon() -> Case:
    crystal = _phase("Si")
    images = {
        "zone_a.tif": _spots(crystal, (0, 1, 1), seed=1),
        "zone_b_tilted.tif": _spots(crystal, (0, 0, 1), seed=2, tilt=22.0, stop=True),
        "zone_c.tif": _spots(crystal, (1, 1, 2), seed=3),
    }
    return Case(
        "silicon",
        "One crystal in three zones",
        "Three exposures of one silicon crystal; the second is tilted 1.3° off its zone and has "
        "a beam stop. Pixel size and voltage are given.",
        images,
        "Si",
        227,
        {"pixel_size": PIXEL_SIZE, "energy": ENERGY},
        ("--pixel-size", f"{PIXEL_SIZE:g}", "--voltage", "200"),
    )


def _rutile() -> Case:
    images = {"unscaled.png": grey_levels(_spots(_phase("TiO2 (rutile)"), (1, 0, 0), seed=4))}
    return Case(
        "rutile",
        "One pattern without a scale",
        "An 8-bit picture of a rutile crystal; nothing is known but that titanium and oxygen "
        "may be present.",
        images,
        "TiO2 (rutile)",
        136,
        {"elements": ["Ti", "O"]},
        ("--elements", "Ti,O"),
    )


def _gold() -> Case:
    image = grey_levels(_rings(_phase("Au"), seed=5))
    _burn_scale_bar(image, 5.0)
    return Case(
        "gold",
        "Rings of a polycrystal",
        "An 8-bit picture of gold nanocrystals with a scale bar burnt in; its label is given.",
        {"rings.png": image},
        "Au",
        225,
        {"scale_bar": 0.5},
        ("--scale-bar", "5"),
    )


def _glass() -> Case:
    return Case(
        "glass",
        "Nothing crystalline",
        "An amorphous film: broad halos only. The right answer is that there is no crystal.",
        {"halos.tif": _halos(seed=6)},
        None,
        None,
        {"pixel_size": PIXEL_SIZE},
        ("--pixel-size", f"{PIXEL_SIZE:g}"),
    )


# --- exposures --------------------------------------------------------------------------------
def _spots(
    crystal: Crystal,
    zone: tuple[int, int, int],
    *,
    seed: int,
    tilt: float = 0.0,
    stop: bool = False,
) -> NDArray[np.uint16]:
    """One single-crystal exposure; ``tilt`` in mrad."""
    rng = np.random.default_rng(seed)
    centre = tuple(np.array(SHAPE) / 2 + rng.uniform(-12, 12, 2))
    orientation = tilted(zone_axis_orientation(crystal, zone), tilt, azimuth=40.0)
    turn = type(orientation).from_euler("z", rng.uniform(0, 90), degrees=True)
    pattern = simulate_saed(
        crystal.with_u_iso(0.006),
        orientation=turn * orientation,
        energy=ENERGY,
        g_max=1.6,
        width=0.014,
    )
    # The square root stands in for the levelling of strong beams by dynamical scattering.
    strength = np.sqrt(pattern.intensity / pattern.intensity.max())
    levelled = type(pattern)(pattern.hkl, pattern.q, pattern.s_g, strength)
    image = render_spots(levelled, SHAPE, PIXEL_SIZE, 1.9, centre=centre, normalisation="peak")
    counts = 2500.0 * image + _background(centre, 900.0) + _direct_beam(centre, 5e4, 2.6)
    if stop:
        counts *= _beam_stop(centre)
    return _exposed(counts, rng)


def _rings(crystal: Crystal, *, seed: int) -> NDArray[np.uint16]:
    """Many small crystals at random: rings of slightly grainy intensity."""
    rng = np.random.default_rng(seed)
    centre = (SHAPE[0] / 2 + 5.3, SHAPE[1] / 2 - 7.8)
    radius, angle = _polar(centre)
    stretched = radius / (1 + 0.004 * np.cos(2 * (angle - 0.6)))
    hkl, g = reciprocal_vectors(crystal, 1.45)
    allowed = (hkl % 2 == hkl[:, :1] % 2).all(axis=1)  # face-centred: all even or all odd
    lengths, counts = np.unique(np.round(np.linalg.norm(g[allowed], axis=1), 6), return_counts=True)
    image = _background(centre, 700.0) + _direct_beam(centre, 3e4, 3.0)
    for length, multiplicity in zip(lengths, counts, strict=True):
        height = 140.0 * multiplicity * np.exp(-3.2 * length) / length
        image += height * np.exp(-0.5 * ((stretched - length / PIXEL_SIZE) / 2.0) ** 2)
    return _exposed(image * rng.gamma(60.0, 1 / 60.0, SHAPE), rng)


def _halos(*, seed: int) -> NDArray[np.uint16]:
    """Broad halos of an amorphous film."""
    rng = np.random.default_rng(seed)
    centre = (SHAPE[0] / 2 - 3.0, SHAPE[1] / 2 + 4.5)
    radius, _ = _polar(centre)
    q = radius * PIXEL_SIZE
    image = _background(centre, 1200.0) + _direct_beam(centre, 4e4, 3.0)
    for position, width, height in ((0.42, 0.07, 260.0), (0.80, 0.10, 110.0)):
        image += height * np.exp(-0.5 * ((q - position) / width) ** 2)
    return _exposed(image, rng)


def _polar(centre: tuple[float, ...]) -> tuple[Image, Image]:
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    return np.hypot(row - centre[0], col - centre[1]), np.arctan2(row - centre[0], col - centre[1])


def _background(centre: tuple[float, ...], height: float) -> Image:
    """Inelastic scattering: Lorentzian in q with a flat floor, in counts."""
    q = _polar(centre)[0] * PIXEL_SIZE
    return np.asarray(height / (1 + (q / 0.11) ** 2) + 12.0)


def _direct_beam(centre: tuple[float, ...], height: float, sigma: float) -> Image:
    return np.asarray(height * np.exp(-0.5 * (_polar(centre)[0] / sigma) ** 2))


def _beam_stop(centre: tuple[float, ...]) -> Image:
    """Transmission of a needle from the left edge to just beyond the direct beam."""
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    along = centre[1] + 13.0 - col
    inside = (along > 0) & (np.abs(row - centre[0] + 0.05 * along) < 11.0)
    return np.where(inside, 0.02, 1.0)


def _exposed(counts: Image, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Counting noise and the converter's ceiling."""
    return np.asarray(np.clip(rng.poisson(counts), 0, 65535), dtype=np.uint16)


def grey_levels(image: NDArray[Any]) -> Byte:
    """8-bit grey levels as a camera program exports them: linear up to the 99.7 % level."""
    top = np.percentile(image, 99.7)
    return np.asarray(np.clip(image * (255.0 / top), 0, 255), dtype=np.uint8)


def _burn_scale_bar(image: Byte, label: float) -> None:
    """Draw a white bar of ``label`` 1/nm with its text into the lower left corner."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    length = round(label / 10 / PIXEL_SIZE)
    picture = Picture.fromarray(image)
    draw = ImageDraw.Draw(picture)
    left, top = 24, SHAPE[0] - 30
    draw.rectangle((left - 8, top - 24, left + length + 7, top + 14), fill=0)
    draw.rectangle((left, top, left + length - 1, top + 4), fill=255)
    draw.text((left, top - 18), f"{label:g} 1/nm", fill=255)
    image[...] = np.asarray(picture)
