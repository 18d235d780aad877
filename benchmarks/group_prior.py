"""What the usual prior of space groups is worth, on structures whose types were not counted for it.

python benchmarks/group_prior.py structures.parquet [--write]

Prints the mean ln of the prior of the true group, even and usual, over the structures of the
validation and test sides of a file (``structures_file.py``), and over one structure of each type.
--write counts those of the training side anew, into the package's ``group_counts.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
from structures_file import side_of, structures

from diskern.symmetry.posterior import Prior
from diskern.train.split import prototype_family

COUNTS = Path(str(files("diskern.crystal"))) / "data" / "group_counts.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.file is None:
        sys.stdout.write("no file of structures given: nothing done\n")
        return
    trained, held = [], []
    for material in structures(given.file, max_volume=np.inf):
        family = prototype_family(material)
        (trained if side_of(family) == "train" else held).append((family, material.space_group))
    counted = Counter(group for _, group in trained)
    counts = [counted[n] for n in range(1, 231)]
    told = json.loads(COUNTS.read_text("utf-8"))
    same = "the same as" if counts == told["counts"] else "other than"
    sys.stdout.write(f"{len(trained)} structures counted, {same} those of the package\n")
    if given.write:
        COUNTS.write_text(json.dumps({**told, "counts": counts}, ensure_ascii=False), "utf-8")
    each = list(dict(held).values())
    for name, groups in (("held out", [g for _, g in held]), ("one of each type", each)):
        place = np.array(groups) - 1
        means = {
            words: float(np.log(prior.of_groups()[place]).mean())
            for words, prior in (("even", Prior()), ("usual", Prior.natural()))
        }
        shown = ", ".join(f"{words} {mean:.2f}" for words, mean in means.items())
        sys.stdout.write(f"{name}: {len(groups)} structures, mean ln p {shown}\n")


if __name__ == "__main__":
    main()
