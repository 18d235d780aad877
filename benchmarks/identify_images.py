"""What `identify` makes of images as cameras record them: crystals, and what is none.

python benchmarks/identify_images.py [--images 40] [--first 1000] [--size 512] [--only KIND,...]
    [--show FOLDER]

Every image is recorded by an instrument drawn anew: off-centre, with or without a beam stop,
noise, negatives, frames.  Crystals are of structure types that the network was not trained on.
Refused is an image of which no lattice is reported, that is told as rings, or of which the answer
says that it is perhaps no single crystal.  Of crystals it tells as well how often the direct beam
is found (within 1 % of the side), how many show a net at all (five spots above noise where the
simulation put them, two of them off the row that holds most), and how many of these are refused.
--show writes the images of wrong answers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.bragg.analyse import analyse
from diskern.bragg.analysis import Analysis
from diskern.nets.registry import load
from diskern.patterns.levels import upright
from diskern.patterns.pattern import Pattern
from diskern.simulate.export import save_image
from diskern.simulate.instrument import Instrument, Labels
from diskern.simulate.instrument.diffuse import AmorphousHalo
from diskern.simulate.instrument.transform import Scene
from diskern.simulate.render import draw_gaussians
from diskern.simulate.saed import simulate_saed
from diskern.symmetry.doubts import doubts
from diskern.symmetry.learned import learned_symmetry
from diskern.train.exposures import orientations_about, zone_list
from diskern.train.materials import Material
from diskern.train.samples import sides_of
from diskern.train.spot_negatives import no_crystal
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.train_recipe import parse_train_recipe

Floats = NDArray[np.float64]
Spots = tuple[Floats, Floats]
"""(N, 2) q in 1/Å and (N,) intensities, as shares of the incident beam."""

MOST = 60
"""Spots of what is made up."""
ONE = "one crystal"
FEWEST, OFF_ROW, NEAR = 5, 2, 5.0
"""Spots that show a net, those of them off one row, and the px from it within which they are on."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Specimens:
    """Spots of every kind of specimen.

    Parameters
    ----------
    materials : that grains are of.
    """

    def __init__(self, materials: tuple[Material, ...]) -> None:
        self._materials = materials
        self.kinds: dict[str, Callable[[np.random.Generator], Spots]] = {
            "empty": lambda _: (np.zeros((0, 2)), np.zeros(0)),
            "amorphous": lambda _: (np.zeros((0, 2)), np.zeros(0)),
            "fine rings": lambda rng: self._grains(int(rng.integers(150, 400)), rng),
            "spotty rings": lambda rng: self._grains(int(rng.integers(12, 60)), rng),
            "quasicrystal": lambda rng: self._made_up("quasicrystal", rng),
            "random spots": lambda rng: self._made_up("random", rng),
            "two grains": self._two,
            "crystal": self._zone,
        }

    def _made_up(self, kind: str, rng: np.random.Generator) -> Spots:
        place, intensity, _ = no_crystal(kind, MOST, rng)
        total = np.exp(rng.uniform(np.log(0.02), np.log(0.5)))
        return place, intensity * total / intensity.sum()

    def _material(self, rng: np.random.Generator) -> Material:
        return self._materials[int(rng.integers(len(self._materials)))]

    def _zone(self, rng: np.random.Generator) -> Spots:
        """A short zone, up to half a degree off."""
        crystal = self._material(rng).build()
        known = zone_list(3)
        weight = np.linalg.norm(known @ crystal.lattice, axis=1) ** -3.0
        zone = known[rng.choice(len(known), p=weight / weight.sum())] @ crystal.lattice
        spread = np.radians(0.3)
        turn = orientations_about(zone / np.linalg.norm(zone), spread, 1, rng)[0]
        thickness = float(rng.uniform(50, 400))
        made = simulate_saed(
            crystal, orientation=Rotation.from_matrix(turn), thickness=thickness, g_max=2.0
        )
        return made.q, made.intensity

    def _two(self, rng: np.random.Generator) -> Spots:
        """Two grains of one material, the weaker with at least half the intensity."""
        (q, first), (p, second) = self._zone(rng), self._zone(rng)
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        share = rng.uniform(0.5, 1.0) * first.max(initial=0.0) / max(second.max(initial=0.0), 1e-30)
        return np.concatenate([q, p @ turn]), np.concatenate([first, share * second])

    def _grains(self, count: int, rng: np.random.Generator) -> Spots:
        """Grains of one material in any orientation."""
        crystal = self._material(rng).build()
        thickness = float(rng.uniform(50, 300))
        made = [
            simulate_saed(crystal, orientation=turn, thickness=thickness, g_max=1.6)
            for turn in Rotation.random(count, random_state=rng)
        ]
        volume = rng.exponential(1 / count, count)
        every = [v * m.intensity for v, m in zip(volume, made, strict=True)]
        return np.concatenate([m.q for m in made]), np.concatenate(every)


@dataclass(frozen=True, eq=False)
class Record:
    """An image, (2,) where its direct beam is, and whether it shows a net."""

    pattern: Pattern
    beam: Floats
    net: bool


