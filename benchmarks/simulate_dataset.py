"""Time the data set of Ra et al. (2021): 249 crystals × 16 zone axes × 20 settings = 79,680 images.

python benchmarks/simulate_dataset.py [--crystals 249] [--jobs 2] [--side 256] [--write FOLDER]

Crystals are random members of the five space groups of that work (213, 221, 225, 227, 229);
each of the 20 settings is another thickness, tilt and displacement.  With ``--write`` the images
go to one HDF5 file a crystal (8 bits, (I/max)^0.5, 5.2 GB in all), else they are thrown away.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gemmi
import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.render import render_spots
from diskern.simulate.structure_factors import Reflections

GROUPS = (213, 221, 225, 227, 229)
ZONES = (
    (0, 0, 1), (0, 1, 1), (1, 1, 1), (0, 1, 2), (1, 1, 2), (1, 2, 2), (0, 1, 3), (1, 1, 3),
    (0, 2, 3), (1, 2, 3), (2, 2, 3), (1, 3, 3), (2, 3, 3), (0, 1, 4), (1, 1, 4), (1, 2, 4),
)  # fmt: skip
SETTINGS = 20


def random_crystal(seed: int) -> Crystal:
    """A cubic crystal of a = 3 to 12 Å with one to three occupied sites."""
    rng = np.random.default_rng(seed)
    group = gemmi.find_spacegroup_by_number(int(rng.choice(GROUPS)))
    sites, numbers = [], []
    special = np.array([0, 0.125, 0.25, 0.5])
    for _ in range(rng.integers(1, 4)):
        start = rng.choice(special, 3) if rng.random() < 0.7 else rng.choice(special) * np.ones(3)
        orbit = [op.apply_to_xyz(start.tolist()) for op in group.operations()]
        orbit = np.unique(np.round(np.array(orbit) % 1, 6) % 1, axis=0)
        sites.append(orbit)
        numbers += [int(rng.integers(3, 84))] * len(orbit)
    a = rng.uniform(3, 12)
    return Crystal.from_arrays((a, a, a, 90, 90, 90), np.concatenate(sites), numbers, u_iso=0.006)


def images_of(seed: int, side: int, folder: Path | None) -> tuple[int, float]:
    """Number of images of one crystal, 16 zones × 20 settings, and the processor seconds taken."""
    start = time.process_time()
    rng = np.random.default_rng(seed + 1)
    crystal = random_crystal(seed)
    table = Reflections.of(crystal, 2.0)
    zones = Rotation.concatenate([zone_axis_orientation(crystal, z) for z in ZONES])
    grey = np.empty((SETTINGS, len(ZONES), side, side), dtype=np.uint8)
    for setting in range(SETTINGS):
        tilt = Rotation.from_rotvec(rng.normal(0, 5e-3, (len(ZONES), 3)) * [1, 1, 0])
        batch = simulate_saed_batch(table, tilt * zones, thickness=rng.uniform(50, 300), width=0.01)
        images = render_spots(batch, (side, side), 4.1 / side, rng.uniform(1, 2.5))
        if folder is not None:
            brightest = images.max((1, 2), keepdims=True)
            images *= 255**2 / np.where(brightest > 0, brightest, 1)
            grey[setting] = np.sqrt(images, out=images)
    if folder is not None:
        with h5py.File(folder / f"crystal-{seed:04d}.h5", "w") as file:
            file["image"] = grey.reshape(-1, side, side)
            file["image"].attrs["grey"] = "255 (I/max)^0.5"
    return SETTINGS * len(ZONES), time.process_time() - start


def main() -> None:
    """Run and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=int, default=249)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--write", type=Path, help="folder for one HDF5 file a crystal")
    given = parser.parse_args()
    if given.write is not None:
        given.write.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    count = given.crystals
    with ProcessPoolExecutor(given.jobs) as pool:
        done = pool.map(images_of, range(count), [given.side] * count, [given.write] * count)
        made, spent = (sum(column) for column in zip(*done, strict=True))
    took = time.perf_counter() - start
    sys.stdout.write(
        f"{made} images of {given.side} × {given.side} px from {count} crystals in {took:.1f} s "
        f"with {given.jobs} processes; {1e3 * spent / made:.2f} ms of processor time an image"
        f"{', written' if given.write else ''}\n"
    )


if __name__ == "__main__":
    main()
