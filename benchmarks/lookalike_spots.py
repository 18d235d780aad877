"""The 61 look-alike labels of the 2021 set, told from spots by rule.

python benchmarks/lookalike_spots.py [--recipe saed_resnet_cpu] [--each 1]

Every crystal of the recipe (five cubic space groups, known structures with other elements and
random crystals), along the 16 zones: clean spots at the exact zone, and spots after everything
that the instrument does.  Nothing is learned, so that every crystal and structure type is unseen.
"In view" are patterns whose spots generate the net that the label stands for; a thin pattern of a
long zone axis shows less.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from diskern.symmetry.lookalike import RA_ZONES, LookAlikeTable, lookalike_labels
from diskern.symmetry.lookalike_spots import LookAlikeNamer
from diskern.train.lookalike_spots import labelled_spots, named
from diskern.train.materials import Material
from diskern.train.saed import label_settings
from diskern.train.saed_images import sides_of
from diskern.train.saed_recipe import SaedTrainRecipe
from diskern.train.train_recipe import load_train_recipe

EXACT = 5e-4
"""Misfit of nets without distortion: labels' angles are rounded."""


def row(materials: list[Material], table: LookAlikeTable, *, clean: bool) -> str:
    """Shares right of one kind of crystals."""
    rng = np.random.default_rng(0)
    namer = LookAlikeNamer(table, EXACT) if clean else LookAlikeNamer(table)
    right, view = [], []
    begun = time.perf_counter()
    for material in materials:
        spots = labelled_spots(material, table, RA_ZONES, rng, clean=clean)
        right += [label == name for label, name in named(spots, namer)]
        view += spots.in_view.tolist()
    each = 1e3 * (time.perf_counter() - begun) / len(right)
    inside = np.array(right)[np.array(view)]
    return (
        f"{100 * inside.mean():5.1f} % of {len(inside)} in view, "
        f"{100 * np.mean(right):5.1f} % of all {len(right)}; {each:.0f} ms with simulation"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="saed_resnet_cpu")
    parser.add_argument("--each", type=int, default=1, help="take every n-th crystal")
    given = parser.parse_args()
    recipe = load_train_recipe(given.recipe)
    if not isinstance(recipe, SaedTrainRecipe):
        parser.error(f"{given.recipe} is no recipe of look-alike labels")
    groups = sorted({n for s in recipe.data.crystals for n in s.space_groups})
    table = lookalike_labels(label_settings(groups), RA_ZONES)
    every = [m for side in sides_of(recipe).values() for m in side][:: given.each]
    for clean in (True, False):
        for title, chosen in (("known", True), ("random", False)):
            own = [m for m in every if bool(m.formula) == chosen]
            words = "clean" if clean else "full instrument"
            sys.stdout.write(f"{title} structures, {words}: {row(own, table, clean=clean)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
