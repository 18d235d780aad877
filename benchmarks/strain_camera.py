"""Strain from scans as whole simulated cameras record them, beside the truth.

python benchmarks/strain_camera.py [--seeds 0,1,2] [--instrument ccd]

Aluminium along [001], strained by 1 % and bent by 2 mrad, 5e4 electrons a pattern, disks of 3 px;
the seed draws the camera: gain, read-out noise, pedestal, spread of light, beam stop, diffuse
scattering, halo.  A pedestal is told to `diskern map` as the dark level, as its note asks.
Scores are 68 % quantiles of error over stated σ; 1 is right.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np

SCAN = "Al --scan 10x12 --zone 0,0,1 --strain 1 --bend 2 --semiangle 1.5 --dose 5e4"


def main() -> None:
    """Simulate, map, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--instrument", default="ccd", choices=["ccd", "hybrid", "none"])
    given = parser.parse_args()
    for seed in given.seeds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            one(seed, given.instrument, Path(folder))


def one(seed: str, instrument: str, folder: Path) -> None:
    """One scan."""
    scan, facts = folder / "scan.h5", folder / "scan.json"
    words = [*SCAN.split(), "--seed", seed, "-o", str(scan), "--json", str(facts)]
    if instrument != "none":
        words += ["--instrument", instrument]
    diskern("simulate", "scan", *words)
    parts = json.loads(facts.read_text())["instrument"]
    dark = sum(part.get("pedestal", 0.0) for part in parts)
    told = ["--dark-level", str(dark)] if dark else []
    diskern("map", str(scan), "-o", str(folder / "maps"), *told)
    with h5py.File(folder / "maps" / "maps.h5") as maps, h5py.File(scan) as file:
        truth, strain = file["truth"][()], maps["strain"]
        line = f"{instrument} {seed}: {np.isfinite(strain['e_xx'][()]).mean():.0%} of the positions"
        for name in ("e_xx", "e_yy", "e_xy", "rotation"):
            found, sigma = strain[name][()], strain[f"sigma_{name}"][()]
            known = np.isfinite(found)
            if not known.any():
                continue
            wrong = found - truth[name]
            wrong = (wrong - np.median(wrong[known]))[known]
            score = np.quantile(np.abs(wrong) / sigma[known], 0.6827)
            line += f", {name} {100 * wrong.std():.2f} % rms, score {score:.2f}"
    sys.stdout.write(line + "\n")


def diskern(*words: str) -> None:
    """The program, quietly."""
    subprocess.run([sys.executable, "-m", "diskern.cli", *words], check=True, capture_output=True)


if __name__ == "__main__":
    main()
