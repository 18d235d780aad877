"""What `identify` knows to be no electrons: scale bars with their letters, edges between chips.

python benchmarks/identify_marks.py [--images 300] [--first 7000]

Images of crystals by an instrument drawn anew (`identify_images.py`).  A scale bar is right where
its length is within 3 px of what was drawn, its letters where half of the box about bar and letters
is set aside; chip edges are found where all their rows and columns are.  Beside it how often either
is seen where none was drawn, and how often a JPEG image has more than five false spots.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
from identify_images import Specimens, drawn, exposed
from numpy.typing import NDArray

from diskern.bragg.analyse import analyse
from diskern.nets.registry import load
from diskern.patterns.geometry import Flaw
from diskern.patterns.levels import upright
from diskern.patterns.masks import find_flaws
from diskern.patterns.pattern import Pattern
from diskern.patterns.scalebar import find_scale_bar
from diskern.simulate.instrument import DetectorCross, Instrument, Jpeg, Labels, ScaleBar
from diskern.train.samples import sides_of
from diskern.train.spot_sets_recipe import SpotSetTrainRecipe
from diskern.train.train_recipe import parse_train_recipe

SIZE = 512


def marks(
    image: NDArray[np.float32], labels: Labels, instrument: Instrument
) -> Iterator[tuple[str, bool]]:
    """What is asked of one image, and whether it is so."""
    flaws = find_flaws(upright(image)[0])
    bar = find_scale_bar(image)
    legend = next((t for t in instrument.transforms if isinstance(t, ScaleBar)), None)
    if legend is None:
        yield "scale bar seen where none is", bar is not None
    else:
        length = min(legend.length / 10 / labels.scale, 0.6 * SIZE)
        yield "scale bar right", bar is not None and abs(bar.length_px - length) < 3
        yield "scale bar wrong", bar is not None and abs(bar.length_px - length) >= 3
        box = (labels.flaws & np.uint16(Flaw.OVERLAY)) > 0
        yield "letters set aside", bool(((flaws & np.uint16(Flaw.OVERLAY)) > 0)[box].mean() > 0.5)
    cross = (flaws & np.uint16(Flaw.CROSS)) > 0
    wide = (labels.flaws & np.uint16(Flaw.CROSS)) > 0
    if any(isinstance(t, DetectorCross) for t in instrument.transforms):
        yield "chip edges found", bool(cross[wide].mean() > 0.98)
    else:
        yield "chip edges seen where none are", bool(cross.any())
    if any(isinstance(t, Jpeg) for t in instrument.transforms):
        yield "more than five false spots on a JPEG", false_spots(image, labels) > 5


def false_spots(image: NDArray[np.float32], labels: Labels) -> int:
    """Spots further than 4 px from every true one, and 12 px from the direct beam."""
    found = analyse(Pattern.from_array(image, labels.scale)).spots.position
    if len(found) == 0:
        return 0
    away = np.linalg.norm(found[:, None] - labels.points[None], axis=2).min(1)
    beside = np.linalg.norm(found - np.array(labels.centre), axis=1)
    return int(((away > 4) & (beside > 12)).sum())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--first", type=int, default=7000, help="number of the first image")
    given = parser.parse_args()
    recipe = parse_train_recipe(load("spot_set").card.recipe)
    if not isinstance(recipe, SpotSetTrainRecipe):
        parser.error("the shipped network was not trained on sets of spots")
    make = Specimens(sides_of(recipe.data)[2]).kinds["crystal"]
    asked: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for seed in range(given.first, given.first + given.images):
        instrument, pixel_size, sigma = drawn("crystal", SIZE, seed)
        spots = make(np.random.default_rng([seed, 1]))
        image, labels = exposed(spots, instrument, SIZE, pixel_size, sigma)
        for name, is_so in marks(image, labels, instrument):
            asked[name] += 1
            true[name] += is_so
    for name in sorted(asked):
        sys.stdout.write(f"{name}: {true[name]} of {asked[name]}\n")


if __name__ == "__main__":
    main()
