"""Exposures for the demonstration, with the truth that each must lead back to.

What is simulated here comes from `diskern.simulate`: Bloch waves or thousands of small kinematic
crystals, seen through an instrument with background, distortion, beam stop and noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.common import common_phases
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.simulate import instrument as lab
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.render import render_spots
from diskern.simulate.saed import simulate_saed
from diskern.simulate.spot_pattern import SpotPattern

if TYPE_CHECKING:
    from diskern.crystal.crystal import Crystal

SHAPE = (512, 512)
PIXEL_SIZE = 0.0055
"""1/Å per px of every exposure."""
ENERGY = 200e3
G_MAX = 1.5
THICKNESS = 160.0
GRAINS = 3000


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
    """All demonstrations, simulated anew (a few seconds)."""
    return [_silicon(), _rutile(), _gold(), _glass()]


def _phase(name: str) -> Crystal:
    return next(c for c in common_phases() if c.name == name)


def _silicon() -> Case:
    stop = lab.BeamStop(angle=183.0, width=24.0, wedge=0.5, overlap=14.0, leak=0.01)
    images = {
        "zone_a.tif": _crystal_exposure("Si", (0, 1, 1), seed=1, turn=31.0),
        "zone_b_tilted.tif": _crystal_exposure("Si", (0, 0, 1), stop, seed=2, turn=9.0, tilt=18.0),
        "zone_c.tif": _crystal_exposure("Si", (1, 1, 2), seed=3, turn=64.0),
    }
    return Case(
        "silicon",
        "One crystal in three zones",
        "Three exposures of one silicon crystal; the second is tilted 1° off its zone and has "
        "a beam stop. Pixel size and voltage are given, and that there may be silicon, carbon and "
        "oxygen.",
        images,
        "Si",
        227,
        {"pixel_size": PIXEL_SIZE, "energy": ENERGY, "elements": ["Si", "C", "O"]},
        ("--pixel-size", f"{PIXEL_SIZE:g}", "--voltage", "200", "--elements", "Si,C,O"),
    )


def _rutile() -> Case:
    images = {
        "unscaled.png": _picture(_crystal_exposure("TiO2 (rutile)", (1, 0, 0), seed=4, turn=22.0))
    }
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
    image = _picture(_powder_exposure("Au", seed=5), lab.ScaleBar(5.0, corner=0))
    return Case(
        "gold",
        "Rings of a polycrystal",
        "An 8-bit picture of gold nanocrystals with a scale bar burnt in; its label and "
        "the elements are given.",
        {"rings.png": image},
        "Au",
        225,
        {"scale_bar": 0.5, "elements": ["Au", "Cu"]},
        ("--scale-bar", "5", "--elements", "Au,Cu"),
    )


def _glass() -> Case:
    return Case(
        "glass",
        "Nothing crystalline",
        "An amorphous film: broad halos only. The right answer is that there is no crystal.",
        {"halos.tif": _glass_exposure(seed=6)},
        None,
        None,
        {"pixel_size": PIXEL_SIZE},
        ("--pixel-size", f"{PIXEL_SIZE:g}"),
    )


# --- specimens ---------------------------------------------------------------------------------
def _crystal_exposure(
    name: str,
    zone: tuple[int, int, int],
    *camera: lab.Transform,
    seed: int,
    tilt: float = 0.0,
    turn: float = 0.0,
) -> NDArray[np.uint16]:
    """One crystal near a zone axis, by Bloch waves; ``tilt`` in mrad, ``turn`` in degrees."""
    crystal = _phase(name).with_u_iso(0.006)
    orientation = tilted(zone_axis_orientation(crystal, zone), tilt, azimuth=40.0)
    spots = simulate_saed(
        crystal,
        orientation=Rotation.from_euler("z", turn, degrees=True) * orientation,
        energy=ENERGY,
        g_max=G_MAX,
        thickness=THICKNESS,
        method="bloch",
    )
    image = render_spots(spots, SHAPE, PIXEL_SIZE, sigma=1.9)
    beam = (lab.DirectBeam(0.35, 2.4), lab.DiffuseBackground(0.5, core=0.04, power=1.5))
    return _exposed(image, (*beam, *camera), seed, electrons=1.5e7)


def _powder_exposure(name: str, *camera: lab.Transform, seed: int) -> NDArray[np.uint16]:
    """Thousands of small crystals, turned at random: grainy rings."""
    batch = simulate_saed_batch(
        _phase(name).with_u_iso(0.008),
        Rotation.random(GRAINS, random_state=np.random.default_rng(seed)),
        energy=ENERGY,
        g_max=1.9,
        thickness=50.0,
    )
    every = SpotPattern(
        batch.hkl.reshape(-1, 3), batch.q.reshape(-1, 2), batch.s_g.ravel(), batch.intensity.ravel()
    )
    image = render_spots(every, SHAPE, PIXEL_SIZE, sigma=1.8)
    beam = (lab.DirectBeam(0.3, 2.6), lab.DiffuseBackground(0.45, core=0.05, power=1.5))
    return _exposed(image / image.sum(), (*beam, *camera), seed, electrons=4e7)


def _glass_exposure(seed: int) -> NDArray[np.uint16]:
    """An amorphous film: halos, and no crystal at all."""
    image = np.full(SHAPE, 1.0 / np.prod(SHAPE), dtype=np.float32)
    film = (
        lab.DiffuseBackground(0.9, core=0.04, power=1.5),
        lab.AmorphousHalo(0.5, radius=0.42, width=0.06),
        lab.DirectBeam(0.2, 2.6),
    )
    return _exposed(image, film, seed, electrons=2e7)


def _exposed(
    image: NDArray[Any], parts: tuple[lab.Transform, ...], seed: int, electrons: float
) -> NDArray[np.uint16]:
    """What a 16-bit camera reads: ``parts`` of the column, then noise and the ceiling."""
    rows, cols = np.random.default_rng(seed).uniform(-12, 12, 2)
    column = (lab.CentreOffset(float(rows), float(cols)), lab.Ellipticity(1.006, 30.0), *parts)
    camera = (lab.Dose(electrons), lab.Gain(1.0, 0.005), lab.ReadNoise(1.5, 20.0))
    labels = lab.Labels.of(image, pixel_size=PIXEL_SIZE)
    counts, _ = lab.Instrument((*column, *camera), seed).apply(image, labels)
    return np.asarray(np.clip(np.round(counts), 0, 65535), dtype=np.uint16)


def _picture(counts: NDArray[np.uint16], *scars: lab.Transform) -> NDArray[np.uint8]:
    """An 8-bit picture as a camera program exports it."""
    image = counts.astype(np.float32)
    labels = lab.Labels.of(image, pixel_size=PIXEL_SIZE)
    export = (lab.EightBit(gamma=0.6, white=0.002, black=0.01), *scars)
    grey, _ = lab.Instrument(export).apply(image, labels)
    return grey.astype(np.uint8)
