"""Gain and read-out noise of simulated detectors, as `diskern.bragg.disk_gain` tells them.

python benchmarks/disk_gain.py [--blocks 150]

The patterns count in electrons, so the gain is 1: those of counting detectors, and those of cameras
with read-out noise, every other one with light spread by a scintillator.  Crystals, microscopes and
cameras are the validation side's of the disk finder's recipe.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from diskern.bragg.disk_gain import estimate_response
from diskern.train import disks_camera
from diskern.train.disks import DiskSet
from diskern.train.train_recipe import load_train_recipe


def main() -> None:
    """Draw, estimate, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=150)
    count = parser.parse_args().blocks
    cameras: list[disks_camera.Camera] = []
    draw = disks_camera.Camera.draw

    def noted(*words: Any) -> disks_camera.Camera:
        cameras.append(draw(*words))
        return cameras[-1]

    disks_camera.Camera.draw = noted  # type: ignore[method-assign, assignment]
    data = load_train_recipe("disks_wide").data  # type: ignore[attr-defined]
    drawn = DiskSet(data.model_copy(update={"bloch": 0.0}), "validation")
    blocks = [drawn.block(20_000 + n)["image"] for n in range(count)]
    kinds = ("counting", "camera", "camera, light spread")
    for size in (8, 1):
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for images, camera in zip(blocks, cameras[-count:], strict=True):
            told = estimate_response(images[:size], np.ones(images.shape[1:], bool))
            kind = kinds[0 if camera.counting else 1 + (camera.blur is not None)]
            found[kind].append((told.gain, told.read_noise / (camera.read_noise or np.nan)))
        for kind, values in found.items():
            gain, noise = np.array(values).T
            off = np.exp(np.quantile(np.abs(np.log(gain)), [0.5, 0.9, 1.0]))
            words = " ".join(f"{x:.2f}" for x in off)
            line = f"{size} patterns, {len(gain)} {kind}: gain off by {words} (50, 90, 100 %)"
            if kind != kinds[0]:
                quartiles = " ".join(f"{x:.2f}" for x in np.quantile(noise, [0.25, 0.5, 0.75]))
                line += f", read-out noise over the true one {quartiles} (quartiles)"
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
