"""The net hypotheses of all Laue classes, from a file that comes with the package.

They are constants, and computing them takes longer than weighing them.  After a change of
`diskern.symmetry.hypotheses` write the file anew: ``python -m diskern.symmetry.hypotheses_table``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.symmetry.hypotheses import (
    BLOCKS,
    Block,
    block_symbols,
    block_zones,
    computed_block,
)
from diskern.symmetry.hypotheses_zones import Row
from diskern.symmetry.likelihood_shapes import cell_of

FILE = "hypotheses_table.npz"
WHOLE = ("zone", "basis", "group", "prediction")
"""Arrays of a block that hold whole numbers; `np.int64` in use, narrower in the file."""
OTHER = ("log_prior", "member", "kind_log_prior")


def blocks() -> Iterator[Block]:
    """All fourteen blocks, from triclinic to cubic."""
    for laue_class, lattice in BLOCKS:
        yield block(laue_class, lattice)


@cache
def block(laue_class: str, lattice: str = "P") -> Block:
    """The hypotheses of a Laue class; ``lattice`` is ``"R"`` for its rhombohedral lattices."""
    prefix = _prefix(laue_class, lattice)
    table = {n.removeprefix(prefix): v for n, v in _file().items() if n.startswith(prefix)}
    ends = np.cumsum(table["groups_count"])[:-1]
    rows = table["rows"].astype(np.int64)
    columns: dict[str, Any] = {name: table[name].astype(np.int64) for name in WHOLE}
    columns |= {name: table[name] for name in OTHER}
    return Block(
        laue_class=laue_class,
        lattice=lattice,
        cell=cell_of(laue_class, lattice),
        zones=block_zones(laue_class),
        symbols=block_symbols(laue_class, lattice),
        groups=tuple(np.split(table["groups"].astype(np.int64), ends)),
        rowsets=_rowsets(rows[:, 0], rows[:, 1:], int(table["rowsets"])),
        **columns,
    )


def write(path: Path) -> None:
    """Compute all blocks and write them."""
    table: dict[str, Any] = {}
    for name in BLOCKS:
        made = computed_block(*name)
        table |= {_prefix(*name) + key: value for key, value in _arrays(made).items()}
    np.savez_compressed(path, **table)


def _arrays(made: Block) -> dict[str, NDArray[Any]]:
    rows = [(number, *row) for number, rowset in enumerate(made.rowsets) for row in rowset]
    return {
        **{name: getattr(made, name).astype(np.int32) for name in WHOLE},
        **{name: getattr(made, name) for name in OTHER},
        "groups": np.concatenate(made.groups).astype(np.int32),
        "groups_count": np.array([len(g) for g in made.groups]),
        "rows": np.array(rows, dtype=np.int32).reshape(-1, 5),
        "rowsets": np.array(len(made.rowsets)),
    }


def _prefix(laue_class: str, lattice: str) -> str:
    return f"{BLOCKS.index((laue_class, lattice))}."


@cache
def _file() -> Mapping[str, NDArray[Any]]:
    with (files(__package__) / FILE).open("rb") as stream, np.load(stream) as table:
        return dict(table)


def _rowsets(
    number: NDArray[np.int64], rows: NDArray[np.int64], count: int
) -> tuple[tuple[Row, ...], ...]:
    """Thinned rows, gathered by the number of their set; some sets are empty."""
    every = [(m, n, period, guarded) for m, n, period, guarded in rows.tolist()]
    bounds = np.searchsorted(number, np.arange(count + 1)).tolist()
    return tuple(tuple(every[a:b]) for a, b in pairwise(bounds))


if __name__ == "__main__":
    write(Path(__file__).with_name(FILE))
