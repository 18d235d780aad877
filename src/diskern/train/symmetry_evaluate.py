"""How well symmetry is told from spot patterns of crystals that were in no training.

Every row says what was asked of what: the crystals, the number of patterns, the level of the
symmetry tree and who answered.  Network, reasoner and their product see the same spots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.spot_tokens import SpotTokens, spot_tokens
from diskern.crystal.spacegroups import diffraction_symbols, space_group
from diskern.errors import DiskernError
from diskern.symmetry.calibrated import SET_LEVELS
from diskern.symmetry.evidence import PatternEvidence
from diskern.symmetry.joined import joined_evidence
from diskern.symmetry.labels import Level, cubic_table, label_tree
from diskern.symmetry.posterior import Prior, groups_from
from diskern.symmetry.reasoner import reason
from diskern.train.materials import Material
from diskern.train.samples import Block, sides_of
from diskern.train.spot_negatives import KINDS
from diskern.train.spot_sets import SIDES, SpotSets
from diskern.train.spot_sets_recipe import SpotSetsRecipe
from diskern.train.symmetry_judges import Judge, SpotJudge
from diskern.train.symmetry_scores import scores, set_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Tell = Callable[[str], None]

COUNTS = (1, 2, 3, 5, 10)
"""Patterns of one crystal that are judged together."""
FIRST = 1_000_000
"""Blocks from here on are for measuring: training never reaches them."""
DYNAMICAL: Mapping[str, Any] = {"bloch": 1.0, "bloch_volume": 1e3}
"""What a recipe is changed by so that patterns are made by Bloch waves."""
REFUSED = 0.5
"""Probability of one crystal below which a pattern counts as refused."""


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


# --- answers --------------------------------------------------------------------------------
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


# --- rows -----------------------------------------------------------------------------------
def rows_of(
    answers: Answers,
    *,
    net: Judge | None = None,
    prior: Floats | None = None,
    levels: Sequence[Level] = SET_LEVELS,
    facts: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Scores at every level for every number of patterns.

    Parameters
    ----------
    net : whose calibrated sets are measured as well.
    prior : (230,), by default every symbol equally likely.
    facts : put into every row.
    """
    tree, out = label_tree(), []
    weight = even_prior() if prior is None else prior
    for k, likelihood in answers.log_likelihood.items():
        groups = groups_from(likelihood, weight)
        for level in levels:
            p, truth = tree.marginal(level, groups), tree.index(level, answers.truth)
            row = {**(facts or {}), "patterns": k, "level": level, "crystals": len(truth)}
            row |= scores(p, truth)
            for coverage in (90, 95) if net is not None else ():
                size, held = set_scores(p, truth, net.threshold(level, coverage, k))  # type: ignore[union-attr]
                row |= {f"set{coverage}": size, f"coverage{coverage}": held}
            out.append(row)
    return out


