"""Real patterns beside simulated ones: gold rings, MoO3, glycine.

    python benchmarks/instrument_figure.py SHARED/data/experimental figure.png [--profiles]

Real images above and simulated ones below; with ``--profiles`` the simulated images above, and
below the radial profiles of both, which is the figure of the documentation.
The real files are read from the folder of experimental data and only drawn.  Gold is 12000
random grains, MoO3 a bent plate near [010] (Bloch waves), glycine the frame's own orientation
(from the orientation matrix that stands beside it).  The instruments are set by hand, near the
ranges that `Instrument.draw` uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import tilted, zone_axis_orientation
from diskern.io.registry import open_file
from diskern.simulate.instrument import (
    AmorphousHalo,
    BeamStop,
    DiffuseBackground,
    DirectBeam,
    Dose,
    Ellipticity,
    InelasticBlur,
    Instrument,
    Labels,
    ModulationTransfer,
    Saturation,
    Transform,
    mistilted,
    overlapped,
)
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.render import render_spots
from diskern.simulate.saed import simulate_saed
from diskern.simulate.spot_pattern import SpotPattern

GRAINS = 12000
BENDS = 16


@dataclass(frozen=True)
class Case:
    """One column: a real file and what imitates it."""

    title: str
    file: str
    pixel_size: float
    energy: float
    centre: tuple[float, float]
    sigma: float
    pattern: SpotPattern
    transforms: tuple[Transform, ...]


def gold() -> Case:
    crystal = _common("Au").with_u_iso(0.008)
    grains = simulate_saed_batch(
        crystal,
        Rotation.random(GRAINS, random_state=1),
        energy=200e3,
        g_max=1.4,
        thickness=50.0,
    )
    q = np.concatenate([p.q for p in grains])
    intensity = np.concatenate([p.intensity for p in grains])
    flat = np.zeros((len(q), 3), dtype=np.int64)
    pattern = SpotPattern(flat, q, np.zeros(len(q)), intensity, 200e3)
    parts = (
        Ellipticity(1.033, 20.0),
        DiffuseBackground(0.70, 0.03, 1.6, 0.5),
        DirectBeam(0.73, 2.4),
        InelasticBlur(0.3, 3.0),
        Dose(3e7),
        Saturation(0.5),
    )
    name = "pyxem__pyxem-demos/au_xgrating_20cm.tif"
    return Case("Au, rings", name, 0.01003, 200e3, (128.0, 127.0), 2.5, pattern, parts)


def molybdite() -> Case:
    crystal = _common("MoO3 (alpha)").with_u_iso(0.008)
    plate = _plate_normal(crystal)
    orientation = tilted(zone_axis_orientation(crystal, plate), 6.0, 30.0)
    orientation = Rotation.from_euler("z", 77.5, degrees=True) * orientation
    rng = np.random.default_rng(3)
    bends = [mistilted(orientation, rng, spread=0.5)[0] for _ in range(BENDS)]
    pattern = overlapped(
        [
            simulate_saed(crystal, orientation=bend, g_max=1.8, thickness=500.0, method="bloch")
            for bend in bends
        ]
    )
    parts = (
        Ellipticity(1.06, 80.0),
        DiffuseBackground(0.40, 0.04, 1.6, 0.5),
        DirectBeam(0.33, 2.6),
        InelasticBlur(0.5, 5.0),
        Dose(3e7),
        Saturation(0.6),
    )
    name = "pyxem__pyxem-demos/moo3_20cm.tif"
    return Case("MoO$_3$ [010]", name, 0.0103, 200e3, (129.0, 129.0), 2.2, pattern, parts)


def glycine(folder: Path) -> Case:
    here = folder / "ccp4__electron-diffraction"
    crystal = Crystal.from_cif(here / "alpha_glycine.cif").with_u_iso(0.03)
    orientation = _pets_orientation(crystal, here / "glycine.celllist", -11.0, 230.0)
    pattern = simulate_saed(
        crystal, orientation=orientation, energy=200e3, g_max=1.4, thickness=400.0, width=0.003
    )
    # The measured cell is 3.3 % small: the stated scale is off by as much.
    parts = (
        DiffuseBackground(0.93, 0.02, 1.2, 0.8),
        AmorphousHalo(0.08, 0.42, 0.07),
        DirectBeam(0.31, 3.0),
        BeamStop(94.0, 2e4, 0.0, -165.0, 0.0, 0.02, 25.0, 0.0),
        ModulationTransfer(0.6),
        Dose(1.8e6),
    )
    name = "ccp4__electron-diffraction/00001.tiff"
    return Case("α-glycine, 3D ED", name, 0.00516, 200e3, (234.9, 233.2), 1.4, pattern, parts)


def simulated(case: Case, shape: tuple[int, int]) -> NDArray[np.float32]:
    """What the case's instrument records, in counts."""
    image = render_spots(case.pattern, shape, case.pixel_size, case.sigma, centre=case.centre)
    image = np.asarray(image / image.sum(), dtype=np.float32)
    labels = Labels.of(image, centre=case.centre, pixel_size=case.pixel_size)
    return Instrument(case.transforms, seed=1).apply(image, labels)[0]


