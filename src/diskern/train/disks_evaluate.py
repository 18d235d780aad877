"""How well disks are found and measured on patterns whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diskern.bragg.disks import Candidates
from diskern.nets.disk_units import volts_of
from diskern.nets.proposer import Proposals
from diskern.train.disks_batch import probe_image
from diskern.train.samples import Block

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Finder = Callable[[Block, NDArray[np.float32]], Proposals | Candidates]
"""Takes a block and the image of its probe."""

NEAR = 0.5
"""A candidate within this many radii of a disk's centre has found it."""
SEEN = 0.5
"""Disks at least this visible are to be found."""
EXCUSED = 0.05
"""A candidate on a disk at least this visible is not false."""
ONE_SIGMA = 0.6827
"""Share of a normal distribution within one standard deviation."""


@dataclass(frozen=True, eq=False)
class FoundDisks:
    """True disks of all patterns, beside what was found of each.

    Attributes
    ----------
    visibility, dose, radius, thickness, diffuse : (N,) of the disk and its pattern.
    direct : (N,) whether it is the undiffracted beam.
    probability : (N,) of the candidate that found it, 0 where none did.
    place : (N, 2) truth in px.
    miss : (N, 2) row and column of candidate less truth in px.
    v_g, q_z : (N,) truth in V and 1/Å.
    found_v_g, sigma_v_g, found_q_z, sigma_q_z, sigma_place : (N,) of the candidate.
    false : (M,) probabilities of candidates without a disk.
    pattern, false_pattern : (N,), (M,) number of the pattern.
    patterns : number of patterns.
    """

    visibility: Floats
    dose: Floats
    radius: Floats
    thickness: Floats
    diffuse: Floats
    direct: Bools
    probability: Floats
    place: Floats
    miss: Floats
    v_g: Floats
    q_z: Floats
    found_v_g: Floats
    sigma_v_g: Floats
    found_q_z: Floats
    sigma_q_z: Floats
    sigma_place: Floats
    pattern: NDArray[np.int64]
    false: Floats
    false_pattern: NDArray[np.int64]
    patterns: int

    def measured(self, threshold: float) -> Bools:
        """(N,) diffracted disks that are visible and found."""
        return np.asarray(
            (self.visibility >= SEEN) & (self.probability >= threshold) & ~self.direct
        )

    def recall(self, threshold: float, among: Bools | None = None) -> float:
        """Share of visible disks that are found."""
        visible = self.visibility >= SEEN
        if among is not None:
            visible &= among
        found = visible & (self.probability >= threshold)
        return float(found.sum() / max(visible.sum(), 1))

    def precision(self, threshold: float) -> float:
        """Share of candidates with a disk."""
        right = (self.probability >= threshold).sum()
        return float(right / max(right + (self.false >= threshold).sum(), 1))


def evaluate(finder: Finder, blocks: Iterable[Block]) -> FoundDisks:
    """Match what a finder says of blocks with their truth.

    Candidates choose, likeliest first, the nearest disk within half a radius that is still free.
    """
    parts: list[FoundDisks] = []
    for block in blocks:
        shape = block["image"].shape[1:]
        numbers = (float(block[n][0]) for n in ("radius", "edge", "hole"))
        found = finder(block, probe_image((shape[0], shape[1]), *numbers))
        parts += [_one_pattern(block, found, i) for i in range(len(block["image"]))]
    names = [f.name for f in fields(FoundDisks) if f.name != "patterns"]
    table = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    lengths = [len(p.pattern) for p in parts], [len(p.false) for p in parts]
    table["pattern"] = np.repeat(np.arange(len(parts)), lengths[0])
    table["false_pattern"] = np.repeat(np.arange(len(parts)), lengths[1])
    return FoundDisks(**table, patterns=len(parts))


