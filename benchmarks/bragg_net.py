"""How well the disk proposer finds disks and reads V_g and q_z, beside what it should beat.

python benchmarks/bragg_net.py [--weights proposer] [--blocks 60] [--flooded 0] [--fourier FILE]

Simulated patterns of structure types that were in neither training nor calibration, two-beam and
Bloch-wave ones apart.  Beside the network stand

* the disks that `find_disks` measures with it, what a scan gets, and those of the classical search;
* the network alone, without the support of its candidates by the other disks of the pattern;
* the matched filter: maxima above 5 sigma of the probe against a ring around it, which is the
  best linear detector on a smooth background and knows the probe exactly;
* V_g read off the raw intensity as its square root, with the best scale of each pattern given;
* q_z read off the disk's centre of gravity along g, and q_z = 0;
* a training of the published architecture on as many patterns as --fourier's had.

Speed is that of one process with OMP_NUM_THREADS threads (1 by default).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from dataclasses import replace
from itertools import pairwise

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diskern.bragg.disk_probe import Probe, rim
from diskern.bragg.disk_proposer import LearnedProposer
from diskern.bragg.disk_search import find_disks
from diskern.nets.correlation import correlate
from diskern.nets.disk_inputs import kernel_ring
from diskern.nets.disk_units import volts_of
from diskern.nets.proposer import Proposals, Proposer
from diskern.nets.registry import Model, load
from diskern.train.disks import DiskSet
from diskern.train.disks_evaluate import (
    SEEN,
    FoundDisks,
    best_threshold,
    evaluate,
    summary,
)
from diskern.train.disks_fourier import image_peaks
from diskern.train.disks_recipe import DisksRecipe
from diskern.train.disks_verdict import probe_of
from diskern.train.samples import Block
from diskern.train.train_finish import finder_of
from diskern.train.train_recipe import TrainRecipe

Floats = NDArray[np.float64]
DOSES = (1e3, 1e4, 1e5, 1e6, 1e7)
RADII = (2.0, 3.0, 4.5, 8.0)
DIFFUSE = (0.0, 0.1, 0.3, 1.0)
LOWEST = 0.01
"""Probability by the network alone from which on a maximum is a candidate here."""
NEIGHBOUR = (0.0, 1.0, 1.5, 2.0, 2.5, 4.0, np.inf)
"""Distances to the next visible disk in radii: below 2 they overlap."""


def say(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(line + "\n")


def matched_filter(block: Block, probe: NDArray[np.float32]) -> Proposals:
    """Maxima of the signal-to-noise map above 5; the ratio stands for the probability."""
    counts = torch.from_numpy(block["image"]).clamp(min=0)
    radius, edge = (torch.from_numpy(block[n]) for n in ("radius", "edge"))
    kernel = torch.from_numpy(probe) - kernel_ring((probe.shape[0], probe.shape[1]), radius, edge)
    noise = correlate(counts, kernel * kernel).clamp(min=0).sqrt()
    floor = (kernel * kernel).sum((1, 2), keepdim=True).sqrt() / np.sqrt(50.0)
    ratio = correlate(counts, kernel) / torch.maximum(noise, floor)
    reach = max(1, round(0.5 * float(radius[0])))
    highest = torch.nn.functional.max_pool2d(ratio[:, None], 2 * reach + 1, 1, reach)[:, 0]
    found = torch.nonzero((ratio == highest) & (ratio > 5), as_tuple=True)
    which, row, col = (t.numpy() for t in found)
    nothing = np.full(len(which), np.nan)
    height = ratio[found].double().numpy()
    return Proposals(
        which, row.astype(float), col.astype(float), height / (5 + height), *(nothing,) * 5
    )


def measured(model: Model | None):  # type: ignore[no-untyped-def]
    """Found, measured and read as in a scan, with the network or the classical search."""

    def finder(block: Block, probe: NDArray[np.float32]) -> Proposals:
        energy, scale = (float(block[n][0]) for n in ("energy", "pixel_size"))
        known = {"energy": energy, "pixel_size": scale}
        proposer = None if model is None else LearnedProposer.of(model, **known)
        d = find_disks(block["image"].astype(np.float32), probe_of(block), proposer=proposer)
        sure = np.full(len(d), 0.999)
        read = (d.v_g, d.sigma_v_g, d.q_z, d.sigma_q_z)
        place = np.hypot(d.sigma_row, d.sigma_col) / np.sqrt(2)
        return Proposals(d.pattern, d.row, d.col, sure, *read, place)

    return finder


def fourier_finder(model: Model):  # type: ignore[no-untyped-def]
    """The published architecture as a finder."""

    def finder(block: Block, probe: NDArray[np.float32]) -> Proposals:
        images = torch.from_numpy(block["image"])
        probes = torch.from_numpy(probe).expand(len(images), -1, -1)
        with torch.inference_mode():
            found = image_peaks(model.net(images, probes), probes, float(block["radius"][0]), 0.02)
        unit, energy = float(block["unit"][0]), float(block["energy"][0])
        return Proposals(
            **{**vars(found), "v_g": volts_of(found.v_g, energy, unit), "q_z": found.q_z * unit}
        )

    return finder


def raw_readings(blocks: list[Block], found: FoundDisks) -> tuple[Floats, Floats, Floats]:
    """(N,) net counts, centre-of-gravity q_z and |g| in radii of every true disk, by its place."""
    counts, gravity, length = (np.full(len(found.pattern), np.nan) for _ in range(3))
    first = 0
    for block in blocks:
        images = block["image"].astype(np.float64)
        radius, unit = float(block["radius"][0]), float(block["unit"][0])
        reach = int(np.ceil(1.8 * radius))
        steps = np.arange(-reach, reach + 1)
        for i, image in enumerate(np.pad(images, ((0, 0), (reach, reach), (reach, reach)))):
            mine = np.flatnonzero(found.pattern == first + i)
            beam = mine[found.direct[mine]]
            for j in mine:
                row, col = found.place[j]
                r0, c0 = round(row), round(col)
                patch = image[r0 : r0 + 2 * reach + 1, c0 : c0 + 2 * reach + 1]
                dy, dx = (r0 + steps - row)[:, None], (c0 + steps - col)[None, :]
                away = np.hypot(dy, dx)
                inside, ring = away <= radius, (away > 1.25 * radius) & (away <= 1.8 * radius)
                net = patch - np.median(patch[ring])
                counts[j] = net[inside].sum()
                if len(beam):
                    G = (found.place[j] - found.place[beam[0]]) / radius
                    centre = np.array([(net * a)[inside].sum() for a in (dy, dx)])
                    middle = np.clip(centre / max(counts[j], 1.0) / radius, -1, 1)
                    gravity[j], length[j] = G @ middle * unit, np.hypot(*G)
        first += len(images)
    return counts, gravity, length


def aligned(values: Floats, pattern: NDArray[np.int64]) -> Floats:
    """Logarithms less the median of each pattern's."""
    out = np.full(len(values), np.nan)
    for p in np.unique(pattern):
        mine = pattern == p
        out[mine] = values[mine] - np.nanmedian(values[mine])
    return out


