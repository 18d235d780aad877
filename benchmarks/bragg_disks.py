"""Disks, strain and speed beside other programs, on the same simulated cubes in the same run.

    python benchmarks/bragg_disks.py [--cases 256_mid,128_dyn] [--scan 12] [--py4dstem PYTHON]
        [--blobfinder PYTHON] [--quantem PYTHON] [--json FILE] [--csv FILE] [--markdown FILE]

Every pattern shows about 19 disks of a strained lattice on a background that falls off from the
centre, with Poisson noise; the central disk is eight times as bright as its neighbours, the others
scatter log-normally.  The ``dyn`` cases draw strong cosine fringes inside every disk, of random
direction, phase and period, as dynamical diffraction does.

Printed for each program: share of the disks found; found ones per pattern that are none; rms error
of a coordinate, also in units of the Cramér-Rao bound of a disk of known profile and intensity (the
fringed ones' bound is that of uniform disks); rms strain error of a plain, unweighted lattice fit
to the matched disks; patterns per CPU second of one thread, and as a ratio to py4DSTEM's
upsampled correlation.  For diskern also the strain error of its own weighted fit without the
true indices, and the robust z-score of its uncertainties (1 when they are right) in quarters of
the disks' electrons.  The last table is that score over dose and contrast.

The other programs each need an environment of their own (`pip install py4DSTEM`,
`pip install libertem-blobfinder`, `pip install quantem`), whose Python is given by option.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from diskern.bragg.disk_probe import Probe, rim  # noqa: E402
from diskern.bragg.disk_search import find_disks  # noqa: E402
from diskern.bragg.disks import Disks  # noqa: E402
from diskern.bragg.vectors import BraggVectors  # noqa: E402
from diskern.mapping.deformation import deformation_gradient, strain  # noqa: E402
from diskern.mapping.strain import strain_map  # noqa: E402

Floats = NDArray[np.float64]
EDGE = 0.6
BACKGROUND = 0.1
REFERENCE = "py4DSTEM sigmoid multicorr16"


@dataclass(frozen=True)
class Case:
    """Size of the detector and of a disk in px, |g| in px, electrons a pattern, contrast 0 to 1."""

    size: int
    radius: float
    spacing: float
    dose: float
    contrast: float = 0.0


CASES = {
    "256_hi": Case(256, 9.0, 34.0, 1e6),
    "256_mid": Case(256, 9.0, 34.0, 1e5),
    "256_lo": Case(256, 9.0, 34.0, 1e4),
    "256_dyn": Case(256, 9.0, 34.0, 1e6, 0.9),
    "128_hi": Case(128, 5.0, 17.5, 1e6),
    "128_mid": Case(128, 5.0, 17.5, 1e5),
    "128_dyn": Case(128, 5.0, 17.5, 1e6, 0.9),
}


@dataclass(frozen=True, eq=False)
class Cube:
    """Patterns and their truth: N patterns of K disks.

    Attributes
    ----------
    patterns : (N, H, W) counts.
    position : (N, K, 2) row and column in px.
    electrons, bound : (N, K) of each disk, and its Cramér-Rao bound in px.
    basis : (N, 2, 2) rows a and b in px; ``unstrained`` the same without strain.
    indices : (K, 2).
    """

    patterns: NDArray[np.uint16]
    position: Floats
    electrons: Floats
    bound: Floats
    basis: Floats
    unstrained: Floats
    indices: Floats


def make_cube(case: Case, scan: int, seed: int) -> Cube:
    """A scan × scan cube."""
    rng = np.random.default_rng(seed)
    g = case.spacing
    unstrained = g * np.array([[1.0, 0.06], [0.10, 0.97]])
    every = np.stack(np.meshgrid(*[np.arange(-2.0, 3)] * 2, indexing="ij"), -1).reshape(-1, 2)
    length = np.linalg.norm(every @ unstrained, axis=1)
    indices, length = every[length < 2.35 * g], length[length < 2.35 * g]
    y, x = (a.ravel() for a in np.meshgrid(*[np.linspace(0, 1, scan)] * 2, indexing="ij"))
    deformation = np.empty((scan * scan, 2, 2))
    shear, turn = 0.004 * (y - 0.5), np.deg2rad(1.0) * (x - 0.5)
    deformation[:, 0, 0] = 1 + 0.010 * np.sin(2 * np.pi * y)
    deformation[:, 1, 1] = 1 - 0.008 * np.cos(2 * np.pi * x)
    deformation[:, 0, 1], deformation[:, 1, 0] = shear - turn, shear + turn
    basis = unstrained @ deformation.transpose(0, 2, 1)
    drift = np.stack([1.2 * (y - 0.5), -0.9 * (x - 0.5)], axis=1)
    origin = case.size / 2 + drift + rng.uniform(-0.3, 0.3, (scan * scan, 2))
    position = origin[:, None] + indices @ basis
    mean = np.where(length == 0, 1.0, 0.12 * np.exp(-0.5 * (length / (1.3 * g)) ** 2))
    scatter = np.exp(rng.normal(0, 0.6, (scan * scan, len(indices))))
    electrons = mean * np.where(length == 0, 1.0, scatter)
    electrons *= case.dose * (1 - BACKGROUND) / electrons.sum(1, keepdims=True)
    patterns = np.zeros((scan * scan, case.size, case.size), np.uint16)
    bound = np.zeros(electrons.shape)
    for n in range(scan * scan):
        expected, bound[n] = render(case, origin[n], position[n], electrons[n], rng)
        patterns[n] = np.minimum(rng.poisson(expected), 65535)
    return Cube(patterns, position, electrons, bound, basis, unstrained, indices)


def render(
    case: Case, origin: Floats, position: Floats, electrons: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """(H, W) expected counts of one pattern, and (K,) the bound of its disks."""
    rows, cols = np.indices((case.size, case.size), dtype=float)
    far = (rows - origin[0]) ** 2 + (cols - origin[1]) ** 2
    ground = 1 / (far + (1.2 * case.radius) ** 2)
    expected = ground * (case.dose * BACKGROUND / ground.sum())
    half = int(np.ceil(case.radius + 6))
    slopes = []
    for (row, col), number in zip(position, electrons, strict=True):
        at = tuple(
            slice(max(0, round(c) - half), min(case.size, round(c) + half + 1)) for c in (row, col)
        )
        down, across = rows[at] - row, cols[at] - col
        r = np.hypot(down, across) + 1e-9
        disk = rim(r, case.radius, EDGE)
        falling = (0.5 / EDGE) / np.cosh((r - case.radius) / EDGE) ** 2
        slopes.append((at, number * falling * down / r / disk.sum()))
        if case.contrast:
            angle, phase = rng.uniform(0, 2 * np.pi, 2)
            waves = rng.uniform(0.15, 0.7)
            along = down * np.cos(angle) + across * np.sin(angle)
            disk *= 1 + case.contrast * np.cos(2 * np.pi * waves * along / case.radius + phase)
        expected[at] += number * disk / disk.sum()
    bound = [1 / np.sqrt((slope**2 / expected[at]).sum()) for at, slope in slopes]
    return expected, np.array(bound)


@dataclass(frozen=True, eq=False)
class Match:
    """(M,) pattern, number of the true disk and of the found one; false ones a pattern."""

    pattern: NDArray[np.int64]
    disk: NDArray[np.int64]
    found: NDArray[np.int64]
    false: float


def match(cube: Cube, radius: float, pattern: NDArray[Any], place: Floats) -> Match:
    """Each true disk with the nearest found one within 0.35 radii and half a pixel."""
    parts, false = [], 0
    for n, truth in enumerate(cube.position):
        here = np.flatnonzero(pattern == n)
        if not len(here):
            continue
        distance = np.linalg.norm(place[here, None] - truth, axis=2)
        tolerance = 0.35 * radius + 0.5
        false += int((distance.min(1) >= tolerance).sum())
        hit = np.flatnonzero(distance.min(0) < tolerance)
        parts.append(np.stack([np.full(len(hit), n), hit, here[distance.argmin(0)[hit]]]))
    columns = np.concatenate(parts, axis=1) if parts else np.zeros((3, 0), np.int64)
    return Match(columns[0], columns[1], columns[2], false / len(cube.position))


def plain_strain(cube: Cube, hits: Match, place: Floats) -> float:
    """rms strain error in % of unweighted lattice fits to matched disks of true indices."""
    errors = []
    for n in range(len(cube.position)):
        here = hits.pattern == n
        if here.sum() >= 6:
            known = cube.indices[hits.disk[here]]
            design = np.column_stack([np.ones(len(known)), known])
            fitted = np.linalg.lstsq(design, place[hits.found[here]], rcond=None)[0][1:]
            change = np.linalg.solve(cube.basis[n], fitted) - np.eye(2)
            errors.append([change[0, 0], change[1, 1], (change[0, 1] + change[1, 0]) / 2])
    return 100 * float(np.sqrt(np.mean(np.square(errors)))) if errors else float("nan")


def score(cube: Cube, radius: float, pattern: NDArray[Any], place: Floats) -> dict[str, float]:
    """Recall, false disks, errors."""
    hits = match(cube, radius, pattern, place)
    error = place[hits.found] - cube.position[hits.pattern, hits.disk]
    relative = error / cube.bound[hits.pattern, hits.disk][:, None]
    return {
        "recall": len(hits.pattern) / cube.electrons.size,
        "precision": len(hits.pattern) / max(1.0, len(hits.pattern) + hits.false * len(cube.basis)),
        "false a pattern": hits.false,
        "rms px": float(np.sqrt(np.mean(error**2))),
        "rms over bound": float(np.sqrt(np.mean(relative**2))),
        "strain %": plain_strain(cube, hits, place),
    }


def robust_z(z: Floats) -> float:
    """1 for scores of the standard normal distribution."""
    return float(1.4826 * np.median(np.abs(z))) if z.size else float("nan")


def own_scores(cube: Cube, radius: float, disks: Disks) -> dict[str, Any]:
    """What only diskern says: its lattice fit without known indices, and its uncertainties."""
    place = np.stack([disks.row, disks.col], axis=1)
    hits = match(cube, radius, disks.pattern, place)
    sigma = np.stack([disks.sigma_row, disks.sigma_col], axis=1)[hits.found]
    z = (place[hits.found] - cube.position[hits.pattern, hits.disk]) / sigma
    number = cube.electrons[hits.pattern, hits.disk]
    quarter = np.searchsorted(np.quantile(number, [0.25, 0.5, 0.75]), number)
    scan = round(len(cube.patterns) ** 0.5)
    columns = {
        name: getattr(disks, name)
        for name in ("row", "col", "intensity", "sigma_row", "sigma_col", "covariance")
    }
    shape = (cube.patterns.shape[1], cube.patterns.shape[2])
    vectors = BraggVectors.from_columns((scan, scan), shape, disks.pattern, columns)
    mapped = strain_map(vectors, cube.unstrained)
    truth = strain(
        deformation_gradient(cube.basis[..., ::-1], cube.unstrained[..., ::-1]), "finite"
    ).reshape(scan, scan, -1)[..., :3]
    error = mapped.values[0, ..., :3] - truth
    spread = np.sqrt(np.diagonal(mapped.covariance[0], axis1=-2, axis2=-1))[..., :3]
    known = np.isfinite(error).all(-1)
    return {
        "strain % of own fit": 100 * float(np.sqrt(np.mean(error[known] ** 2))),
        "indexed": float(known.mean()),
        "z of strain": robust_z(error[known] / spread[known]),
        "z": robust_z(z),
        "z by electrons": [robust_z(z[quarter == k]) for k in range(4)],
    }


def run_diskern(cube: Cube, case: Case) -> tuple[Disks, float]:
    """The disks, and CPU seconds."""
    torch.set_num_threads(1)
    probe = Probe.synthetic((case.size, case.size), case.radius, EDGE)
    find_disks(cube.patterns[:8], probe)
    start = time.process_time()
    disks = find_disks(cube.patterns, probe)
    return disks, time.process_time() - start


def run_other(program: str, python: str, folder: Path) -> list[dict[str, Any]]:
    """What another program finds in ``folder/cube.npz``: method, seconds and disks."""
    script = Path(__file__).with_name("bragg_disks_others.py")
    call = [python, str(script), program, str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    lines = [t for t in done.stdout.splitlines() if t.startswith("RESULT")]
    if not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        sys.stderr.write(f"{program} failed: {last}\n")
    found = []
    for line in lines:
        said = json.loads(line.removeprefix("RESULT"))
        found.append({**said, "disks": np.load(folder / said["file"])})
    return found


def measure(name: str, scan: int, pythons: dict[str, str]) -> list[dict[str, Any]]:
    """All programs on one case."""
    case = CASES[name]
    cube = make_cube(case, scan, seed=sorted(CASES).index(name))
    count = len(cube.patterns)
    disks, seconds = run_diskern(cube, case)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        probe = Probe.synthetic((case.size, case.size), case.radius, EDGE)
        truth = cube.position.mean(0)
        np.savez(
            folder / "cube.npz",
            patterns=cube.patterns,
            probe=probe.image / probe.image.max(),
            radius=case.radius,
            spacing=case.spacing,
            candidates=truth,
        )
        for program, python in pythons.items():
            for other in run_other(program, python, folder):
                place = other["disks"]
                scores = score(cube, case.radius, place[:, 0].astype(int), place[:, 1:3])
                rows.append(
                    {"case": name, "method": other["method"], **scores}
                    | {"patterns per CPU s": count / other["seconds"]}
                )
    # Before and after the others, as the load of the machine may change.
    again = run_diskern(cube, case)[1]
    place = np.stack([disks.row, disks.col], axis=1)
    own = score(cube, case.radius, disks.pattern, place)
    speed = 2 * count / (seconds + again)
    rows.insert(0, {"case": name, "method": "diskern", **own, "patterns per CPU s": speed})
    rows[0] |= own_scores(cube, case.radius, disks)
    pace = [r["patterns per CPU s"] for r in rows if r["method"].startswith(REFERENCE)]
    for row in rows:
        row["speed ratio"] = row["patterns per CPU s"] / pace[0] if pace else float("nan")
    return rows


def calibration(scan: int) -> list[dict[str, Any]]:
    """Robust z-scores over dose and contrast; their own standard error is about 0.02 to 0.04."""
    rows = []
    for size, radius, spacing in ((128, 5.0, 17.5), (256, 9.0, 34.0)):
        for dose in (1e4, 1e5, 1e6, 1e7):
            row: dict[str, Any] = {"detector": size, "electrons": dose}
            for contrast in (0.0, 0.3, 0.6, 0.9):
                case = Case(size, radius, spacing, dose, contrast)
                cube = make_cube(case, scan, seed=int(np.log10(dose)))
                disks, _ = run_diskern(cube, case)
                own = own_scores(cube, radius, disks)
                row[f"contrast {contrast}"] = own["z"]
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; the columns of the first row."""
    names = list(rows[0])

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(f"{v:.2f}" for v in value)
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [names, ["---"] * len(names)]
    lines += [[cell(row.get(n, "")) for n in names] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--scan", type=int, default=12, help="positions along a side")
    parser.add_argument("--calibration-scan", type=int, default=5, help="0: without")
    for program in ("py4dstem", "blobfinder", "quantem"):
        parser.add_argument(f"--{program}", metavar="PYTHON", help="of its environment")
    for kind in ("json", "csv", "markdown"):
        parser.add_argument(f"--{kind}", type=Path)
    given = parser.parse_args()
    pythons = {
        p: getattr(given, p) for p in ("py4dstem", "blobfinder", "quantem") if getattr(given, p)
    }
    rows = []
    text = f"{platform.processor() or platform.machine()}, one thread, scan {given.scan}²\n\n"
    for name in given.cases.split(","):
        part = measure(name, given.scan, pythons)
        rows += part
        sys.stdout.write(table(part) + "\n")
        sys.stdout.flush()
    text += table(rows)
    scores = calibration(given.calibration_scan) if given.calibration_scan else []
    if scores:
        text += "\nrobust z-score of the positions\n\n" + table(scores)
        sys.stdout.write(table(scores))
    if given.markdown:
        given.markdown.write_text(text, encoding="utf-8")
    if given.json:
        whole = {"rows": rows, "calibration": scores}
        given.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
