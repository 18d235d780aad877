"""The answer in sentences, in plain text: for the page, the terminal and logs."""

from __future__ import annotations

from diskern.report.notation import direction_text, listing, percent, space_group_text
from diskern.symmetry.identification import Identification, Ranked

UNDECIDED_BELOW = 0.5
"""A first choice less probable than this is reported as undecided."""
SET_AT_MOST = 8
"""Members up to which a set is spelled out."""
SETS = {"system": "crystal system", "extinction_group": "extinction symbol"}
"""Levels whose sets are told, by their names in sentences."""
CANNOT_EXCLUDE = 0.2
"""A phase with at least this share of the best one's score is named beside it."""


def verdict(identification: Identification) -> str:
    """The whole answer in one or two sentences."""
    if not identification.crystal:
        return f"No crystal identified: {identification.refusal or 'no Bragg reflections found'}."
    parts = [_doubt(identification), _symmetry(identification), _phase(identification)]
    said = " ".join(part for part in parts if part)
    return said or "Bragg reflections were measured, but they do not settle the symmetry."


def _doubt(identification: Identification) -> str:
    """Whether the patterns show one crystal at all, where that is not sure."""
    told = [
        (a.pattern.source or f"pattern {i + 1}", words)
        for i, (a, words) in enumerate(
            zip(identification.analyses, identification.doubts, strict=False)
        )
        if words
    ]
    if not told:
        return ""
    if len(identification.analyses) == 1:
        return f"Perhaps no single crystal: {told[0][1]}."
    return f"Perhaps no single crystal in {listing([f'{name} ({why})' for name, why in told])}."


def _symmetry(identification: Identification) -> str:
    if not identification.system:
        return ""
    system = choice(identification.system)
    if identification.system[0].probability < UNDECIDED_BELOW:
        return f"Crystal system undecided: {system}."
    if not identification.extinction_symbol:
        return f"{system[:1].upper()}{system[1:]}."
    symbols = identification.extinction_symbol
    joint = "extinction symbol "
    if symbols[0].probability < UNDECIDED_BELOW:
        joint = "extinction symbol undecided, "
    return f"{system[:1].upper()}{system[1:]}; {joint}{choice(symbols)}."


def choice(ranked: tuple[Ranked, ...], most: int = 3) -> str:
    """The first choice with its probability, or the first few where none has the majority."""
    shown = ranked[:1] if ranked[0].probability >= UNDECIDED_BELOW else ranked[:most]
    return listing([f"{r.name} ({percent(r.probability)})" for r in shown], "or")


def _phase(identification: Identification) -> str:
    if not identification.phases:
        return ""
    best = identification.phases[0]
    if identification.doubtful and not identification.system and best.score < UNDECIDED_BELOW:
        return ""
    group = f" ({space_group_text(best.space_group)})" if best.space_group else ""
    if 1 - sum(p.score for p in identification.phases) > max(best.score, UNDECIDED_BELOW):
        return "None of the candidate phases fits better than an unlisted phase would."
    if best.score < UNDECIDED_BELOW:
        names = listing([f"{p.name} ({percent(p.score)})" for p in identification.phases[:3]])
        return f"No candidate phase stands out; best are {names}."
    rivals = phases_left(identification)[1:4]
    doubt = f", but {listing(list(rivals))} cannot be excluded" if rivals else ""
    return f"Of the candidates, {best.name}{group} fits best ({percent(best.score)}){doubt}."


def phases_left(identification: Identification) -> tuple[str, ...]:
    """Names of the best phase and of those that cannot be excluded beside it."""
    scores = [p.score for p in identification.phases]
    return tuple(
        p.name for p in identification.phases if p.score > CANNOT_EXCLUDE * max(scores, default=0)
    )


def ambiguity(identification: Identification) -> str:
    """What the patterns cannot tell apart, in words; empty where there is nothing to say."""
    groups = identification.ambiguity_set
    if not groups:
        return ""
    names = [f"{space_group_text(n)} ({n})" for n in groups]
    if len(groups) == 1:
        return f"No other space group looks like {names[0]} in what was given."
    shown = names if len(names) <= 14 else [*names[:12], f"{len(names) - 12} more"]
    return f"These {len(groups)} space groups look the same in what was given: {listing(shown)}."


def truth_sets(identification: Identification) -> list[str]:
    """What holds the truth in nine of ten cases, in words; nothing where it is not known."""
    out = []
    for level, title in SETS.items():
        members = list(identification.sets.get(level, ()))
        if len(members) == 1:
            out.append(f"In nine of ten such cases the {title} is {members[0]}.")
        elif members:
            more = len(members) - SET_AT_MOST
            shown = [*members[:SET_AT_MOST], f"{more} more"] if more > 0 else members
            names = listing(shown, "or")
            out.append(f"In nine of ten such cases the {title} is one of: {names}.")
    return out


def next_step(identification: Identification) -> str:
    """The further zone axis that would decide most; empty where none is proposed."""
    if identification.next_zone is None:
        return ""
    zone = direction_text(identification.next_zone)
    return f"A pattern along {zone} (in the most probable cell) would decide the most."


def kind_words(identification: Identification, index: int) -> str:
    """What was found on one pattern, in a few words."""
    analysis = identification.analyses[index]
    if analysis.kind == "none":
        return analysis.refusal or "no Bragg reflections"
    found = []
    if analysis.kind == "rings" and analysis.rings is not None:
        found.append(_count(len(analysis.rings.radius), "ring"))
    if len(analysis.spots):
        found.append(_count(len(analysis.spots), "spot"))
    rows = [lattice for lattice in analysis.lattices if lattice.rank == 1]
    nets = len(analysis.lattices) - len(rows)
    if nets:
        found.append(_count(nets, "lattice"))
    if rows:
        found.append(_count(len(rows), "single row", "single rows"))
    return listing(found) or "no Bragg reflections"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
