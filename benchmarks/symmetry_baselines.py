"""What symmetry can be had without a network, on the very patterns that networks are tested on.

    python benchmarks/symmetry_baselines.py labels  [--recipe saed_resnet_cpu] [--limit 2000]
    python benchmarks/symmetry_baselines.py systems [--recipe spot_set_cpu] [--train 3000]
    python benchmarks/symmetry_baselines.py published --structures FILE.parquet [--train 3000]

``labels``: look-alike classes of zone-axis images of cubic crystals, the held-out images of a
recipe for residual networks, turned as theirs are.

* the ratio method: squared ratios of the three shortest vectors of a pattern's net, looked up
  for P, I and F lattices along every zone (Weirich, J. Appl. Cryst. 57, 2024,
  doi:10.1107/S1600576724004333, and its macro RAPID, doi:10.1107/S1600576724010215).  It needs no
  training and no scale; where several entries fit equally they share the point.
* a random forest on radial and angular features (the recipe of Gleason et al., Phys. Rev.
  Materials 8, 093802, 2024: rings of 0.05 1/Å up to 2 1/Å, angular orders up to 12, moduli and
  angles).  It is given the scale and the centre, which the others are not.

``systems``: crystal system and space group from spot lists of all groups, by the forest, for one
pattern and for the mean over all patterns of a crystal.

``published``: the same as the forest was published, patterns without an instrument of crystals
2 to 20 nm thick, by Bloch waves, materials parted by composition alone: half of the new materials
of types that the shipped network knows (``structures_file.py``) train the forest, the other half
are asked about.  Beside it the network and, for --joined of them, what network and rules say
together, each with the usual prior and with the groups counted in the forest's half.

Needs scikit-learn for the forest; ``--methods ratios`` does without.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from structures_file import parted_by_material
from symmetry_net import THIN

from diskern.crystal.spacegroups import space_group
from diskern.errors import DiskernError
from diskern.nets.registry import load
from diskern.physics import wavelength
from diskern.symmetry.labels import label_tree
from diskern.symmetry.lookalike import (
    RA_ZONES,
    LookAlikeTable,
    Setting,
    Zone,
    lattice_of_points,
    reduced,
    zone_basis,
)
from diskern.symmetry.posterior import Prior, groups_from
from diskern.train.augment import TurnAndCrop
from diskern.train.materials import Material
from diskern.train.saed_evaluate import HELD_OUT, table_of
from diskern.train.saed_images import ImageBlocks, saed_images
from diskern.train.saed_recipe import SaedTrainRecipe
from diskern.train.samples import Block, sides_of
from diskern.train.spot_sets import SpotSets
from diskern.train.symmetry_answers import (
    COUNTS,
    DYNAMICAL,
    Answers,
    blocks_of,
    dynamical,
    held_out,
    network_answers,
    reasoner_answers,
)
from diskern.train.symmetry_answers import joined as together
from diskern.train.symmetry_judges import judge_of
from diskern.train.train_recipe import load_train_recipe, parse_train_recipe

say = logging.getLogger("benchmark").info
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RINGS, REACH, ORDERS = 40, 2.0, 12
"""Rings of 0.05 1/Å and angular orders of the forest's features."""
LATTICES = {"P": 221, "I": 229, "F": 225}
"""A group of each lattice whose only absences are the centring's."""
TOLERANCE = 0.02
"""Squared ratios that differ by less, relatively, are one entry of the look-up table."""
PEAK = 0.04
"""Of the autocorrelation's height: a lower peak is no vector of the net."""


# --- the ratio method -------------------------------------------------------------------------
@dataclass(frozen=True)
class Entry:
    """Squared ratios (r₂/r₁)², (r₃/r₁)² of a lattice along a zone."""

    lattice: str
    zone: Zone
    ratios: tuple[float, float]


def lookup_table(zones: tuple[Zone, ...]) -> list[Entry]:
    """Every cubic lattice along every zone."""
    span = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 2, indexing="ij"), -1).reshape(-1, 2)
    out = []
    for name, number in LATTICES.items():
        for zone in zones:
            basis = zone_basis(zone)
            seen = lattice_of_points(span[Setting(number).visible(span @ basis)])
            vectors = reduced(seen @ basis, np.eye(3)).astype(np.float64)
            out.append(Entry(name, zone, squared_ratios(vectors)))
    return out


def squared_ratios(vectors: Floats) -> tuple[float, float]:
    """Of the three shortest vectors of the net that two (2, D) reduced rows span."""
    a, b = vectors
    third = a - b if a @ b > 0 else a + b
    lengths = sorted(float(v @ v) for v in (a, b, third))
    return lengths[1] / lengths[0], lengths[2] / lengths[0]


