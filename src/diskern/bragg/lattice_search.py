"""The best explanations of a set of spots by one lattice, finer and coarser ones weighed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice_evidence import Verdict, at_beam, judge
from diskern.bragg.lattice_nets import Nets, concatenate, grow, quick_evidence
from diskern.bragg.lattice_propose import propose
from diskern.bragg.lattice_reduce import sublattices
from diskern.bragg.lattice_sight import Sight

Floats = NDArray[np.float64]

_FINALISTS = 6
_VARIED = 2  # best verdicts of a round whose sublattices and superlattices are tried
_ROUNDS = 3
_FORMS = np.concatenate([sublattices(index) for index in (2, 3, 4)]).astype(np.float64)
_HOPELESS = 12.0  # quick evidence this far below the best is not worth the exact count of nodes


def search(sight: Sight, least: float) -> list[Verdict]:
    """Distinct trial lattices and rows, judged, best first; nothing where none has a chance to
    reach the ``least`` ln evidence asked for."""
    if len(sight) < 2:
        return []
    verdicts = _judged(propose(sight), sight, [], least)
    varied: list[Verdict] = []
    for _ in range(_ROUNDS):
        fresh = [v for v in verdicts[:_VARIED] if v not in varied]
        if not fresh:
            break
        varied += fresh
        verdicts = sorted(
            verdicts + _judged(variants(fresh, sight), sight, verdicts, least),
            key=lambda v: -v.evidence,
        )
    return verdicts


def _judged(nets: Nets, sight: Sight, known: list[Verdict], least: float) -> list[Verdict]:
    """Exact verdicts of the most promising trials that are not known yet, best first."""
    if not len(nets):
        return []
    quick = quick_evidence(nets, sight)
    nets, quick = nets[np.argsort(-quick, kind="stable")], np.sort(quick)[::-1]
    least = max([least, quick[0], *(v.evidence for v in known)]) - _HOPELESS
    out: list[Verdict] = []
    for i in range(len(nets)):
        if len(out) == _FINALISTS or quick[i] < least:
            break
        net = nets[i : i + 1]
        if not any(same(net, other.net) for other in out + known):
            verdict = judge(net, sight)
            if np.isfinite(verdict.evidence):
                out.append(verdict)
    return sorted(out, key=lambda v: -v.evidence)


def same(one: Nets, other: Nets) -> bool:
    """Whether two batches of one describe the same lattice, to a sixteenth of the spacing
    within the first nodes."""
    if one.rank[0] != other.rank[0]:
        return False
    if one.rank[0] == 1:
        a, b = one.basis[0, 0], other.basis[0, 0]
        return bool(min(np.linalg.norm(a - b), np.linalg.norm(a + b)) < 0.06 * np.linalg.norm(a))
    transform = one.basis[0] @ np.linalg.inv(other.basis[0])
    whole = np.rint(transform)
    return bool(abs(abs(np.linalg.det(whole)) - 1) < 0.1 and np.abs(transform - whole).max() < 0.06)


def variants(verdicts: list[Verdict], sight: Sight) -> Nets:
    """Sublattices and superlattices of index 2 to 4 that the spots could favour, grown."""
    parts = []
    for verdict in verdicts:
        net = at_beam(verdict.net, sight)
        rest = np.ones(len(sight), dtype=bool)
        rest[verdict.members] = False
        change = _worthwhile(verdict, sight.position[rest] - net.origin[0])
        if len(change):
            parts.append(_changed(net, change))
    if not parts:
        return verdicts[0].net[:0]
    nets = concatenate(parts)
    return grow(nets[nets.spacing > sight.width], sight, 4)


def _changed(net: Nets, change: Floats) -> Nets:
    """The nets of one origin with the bases ``change @ basis``, as well known but doubted anew."""
    full = np.broadcast_to(np.eye(3), (len(change), 3, 3)).copy()
    full[:, 1:, 1:] = change
    return Nets(
        np.repeat(net.origin, len(change), axis=0),
        change @ net.basis[0],
        4.0 * full @ net.covariance[0] @ full.transpose(0, 2, 1),
        np.repeat(net.excess, len(change)),
        np.repeat(net.purity, len(change)),
        np.repeat(net.rank, len(change)),
    )


def coarser(verdict: Verdict, sight: Sight, count: int) -> list[Verdict]:
    """The sublattices of index 2 to 4 that hold most evidence of their own.

    Two twins share nodes with one finer net over both; this is where such a pair starts.
    """
    net = at_beam(verdict.net, sight)
    forms = _FORMS if net.rank[0] == 2 else _FORMS[_FORMS[:, 1, 1] == 1]
    nets = grow(_changed(net, forms), sight, 3)
    order = np.argsort(-quick_evidence(nets, sight), kind="stable")[:count]
    return [judge(nets[i : i + 1], sight) for i in order]


def _worthwhile(verdict: Verdict, spare: Floats) -> Floats:
    """(T, 2, 2) transforms to the sublattices that most members lie on, and to the
    superlattices that unclaimed spots lie on."""
    forms = _FORMS if verdict.net.rank[0] == 2 else _FORMS[_FORMS[:, 1, 1] == 1]
    on = verdict.indices @ np.linalg.inv(forms)
    kept = (np.abs(on - np.rint(on)) < 0.01).all(axis=2).mean(axis=1) > 0.7
    finer = np.linalg.inv(forms.transpose(0, 2, 1))
    if not len(spare):
        return np.asarray(forms[kept])
    basis = finer @ verdict.net.basis[0]
    fraction = spare @ np.linalg.inv(basis)
    miss = np.linalg.norm((fraction - np.rint(fraction)) @ basis, axis=2)
    reach = 0.15 * np.linalg.norm(basis, axis=2).min(axis=1)
    hit = (miss < reach[:, None]).any(axis=1)
    return np.concatenate([forms[kept], finer[hit]])
