"""How well symmetry is told from spot patterns of crystals that were in no training.

Every row says what was asked of what: the crystals, the number of patterns, the level of the
symmetry tree and who answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.spot_tokens import SpotTokens, spot_tokens
from diskern.crystal.spacegroups import space_group
from diskern.symmetry.calibrated import SET_LEVELS
from diskern.symmetry.doubts import REFUSED
from diskern.symmetry.labels import Level, cubic_table, label_tree
from diskern.symmetry.posterior import Prior, groups_from
from diskern.train.materials import Material
from diskern.train.samples import Block
from diskern.train.spot_negatives import KINDS
from diskern.train.spot_sets_recipe import SpotSetsRecipe
from diskern.train.symmetry_answers import (
    COUNTS,
    DYNAMICAL,
    Answers,
    as_they_occur,
    blocks_of,
    dynamical,
    even_prior,
    held_out,
    is_random,
    is_real,
    joined,
    kept,
    network_answers,
    reasoner_answers,
)
from diskern.train.symmetry_judges import Judge, SpotJudge
from diskern.train.symmetry_scores import scores, set_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Tell = Callable[[str], None]


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
    """Milliseconds from the spots of one pattern to its verdict, one at a time; also those that
    telling the spots in its own frame takes, and those of the network."""
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
        told = time.perf_counter()
        net.ask(tokens, np.zeros((1, 1), dtype=np.int64), one, flag, flag)
        ended = time.perf_counter()
        taken.append((ended - begun, told - begun, ended - told))
    whole, of_tokens, of_network = 1e3 * np.median(taken, 0)
    return {
        "level": "speed",
        "patterns": 1,
        "source": "network",
        "ms": float(whole),
        "ms_tokens": float(of_tokens),
        "ms_network": float(of_network),
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
            out += beside_reasoner(made[:reasoner], answers, facts, say)
    out.append(refusal_row(net, recipe))
    out += refusal_rows(net, recipe)
    if isinstance(net, SpotJudge):
        out.append(speed_row(net, made))
    return out


def beside_reasoner(
    made: Sequence[Block],
    answers: Answers,
    facts: Mapping[str, Any],
    say: Tell,
    prior: Floats | None = None,
) -> list[dict[str, Any]]:
    """Rules, network and the joined answer on the same few crystals.

    Parameters
    ----------
    made, answers : blocks, and what the network says of these and perhaps of more.
    prior : (230,), by default every symbol equally likely.
    """
    counts = list(answers.log_likelihood)
    rules = reasoner_answers(made, counts, say)
    same = Answers(
        answers.truth[: len(made)],
        {k: answers.log_likelihood[k][: len(made)] for k in counts},
    )
    both = joined(rules, same)
    out = []
    for source, answer in (("reasoner", rules), ("network, same", same), ("joined", both)):
        own = {**facts, "source": source}
        out += rows_of(answer, prior=prior, facts=own) + cubic_rows(answer, own)
    return out
