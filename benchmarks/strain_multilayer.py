"""Strain of a simulated Si/SiGe multilayer, and the blind tilt of simulated thick crystals.

    python benchmarks/strain_multilayer.py [--py4dstem PYTHON] [--thickness 400] [--dose 1e6]
        [--weights NAME_OR_FILE [--once]] [--crystals DIR] [--json FILE] [--save-patterns FILE]

Multilayer: Si and Si(50)Ge(50), grown along [001] on Si and as wide in the plane as Si, seen along
[110] with 2 mrad at 200 kV.  The layers are stretched along x only; their interfaces are a few Å
wide.  Every pattern is a multislice calculation of its own, with alloy atoms as the mean of both
elements, thermal damping, and Poisson noise.  The true strain is that of the atoms under the
middle of the probe.  Printed is the rms error of e_xx in %, everywhere, against the mean over
what the probe lights, and 15 Å and more away from the interfaces: of disks found by diskern (its
own weighted fit) and, with the environment of py4DSTEM given, of those of its correlation
through an unweighted fit of the same lattice.

Tilt (with --weights): Bloch-wave patterns of silicon and other crystals 400 to 1000 Å thick, tilted
up to 1.5° off a zone axis; the tilt is found from the network's q_z without the crystal.  The
median error is printed in degrees.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bragg_disks import run_other, table  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.optimize import minimize  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from diskern.bragg.disk_probe import Probe as DiskProbe  # noqa: E402
from diskern.bragg.disk_search import find_disks  # noqa: E402
from diskern.bragg.disks import Disks  # noqa: E402
from diskern.bragg.vectors import BraggVectors  # noqa: E402
from diskern.bragg.vectors_calibration import VectorCalibration  # noqa: E402
from diskern.crystal.common import common_phases  # noqa: E402
from diskern.crystal.crystal import Crystal  # noqa: E402
from diskern.crystal.orientation import zone_axis_orientation  # noqa: E402
from diskern.crystal.supercell import Atoms  # noqa: E402
from diskern.mapping.strain import strain_map  # noqa: E402
from diskern.mapping.tilt import tilt_map  # noqa: E402
from diskern.simulate.cbed import simulate_cbed  # noqa: E402
from diskern.simulate.multislice import multislice, propagator, transmission  # noqa: E402
from diskern.simulate.multislice_grid import Grid  # noqa: E402
from diskern.simulate.potential import Slicing, slice_potentials  # noqa: E402
from diskern.simulate.probe import Probe, probe_wave  # noqa: E402

Floats = NDArray[np.float64]
SILICON = 5.431
MISFIT = 0.0197
"""Of relaxed Si(50)Ge(50) on Si (Dismukes, Ekstrom & Paff, J. Phys. Chem. 68 (1964) 3021)."""
STRETCH = MISFIT * 1.75
"""Along the growth direction, 1 + 2 C12/C11 times the misfit."""
ENERGY, SEMIANGLE, U_ISO = 200e3, 2.0, 0.006
PERIOD, INTERFACE = 240.0, 4.0
PITCH = SILICON / np.sqrt(2)
BOX, K_MAX, SIZE = 29 * PITCH, 1.45, 256


def true_strain(x: Floats) -> Floats:
    """e_xx against Si at places in Å: 0 in Si, `STRETCH` in the alloy."""
    phase = np.mod(x, PERIOD)
    rise = np.tanh((phase - 0.25 * PERIOD) / INTERFACE)
    fall = np.tanh((phase - 0.75 * PERIOD) / INTERFACE)
    return np.asarray(STRETCH * (rise - fall) / 2)


def layers(start: float, stop: float) -> Floats:
    """Heights in Å of the atomic planes along the growth direction, a quarter cell apart."""
    places, x = [], 0.0
    while x < stop:
        places.append(x)
        x += SILICON / 4 * (1 + float(true_strain(np.array(x))))
    return np.array([p for p in places if p >= start])


def box_of_atoms(middle: float, planes: Floats) -> Atoms:
    """The atoms of one period along the beam around a place, x from the box's left edge."""
    first = int(np.searchsorted(planes, middle - BOX / 2))
    last = int(np.searchsorted(planes, middle + BOX / 2))
    # Four planes follow each other in y and z, in units of the pitch.
    stacking = np.array([[0.0, 0.0], [0.0, 0.5], [0.5, 0.5], [0.5, 0.0]])
    rows = np.arange(round(BOX / PITCH))
    parts, alloy = [], []
    for n in range(first, last):
        y, z = stacking[n % 4]
        place = np.zeros((len(rows), 3))
        place[:, 0] = planes[n] - (middle - BOX / 2)
        place[:, 1], place[:, 2] = (rows + y) * PITCH, z * PITCH
        parts.append(place)
        share = 0.5 * float(true_strain(planes[n : n + 1])[0]) / STRETCH
        alloy.append(np.full(len(rows), share))
    positions, germanium = np.concatenate(parts), np.concatenate(alloy)
    both = np.concatenate([positions, positions])
    numbers = np.repeat([14, 32], len(positions))
    occupancy = np.round(np.concatenate([1 - germanium, germanium]), 3)
    keep = occupancy > 0
    return Atoms(both[keep], numbers[keep], occupancy[keep], np.full(keep.sum(), U_ISO))


