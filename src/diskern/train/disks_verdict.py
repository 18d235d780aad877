"""How far a disk finder and the fit are believed: fitted to patterns of structures held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.disk_candidates import least_size
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_proposer import LearnedProposer
from diskern.bragg.disk_search import OVERLAP, measure_named
from diskern.bragg.disk_verdict import BELIEVED, WEIGHTS, verdict_features
from diskern.nets.disk_support import fit_logistic
from diskern.nets.registry import Model
from diskern.train.disks_batch import probe_image
from diskern.train.disks_evaluate import EXCUSED, NEAR, match
from diskern.train.samples import Block

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PRECISE = 0.96
"""Share of what is believed that shall be right: a little more than the 95 % of the aim: more is
believed at nodes of a lattice that hold nothing to be seen than elsewhere."""


def learned_verdict(model: Model, blocks: list[Block]) -> dict[str, float]:
    """Weights of `diskern.bragg.disk_verdict.Verdict` for a card's calibration.

    Parameters
    ----------
    blocks : of a side that the network has not learned from.
    """
    proposer = LearnedProposer.of(model)
    parts = [_of_block(block, proposer) for block in blocks]
    features, right = (np.concatenate([p[i] for p in parts]) for i in range(2))
    weights = fit_logistic(features, right)
    believed = _least(1 / (1 + np.exp(-np.clip(features @ weights, -30, 30))), right)
    return dict(zip(WEIGHTS, weights.tolist(), strict=True)) | {BELIEVED: believed}


def probe_of(block: Block) -> Probe:
    """The probe that a block was drawn with."""
    radius, edge, hole = (float(block[n][0]) for n in ("radius", "edge", "hole"))
    shape = (block["image"].shape[1], block["image"].shape[2])
    probe = Probe.synthetic(shape, radius, edge)
    if not hole:
        return probe
    image = probe_image(shape, radius, edge, hole).astype(np.float64)
    return replace(probe, image=image, round=False)


def _of_block(block: Block, proposer: LearnedProposer) -> tuple[Floats, Bools]:
    """Features of all candidates, and which are disks."""
    probe = probe_of(block)
    named, found = measure_named(block["image"].astype(np.float32), probe, proposer)
    features = verdict_features(named, found, OVERLAP * least_size(probe))
    right = np.zeros(len(named), bool)
    for i, disks in enumerate(block["disks"]):
        truth = disks[disks[:, 4] >= EXCUSED, :2].astype(np.float64)
        mine = np.flatnonzero(found.pattern == i)
        mine = mine[np.argsort(-named.probability[mine], kind="stable")]
        place = np.stack([found.row[mine], found.col[mine]], 1)
        right[mine] = match(place, truth, NEAR * probe.radius) >= 0
    return features, right


def _least(probability: Floats, right: Bools) -> float:
    """The least probability from which on what is believed is right often enough."""
    order = np.argsort(-probability, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= PRECISE)
    return float(probability[order[enough[-1]]]) if len(enough) else 0.5
