"""Choosing crystals so that no prototype drowns the others.

Crystal databases repeat a few prototypes thousands of times (69 % of the Fm-3m entries of one
are Heusler phases).  As in 4D>Crystal (Munshi et al., npj Comput. Mater. 2022, 8, 254) crystals
are grouped, and each group gives a number of members that grows with the root of its size.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diskern.errors import DiskernError


@dataclass(frozen=True, repr=False)
class Selection:
    """What was chosen.

    Attributes
    ----------
    chosen : indices into the given groups, ascending.
    offered : members of each group.
    taken : chosen members of each group.
    """

    chosen: tuple[int, ...]
    offered: dict[str, int]
    taken: dict[str, int]

    def __repr__(self) -> str:
        lines = [
            f"Selection: {len(self.chosen)} of {sum(self.offered.values())} crystals "
            f"in {len(self.offered)} groups"
        ]
        largest = sorted(self.offered, key=lambda g: (-self.offered[g], g))[:10]
        lines += [f"  {g:32} {self.taken[g]:5d} of {self.offered[g]:6d}" for g in largest]
        return "\n".join(lines)


def square_root_selection(
    groups: Sequence[str], *, seed: int, total: int | None = None, cap: int | None = None
) -> Selection:
    """Choose from every group a number of members that grows as the root of its size.

    Parameters
    ----------
    groups : the group of each crystal, e.g. its prototype label.
    total : about how many to choose in all; the sum of the roots by default.
    cap : most members of one group.

    Raises
    ------
    DiskernError
        For no crystals at all, or a total or cap below one.
    """
    if not groups:
        raise DiskernError("no crystals to select from; give a folder or source that holds some")
    for name, value in (("total", total), ("cap", cap)):
        if value is not None and value < 1:
            raise DiskernError(f"{name}={value} selects nothing; give 1 or more")
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(groups):
        members[name].append(index)
    quota = _quotas({name: len(m) for name, m in members.items()}, total, cap)
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for name in sorted(members):  # sorted: the draw must not depend on the order of groups
        chosen += rng.choice(members[name], quota[name], replace=False).tolist()
    return Selection(
        tuple(sorted(chosen)), {name: len(m) for name, m in sorted(members.items())}, quota
    )


def _quotas(sizes: dict[str, int], total: int | None, cap: int | None) -> dict[str, int]:
    """Members to take of each group: at least one, at most all of them or ``cap``."""
    limit = {name: min(size, cap or size) for name, size in sizes.items()}

    def taken(factor: float) -> dict[str, int]:
        return {
            name: min(max(1, math.floor(factor * math.sqrt(size) + 1e-9)), limit[name])
            for name, size in sizes.items()
        }

    if total is None:
        return taken(1.0)
    low, high = 0.0, float(max(sizes.values())) + 1.0
    for _ in range(60):  # the count grows with the factor, so bisection finds the largest that fits
        middle = (low + high) / 2
        low, high = (middle, high) if sum(taken(middle).values()) <= total else (low, middle)
    return taken(low)