def crowding(found: FoundDisks) -> Floats:
    """(N,) distance to the nearest other visible disk of the pattern, in radii."""
    out = np.full(len(found.place), np.inf)
    for pattern in range(found.patterns):
        mine = np.flatnonzero((found.pattern == pattern) & (found.visibility >= SEEN))
        if len(mine) > 1:
            distance = cKDTree(found.place[mine]).query(found.place[mine], k=2)[0][:, 1]
            out[mine] = distance / found.radius[mine]
    return out


def recall_at(found: FoundDisks, precision: float) -> float:
    """Largest recall at a threshold at which so many candidates are right; 0 where none is.

    NaN of finders that give no probabilities.
    """
    if len(np.unique(found.probability[found.probability > 0])) < 2:
        return float("nan")
    levels = np.linspace(0.03, 0.99, 97)
    return max((found.recall(t) for t in levels if found.precision(t) >= precision), default=0.0)


def alone(model: Model) -> Model:
    """The network without the support of a candidate by the other disks."""
    own = model.card.calibration
    kept = {name: value for name, value in own.items() if not name.startswith("support")}
    return Model(replace(model.card, calibration=kept), model.net)


def detection_table(rows: dict[str, tuple[FoundDisks, float]]) -> None:
    """Recall and precision, all and by bins."""
    say(f"{'finder':20} {'recall':>7} {'precision':>9} {'place px':>9} {'recall at 95 %':>15}")
    for name, (found, level) in rows.items():
        place = np.median(np.hypot(*found.miss[found.measured(level)].T))
        line = f"{name:20} {found.recall(level):7.3f} {found.precision(level):9.3f} {place:9.3f}"
        say(f"{line} {recall_at(found, 0.95):15.3f}")
    bins = (("dose", DOSES), ("radius", RADII), ("diffuse", DIFFUSE), ("neighbour", NEIGHBOUR))
    say("recall in bins")
    for word, edges in bins:
        for low, high in pairwise(edges):
            line = f"  {word:8} {low:8.3g} to {high:8.3g}"
            for name, (found, level) in rows.items():
                value = crowding(found) if word == "neighbour" else getattr(found, word)
                line += f"  {name} {found.recall(level, (value >= low) & (value < high)):.3f}"
            say(line)