def simulate_multilayer(positions: Floats, thickness: float) -> tuple[NDArray[np.float32], Floats]:
    """(N, SIZE, SIZE) fractions of the beam, and (SIZE, SIZE) the beam in vacuum."""
    # Whole cells across the layers; along them the box closes on nothing, far from the probe.
    grid = Grid.covering((BOX, BOX), K_MAX)
    slicing = Slicing(PITCH / 2, 2)
    probe = Probe(ENERGY, SEMIANGLE)
    propagate = propagator(grid, ENERGY, slicing.thickness)
    incident = probe_wave(probe, grid)
    planes = layers(0.0, float(positions.max()) + BOX)
    steps = round(thickness / slicing.thickness)

    def detect(wave: torch.Tensor) -> NDArray[np.float32]:
        image = torch.fft.fftshift(wave.abs() ** 2).float().numpy()
        row, col = (n // 2 - SIZE // 2 for n in image.shape)
        return np.asarray(image[row : row + SIZE, col : col + SIZE])

    out = []
    for middle in positions:
        atoms = box_of_atoms(float(middle), planes)
        potentials = slice_potentials(atoms, grid, slicing)
        slices = transmission(potentials, grid, ENERGY)
        out.append(detect(multislice(incident, slices, propagate, [steps])[0, 0]))
    return np.stack(out), detect(incident[0]).astype(np.float64)


def lit_strain(positions: Floats, thickness: float) -> Floats:
    """e_xx averaged over what a probe lights on its way, in vacuum."""
    grid = Grid.covering((BOX, BOX), K_MAX)
    incident = probe_wave(Probe(ENERGY, SEMIANGLE), grid)
    light = torch.zeros(grid.shape[1], dtype=torch.float64)
    for depth in np.linspace(0, thickness, 9):
        there = incident * propagator(grid, ENERGY, float(depth), dtype=torch.complex128)
        light += (torch.fft.ifft2(there)[0].abs() ** 2).sum(0)
    profile = (light / light.sum()).numpy()
    x = np.arange(len(profile)) * grid.pixel[1] - BOX / 2
    return np.asarray(true_strain(positions[:, None] + x) @ profile)


def fitted_probe(vacuum: Floats) -> DiskProbe:
    """The round probe nearest to an image."""
    image = vacuum / vacuum.sum()
    start = float(np.sqrt((image > image.max() / 2).sum() / np.pi))

    def miss(values: Floats) -> float:
        trial = DiskProbe.synthetic(image.shape, values[0], max(0.05, values[1]))
        return float(((trial.image - image) ** 2).sum() * 1e4)

    best = minimize(miss, [start, 0.4], method="Nelder-Mead").x
    return DiskProbe.synthetic(image.shape, float(best[0]), max(0.05, float(best[1])))


def error_of(
    which: NDArray[Any], columns: dict[str, Floats], positions: Floats, lit: Floats
) -> dict[str, float]:
    """rms errors in % of e_xx, which is against the mean of the silicon."""
    count = len(positions)
    vectors = BraggVectors.from_columns((1, count), (SIZE, SIZE), which, columns)
    phase = np.mod(positions, PERIOD)
    distance = (phase + 0.25 * PERIOD) % (PERIOD / 2)
    distance = np.minimum(distance, PERIOD / 2 - distance)
    truth = true_strain(positions)
    silicon = (truth < 0.01 * STRETCH) & (distance > 15)
    mapped = strain_map(vectors, silicon[None])
    found = mapped.component("e_xx")[0]
    sigma = mapped.component("sigma_e_xx")[0]
    known = np.isfinite(found)
    error = 100 * (found - truth)
    away = known & (distance > 15)
    return {
        "indexed": float(known.mean()),
        "rms e_xx %": float(np.sqrt(np.mean(error[known] ** 2))),
        "rms, mean under the probe %": 100 * float(np.sqrt(np.mean((found - lit)[known] ** 2))),
        "rms away from interfaces %": float(np.sqrt(np.mean(error[away] ** 2))),
        "mean sigma %": 100 * float(np.mean(sigma[known])),
    }


def columns_of(disks: Disks) -> dict[str, Floats]:
    """What `BraggVectors` takes of them."""
    names = ("row", "col", "intensity", "sigma_row", "sigma_col", "covariance")
    names += ("sigma_intensity", "v_g", "sigma_v_g", "q_z", "sigma_q_z")
    return {name: getattr(disks, name) for name in names}


def multilayer(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the strain table."""
    # One period; the first probe stands half a box into the crystal.
    positions = PERIOD + np.arange(given.positions) * PERIOD / given.positions
    fractions, vacuum = simulate_multilayer(positions, given.thickness)
    rng = np.random.default_rng(0)
    counts = rng.poisson(fractions * given.dose).astype(np.uint16)
    if given.save_patterns:
        np.savez(given.save_patterns, counts=counts, positions=positions, vacuum=vacuum)
    lit = lit_strain(positions, given.thickness)
    probe = fitted_probe(vacuum)
    disks = find_disks(counts, probe)
    ours = error_of(disks.pattern, columns_of(disks), positions, lit)
    rows: list[dict[str, Any]] = [{"method": "diskern", **ours}]
    if given.py4dstem:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            np.savez(
                folder / "cube.npz",
                patterns=counts,
                probe=vacuum / vacuum.max(),
                radius=probe.radius,
                spacing=4 * probe.radius,
            )
            for other in run_other("py4dstem", given.py4dstem, folder):
                found = other["disks"]
                columns = {"row": found[:, 1], "col": found[:, 2], "intensity": found[:, 0] * 0 + 1}
                scores = error_of(found[:, 0].astype(int), columns, positions, lit)
                rows.append({"method": other["method"], **scores})
    return rows


CUBIC = {
    "Si": (5.431, [(14, 0.0), (14, 0.25)]),
    "GaAs": (5.653, [(31, 0.0), (33, 0.25)]),
    "MgO": (4.212, [(12, 0.0), (8, 0.5)]),
    "Al": (4.049, [(13, 0.0)]),
}
UNSEEN = ("CaF2", "CeO2", "Cu2O", "FeS2 (pyrite)", "TiB2")
"""Of structure types on the test side of the networks' recipes."""


def cubic(name: str) -> Crystal:
    """A face-centred crystal with its atoms along the body diagonal."""
    edge, atoms = CUBIC[name]
    face = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    numbers = [number for number, _ in atoms for _ in face]
    places = np.concatenate([face + shift for _, shift in atoms])
    return Crystal.from_arrays(np.eye(3) * edge, places % 1.0, numbers).with_u_iso(U_ISO)


def tilts(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Median error of the blind tilt in degrees, by crystal."""
    from diskern.bragg.disk_proposer import LearnedProposer

    shape, pixel = (128, 128), 0.0177
    proposer = LearnedProposer.load(given.weights, energy=ENERGY, pixel_size=pixel)
    if given.once:
        proposer = replace(proposer, excitation=None)
    probe = DiskProbe.synthetic(shape, Probe(ENERGY, SEMIANGLE).k_semiangle / pixel, 0.4)
    calibration = VectorCalibration(pixel_size=pixel, energy=ENERGY)
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for name, kind, crystal in tilted_crystals():
        errors, missing = [], 0
        for zone in ([0, 0, 1], [1, 1, 0]):
            upright = zone_axis_orientation(crystal, zone)
            for _ in range(given.tilts):
                size, direction = np.radians(1.5 * rng.uniform() ** 0.5), rng.uniform(0, 2 * np.pi)
                omega = size * np.array([np.cos(direction), np.sin(direction)])
                turned = Rotation.from_rotvec([*omega, 0.0]) * upright
                pattern = simulate_cbed(
                    crystal,
                    orientation=turned,
                    energy=ENERGY,
                    semiangle=SEMIANGLE,
                    thickness=rng.uniform(400, 1000),
                    shape=shape,
                    pixel_size=pixel,
                    method="bloch",
                )[0]
                counts = rng.poisson(pattern * given.dose).astype(np.float32)[None]
                disks = find_disks(counts, probe, proposer=proposer)
                vectors = BraggVectors.from_columns((1, 1), shape, disks.pattern, columns_of(disks))
                found = tilt_map(vectors, calibration=calibration, method="q_z")
                miss = found.tilt[0, 0] * 1e-3 - omega
                if np.isfinite(miss).all():
                    ratio = np.abs(miss * 1e3) / found.sigma[0, 0]
                    errors.append((np.degrees(np.linalg.norm(miss)), float(np.mean(ratio))))
                else:
                    missing += 1
        by_kind.setdefault(kind, []).extend(errors)
        rows.append({"crystal": name, "structure type": kind, **_errors(errors, missing)})
    for kind, errors in by_kind.items():
        rows.append({"crystal": "all of these", "structure type": kind, **_errors(errors)})
    return rows


def _errors(errors: list[tuple[float, float]], missing: int | None = None) -> dict[str, Any]:
    """Quantiles of the errors in degrees, and of how many σ they are."""
    found, ratio = np.array(errors).reshape(-1, 2).T
    if not len(found):
        return {"without a value": missing}
    return {
        "median error °": float(np.median(found)),
        "three quarters below °": float(np.quantile(found, 0.75)),
        "median |error|/σ": float(np.median(ratio)),
        "without a value": missing,
    }


def tilted_crystals() -> list[tuple[str, str, Crystal]]:
    """Name, whether the networks were trained on its structure type, and the crystal."""
    seen = [
        (name, "held for calibration" if name == "GaAs" else "seen", cubic(name)) for name in CUBIC
    ]
    phases = {crystal.name: crystal for crystal in common_phases()}
    unseen = [(name, "unseen", phases[name].conventional().with_u_iso(U_ISO)) for name in UNSEEN]
    return seen + unseen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--py4dstem", metavar="PYTHON", help="of its environment")
    parser.add_argument("--thickness", type=float, default=400.0, help="Å")
    parser.add_argument("--dose", type=float, default=1e6, help="electrons a pattern")
    parser.add_argument("--positions", type=int, default=40, help="of the probe over one period")
    parser.add_argument("--weights", help="of the proposer, for the tilt")
    parser.add_argument("--tilts", type=int, default=10, help="of each crystal and zone axis")
    parser.add_argument(
        "--once", action="store_true", help="q_z of the proposer, not read again after the fit"
    )
    parser.add_argument("--only", choices=("strain", "tilt"))
    parser.add_argument("--save-patterns", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    if given.only != "tilt":
        found["strain"] = multilayer(given)
        sys.stdout.write(table(found["strain"]) + "\n")
    if given.weights and given.only != "strain":
        found["tilt"] = tilts(given)
        sys.stdout.write(table(found["tilt"]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
