"""How well an image network names look-alike labels, and space groups from several zones.

The measures are those of Table 1 of Ra et al., RSC Adv. 11, 38307 (2021): accuracy on held-out
images, parameters, time per pattern; beside them the ensemble over zone axes, and what the
ensemble gives when it is told the true labels, its ceiling.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from diskern.errors import DiskernError
from diskern.nets.registry import Card, Model, save
from diskern.nets.resnet import parameter_count, unit_images
from diskern.physics import wavelength
from diskern.symmetry.ensemble import Ensemble, Rule, join
from diskern.symmetry.lookalike import (
    RA_ZONES,
    SPAN,
    LookAlikeTable,
    Zone,
    lattice_of_points,
    lookalike_labels,
    reduced,
    zone_basis,
)
from diskern.train.saed import label_settings
from diskern.train.saed_blocks import image_blocks, settle
from diskern.train.saed_images import FACTS, sides_of
from diskern.train.saed_recipe import SaedTrainRecipe
from diskern.train.symmetry_scores import scores
from diskern.train.task import Tell
from diskern.train.train_recipe import parse_train_recipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HELD_OUT = {"validation": "unseen crystals", "test": "unseen structure types"}
PATTERNS = (1, 2, 3, 5, 10)
DRAWS = 20
"""Choices of zone axes of each crystal that the ensemble is measured with."""
PROTOCOL = (
    "Simulated kinematic images without noise, turned and cropped at random as in training. "
    "Unseen crystals share their structure type with training crystals; unseen structure types "
    "do not (random crystals among them are told apart). A net is in view where its two shortest "
    "vectors are shorter than half the image. Accuracy of look-alike labels per image; "
    "of space groups from the given number of random zone axes of one crystal."
)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network said of the images of one side.

    Attributes
    ----------
    probability : (N, L) of the labels.
    label, crystal, space_group : (N,).
    zone : (N, 3).
    random : (N,) whether the crystal is a random one.
    in_view : (N,) whether two independent vectors of the pattern's net fit into the image; of
        the others no geometry can be seen.
    """

    probability: Floats
    label: Ints
    crystal: Ints
    space_group: Ints
    zone: Ints
    random: NDArray[np.bool_]
    in_view: NDArray[np.bool_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) whether the likeliest label is the true one."""
        return np.asarray(self.probability.argmax(1) == self.label)


def look_at(
    net: nn.Module,
    recipe: SaedTrainRecipe,
    side: str,
    *,
    limit: int | None = None,
    tell: Tell | None = None,
) -> Seen:
    """Ask a network about the held-out images of a recipe.

    Parameters
    ----------
    limit : images at most, a random part of the side.
    """
    source = image_blocks(recipe, side, tell)
    count = len(source.images) if limit is None else min(limit, len(source.images))
    blocks = [source.block(n) for n in range(-(-count // source.size))]
    probability = []
    net.eval()
    with torch.inference_mode():
        for start in range(0, len(blocks), 8):
            images = np.concatenate([b["image"] for b in blocks[start : start + 8]])
            logits = net(unit_images(torch.from_numpy(images).to(recipe.device)))
            probability.append(logits.softmax(1).cpu().numpy().astype(np.float64))
    joined = {name: np.concatenate([b[name] for b in blocks]) for name in FACTS}
    facts = {k: joined[k].astype(np.int64) for k in ("label", "crystal", "space_group", "zone")}
    scale = recipe.data.detector_pixel * 1e-6 / joined["camera_length"]
    scale /= np.vectorize(wavelength)(joined["energy"].astype(float))
    shown = source.images
    second = np.array(
        [
            _second_vector(number, shown.settings[crystal], zone) / shown.edges[crystal]
            for number, crystal, zone in zip(
                facts["space_group"].tolist(),
                facts["crystal"].tolist(),
                map(tuple, facts["zone"].tolist()),
                strict=True,
            )
        ]
    )
    return Seen(
        probability=np.concatenate(probability),
        random=shown.random[facts["crystal"]],
        in_view=second < scale * recipe.data.crop / 2,
        **facts,
    )


@lru_cache(maxsize=1024)
def _second_vector(number: int, title: str, zone: Zone) -> float:
    """Length of the second shortest vector of a setting's net along a zone, in 1/edge."""
    setting = next(s for s in label_settings([number]) if s.title == title)
    span = np.stack(np.meshgrid(*[np.arange(-SPAN, SPAN + 1)] * 2), -1).reshape(-1, 2)
    basis = zone_basis(zone)
    seen = lattice_of_points(span[setting.visible(span @ basis)])
    rows = reduced(seen @ basis, np.eye(3)).astype(np.float64)
    return float(np.linalg.norm(rows, axis=1).max())


