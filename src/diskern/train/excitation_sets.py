"""Disks found and measured in simulated patterns, with the truth about those that are real."""

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

from diskern.bragg.disk_contrast import FEWEST, MOST, DiskFacts, mirrored, pattern_facts
from diskern.bragg.disk_excitation import padded
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_proposer import LearnedProposer
from diskern.bragg.disk_search import find_disks
from diskern.bragg.disks import Candidates, Disks
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.train.disks import DiskSet
from diskern.train.disks_evaluate import NEAR, match
from diskern.train.excitation_recipe import ExcitationTrainRecipe
from diskern.train.passes import Passes
from diskern.train.samples import Block

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Tell = Callable[[str], None]

SEEN = 0.2
"""Visibility from which on a disk of the simulation may be what was found."""
SHARD = 100
"""Blocks that are measured and, where there is a store, kept together."""


@dataclass(frozen=True, eq=False)
class MeasuredPatterns:
    """P patterns of up to `MOST` disks.

    Attributes
    ----------
    facts : (P, N, F); G : (P, N, 2); there : (P, N), see `diskern.nets.excitation`.
    known : (P, N) 1 where a disk is a true one, 0 for false disks and padding.
    line : (P, N) true distance of the Bragg line from the middle, in aperture radii.
    coupling : (P, N) true ln W, see `diskern.nets.disk_units`.
    angle : (P,) aperture radius in degrees.
    """

    facts: Singles
    G: Singles
    there: Singles
    known: Singles
    line: Singles
    coupling: Singles
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
        enough = (kept * made["known"]).sum(1, keepdims=True) >= FEWEST
        made["there"] = np.where(enough, kept, made["there"]).astype(np.float32)
        made["known"] = made["known"] * made["there"]
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
    parts = []
    for start in range(0, count, SHARD):
        if tell is not None:
            tell(f"measuring disks ({side}): block {start} of {count}")
        parts.append(_shard(recipe, side, range(start, min(start + SHARD, count))))
    whole = MeasuredPatterns(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(MeasuredPatterns))
    )
    if not len(whole):
        raise DiskernError(f"{recipe.name}: no pattern of the {side} side shows enough disks")
    return whole


def _shard(recipe: ExcitationTrainRecipe, side: str, numbers: range) -> MeasuredPatterns:
    """Some blocks, from the store if it holds them."""
    finder = LearnedProposer.load(recipe.proposer)
    if not recipe.store:
        return _measured(DiskSet(recipe.data, side), finder, numbers)
    made = f"{recipe.data.configuration} {recipe.data.table_key} {finder.configuration}"
    key = sha256(f"{made} {numbers}".encode()).hexdigest()[:16]
    path = Path(recipe.store) / f"{key}-{side}.npz"
    try:
        if not path.exists():
            found = _measured(DiskSet(recipe.data, side), finder, numbers)
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


def _measured(source: DiskSet, finder: LearnedProposer, numbers: range) -> MeasuredPatterns:
    told: list[DiskFacts] = []
    truths: list[Floats] = []
    angles: list[float] = []
    for number in numbers:
        block = source.block(number)
        aperture = float(block["radius"][0] * block["pixel_size"][0])
        for shown, truth in _of_block(block, finder):
            told.append(shown)
            truths.append(truth)
            angles.append(math.degrees(aperture * wavelength(float(block["energy"][0]))))
    facts, G, there = padded(told, MOST)
    known, line, coupling = np.zeros((3, *there.shape), np.float32)
    for i, truth in enumerate(truths):
        known[i, : len(truth)], line[i, : len(truth)], coupling[i, : len(truth)] = truth.T
    return MeasuredPatterns(facts, G, there, known, line, coupling, np.array(angles, np.float32))


class _Recorder:
    """Finds disks as ever, and keeps what a reader of excitation errors would be told of them."""

    def __init__(self, finder: LearnedProposer, energy: float, pixel_size: float) -> None:
        self._finder = finder
        self._camera = {"energy": energy, "pixel_size": pixel_size}
        self.disks, self.told = Disks.empty(), list[DiskFacts]()

    def __call__(self, patterns: Singles, probe: Floats) -> Candidates:
        return self._finder(patterns, probe)

    def read(self, disks: Disks, patterns: Singles, radius: float) -> Disks:
        self.disks = disks
        self.told = pattern_facts(disks, patterns, radius=radius, **self._camera)
        return disks


def _of_block(block: Block, finder: LearnedProposer) -> list[tuple[DiskFacts, Floats]]:
    """Facts and truth of each pattern of a block whose direct beam was found, and enough disks.

    The truth is (N, 3): whether a disk is a true one, its line and its ln W.
    """
    radius, edge, hole, energy, scale = (
        float(block[n][0]) for n in ("radius", "edge", "hole", "energy", "pixel_size")
    )
    if hole:
        # The stop of an annular aperture hides most of what could be read.
        return []
    images = block["image"].astype(np.float32)
    shape = (images.shape[1], images.shape[2])
    recorder = _Recorder(finder, energy, scale)
    find_disks(images, Probe.synthetic(shape, radius, edge), proposer=recorder)
    places = np.stack([recorder.disks.row, recorder.disks.col], 1)
    out = []
    for shown in recorder.told:
        listed = block["disks"][recorder.disks.pattern[shown.direct]].astype(np.float64)
        listed = listed[listed[:, 4] > SEEN]
        if not len(listed):
            continue
        partner = match(places[np.append(shown.direct, shown.source)], listed[:, :2], NEAR * radius)
        true, own = listed[partner[1:]], listed[partner[0]]
        diffracted = (partner[1:] >= 0) & (true[:, 5] > 0)
        if partner[0] >= 0 and own[5] == 0 and diffracted.sum() >= FEWEST:
            length = np.linalg.norm(shown.G, axis=1)
            truth = np.stack([np.ones_like(length), true[:, 3] / length, true[:, 2]], 1)
            out.append((shown, np.where(diffracted[:, None], truth, 0)))
    return out