def net_of_image(image: NDArray[np.float32]) -> Floats:
    """(2, 2) reduced rows of a pattern's net, in px, from the peaks of its autocorrelation.

    Raises
    ------
    DiskernError
        For a pattern without spots, or with spots on one line only.
    """
    size = image.shape[0]
    if not image.any():
        raise DiskernError("no spots")
    spectrum = np.fft.rfft2(image - np.float32(0.5) * image.mean(), s=(2 * size, 2 * size))
    power = np.fft.fftshift(np.fft.irfft2(np.abs(spectrum) ** 2))
    power /= power[size, size]
    middle = power[1:-1, 1:-1]
    around = [
        power[1 + i : power.shape[0] - 1 + i, 1 + j : power.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if i or j
    ]
    row, col = np.nonzero((middle > np.max(around, 0)) & (middle > PEAK))
    row, col = row + 1, col + 1
    place = np.stack([row, col], 1) - size + _parabola(power, row, col)
    length = np.linalg.norm(place, axis=1)
    order = np.argsort(length)
    order = order[length[order] > 1.2]
    if not len(order):
        raise DiskernError("no net")
    first = place[order[0]]
    across = np.abs(first[0] * place[order, 1] - first[1] * place[order, 0])
    aside = order[across > 0.2 * length[order[0]] * length[order]]
    if not len(aside):
        raise DiskernError("all spots lie on one line")
    return _lagrange(first, place[aside[0]])


def _parabola(power: Floats, row: Ints, col: Ints) -> Floats:
    """(N, 2) sub-pixel shifts of maxima."""
    out = np.zeros((len(row), 2))
    for axis, (i, j) in enumerate(((1, 0), (0, 1))):
        low, top, high = power[row - i, col - j], power[row, col], power[row + i, col + j]
        out[:, axis] = 0.5 * (low - high) / np.minimum(low - 2 * top + high, -1e-12)
    return np.clip(out, -0.5, 0.5)


def _lagrange(a: Floats, b: Floats) -> Floats:
    for _ in range(50):
        if b @ b < a @ a:
            a, b = b, a
        step = np.round((a @ b) / (a @ a))
        if step == 0:
            break
        b = b - step * a
    return np.stack([a, b])


def ratio_method(
    images: NDArray[np.float32], table: LookAlikeTable, zones: tuple[Zone, ...]
) -> Floats:
    """(N, L) shares of labels: of the entries nearest in both ratios, all their labels alike."""
    entries = lookup_table(zones)
    ratios = np.log([e.ratios for e in entries])
    names = [entry.label for entry in table.classes]
    labels: defaultdict[tuple[str, Zone], set[int]] = defaultdict(set)
    for place, entry in enumerate(table.classes):
        for setting, zone in entry.members:
            labels[space_group(setting.number).centring, zone].add(place)
    out = np.full((len(images), len(names)), 1 / len(names))
    for row, image in zip(out, images, strict=True):
        try:
            found = np.log(squared_ratios(net_of_image(image)))
        except DiskernError:
            continue
        miss = np.abs(ratios - found).max(1)
        near = np.flatnonzero(np.abs(ratios - ratios[miss.argmin()]).max(1) < TOLERANCE)
        row[:] = 0
        for place in near:
            own = labels[entries[place].lattice, entries[place].zone]
            row[sorted(own)] += 1 / len(near) / max(len(own), 1)
    return out


# --- the forest -------------------------------------------------------------------------------
def features(q: Floats, weight: Floats) -> NDArray[np.float32]:
    """(B, F) moduli and angles of the angular orders of every ring, of (B, N, 2) spots."""
    ring = np.minimum((np.linalg.norm(q, axis=-1) / REACH * RINGS).astype(int), RINGS)
    turn = np.exp(1j * np.arctan2(q[..., 1], q[..., 0]))
    b = len(q)
    index = ring + (RINGS + 1) * np.arange(b)[:, None]
    out = np.zeros((ORDERS + 1, b, RINGS + 1), dtype=complex)
    term = weight.astype(complex)
    for order in range(ORDERS + 1):
        sums = [
            np.bincount(index.ravel(), part.ravel(), b * (RINGS + 1))
            for part in (term.real, term.imag)
        ]
        out[order] = (sums[0] + 1j * sums[1]).reshape(b, RINGS + 1)
        term = term * turn
    kept = out[:, :, :RINGS].transpose(1, 0, 2).reshape(b, -1)
    angle = np.where(np.abs(kept) > 1e-9, np.angle(kept), 0)
    return np.concatenate([np.abs(kept), angle], 1).astype(np.float32)


def forest(trees: int, seed: int = 0) -> Any:
    """An untrained random forest.

    Raises
    ------
    DiskernError
        Where scikit-learn is missing.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise DiskernError("the forest needs scikit-learn: pip install scikit-learn") from error
    return RandomForestClassifier(trees, random_state=seed, n_jobs=1)


# --- look-alike labels --------------------------------------------------------------------------
def image_parts(
    recipe: SaedTrainRecipe, side: str, crop: int, limit: int
) -> Iterator[tuple[NDArray[np.float32], dict[str, Any]]]:
    """Images of a side, each once, as the network's test sees it; ``crop`` px of it."""
    images = saed_images(recipe, side)
    augment = TurnAndCrop(recipe.data.rotation, crop)
    source = ImageBlocks(images, augment, size=recipe.per_block, seed=recipe.seed, shuffled=False)
    for number in range(min(source.blocks, -(-limit // source.size))):
        block = source.block(number)
        yield block["image"], {**block, "random": images.random[block["crystal"]]}


def image_features(
    recipe: SaedTrainRecipe, side: str, limit: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Features of whole images, with their scale and centre known."""
    size = recipe.data.size
    step = np.arange(size) - size // 2
    grid = np.stack(np.meshgrid(step, step, indexing="xy"), -1).reshape(-1, 2)
    rows, facts = [], defaultdict(list)
    for images, block in image_parts(recipe, side, size, limit):
        waves = np.array([wavelength(float(e)) for e in block["energy"]])
        scale = recipe.data.detector_pixel * 1e-6 / (block["camera_length"] * waves)
        rows.append(features(grid * scale[:, None, None], images.reshape(len(images), -1)))
        for name in ("label", "random"):
            facts[name].append(block[name])
    return np.concatenate(rows), {k: np.concatenate(v) for k, v in facts.items()}


def label_ratios(recipe: SaedTrainRecipe, side: str, limit: int) -> dict[str, Any]:
    """Accuracy of the ratio method on a held-out side."""
    table, zones = table_of(recipe), recipe.data.zones or RA_ZONES
    found, truth, made_up, took = [], [], [], 0.0
    for images, block in image_parts(recipe, side, recipe.data.crop, limit):
        begun = time.process_time()
        found.append(ratio_method(images, table, zones))
        took += time.process_time() - begun
        truth.append(block["label"])
        made_up.append(block["random"])
    scores = _scores(np.concatenate(found), np.concatenate(truth), np.concatenate(made_up))
    return {"method": "ratios", "side": side, "ms": 1e3 * took / scores["images"], **scores}


def label_forest(recipe: SaedTrainRecipe, trees: int, limit: int) -> Iterator[dict[str, Any]]:
    """Accuracy of the forest on each held-out side."""
    model = forest(trees)
    given, facts = image_features(recipe, "train", 10**9)
    model.fit(given, facts["label"])
    for side in HELD_OUT:
        begun = time.process_time()
        given, facts = image_features(recipe, side, limit)
        probability = np.zeros((len(given), len(table_of(recipe))))
        probability[:, model.classes_] = model.predict_proba(given)
        took = time.process_time() - begun
        scores = _scores(probability, facts["label"], facts["random"])
        yield {"method": "forest", "side": side, "ms": 1e3 * took / scores["images"], **scores}


def labels(recipe: SaedTrainRecipe, methods: list[str], trees: int, limit: int) -> None:
    """Both baselines on each held-out side."""
    if "ratios" in methods:
        for side in HELD_OUT:
            say(str(label_ratios(recipe, side, limit)))
    if "forest" in methods:
        for row in label_forest(recipe, trees, limit):
            say(str(row))


def _scores(p: Floats, truth: Ints, made_up: NDArray[np.bool_]) -> dict[str, Any]:
    best = p >= p.max(1, keepdims=True) * (1 - 1e-9)
    right = best[np.arange(len(p)), truth] / best.sum(1)
    parts = {"top_1": right, "known": right[~made_up], "random": right[made_up]}
    return {
        "images": len(p),
        **{k: round(float(v.mean()), 4) if len(v) else None for k, v in parts.items()},
    }


# --- systems and space groups -------------------------------------------------------------------
def spot_features(blocks: Iterable[Block]) -> tuple[NDArray[np.float32], Ints, Ints]:
    """Features, group and block of patterns of crystals."""
    rows, groups, numbers = [], [], []
    for number, block in enumerate(blocks):
        keep = block["crystal"] == 1
        if keep.any():
            rows.append(features(block["q"][keep].astype(float), block["intensity"][keep]))
            groups.append(block["space_group"][keep])
            numbers.append(np.full(int(keep.sum()), number))
    return np.concatenate(rows), np.concatenate(groups), np.concatenate(numbers)


def grown(blocks: Iterable[Block], trees: int) -> Any:
    """A forest that was trained on the patterns of some blocks."""
    given, groups, _ = spot_features(blocks)
    model = forest(trees)
    model.fit(given, groups)
    say("trained on %d patterns", len(given))
    return model


def forest_rows(model: Any, blocks: Iterable[Block]) -> list[dict[str, Any]]:
    """Accuracy of a forest for crystal systems and space groups."""
    held, truth, number = spot_features(blocks)
    probability = np.zeros((len(held), 230))
    probability[:, model.classes_ - 1] = model.predict_proba(held)
    _, place = np.unique(number, return_inverse=True)
    count = np.bincount(place)
    joined = np.stack([np.bincount(place, column) for column in probability.T], 1) / count[:, None]
    first = np.unique(place, return_index=True)[1]
    pairs = (("one", probability, truth), ("all", joined, truth[first]))
    return [accuracy("forest", words, p, group) for words, p, group in pairs]


def accuracy(method: str, patterns: str, p: Floats, truth: Ints) -> dict[str, Any]:
    """Share of systems and space groups that are named first by (N, 230) probabilities."""
    tree = label_tree()
    system = tree.marginal("system", p).argmax(1) == tree.index("system", truth)
    row = {
        "method": method,
        "patterns": patterns,
        "tests": len(p),
        "system": round(float(system.mean()), 4),
        "space_group": round(float((p.argmax(1) + 1 == truth).mean()), 4),
    }
    say(str(row))
    return row


def systems(recipe: Any, trees: int, train: int, test: int) -> None:
    """The forest on the sides of a recipe."""
    trained, held = (SpotSets(recipe.data, side) for side in ("train", "test"))
    model = grown((trained.block(n) for n in range(train)), trees)
    forest_rows(model, (held.block(n) for n in range(test)))


def published(structures: Path, trees: int, train: int, test: int, joined: int) -> None:
    """Forest, network, and network with rules, on patterns as the forest's were published."""
    net = load("spot_set")
    recipe = parse_train_recipe(net.card.recipe).data
    materials = parted_by_material(structures, sides_of(recipe))[1]
    halves: tuple[list[Material], list[Material]] = ([], [])
    for material in materials:
        halves[hashlib.sha256(material.formula.encode()).digest()[0] % 2].append(material)
    changes = {**THIN, "clean": True, **DYNAMICAL}
    own, asked = (held_out(recipe, materials=h, evenly=False, **changes) for h in halves)
    say("%d materials to learn from, %d to be asked about", *(len(h) for h in halves))
    model = grown(dynamical(blocks_of(own, train)), trees)
    blocks = dynamical(blocks_of(asked, test))
    forest_rows(model, blocks)
    counted = np.bincount([m.space_group for m in halves[0]], minlength=231)[1:] + 0.1
    priors = {"usual": Prior.natural().of_groups(), "counted": counted / counted.sum()}
    answers = {"network": network_answers(judge_of(net), blocks)}
    if joined:
        rules = reasoner_answers(blocks[:joined], COUNTS)
        answers["network, same"] = Answers(
            rules.truth, {k: v[:joined] for k, v in answers["network"].log_likelihood.items()}
        )
        answers["network and rules"] = together(rules, answers["network, same"])
    for (method, found), (name, prior) in product(answers.items(), priors.items()):
        for k in COUNTS:
            p = groups_from(found.log_likelihood[k], prior)
            accuracy(f"{method}, {name} prior", str(k), p, found.truth)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["labels", "systems", "published"])
    parser.add_argument("--structures", type=Path, help="for published")
    parser.add_argument("--joined", type=int, default=0, help="crystals that the rules see too")
    parser.add_argument("--recipe")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--methods", default="ratios,forest", help="for labels")
    parser.add_argument("--limit", type=int, default=10**9, help="images of each side at most")
    parser.add_argument("--train", type=int, default=3000, help="blocks of spot lists")
    parser.add_argument("--test", type=int, default=500, help="blocks of spot lists")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.task == "labels":
        recipe = load_train_recipe(options.recipe or "saed_resnet_cpu")
        if not isinstance(recipe, SaedTrainRecipe):
            raise DiskernError(f"{options.recipe} is no recipe for look-alike labels")
        labels(recipe, options.methods.split(","), options.trees, options.limit)
    elif options.task == "published":
        if options.structures is None:
            raise DiskernError("published needs a file of known structures: --structures FILE")
        published(options.structures, options.trees, options.train, options.test, options.joined)
    else:
        recipe = load_train_recipe(options.recipe or "spot_set_cpu")  # type: ignore[assignment]
        systems(recipe, options.trees, options.train, options.test)


if __name__ == "__main__":
    main()
