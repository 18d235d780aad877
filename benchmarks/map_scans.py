"""What `diskern map` makes of many different scans: crystals, cameras and grains drawn by chance.

python benchmarks/map_scans.py [--scans 40] [--first 1000] [--keep DIR] [--csv FILE]

Each scan has its own common phase, zone axis, number of grains, strain, bend, thickness, aperture,
camera length, dose and camera; a pedestal is told to the program as the dark level, as its note
asks, and nothing else.  Disks of a net do not overlap.  Strain is compared with the truth position
by position, grain by grain less its median, as the program's own reference is; a position is right
where e_xx, e_yy, e_xy and rotation are all within 0.3 %.  Scores are 68 % quantiles of error over
stated σ; 1 is right.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
from numpy.typing import NDArray

from diskern.crystal.common import find_phase
from diskern.physics import wavelength
from diskern.simulate.structure_factors import Reflections

Floats = NDArray[np.float64]
CRYSTALS = (
    "Al",
    "Si",
    "GaAs",
    "NaCl",
    "Cr",
    "Mg",
    "SrTiO3",
    "Cu",
    "MgO",
    "TiO2 (rutile)",
    "CeO2",
    "ZnO",
)
ZONES = ((0, 0, 1), (1, 1, 0), (1, 1, 1), (1, 0, 0), (1, 1, 2))
SIDE = (10, 12)
NAMES = ("e_xx", "e_yy", "e_xy", "rotation")
RIGHT = 3e-3
"""Error of strain within which a position is right."""
DETECTOR = 128


def drawn(number: int) -> dict[str, Any]:
    """The scan of a number, as options of `diskern simulate scan`."""
    rng = np.random.default_rng([number, 11])
    energy = float(rng.choice([80, 200, 300]))
    while True:
        crystal = str(rng.choice(CRYSTALS))
        zone = ZONES[int(rng.integers(len(ZONES)))]
        step = net_step(crystal, zone)
        radius = float(np.exp(rng.uniform(np.log(2.5), np.log(8))))
        # Disks fill this much of the way to their neighbours.
        fill = float(rng.uniform(0.3, 0.85))
        aperture = 0.5 * fill * step
        pixel = aperture / radius
        semiangle = 1e3 * aperture * wavelength(1e3 * energy)
        if 0.5 * DETECTOR * pixel > 2.2 * step and 0.3 < semiangle < 8:
            break
    return {
        "crystal": crystal,
        "zone": ",".join(map(str, zone)),
        "scan": f"{SIDE[0]}x{SIDE[1]}",
        "grains": int(rng.choice([1, 1, 2, 3])),
        "thickness": round(float(rng.uniform(8, 80)), 1),
        "strain": round(float(rng.uniform(0.2, 2)), 2),
        "bend": round(float(rng.uniform(0, 5)), 2),
        "voltage": energy,
        "semiangle": round(semiangle, 4),
        "pixel-size": round(pixel, 6),
        "detector": DETECTOR,
        "dose": float(f"{10 ** rng.uniform(3.7, 6.3):.3g}"),
        "instrument": str(rng.choice(["none", "hybrid", "ccd"])),
        "method": str(rng.choice(["disks", "bloch"], p=[0.7, 0.3])),
        "seed": number,
    }


def net_step(name: str, zone: tuple[int, int, int]) -> float:
    """Shortest reflection of a zone in 1/Å that is not absent by centring or a glide."""
    table = Reflections.of(find_phase(name), 1.5)
    shown = (table.hkl @ np.array(zone) == 0) & (np.abs(table.F) > 1e-2 * np.abs(table.F).max())
    return float(np.linalg.norm(table.g[shown], axis=1).min())


def diskern(*words: str) -> str:
    """What the program says, or its error."""
    done = subprocess.run(
        [sys.executable, "-m", "diskern.cli", *words], check=False, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["silent"])[-1]


def one(number: int, folder: Path) -> dict[str, Any]:
    """One scan: simulated, mapped, compared."""
    told = drawn(number)
    scan, facts = folder / "scan.h5", folder / "scan.json"
    words = [
        str(told["crystal"]),
        *(w for k, v in told.items() if k != "crystal" for w in (f"--{k}", str(v))),
        *("-o", str(scan), "--json", str(facts)),
    ]
    if told["instrument"] == "none":
        place = words.index("--instrument")
        del words[place : place + 2]
    if not facts.exists():
        failed = diskern("simulate", "scan", *words)
        if failed:
            raise SystemExit(f"{number}: {failed}")
    parts = json.loads(facts.read_text()).get("instrument") or []
    told["radius"] = wavelength(1e3 * told["voltage"]) ** -1 * 1e-3 * told["semiangle"]
    told["radius"] = round(told["radius"] / told["pixel-size"], 2)
    told["parts"] = " ".join(part["name"] for part in parts)
    dark = sum(part.get("pedestal", 0.0) for part in parts)
    start = time.perf_counter()
    shutil.rmtree(folder / "maps", ignore_errors=True)
    failed = diskern(
        "map", str(scan), "-o", str(folder / "maps"), *(["--dark-level", str(dark)] if dark else [])
    )
    told["seconds"] = round(time.perf_counter() - start, 1)
    return {**told, "failed": failed, **({} if failed else compared(scan, folder / "maps"))}


def compared(scan: Path, maps: Path) -> dict[str, Any]:
    """Strain and tilt beside the truth."""
    with h5py.File(maps / "maps.h5") as found, h5py.File(scan) as file:
        truth = file["truth"][()]
        if "strain" not in found:
            return {"mapped": 0.0, "right": 0.0}
        wrong, sigma = {}, {}
        for name in NAMES:
            off = found["strain"][name][()] - truth[name]
            sigma[name] = found["strain"][f"sigma_{name}"][()]
            for grain in np.unique(truth["grain"]):
                mine = truth["grain"] == grain
                off[mine] -= np.nanmedian(off[mine]) if np.isfinite(off[mine]).any() else 0
            wrong[name] = off
        known = np.isfinite(wrong["e_xx"])
        worst = np.max([np.abs(wrong[n]) for n in NAMES], axis=0)
        row = {
            "mapped": float(known.mean()),
            "right": float((worst[known] < RIGHT).sum() / known.size),
        }
        for name in NAMES:
            if known.any():
                row[f"rms_{name}"] = 100 * float(np.sqrt(np.mean(wrong[name][known] ** 2)))
                score = np.abs(wrong[name])[known] / sigma[name][known]
                row[f"score_{name}"] = float(np.quantile(score, 0.6827))
    return row


def rows_of(first: int, count: int, keep: Path | None) -> Iterator[dict[str, Any]]:
    """Scan by scan, a line each."""
    for number in range(first, first + count):
        if keep is None:
            with tempfile.TemporaryDirectory() as folder:
                row = one(number, Path(folder))
        else:
            folder = keep / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            row = one(number, folder)
        shown = ", ".join(
            f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
        )
        sys.stdout.write(f"{number}: {shown}\n")
        sys.stdout.flush()
        yield row


def main() -> None:
    """Simulate, map, compare, and say how often it went well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="folder of scans, made there if missing")
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    rows = list(rows_of(given.first, given.scans, given.keep))
    if given.csv:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            table.writerows(rows)
    sys.stdout.write(
        f"{len(rows)} scans: {np.mean([not r['failed'] for r in rows]):.0%} mapped at all, "
        f"{np.mean([r.get('mapped', 0.0) for r in rows]):.0%} of the positions have a strain, "
        f"{np.mean([r.get('right', 0.0) for r in rows]):.0%} a right one; "
    )
    for name in NAMES:
        rms = [r[f"rms_{name}"] for r in rows if f"rms_{name}" in r]
        score = [r[f"score_{name}"] for r in rows if f"score_{name}" in r]
        if rms:
            sys.stdout.write(f"{name} {np.median(rms):.2f} % rms, score {np.median(score):.2f}; ")
    sys.stdout.write("medians of the scans\n")


if __name__ == "__main__":
    main()