def measurement_table(found: FoundDisks, level: float, blocks: list[Block]) -> None:
    """V_g and q_z of the disks found, beside what the raw counts say."""
    counts, gravity, length = raw_readings(blocks, found)
    use = found.measured(level) & (counts > 0)
    net = np.log(np.maximum(found.found_v_g, 1e-9) / found.v_g)
    raw = 0.5 * np.log(np.where(counts > 0, counts, np.nan)) - np.log(found.v_g)
    number, disks = np.unique(found.pattern[use], return_counts=True)
    pick = use & np.isin(found.pattern, number[disks >= 4])
    errors = {
        "network, absolute": net[use],
        "network, best scale of each pattern": aligned(net[pick], found.pattern[pick]),
        "root of counts, best scale of each pattern": aligned(raw[pick], found.pattern[pick]),
    }
    say("|ln V_g| error            median   68 %")
    for name, e in errors.items():
        say(f"  {name:44} {np.nanmedian(np.abs(e)):.3f}  {np.nanquantile(np.abs(e), 0.68):.3f}")
    sigma = found.sigma_v_g[use] / found.found_v_g[use]
    order = np.argsort(sigma)
    for share in (0.25, 0.5):
        best = order[: int(share * len(order))]
        say(f"  network, surest {share:.0%}: {np.median(np.abs(net[use][best])):.3f}")
    unit = np.concatenate([b["unit"] for b in blocks])[found.pattern]
    crossed = np.abs(found.q_z / unit) < length
    say("q_z error in 1/Å (median)      network   gravity   zero")
    for name, mask in (("all found", use), ("Bragg line in the disk", use & crossed)):
        e = [np.nanmedian(np.abs(v - found.q_z)[mask]) for v in (found.found_q_z, gravity, 0.0)]
        say(f"  {name:28} {e[0]:.5f}  {e[1]:.5f}  {e[2]:.5f}   ({int(mask.sum())} disks)")
    right = np.sign(found.found_q_z[use]) == np.sign(found.q_z[use])
    say(f"  sign of q_z right: {right.mean():.3f}")


def speed(model: Model) -> None:
    """Patterns a second from counts to proposals."""
    proposer = Proposer(model, energy=200e3, pixel_size=0.01)
    rng = np.random.default_rng(0)
    for size, radius, count in ((128, 5.0, 64), (256, 5.0, 24), (256, 9.0, 64), (512, 18.0, 32)):
        probe = Probe.synthetic((size, size), radius).image
        patterns = rng.poisson(probe * 1e5 + 1, (count, size, size)).astype(np.float32)
        proposer(patterns[:4], probe)
        start = time.perf_counter()
        proposer(patterns, probe)
        rate = count / (time.perf_counter() - start)
        say(f"  {size} px, disks of {radius:g} px: {rate:.0f} patterns/s")


