"""What networks and rules answer to spot patterns of crystals that were in no training.

Network, reasoner and both together see the same spots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.crystal.extinction_groups import diffraction_symbols
from diskern.errors import DiskernError
from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.joined import joined_evidence
from diskern.symmetry.reasoner import reason
from diskern.train.materials import Material
from diskern.train.samples import Block, sides_of
from diskern.train.spot_sets import SIDES, SpotSets
from diskern.train.spot_sets_recipe import SpotSetsRecipe
from diskern.train.symmetry_judges import Judge

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Tell = Callable[[str], None]

COUNTS = (1, 2, 3, 5, 10)
"""Patterns of one crystal that are judged together."""
FIRST = 1_000_000
"""Blocks from here on are for measuring: training never reaches them."""
DYNAMICAL: Mapping[str, Any] = {"bloch": 1.0, "bloch_volume": 1e3}
"""What a recipe is changed by so that patterns are made by Bloch waves."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Log-likelihoods of symbols for sets of each size, all of the same crystals.

    Attributes
    ----------
    truth : (S,) space groups.
    log_likelihood : for each number of patterns (S, 122).
    """

    truth: Ints
    log_likelihood: dict[int, Floats]


def even_prior() -> Floats:
    """(230,) every diffraction symbol equally likely, and every space group of a symbol."""
    out = np.zeros(230)
    symbols = diffraction_symbols()
    for symbol in symbols:
        out[np.array(symbol.space_groups) - 1] = 1 / len(symbol.space_groups) / len(symbols)
    return out


def held_out(
    recipe: SpotSetsRecipe,
    side: str = "test",
    keep: Callable[[Material], bool] | None = None,
    *,
    materials: Sequence[Material] | None = None,
    evenly: bool = True,
    **changes: Any,
) -> SpotSets:
    """The crystals of a held-out side, ten patterns of each draw of a crystal.

    Parameters
    ----------
    keep : which materials of the recipe; all by default.
    materials : other crystals than the recipe's.
    evenly : every diffraction symbol equally often; else every crystal, so that symbols come as
        often as they occur among them.
    changes : values of the recipe to replace, e.g. ``bloch=1.0``.

    Raises
    ------
    DiskernError
        Where no crystal is kept.
    """
    chosen = kept(recipe, side, keep) if materials is None else tuple(materials)
    usual = {"per_block": max(COUNTS), "reuse": 1, "window": 64, "sheet": 1, "negatives": 0.0}
    return SpotSets(recipe.model_copy(update={**usual, **changes}), side, chosen, evenly=evenly)


def kept(
    recipe: SpotSetsRecipe, side: str, keep: Callable[[Material], bool] | None = None
) -> tuple[Material, ...]:
    """The materials of a side that pass."""
    materials = sides_of(recipe)[SIDES.index(side)]
    return tuple(m for m in materials if keep is None or keep(m))


def is_random(material: Material) -> bool:
    """Whether a crystal is one that nobody has made."""
    return material.key.startswith("random-")


def is_real(material: Material) -> bool:
    """Whether a crystal is a known one or a substitution of it, no random one."""
    return not is_random(material)


def blocks_of(source: SpotSets, count: int) -> list[Block]:
    """So many blocks, kept for network and reasoner alike."""
    return [source.block(FIRST + n) for n in range(count)]


def dynamical(blocks: Sequence[Block]) -> list[Block]:
    """Those whose patterns are all by Bloch waves: cells may be too large for it."""
    return [b for b in blocks if b["dynamical"].all()]


def network_answers(
    net: Judge, blocks: Sequence[Block], counts: Sequence[int] = COUNTS, *, told: bool = True
) -> Answers:
    """The network on the first k patterns of each block, for each k."""
    truth = np.array([int(b["space_group"][0]) for b in blocks])
    found: dict[int, list[Floats]] = {k: [] for k in counts}
    for start in range(0, len(blocks), 16):
        part = blocks[start : start + 16]
        size = len(part[0]["space_group"])
        for k in counts:
            member = np.arange(len(part))[:, None] * size + np.arange(k)
            there = np.ones(member.shape, dtype=bool)
            flags = np.full(len(part), told)
            found[k].append(net.ask_blocks(part, member, there, flags, np.ones_like(flags))[0])
    return Answers(truth, {k: np.concatenate(v) for k, v in found.items()})


def as_they_occur(answers: Answers, prior: Floats, seed: int = 0) -> Answers:
    """Crystals drawn again, each as often as the prior says and not every symbol equally often.

    Parameters
    ----------
    prior : (230,) of the space groups.
    """
    weight = (prior / even_prior())[answers.truth - 1]
    rng = np.random.default_rng(seed)
    pick = rng.choice(len(weight), 4 * len(weight), p=weight / weight.sum())
    return Answers(answers.truth[pick], {k: v[pick] for k, v in answers.log_likelihood.items()})


def reasoner_answers(
    blocks: Sequence[Block], counts: Sequence[int], tell: Tell | None = None
) -> Answers:
    """The rules alone, on the same spots; patterns without a net count for nothing."""
    truth = np.array([int(b["space_group"][0]) for b in blocks])
    found = {k: np.zeros((len(blocks), len(diffraction_symbols()))) for k in counts}
    for row, block in enumerate(blocks):
        for k in counts:
            evidence = [e for e in map(evidence_of_spots, [block] * k, range(k)) if e is not None]
            if not evidence:
                continue
            try:
                found[k][row] = reason(evidence).log_evidence
            except DiskernError:
                continue
        if tell is not None and row % 10 == 9:
            tell(f"reasoner: {row + 1} of {len(blocks)} crystals")
    return Answers(truth, found)


def evidence_of_spots(block: Block, row: int, error: float = 0.03) -> PatternEvidence | None:
    """What the reasoner is told of one pattern of a block; None where no net was found.

    Nodes as far as the outermost spot of the net are seen or dark; the faintest spot of the
    pattern is the limit of detection.
    """
    basis = block["basis"][row].astype(np.float64)[..., ::-1]
    intensity = block["intensity"][row].astype(np.float64)
    place = block["q"][row].astype(np.float64)[intensity > 0][:, ::-1]
    intensity = intensity[intensity > 0]
    if not np.isfinite(basis).all() or len(place) < 2:
        return None
    index = place @ np.linalg.inv(basis)
    node = np.rint(index).astype(np.int64)
    on = (np.abs(index - node).max(1) < 0.15) & node.any(1)
    if on.sum() < 2:
        return None
    reach = float(np.linalg.norm(node[on] @ basis, axis=1).max())
    most = int(np.ceil(reach / np.linalg.svd(basis, compute_uv=False).min())) + 1
    if most > 40:
        return None
    side = np.arange(-most, most + 1)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    grid = grid[grid.any(1) & (np.linalg.norm(grid @ basis, axis=1) <= reach * 1.001)]
    level = np.zeros((2 * most + 1, 2 * most + 1))
    np.add.at(level, tuple((node[on] + most).T), intensity[on])
    value = level[tuple((grid + most).T)]
    return PatternEvidence.from_nodes(
        basis,
        grid,
        value,
        sigma=0.05 * value + 0.2 * intensity.min(),
        limit=0.9 * float(intensity.min()),
        radius=reach * 1.001,
        pixel_size=1.0,
        pixel_size_error=error,
        camera="common",
    )


def joined(rules: Answers, learned: Answers) -> Answers:
    """Both as one, as `identify` joins them."""
    return Answers(
        rules.truth,
        {
            k: joined_evidence(rules.log_likelihood[k], learned.log_likelihood[k])
            for k in rules.log_likelihood
        },
    )