def _one_pattern(block: Block, found: Proposals | Candidates, index: int) -> FoundDisks:
    disks = block["disks"][index].astype(np.float64)
    disks = disks[disks[:, 4] >= EXCUSED]
    mine = np.flatnonzero(found.pattern == index)
    mine = mine[np.argsort(-found.probability[mine], kind="stable")]
    places = np.stack([found.row[mine], found.col[mine]], 1)
    taken = match(places, disks[:, :2], NEAR * float(block["radius"][index]))
    partner = np.full(len(disks), -1)
    partner[taken[taken >= 0]] = mine[taken >= 0]
    unit, energy = float(block["unit"][index]), float(block["energy"][index])
    n = len(disks)

    def of(name: str, blank: float = np.nan) -> Floats:
        values = getattr(found, name, np.full(len(found), np.nan))
        out = np.full(n, blank)
        out[partner >= 0] = values[partner[partner >= 0]]
        return out

    direct = disks[:, 5] == 0
    return FoundDisks(
        visibility=disks[:, 4],
        dose=np.full(n, float(block["dose"][index])),
        radius=np.full(n, float(block["radius"][index])),
        thickness=np.full(n, float(block["thickness"][index])),
        diffuse=np.full(n, float(block["diffuse"][index])),
        direct=direct,
        probability=of("probability", 0.0),
        place=disks[:, :2],
        miss=np.stack([of("row"), of("col")], 1) - disks[:, :2],
        v_g=np.where(direct, np.nan, volts_of(np.exp(disks[:, 2]), energy, unit)),
        q_z=np.where(direct, np.nan, disks[:, 3] * unit),
        found_v_g=of("v_g"),
        sigma_v_g=of("sigma_v_g"),
        found_q_z=of("q_z"),
        sigma_q_z=of("sigma_q_z"),
        sigma_place=of("sigma_place"),
        pattern=np.full(n, index),
        false=found.probability[mine[taken < 0]],
        false_pattern=np.full(int((taken < 0).sum()), index),
        patterns=1,
    )


def match(places: Floats, truths: Floats, reach: float) -> NDArray[np.int64]:
    """(M,) truth that each place takes, first come first served; −1 where none is free.

    Parameters
    ----------
    places, truths : (M, 2), (N, 2).
    reach : largest distance.
    """
    out = np.full(len(places), -1, dtype=np.int64)
    if not len(places) or not len(truths):
        return out
    count = min(4, len(truths))
    distance, nearest = cKDTree(truths).query(places, k=count, distance_upper_bound=reach)
    distance = np.reshape(distance, (-1, count))
    nearest = np.reshape(nearest, (-1, count))
    free = np.ones(len(truths), dtype=bool)
    for i in range(len(places)):
        for d, j in zip(distance[i], nearest[i], strict=True):
            if np.isfinite(d) and free[j]:
                out[i], free[j] = j, False
                break
    return out


def best_threshold(found: FoundDisks) -> float:
    """The probability at which recall of visible disks and precision have the largest F1."""
    levels = np.linspace(0.05, 0.9, 86)
    pairs = [(found.recall(t), found.precision(t)) for t in levels]
    scores = [2 * r * p / max(r + p, 1e-9) for r, p in pairs]
    return float(levels[int(np.argmax(scores))])


def temperatures(found: FoundDisks, threshold: float) -> dict[str, float]:
    """Factors that bring 68 % of the errors of place, V_g and q_z within one σ."""
    use = found.measured(threshold)
    z = {
        "place": (found.miss / found.sigma_place[:, None])[use].ravel(),
        "w": ((found.found_v_g - found.v_g) / found.sigma_v_g)[use],
        "q": ((found.found_q_z - found.q_z) / found.sigma_q_z)[use],
    }
    return {f"temperature_{name}": _spread(values) for name, values in z.items()}


def _spread(z: Floats) -> float:
    kept = np.abs(z[np.isfinite(z)])
    return float(np.quantile(kept, ONE_SIGMA)) if len(kept) > 20 else 1.0


def summary(found: FoundDisks, threshold: float) -> dict[str, float]:
    """The numbers that a card reports; relative errors are of |ln V_g|."""
    use = found.measured(threshold)
    ratio = np.log(np.maximum(found.found_v_g[use], 1e-9) / found.v_g[use])
    off = np.abs(found.found_q_z - found.q_z)[use]
    place = np.hypot(*found.miss[use].T)
    sure = found.sigma_v_g[use] < 0.25 * found.found_v_g[use]
    sharp = found.sigma_q_z[use] < 2e-3
    z_place = (found.miss / found.sigma_place[:, None])[use].ravel()
    z_v = ((found.found_v_g - found.v_g) / found.sigma_v_g)[use]
    z_q = ((found.found_q_z - found.q_z) / found.sigma_q_z)[use]
    return {
        "patterns": found.patterns,
        "visible_disks": int((found.visibility >= SEEN).sum()),
        "recall": found.recall(threshold),
        "precision": found.precision(threshold),
        "place_median_px": _median(place),
        "v_g_error_median": _median(np.abs(ratio)),
        "v_g_sure_share": _mean(sure),
        "v_g_error_median_sure": _median(np.abs(ratio[sure])),
        "q_z_error_median": _median(off),
        "q_z_sharp_share": _mean(sharp),
        "q_z_error_median_sharp": _median(off[sharp]),
        "z_place": _spread(z_place),
        "z_v_g": _spread(z_v),
        "z_q_z": _spread(z_q),
        "z_place_above_3": _mean(np.abs(z_place) > 3),
        "z_v_g_above_3": _mean(np.abs(z_v) > 3),
        "z_q_z_above_3": _mean(np.abs(z_q) > 3),
    }


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else -1.0


def _mean(values: NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else -1.0
