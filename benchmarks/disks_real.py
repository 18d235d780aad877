"""Disks that are found in real frames, drawn for the eye; there is no truth to compare with.

python benchmarks/disks_real.py FILE… [-o disks.png] [--proposer proposer|none]

Every file is one frame, or a scan whose first and middle patterns are taken.  Nothing is given by
hand: probe, mask and gain come from the frame itself.  Circles are the probe's radius, red ones
with a visibility below one half.

Whether faint disks are there can be asked of the frame without a finder: printed is the mean excess
of counts at all nodes of the visible disks' lattice where none is visible, and halfway between
nodes, each against a ring around it in standard errors.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

import diskern as dk
from diskern.bragg.disk_proposer import LearnedProposer
from diskern.bragg.find import prepare_search


def frames(path: Path) -> NDArray[np.float32]:
    """(1 or 2, H, W) counts of a file."""
    found = dk.read(path)
    if isinstance(found, dk.Pattern):
        return np.asarray(found.image, np.float32)[None]
    ny, nx = found.shape[:2]
    places = {(0, 0), (ny // 2, nx // 2)}
    return np.stack([np.asarray(found.data[y, x], np.float32) for y, x in sorted(places)])


def beyond(image: NDArray[np.float32], vectors: dk.BraggVectors, radius: float) -> str:
    """What the lattice of a frame's disks has at nodes where none is visible, and between all."""
    lattice = dk.index_vectors(vectors)
    if not lattice.indexed.any():
        return "no lattice"
    basis, origin = lattice.basis[0, 0, 0], lattice.origin[0, 0, 0]
    table = vectors.table()
    disks = np.stack([table["row"], table["col"]], 1)[table["visibility"] >= 0.5]
    grid = np.stack(np.meshgrid(*[np.arange(-20.0, 21)] * 2), -1).reshape(-1, 2)
    words = []
    for name, shift in (("nodes", 0.0), ("between", 0.5)):
        places = origin + (grid + shift) @ basis
        inside = (places > 2 * radius) & (places < np.array(image.shape) - 1 - 2 * radius)
        clear = np.hypot(*(places[:, None] - disks).transpose(2, 0, 1)).min(1) > 2.5 * radius
        found = [excess(image, place, radius) for place in places[inside.all(1) & clear]]
        error = np.std(found) / np.sqrt(max(len(found), 1))
        words.append(f"{len(found)} {name} {np.mean(found):.1f} ± {error:.1f}")
    return ", ".join(words)


def excess(image: NDArray[np.float32], place: NDArray[np.float64], radius: float) -> float:
    """Mean of a disk's pixels above that of a ring around it, in standard errors of the ring."""
    rows, cols = np.indices(image.shape)
    r = np.hypot(rows - place[0], cols - place[1])
    disk, ring = image[r < radius], image[(r > radius + 2) & (r < 2 * radius + 2)]
    error = ring.std() * np.sqrt(1 / len(disk) + 1 / len(ring))
    return float((disk.mean() - ring.mean()) / max(error, 1e-12))


def main() -> None:
    """Find and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("disks.png"))
    parser.add_argument("--proposer", default="none")
    options = parser.parse_args()
    proposer = None if options.proposer == "none" else LearnedProposer.load(options.proposer)
    shown = [(path, image) for path in options.files for image in frames(path)]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(5 * columns, 5.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (path, image) in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set_axis_off()
        finite = np.nan_to_num(image)
        top = np.quantile(finite, 0.999)
        axes.imshow(np.clip(finite / max(top, 1e-9), 0, 1) ** 0.4, cmap="gray")
        try:
            search = prepare_search(dk.Scan.from_array(image[None, None]), proposer=proposer)
            vectors = search.run()
        except dk.DiskernError as error:
            axes.set_title(f"{path.name}\n{str(error)[:60]}", fontsize=9)
            continue
        table, probe = vectors.table(), search.task.probe
        if np.count_nonzero(table["visibility"] >= 0.5) >= 6:
            sys.stdout.write(f"{path.name}: {beyond(finite, vectors, probe.radius)}\n")
        for row, col, seen in zip(table["row"], table["col"], table["visibility"], strict=True):
            colour = "tab:cyan" if seen >= 0.5 else "tab:red"
            axes.add_patch(Circle((col, row), probe.radius, fill=False, color=colour, lw=0.8))
        axes.set_title(f"{path.name}: {len(table)} disks, {probe}", fontsize=9)
    figure.savefig(options.output, dpi=90)
    sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    main()