def cubic_rows(answers: Answers, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The 17 cubic extinction symbols, told that the crystal is cubic, beside what absences
    alone allow at best."""
    tree = label_tree()
    cubic = np.array([space_group(n).system == "cubic" for n in range(1, 231)])
    chosen = cubic[answers.truth - 1]
    if not chosen.any():
        return []
    out = []
    for k, likelihood in answers.log_likelihood.items():
        groups = groups_from(likelihood[chosen], np.where(cubic, even_prior(), 0))
        p = tree.marginal("extinction_group", groups)
        truth = tree.index("extinction_group", answers.truth[chosen])
        ceiling = cubic_table().ceiling(k) if k <= len(cubic_table().zones) else float("nan")
        row = {**facts, "patterns": k, "level": "cubic extinction symbol"}
        row |= {"crystals": int(chosen.sum()), **scores(p, truth), "ceiling": ceiling}
        out.append(row | {"of_ceiling": row["top1"] / ceiling})
    return out


def refusal_row(net: Judge, recipe: SpotSetsRecipe, blocks: int = 40) -> dict[str, Any]:
    """How many patterns without a crystal are refused, and how many with one."""
    out: dict[str, Any] = {"level": "refusal", "patterns": 1, "source": "network"}
    for name, share in (("negatives", 1.0), ("crystals", 0.0)):
        refused, asked = _refused(net, recipe, blocks, negatives=share)
        out |= {f"refused_{name}": refused, f"of_{name}": asked}
    return out


def refusal_rows(net: Judge, recipe: SpotSetsRecipe, blocks: int = 40) -> list[dict[str, Any]]:
    """The same for each kind of patterns that show no crystal, or not one alone."""
    kinds: dict[str, dict[str, Any]] = {
        kind: {"made_up": 1.0, "made_up_kinds": (kind,)} for kind in KINDS
    }
    kinds["two grains"] = {"made_up": 0.0}
    rows = []
    for kind, changes in kinds.items():
        refused, asked = _refused(net, recipe, blocks, negatives=1.0, **changes)
        rows.append(
            {
                "level": "refusal",
                "patterns": 1,
                "source": "network",
                "crystals_are": kind,
                "refused": refused,
                "of": asked,
            }
        )
    return rows


def _refused(net: Judge, recipe: SpotSetsRecipe, blocks: int, **changes: Any) -> tuple[float, int]:
    """Share of patterns that the network refuses, and how many it was asked."""
    made = blocks_of(held_out(recipe, **changes), blocks)
    rows = np.arange(sum(len(b["crystal"]) for b in made))[:, None]
    flags = np.ones(len(rows), dtype=bool)
    odds = net.ask_blocks(made, rows, np.ones(rows.shape, dtype=bool), flags, flags)[1]
    asked = np.concatenate([b["crystal"] for b in made]) >= 0
    refused = 1 / (1 + np.exp(-odds[asked])) < REFUSED
    return float(refused.mean()), int(asked.sum())


def speed_row(net: SpotJudge, blocks: Sequence[Block], repeat: int = 60) -> dict[str, Any]:
    """Milliseconds from the spots of one pattern to its verdict, one at a time."""
    one = np.ones((1, 1), dtype=bool)
    flag = np.ones(1, dtype=bool)
    taken = []
    for n in range(repeat):
        block, row = blocks[n % len(blocks)], n % len(blocks[0]["space_group"])
        q = block["q"][row : row + 1].astype(np.float64)[..., ::-1]
        bright = block["intensity"][row : row + 1].astype(np.float64)
        basis = block["basis"][row : row + 1].astype(np.float64)[..., ::-1]
        begun = time.perf_counter()
        tokens: SpotTokens = spot_tokens(q, bright, basis)
        net.ask(tokens, np.zeros((1, 1), dtype=np.int64), one, flag, flag)
        taken.append(time.perf_counter() - begun)
    return {
        "level": "speed",
        "patterns": 1,
        "source": "network",
        "ms": 1e3 * float(np.median(taken)),
    }


def evaluate_symmetry(
    net: Judge,
    recipe: SpotSetsRecipe,
    *,
    blocks: int = 200,
    counts: Sequence[int] = COUNTS,
    reasoner: int = 0,
    tell: Tell | None = None,
) -> list[dict[str, Any]]:
    """All tables of learned symmetry.

    Parameters
    ----------
    recipe : that the network was trained by; its test side is measured.
    blocks : crystals of each kind.
    reasoner : crystals of each kind on which the rules alone are asked as well, and the product
        of both; seconds each.

    Returns
    -------
    One dict a row, plain values only.
    """
    say = tell or (lambda words: None)
    out: list[dict[str, Any]] = []
    kinds: tuple[tuple[str, Callable[[Material], bool] | None, Mapping[str, Any]], ...] = (
        ("random crystals", is_random, {}),
        ("known structures", is_real, {}),
        ("known structures, dynamical", is_real, DYNAMICAL),
    )
    for name, keep, changes in kinds:
        if not kept(recipe, "test", keep):
            continue
        say(f"patterns of {name}")
        made = blocks_of(held_out(recipe, keep=keep, **changes), blocks)
        if "dynamical" in name:
            made = dynamical(made)
        facts = {"source": "network", "crystals_are": name, "scale": "known"}
        answers = network_answers(net, made, counts)
        out += rows_of(answers, net=net, facts=facts)
        out += cubic_rows(answers, facts)
        if keep is is_real:
            natural = Prior.natural().of_groups()
            common = {**facts, "crystals_are": f"{name}, as often as they occur"}
            out += rows_of(as_they_occur(answers, natural), prior=natural, facts=common)
        unknown = network_answers(net, made, counts, told=False)
        out += rows_of(unknown, net=net, facts={**facts, "scale": "unknown"})
        if reasoner:
            out += beside_reasoner(net, made[:reasoner], answers, facts, say)
    out.append(refusal_row(net, recipe))
    out += refusal_rows(net, recipe)
    if isinstance(net, SpotJudge):
        out.append(speed_row(net, made))
    return out


def beside_reasoner(
    net: Judge, made: Sequence[Block], answers: Answers, facts: dict[str, Any], say: Tell
) -> list[dict[str, Any]]:
    """Rules, network and the joined answer on the same few crystals, of up to five patterns."""
    counts = [k for k in answers.log_likelihood if k <= 5]
    rules = reasoner_answers(made, counts, say)
    same = Answers(
        answers.truth[: len(made)],
        {k: answers.log_likelihood[k][: len(made)] for k in counts},
    )
    both = joined(rules, same)
    out = []
    for source, answer in (("reasoner", rules), ("network, same", same), ("joined", both)):
        out += rows_of(answer, facts={**facts, "source": source})
        out += cubic_rows(answer, {**facts, "source": source})
    return out


def joined(rules: Answers, learned: Answers) -> Answers:
    """Both as one, as `identify` joins them."""
    return Answers(
        rules.truth,
        {
            k: joined_evidence(rules.log_likelihood[k], learned.log_likelihood[k])
            for k in rules.log_likelihood
        },
    )
