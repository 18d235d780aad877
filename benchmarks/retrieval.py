"""How often the right crystal is among the first candidates that its nets call up.

python benchmarks/retrieval.py [--crystals 80] [--search 0]

Patterns of the packaged table's crystals along random zones with all effects of the instrument
(kinematic and by Bloch waves), asked of the whole table: rank of the true crystal after the nets
alone, among all and among those of its own elements.  --search N lets the phase search rank the
fifty best of N crystals anew, by three patterns at most.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.common import common_phases
from diskern.symmetry.indexing_view import SpotView
from diskern.symmetry.phases import _index_all
from diskern.symmetry.retrieval import NetIndex
from diskern.train.materials import Material, materials_of
from diskern.train.recipe import CommonSource
from diskern.train.samples import Block
from diskern.train.spot_sets import SpotSets
from diskern.train.spot_sets_recipe import SpotSetsRecipe

COUNTS = (1, 2, 3, 5, 10)
SCALE_ERROR = 0.02
PIXEL = 0.006
SHORTLIST = 50

Floats = NDArray[np.float64]


def say(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def block_of(recipe: SpotSetsRecipe, material: Material, number: int) -> Block:
    """Ten patterns of one crystal."""
    return SpotSets(recipe, "test", (material,)).block(number)


def nets_of(block: Block) -> Floats:
    """(P, 2, 2) the nets that were found, rows (row, column)."""
    nets = block["basis"].astype(np.float64)[..., ::-1]
    return np.asarray(nets[np.isfinite(nets).all((1, 2))])


def view_of(block: Block, row: int, *, known: bool) -> SpotView:
    """One pattern as the phase search takes it."""
    lit = block["intensity"][row] > 0
    place = block["q"][row][lit].astype(np.float64) / PIXEL
    return SpotView.from_spots(
        place,
        block["intensity"][row][lit].astype(np.float64),
        0.4,
        scale=PIXEL if known else None,
        scale_error=SCALE_ERROR,
        distortion=0.006,
    )


def by_nets(index: NetIndex, rows: list[int], blocks: list[Block], *, known: bool) -> None:
    """Ranks after the nets alone."""
    elements = [set(c.elements) for c in index.crystals]
    for count in COUNTS:
        ranks, own, taken = [], [], 0.0
        for row, block in zip(rows, blocks, strict=True):
            nets = nets_of(block)[:count]
            if not len(nets):
                continue
            begun = time.perf_counter()
            score = index.scores(nets, SCALE_ERROR if known else None)
            taken += time.perf_counter() - begun
            better = score > score[row]
            ranks.append(int(better.sum()))
            allowed = np.array([e <= elements[row] for e in elements])
            own.append(int((better & allowed).sum()))
        shown = ", ".join(f"{n}: {100 * np.mean(np.array(ranks) < n):.0f}" for n in (1, 5, 20, 50))
        among = ", ".join(f"{n}: {100 * np.mean(np.array(own) < n):.0f}" for n in (1, 5))
        say(
            f"scale {'known' if known else 'unknown'}, {count} patterns: % among the first {shown};"
            f" of its elements {among}; {1e3 * taken / len(ranks):.0f} ms"
        )


def by_search(index: NetIndex, rows: list[int], blocks: list[Block], *, known: bool) -> None:
    """Ranks after the phase search among the shortlist."""
    for count in (1, 3):
        ranks = []
        for row, block in zip(rows, blocks, strict=True):
            nets = nets_of(block)[:count]
            if not len(nets):
                continue
            found = index.shortlist(nets, SCALE_ERROR if known else None, SHORTLIST)
            truth = index.crystals[row]
            views = [view_of(block, i, known=known) for i in range(count)]
            values = {id(c.crystal): c.evidence for c in _index_all(views, found)}
            own = values.get(id(truth), -np.inf)
            ranks.append(sum(v > own for v in values.values()) if id(truth) in values else 999)
        shown = ", ".join(f"{n}: {100 * np.mean(np.array(ranks) < n):.0f}" for n in (1, 5))
        say(
            f"scale {'known' if known else 'unknown'}, {count} patterns, then the phase search: "
            f"% among the first {shown} ({len(ranks)} crystals)"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=80)
    parser.add_argument("--search", type=int, default=0)
    given = parser.parse_args()
    crystals = list(common_phases())
    begun = time.perf_counter()
    index = NetIndex.of(crystals)
    each = 1e3 * (time.perf_counter() - begun) / len(crystals)
    say(f"{len(crystals)} crystals, {len(index.owner)} nets, {each:.0f} ms each to index")
    recipe = SpotSetsRecipe(
        name="retrieval",
        crystals=(CommonSource(source="common", max_volume=2000.0),),
        per_block=max(COUNTS),
        reuse=1,
        window=64,
        negatives=0.0,
        bloch=0.6,
        bloch_volume=200.0,
        g_max=1.3,
    )
    place = {(c.name, c.source): i for i, c in enumerate(crystals)}
    known = [m for m in materials_of(recipe) if (m.name, m.origin) in place]
    chosen = [known[i] for i in np.random.default_rng(1).permutation(len(known))[: given.crystals]]
    blocks = [block_of(recipe, m, n) for n, m in enumerate(chosen)]
    rows = [place[m.name, m.origin] for m in chosen]
    for scale_known in (True, False):
        by_nets(index, rows, blocks, known=scale_known)
        if given.search:
            few = slice(given.search)
            by_search(index, rows[few], blocks[few], known=scale_known)


if __name__ == "__main__":
    main()