def label_scores(seen: Seen) -> dict[str, float]:
    """Number of images, and `diskern.train.symmetry_scores.scores` of their labels."""
    return {"images": len(seen.label), **scores(seen.probability, seen.label)}


def ensemble_rows(
    seen: Seen, ensemble: Ensemble, patterns: Sequence[int] = PATTERNS, seed: int = 0
) -> list[dict[str, Any]]:
    """Accuracy of the space group from several random zone axes of one crystal.

    Returns
    -------
    A row for each number of patterns: ``mean`` and ``product`` of the network's probabilities,
    and ``mean_ideal``, ``product_ideal`` where the labels are known for certain.
    """
    said = ensemble.of_labels(seen.probability)
    told = ensemble.of_labels(np.eye(seen.probability.shape[1])[seen.label])
    rows = []
    for count in patterns:
        chosen, truth = _draw_sets(seen, count, seed)
        if not len(chosen):
            continue
        place = np.searchsorted(ensemble.groups, truth)
        row: dict[str, Any] = {"patterns": count, "sets": len(chosen)}
        for rule in get_args(Rule):
            row[rule] = _share_right(join(said[chosen], rule), place)
            row[f"{rule}_ideal"] = _share_right(join(told[chosen], rule), place)
        rows.append(row)
    return rows


def _share_right(probability: Floats, place: Ints) -> float:
    """Accuracy of the likeliest group; equal ones share the point."""
    best = probability >= probability.max(-1, keepdims=True) * (1 - 1e-9)
    return float((best[np.arange(len(place)), place] / best.sum(-1)).mean())


def _draw_sets(seen: Seen, count: int, seed: int) -> tuple[Ints, Ints]:
    """(M, count) images of one crystal along different zones, and its group (M,)."""
    rng = np.random.default_rng([seed, count])
    sets, truth = [], []
    _, zone = np.unique(seen.zone, axis=0, return_inverse=True)
    for crystal in np.unique(seen.crystal):
        own = np.flatnonzero(seen.crystal == crystal)
        for _ in range(DRAWS):
            mixed = rng.permutation(own)
            _, first = np.unique(zone[mixed].ravel(), return_index=True)
            if len(first) < count:
                continue
            sets.append(mixed[rng.permutation(first)[:count]])
            truth.append(int(seen.space_group[own[0]]))
    return np.array(sets, dtype=np.int64).reshape(-1, count), np.array(truth, dtype=np.int64)


def time_per_pattern(net: nn.Module, size: int, repeats: int = 9) -> float:
    """Median milliseconds of one image of ``size``² px alone, on the threads torch has."""
    image = unit_images(torch.rand(1, size, size))
    net = net.to("cpu").eval()
    with torch.inference_mode():
        net(image)
        took = []
        for _ in range(repeats):
            begun = time.perf_counter()
            net(image)
            took.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(took)


@lru_cache(maxsize=8)
def table_of(recipe: SaedTrainRecipe) -> LookAlikeTable:
    """Look-alike classes of a recipe's groups along its zones."""
    groups = sorted({n for source in recipe.data.crystals for n in source.space_groups})
    return lookalike_labels(label_settings(groups), recipe.data.zones or RA_ZONES)