def draw(cases: list[Case], folder: Path, output: Path) -> None:
    """One column a case, real over simulated, on the same grey scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(cases), figsize=(3.2 * len(cases), 6.8))
    for column, case in zip(axes.T, cases, strict=True):
        real = _real(case, folder)
        made = simulated(case, (real.shape[0], real.shape[1]))
        for axis, image, word in zip(column, (real, made), ("measured", "simulated"), strict=True):
            _show(axis, image, f"{case.title}, {word}")
    figure.tight_layout()
    figure.savefig(output, dpi=150)
    plt.close(figure)


def profile(image: NDArray[np.floating], case: Case) -> tuple[NDArray[np.float64], ...]:
    """Radius in 1/Å and mean share of all counts in a pixel, over the half above the beam.

    The half below is where the shadow of a beam stop lies.
    """
    rows, columns = np.indices(image.shape)
    above = rows <= case.centre[0]
    radius = np.hypot(rows - case.centre[0], columns - case.centre[1])[above]
    ring = np.rint(radius).astype(int)
    count = np.bincount(ring)
    mean = np.bincount(ring, image[above]) / np.maximum(count, 1) / image.sum()
    seen = np.flatnonzero(count[: int(min(case.centre))])
    return seen * case.pixel_size, mean[seen]


def statistics(image: NDArray[np.floating], case: Case) -> str:
    """Share of the counts within 12 px of the beam, and of the pixels that hold none."""
    rows, columns = np.indices(image.shape)
    radius = np.hypot(rows - case.centre[0], columns - case.centre[1])
    inner = image[radius < 12].sum() / image.sum()
    return f"{inner:.0%} within 12 px, {(image <= 0).mean():.0%} empty"


def draw_profiles(cases: list[Case], folder: Path, output: Path) -> None:
    """One column a case: the simulated image, and the profiles of both."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(cases), figsize=(3.4 * len(cases), 5.8), height_ratios=(3, 2), layout="constrained"
    )
    for (above, below), case in zip(axes.T, cases, strict=True):
        real = _real(case, folder)
        made = simulated(case, (real.shape[0], real.shape[1]))
        _show(above, made, f"{case.title}, simulated")
        length = 0.5 / case.pixel_size
        bottom, left = 0.93 * real.shape[0], 0.06 * real.shape[1]
        above.plot([left, left + length], [bottom, bottom], color="white", linewidth=3)
        above.text(left, bottom - 0.03 * real.shape[0], "0.5 Å$^{-1}$", color="white", fontsize=8)
        for image, word, colour in ((real, "measured", "#555555"), (made, "simulated", "#c1272d")):
            radius, share = profile(image, case)
            label = f"{word}: {statistics(image, case)}"
            below.semilogy(radius, np.maximum(share, 1e-12), color=colour, lw=1.2, label=label)
        below.set_ylim(share[share > 0].min() / 5, share.max() * 40)
        below.set_xlabel("|q| / Å$^{-1}$", fontsize=8)
        below.tick_params(labelsize=7)
        below.legend(fontsize=6.5, frameon=False, loc="upper right")
    axes[1, 0].set_ylabel("share of all counts in a pixel", fontsize=8)
    figure.savefig(output, dpi=110)
    plt.close(figure)


def _real(case: Case, folder: Path) -> NDArray[np.float64]:
    real = np.asarray(open_file(folder / case.file).data[:], dtype=np.float64)
    return real.reshape(real.shape[-2:])


def _show(axis: Any, image: NDArray[np.floating], title: str) -> None:
    top = np.quantile(image, 0.998)
    axis.imshow(np.clip(image / top, 0, 1) ** 0.4, cmap="gray")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def _common(name: str) -> Crystal:
    return next(c for c in common_phases() if c.name == name)


def _plate_normal(crystal: Crystal) -> tuple[int, int, int]:
    """The direction of the longest cell edge: α-MoO3 cleaves across it in every setting."""
    longest = int(np.argmax(crystal.parameters[:3]))
    u, v, w = (int(i == longest) for i in range(3))
    return u, v, w


def _pets_orientation(crystal: Crystal, celllist: Path, alpha: float, omega: float) -> Rotation:
    """Crystal → lab from PETS2's orientation matrix, tilt and in-plane angle of the tilt axis.

    The sign convention (a half-turn about x at the end) is the one of eight under which the
    predicted reflections of the first frame fall on its spots.
    """
    rows = _matrix_rows(celllist.read_text(encoding="utf-8").splitlines())
    measured = np.array(list(rows))
    turns = Rotation.from_euler("x", 180, degrees=True) * Rotation.from_euler(
        "z", omega, degrees=True
    )
    turns = turns * Rotation.from_euler("x", alpha, degrees=True)
    return Rotation.align_vectors(turns.apply(measured.T), crystal.reciprocal)[0]


def _matrix_rows(lines: list[str]) -> Iterator[list[float]]:
    start = next(i for i, line in enumerate(lines) if line.strip() == "ubmatrix")
    for line in lines[start + 1 : start + 4]:
        yield [float(word) for word in line.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of experimental data")
    parser.add_argument("output", type=Path, help="figure to write: .png, .pdf, .svg")
    parser.add_argument("--profiles", action="store_true", help="no real image, its profile")
    given = parser.parse_args()
    figure = draw_profiles if given.profiles else draw
    figure([gold(), molybdite(), glycine(given.folder)], given.folder, given.output)


if __name__ == "__main__":
    main()