def beyond(model: Model) -> None:
    """False disks where a lattice goes on beyond the last row that can be seen."""
    rng = np.random.default_rng(0)
    size, radius, pitch = 128, 5.0, 128 / 6.5
    probe = Probe.synthetic((size, size), radius, 0.6)
    rows, cols = np.indices((size, size)) - size // 2
    steps = [(m * pitch, n * pitch) for m in range(-2, 3) for n in range(-2, 3)]
    disks = np.zeros((size, size))
    for row, col in steps:
        height = 300 * np.exp(-(row**2 + col**2) / (2 * pitch) ** 2)
        disks += height * rim(np.hypot(rows - row, cols - col), radius, 0.6)
    for background in (0.05, 0.2, 1.0, 5.0):
        counts = rng.poisson(disks + background, (16, size, size)).astype(np.float32)
        found = find_disks(counts, probe, proposer=LearnedProposer.of(model))
        place = np.stack([found.row, found.col], 1) - size // 2
        off = np.linalg.norm(place[:, None] - np.array(steps), axis=2).min(1) > 0.5 * radius
        say(f"  {background:g} electrons a pixel: {off.sum() / 16:.2f} of {len(found) / 16:.1f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="proposer")
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--flooded", type=float, default=0.0, help="share of cameras too full")
    parser.add_argument("--fourier", help="weights of the published architecture")
    parser.add_argument("--beside", help="other weights of the proposer, for comparison")
    options = parser.parse_args()
    model = load(options.weights)
    recipe: DisksRecipe = TrainRecipe.model_validate(model.card.recipe).data
    recipe = recipe.model_copy(update={"flooded": options.flooded})
    say(f"{platform.platform()}, Python {sys.version.split()[0]}, torch {torch.__version__}")
    say(f"weights {model.card.name} {model.card.sha256[:12]}, {options.blocks} blocks a tier")
    for tier, share in (("two beams", 0.0), ("Bloch waves", 1.0)):
        made = DiskSet(recipe.model_copy(update={"bloch": share}), "test")
        blocks = [made.block(20_000 + i) for i in range(options.blocks)]
        network = evaluate(finder_of(model, LOWEST), blocks)
        level = model.card.calibration["threshold"]
        rows = {
            "network": (network, level),
            "network alone": (evaluate(finder_of(alone(model), 0.03), blocks), level),
            "measured": (evaluate(measured(model), blocks), 0.5),
            "classical, measured": (evaluate(measured(None), blocks), 0.5),
            "matched filter": (evaluate(matched_filter, blocks), 0.5),
        }
        for name, file in (("other weights", options.beside), ("published", options.fourier)):
            if file:
                rows[name] = other(load(file), recipe, share, blocks, name == "published")
        say(f"\n{tier}: {network.patterns} patterns")
        detection_table(rows)
        say(f"visible disks without a candidate: {1 - network.recall(LOWEST):.3f}")
        measurement_table(network, level, blocks)
        say("the same of measured disks, read again")
        measurement_table(*rows["measured"], blocks)
        words = ("z_place", "z_v_g", "z_q_z", "z_place_above_3", "z_v_g_above_3", "z_q_z_above_3")
        say("error/sigma, 68 % quantile and share above 3")
        for name in ("network", "measured"):
            numbers = summary(*rows[name])
            say(f"  {name}: " + ", ".join(f"{w} {numbers[w]:.2f}" for w in words))
    say("\nfalse disks a pattern, at nodes too faint to be seen")
    beyond(model)
    say("\nspeed")
    speed(model)


def other(
    model: Model, recipe: DisksRecipe, share: float, blocks: list[Block], published: bool
) -> tuple[FoundDisks, float]:
    """Another network, with the threshold that is best on the validation side."""
    finder = fourier_finder(model) if published else finder_of(model, 0.05)
    held = DiskSet(recipe.model_copy(update={"bloch": share}), "validation")
    level = best_threshold(evaluate(finder, [held.block(20_000 + i) for i in range(len(blocks))]))
    return evaluate(finder, blocks), level


if __name__ == "__main__":
    main()