def evaluate_saed(
    model: Model, *, limit: int | None = None, tell: Tell | None = None
) -> dict[str, Any]:
    """Everything that is measured of one image network, on the held-out sides of its own recipe.

    Parameters
    ----------
    limit : images of each side at most.

    Returns
    -------
    ``table``: the row of the published table. ``sides``: scores by held-out side.
    ``ensemble``: rows by side and number of patterns.

    Raises
    ------
    DiskernError
        Where the card holds no recipe of such a training.
    """
    recipe = parse_train_recipe(dict(model.card.recipe), f"card of {model.card.name}")
    if not isinstance(recipe, SaedTrainRecipe):
        raise DiskernError(f"{model.card.name} was not trained on look-alike labels")
    here = recipe.model_copy(update={"device": "cpu"})
    ensemble = Ensemble(table_of(here))
    crystals = sides_of(here)
    sides: list[dict[str, Any]] = []
    together: list[dict[str, Any]] = []
    for side, words in HELD_OUT.items():
        if not crystals[side]:
            continue
        seen = look_at(model.net, here, side, limit=limit, tell=tell)
        for part, chosen in _parts(words, seen).items():
            found = label_scores(chosen)
            count = len(np.unique(chosen.crystal))
            sides.append({"held_out": part, "crystals": count, **found})
            together += [{"held_out": part, **row} for row in ensemble_rows(chosen, ensemble)]
    return {
        "table": _table_row(model, here, sides),
        "sides": sides,
        "ensemble": together,
    }


def _parts(words: str, seen: Seen) -> dict[str, Seen]:
    """A side; of it the images with their net in view; known and random structures apart."""
    parts = {words: seen}
    if seen.in_view.any() and not seen.in_view.all():
        parts[f"{words}, net in view"] = _part(seen, seen.in_view)
    if seen.random.any() and not seen.random.all():
        parts[f"{words}, known"] = _part(seen, ~seen.random)
        parts[f"{words}, random"] = _part(seen, seen.random)
    return parts


def _part(seen: Seen, keep: NDArray[np.bool_]) -> Seen:
    arrays: Mapping[str, Any] = {name: values[keep] for name, values in vars(seen).items()}
    return Seen(**arrays)


def _table_row(
    model: Model, recipe: SaedTrainRecipe, sides: list[dict[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "network": f"ResNet{model.card.arguments.get('depth', '')}",
        "weights": model.card.name,
        "start": "fine-tuned" if recipe.net.pretrained else "from scratch",
        "size_px": recipe.data.crop,
        "labels": model.card.arguments.get("classes", 0),
        "parameters": parameter_count(model.net),
        "ms_per_pattern": time_per_pattern(model.net, recipe.data.crop),
    }
    for entry in sides:
        row[f"{entry['held_out']} %"] = 100 * entry["top1"]
    return row


def finish(
    recipe: SaedTrainRecipe, net: nn.Module, folder: Path, *, tell: Tell | None = None
) -> Path:
    """Measure a trained network on its held-out sides and write weights and card."""
    net = net.to("cpu")
    settle(net, image_blocks(recipe, "train", tell))
    card = Card(
        name=recipe.name,
        architecture="resnet",
        arguments={
            "depth": recipe.net.depth,
            "classes": len(table_of(recipe)),
            "width": recipe.net.width,
        },
        sha256="",
        recipe=recipe.model_dump(mode="json"),
        protocol=PROTOCOL,
        summary="Names look-alike classes of cubic zone-axis images (Ra et al. 2021).",
    )
    found = evaluate_saed(Model(card, net), tell=tell)
    metrics = {
        f"{entry['held_out']}: {name}": round(entry[name], 5)
        for entry in found["sides"]
        for name in ("images", "top1", "top3", "macro_f1", "nll", "ece")
    }
    stamped = Card(**{**vars(card), "metrics": metrics})
    return save(net, stamped, folder)
