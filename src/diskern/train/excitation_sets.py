"""Disks measured in simulated patterns, with their true excitation errors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_contrast import FEWEST, MOST, DiskFacts, disk_facts, mirrored
from diskern.bragg.disk_excitation import padded
from diskern.bragg.disk_gain import estimate_response
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_refine import refine_disks
from diskern.bragg.disks import Candidates
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.train.disks import DiskSet
from diskern.train.excitation_recipe import ExcitationTrainRecipe
from diskern.train.passes import Passes
from diskern.train.samples import Block

Singles = NDArray[np.float32]
Tell = Callable[[str], None]

SEEN = 0.5
"""Visibility from which on a disk is measured."""
NEAR = 0.5
"""Radii from its true place within which a disk was measured as itself."""
START = 0.1
"""Rms error of the starts, in radii."""


@dataclass(frozen=True, eq=False)
class MeasuredPatterns:
    """P patterns of up to `MOST` disks.

    Attributes
    ----------
    facts : (P, N, F); G : (P, N, 2); there : (P, N), see `diskern.nets.excitation`.
    line : (P, N) true distance of the Bragg line from the middle, in aperture radii.
    angle : (P,) aperture radius in degrees.
    """

    facts: Singles
    G: Singles
    there: Singles
    line: Singles
    angle: Singles

    def __len__(self) -> int:
        return len(self.facts)


class ExcitationBlocks:
    """Blocks of patterns in an order that every pass draws anew, mirrored and thinned at random.

    Parameters
    ----------
    dropped : largest share of disks that is hidden; 0 shows the patterns as they are.
    """

    def __init__(self, seen: MeasuredPatterns, *, size: int, seed: int, dropped: float) -> None:
        self.seen, self.size, self.seed, self.dropped = seen, size, seed, dropped
        self._passes = Passes(len(seen), seed)

    def block(self, number: int) -> Block:
        """Some patterns by the names of `MeasuredPatterns`."""
        chosen = self._passes.at(np.arange(number * self.size, (number + 1) * self.size))
        made = {f.name: getattr(self.seen, f.name)[chosen] for f in fields(self.seen)}
        if not self.dropped:
            return made
        rng = np.random.default_rng([self.seed, 1, number])
        turned = rng.random(self.size) < 0.5
        made["facts"] = np.where(turned[:, None, None], mirrored(made["facts"]), made["facts"])
        share = rng.uniform(0, self.dropped, (self.size, 1))
        kept = made["there"] * (rng.random(made["there"].shape) >= share)
        enough = kept.sum(1, keepdims=True) >= FEWEST
        made["there"] = np.where(enough, kept, made["there"]).astype(np.float32)
        return made


def measured_patterns(
    recipe: ExcitationTrainRecipe, side: str, tell: Tell | None = None
) -> MeasuredPatterns:
    """Draw and measure the patterns of one side, or read those that the recipe's store holds.

    Raises
    ------
    DiskernError
        For an unknown side, one without usable patterns, or a store that cannot be used.
    """
    count = recipe.blocks if side == "train" else recipe.held
    if not recipe.store:
        return _measured(recipe, side, count, tell)
    words = f"{recipe.data.model_dump_json()} {recipe.seed} {side} {count}"
    path = Path(recipe.store) / f"{sha256(words.encode()).hexdigest()[:16]}-{side}.npz"
    try:
        if not path.exists():
            found = _measured(recipe, side, count, tell)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
            np.savez_compressed(draft, **vars(found))
            draft.rename(path)
        with np.load(path, allow_pickle=False) as file:
            return MeasuredPatterns(*(file[f.name] for f in fields(MeasuredPatterns)))
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DiskernError(
            f"measured disks cannot be kept in {path}: {error}; remove it if it is broken"
        ) from error


def _measured(
    recipe: ExcitationTrainRecipe, side: str, count: int, tell: Tell | None
) -> MeasuredPatterns:
    source = DiskSet(recipe.data, side)
    told: list[DiskFacts] = []
    lines: list[Singles] = []
    angles: list[float] = []
    for number in range(count):
        if tell is not None and number % 10 == 0:
            tell(f"measuring disks ({side}): block {number} of {count}")
        block = source.block(number)
        rng = np.random.default_rng([recipe.seed, number])
        for shown, true in _of_block(block, rng):
            told.append(shown)
            lines.append(true)
            aperture = block["radius"][0] * block["pixel_size"][0]
            angles.append(math.degrees(aperture * wavelength(float(block["energy"][0]))))
    if not told:
        raise DiskernError(f"{recipe.name}: no pattern of the {side} side shows enough disks")
    facts, G, there = padded(told, MOST)
    line = np.zeros_like(there)
    line[there > 0] = np.concatenate(lines)
    return MeasuredPatterns(facts, G, there, line, np.array(angles, np.float32))


def _of_block(block: Block, rng: np.random.Generator) -> list[tuple[DiskFacts, Singles]]:
    """Facts and true lines of each pattern of a block that shows enough disks."""
    images = block["image"].astype(np.float32)
    radius, edge, hole = (float(block[n][0]) for n in ("radius", "edge", "hole"))
    if hole:
        # The stop of an annular aperture hides most of what could be read.
        return []
    shape = (images.shape[1], images.shape[2])
    response = estimate_response(images, np.ones(shape, dtype=bool), None)
    electrons = np.maximum(response.electrons(images), 0)
    pattern, which = np.nonzero(block["disks"][..., 4] > SEEN)
    true = block["disks"][pattern, which].astype(np.float64)
    start = true[:, :2] + rng.normal(0, START * radius, (len(true), 2))
    places = Candidates.at(pattern, start[:, 0], start[:, 1])
    probe = Probe.synthetic(shape, radius, edge)
    disks = refine_disks(electrons, probe, places, contrast=True)
    close = np.maximum(np.abs(disks.row - true[:, 0]), np.abs(disks.col - true[:, 1]))
    good = (close < NEAR * radius) & np.isfinite(disks.intensity)
    out = []
    for number in range(len(images)):
        rows = np.flatnonzero(good & (disks.pattern == number))
        direct = np.flatnonzero(true[rows, 5] == 0)
        if len(direct) != 1 or len(rows) <= FEWEST:
            continue
        facts = disk_facts(
            disks.select(rows),
            int(direct[0]),
            radius=radius,
            energy=float(block["energy"][number]),
            pixel_size=float(block["pixel_size"][number]),
            total=float(electrons[number].sum(dtype=np.float64)),
        )
        length = np.linalg.norm(facts.G, axis=1)
        out.append((facts, (true[rows[facts.source], 3] / length).astype(np.float32)))
    return out
