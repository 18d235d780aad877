"""How many samples a second each training set gives on one core, and what the parts cost.

python benchmarks/training_sets.py [--seconds 20] [--kind spots ...]

Times are of this process's CPU; crystals are those of the shipped recipes, met in the order in
which training meets them, so that building random crystals and their reflections is included.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from diskern.train.recipe import AnyRecipe, load_recipe, parse_recipe
from diskern.train.samples import split_of, training_set

CASES: dict[str, tuple[str, list[dict[str, object]]]] = {
    "spots": ("spots-all", []),
    "spots, common phases": ("spots-all", [{"source": "common", "max_volume": 2000.0}]),
    "spots, random crystals": ("spots-all", [{"source": "random", "count": 2300}]),
    "patterns 128²": ("patterns-all", []),
    "patterns 128², common phases": (
        "patterns-all",
        [{"source": "common", "max_volume": 2000.0}],
    ),
    "saed 256²": (
        "saed-2021",
        [{"source": "common", "space_groups": [213, 221, 225, 227, 229]}],
    ),
    "quartets 256², 10 thicknesses": (
        "quartets-2022",
        [{"source": "common", "max_volume": 120.0}],
    ),
    "quartets, random crystals": (
        "quartets-2022",
        [{"source": "random", "count": 60, "max_volume": 600.0}],
    ),
}


def recipe_of(name: str, crystals: list[dict[str, object]]) -> AnyRecipe:
    """A shipped recipe, with other crystals where some are given."""
    recipe = load_recipe(name)
    if not crystals:
        return recipe
    return parse_recipe({**recipe.model_dump(), "crystals": crystals})


def measure(recipe: AnyRecipe, seconds: float) -> tuple[float, int]:
    """Samples per CPU second, and how many were made."""
    made = training_set(recipe, "train", split_of(recipe))
    made.block(0)  # imports and tables
    start, samples, number = time.process_time(), 0, 1
    while time.process_time() - start < seconds:
        # A stride through finite sets meets many crystals.
        block = made.block(number * 37 % made.blocks)
        samples += len(block["seed"])
        number += 1
    return samples / (time.process_time() - start), samples


def say(line: str) -> None:
    """A line at once, for a run takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kind", nargs="*", default=[])
    options = parser.parse_args()
    say(f"{platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}")
    for title, (name, crystals) in CASES.items():
        if options.kind and title.split()[0].strip(",") not in options.kind:
            continue
        rate, samples = measure(recipe_of(name, crystals), options.seconds)
        say(f"{title:32} {rate:9.1f} samples/s  ({samples} samples)")


if __name__ == "__main__":
    main()