def drawn(kind: str, size: int, seed: int) -> tuple[Instrument, float, float]:
    """An instrument, its pixel size in 1/Å and the rms radius of its spots in px."""
    rng = np.random.default_rng([seed, 7])
    pixel_size = float(rng.uniform(1.2, 2.2)) / (size / 2)
    instrument = Instrument.draw(seed, (size, size), pixel_size)
    if kind == "amorphous":
        halo = AmorphousHalo.draw(rng, Scene((size, size), pixel_size))
        instrument = Instrument((halo, *instrument.transforms), seed)
    return instrument, pixel_size, float(rng.uniform(1.2, 2.5)) * size / 512


def recorded(kind: str, spots: Spots, size: int, seed: int) -> Record:
    """An image of the spots by an instrument drawn anew."""
    instrument, pixel_size, sigma = drawn(kind, size, seed)
    image, labels = exposed(spots, instrument, size, pixel_size, sigma)
    order = np.argsort(-spots[1])
    bright, lit = labels.points[order][labels.visible[order]], upright(image)[0]
    seen = [place for place in bright[:MOST] if _stands_out(lit, place, sigma)]
    net = _is_net(np.array(seen).reshape(-1, 2), labels.centre)
    return Record(Pattern.from_array(image, pixel_size), labels.centre, net)


def exposed(
    spots: Spots, instrument: Instrument, size: int, pixel_size: float, sigma: float
) -> tuple[NDArray[np.float32], Labels]:
    """What an instrument records of spots of an rms radius in px, and the truth about it."""
    q, intensity = spots
    blank = np.zeros((size, size), dtype=np.float32)
    flat = q[:, ::-1] / pixel_size + size // 2
    labels = instrument.place(Labels.of(blank, flat, pixel_size=pixel_size))
    rows, cols = labels.points.T
    clean = draw_gaussians(rows[None], cols[None], intensity[None], blank.shape, sigma)[0]
    # A specimen that scatters nothing still has its direct beam.
    return instrument.recorder().apply(clean + np.float32(1e-9), labels)


def _stands_out(image: NDArray[np.float32], place: Floats, sigma: float) -> bool:
    """Whether a spot is five standard errors above the ring about it."""
    row, col = np.round(place).astype(int)
    reach = int(np.ceil(6 * sigma))
    if min(row, col) < reach or row + reach >= len(image) or col + reach >= image.shape[1]:
        return False
    about = image[row - reach : row + reach + 1, col - reach : col + reach + 1].astype(float)
    away = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    disk, ring = about[away < 1.5 * sigma], about[away > 3.5 * sigma]
    error = max(float(ring.std()), 1e-9) * (1 / len(disk) + 1 / len(ring)) ** 0.5
    return bool(disk.mean() - np.median(ring) > 5 * error)


def _is_net(seen: Floats, beam: Floats) -> bool:
    """Whether spots are `FEWEST` or more and `OFF_ROW` of them off the row that holds most."""
    if len(seen) < FEWEST:
        return False
    offset = seen - beam
    along = offset / np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-9)
    off = np.abs(along[:, None, 0] * offset[None, :, 1] - along[:, None, 1] * offset[None, :, 0])
    return bool((off > NEAR).sum(1).min() >= OFF_ROW)


def outcome(analysis: Analysis) -> str:
    """How `identify` takes an image."""
    if analysis.kind == "none":
        return "nothing found"
    if analysis.kind == "rings":
        return "rings"
    learned = learned_symmetry([analysis])
    doubt = doubts([analysis], [float(learned.crystal[0]) if learned else None])[0]
    if not any(lattice.rank == 2 for lattice in analysis.lattices):
        return "no lattice"
    return ONE if doubt is None else "doubted"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--first", type=int, default=1000, help="number of the first image")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", type=Path)
    given = parser.parse_args()
    recipe = parse_train_recipe(load("spot_set").card.recipe)
    if not isinstance(recipe, SpotSetTrainRecipe):
        parser.error("the shipped network was not trained on sets of spots")
    specimens = Specimens(sides_of(recipe.data)[2])
    for kind, make in specimens.kinds.items():
        if given.only and kind not in given.only.split(","):
            continue
        counts: Counter[str] = Counter()
        nets: Counter[str] = Counter()
        beams = 0
        for seed in range(given.first, given.first + given.images):
            spots = make(np.random.default_rng([seed, 1]))
            record = recorded(kind, spots, given.size, seed)
            analysis = analyse(record.pattern)
            off = float(np.hypot(*(analysis.centre.as_array() - record.beam)))
            beams += off < 0.01 * given.size
            said = outcome(analysis)
            counts[said] += 1
            nets[said] += record.net
            if given.show and (said == ONE) != (kind == "crystal"):
                given.show.mkdir(parents=True, exist_ok=True)
                image = record.pattern.image
                save_image(given.show / f"{kind} {seed} {said}.png", image, gamma=0.4)
        share = 100 / given.images
        told = ", ".join(f"{name} {share * count:.0f} %" for name, count in counts.most_common())
        refused = share * (given.images - counts[ONE])
        say(f"{kind}: refused {refused:.0f} % ({told})")
        if kind == "crystal":
            wrong = 100 * (1 - nets[ONE] / max(nets.total(), 1))
            say(f"  direct beam found {share * beams:.0f} %")
            say(f"  net shown by {nets.total()}, of which refused {wrong:.0f} %")


if __name__ == "__main__":
    main()
