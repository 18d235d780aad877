"""Hand-made identifications: nothing here runs the analysis itself."""

from __future__ import annotations

import numpy as np
import pytest

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.rings import Rings
from diskern.bragg.spots import Spots
from diskern.patterns.geometry import Centre, Ellipse, Flaw
from diskern.patterns.pattern import Pattern
from diskern.symmetry.identification import Identification, PhaseMatch, Ranked, ZoneAxis

HOSTILE = "<script>alert('x')</script>\"&$\\frac{.dm4"
SHAPE = (256, 320)
ORIGIN = np.array([126.0, 158.0])
BASIS = np.array([[30.0, 4.0], [-5.0, 37.5]])


def lattice_image(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian spots on a lattice with a decaying background, and the nodes that were drawn."""
    rng = np.random.default_rng(seed)
    indices = np.array([(m, n) for m in range(-3, 4) for n in range(-3, 4)])
    position = ORIGIN + indices @ BASIS
    inside = ((position > 6) & (position < np.array(SHAPE) - 6)).all(1)
    indices, position = indices[inside], position[inside]
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot(row - ORIGIN[0], col - ORIGIN[1])
    image = 4000 * np.exp(-radius / 22) + 40.0
    for (m, n), (r, c) in zip(indices, position, strict=True):
        height = 6000 * np.exp(-0.5 * (m * m + n * n) ** 0.9)
        image += height * np.exp(-((row - r) ** 2 + (col - c) ** 2) / (2 * 2.0**2))
    return rng.poisson(image).astype(np.float32), indices, position


def spots_analysis(source: str = "al_011.tif", pixel_size: float | None = 0.0124) -> Analysis:
    image, indices, position = lattice_image()
    flaws = np.zeros(SHAPE, np.uint16)
    flaws[118:136, :150] = Flaw.BEAM_STOP
    keep = indices.any(1) & (flaws[tuple(position.astype(int).T)] == 0)
    indices, position = indices[keep], position[keep]
    order = np.argsort((indices**2).sum(1), kind="stable")
    indices, position = indices[order], position[order]
    n = len(indices)
    spots = Spots(
        position, np.full((n, 2), 0.1), np.linspace(9e3, 50, n), np.full(n, 20.0), np.full(n, 2.0)
    )
    lattice = Lattice2D(
        ORIGIN, BASIS, np.eye(6) * 0.02**2, np.arange(n), indices, residual=0.12, evidence=210.0
    )
    pattern = Pattern.from_array(image, pixel_size, 200e3, source=source)
    return Analysis(
        pattern, flaws, np.zeros(SHAPE, np.float32), Centre(126.0, 158.0, 0.1, "lattice"),
        spots, (lattice,), None, "spots", None, Ellipse(1.008, 31.0, 0.001),
        notes=("The beam stop was masked.",),
    )  # fmt: skip


def rings_analysis(pixel_size: float | None = 0.0124) -> Analysis:
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot(row - 126.0, col - 158.0)
    radii = np.array([34.5, 39.9, 56.4, 66.1])
    image = 60 + 900 * np.exp(-radius / 15)
    for r, height in zip(radii, (300, 140, 90, 110), strict=True):
        image = image + height * np.exp(-((radius - r) ** 2) / 4)
    image = np.random.default_rng(5).poisson(image).astype(np.float32)
    centre = Centre(126.0, 158.0, 0.2, "rings")
    rings = Rings(
        radii, np.full(4, 0.05), np.array([300.0, 140, 90, 110]), np.full(4, 1.4),
        np.zeros(200), centre, Ellipse(1.01, 20.0, 0.002),
    )  # fmt: skip
    return Analysis(
        Pattern.from_array(image, pixel_size, 200e3, source="au_rings.png"),
        np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.float32), centre,
        Spots.empty(), (), rings, "rings", None,
    )  # fmt: skip


def empty_analysis() -> Analysis:
    image = np.random.default_rng(1).poisson(30, SHAPE).astype(np.float32)
    return Analysis(
        Pattern.from_array(image, source="glass.tif"),
        np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.float32),
        Centre(126.0, 158.0, 3.0, "background"), Spots.empty(), (), None, "none",
        "a diffuse halo and no sharp ring or spot: amorphous, or nothing in the beam",
    )  # fmt: skip


def phase(hkl: tuple[np.ndarray, ...], name: str = "Al", score: float = 0.93) -> PhaseMatch:
    return PhaseMatch(
        name, name, 225, score, 0.004, 1.012, 0.01255,
        np.stack([np.eye(3)] * len(hkl)), (((0, 1, -1), 0.8),) * len(hkl), hkl, 0.98,
        source=f"/data/cif/{name}.cif",
    )  # fmt: skip


@pytest.fixture(scope="session")
def identified() -> Identification:
    """Two patterns, one with a hostile file name, cubic, ambiguous, with two phases."""
    first, second = spots_analysis(), spots_analysis(source=f"C:\\data\\{HOSTILE}")
    hkl = np.column_stack([first.lattices[0].indices, -first.lattices[0].indices[:, 0]])
    hkl[-1] = -999
    face = (196, 202, 209, 216, 225)
    return Identification(
        True, None, (first, second),
        ((ZoneAxis((0, 1, -1), 0.91), ZoneAxis((1, 1, 2), 0.06)), (ZoneAxis((0, 0, 1), 0.99),)),
        system=(
            Ranked("cubic", 0.97, tuple(range(195, 231))),
            Ranked("tetragonal", 0.03, tuple(range(75, 143))),
        ),
        laue_class=(Ranked("m-3m", 0.8, (209, 216, 225)), Ranked("m-3", 0.2, (196, 202))),
        extinction_symbol=(Ranked("F---", 0.9, face), Ranked("Fd--", 0.1, (203, 227))),
        space_group=tuple(Ranked(str(n), 0.6 if n == 225 else 0.1, (n,)) for n in face[::-1]),
        ambiguity_set=face, next_zone=(1, 1, 1),
        phases=(phase((hkl, hkl)), phase((hkl, hkl), "<b>Au</b>", 0.5)),
        reasons=("All of h, k, l are even or all are odd: the cell is face-centred.",),
        provenance={"command": "diskern identify <x>", "inputs": [{"file": "a", "sha256": "00"}]},
    )  # fmt: skip


@pytest.fixture(scope="session")
def ringed() -> Identification:
    """A ring pattern with one phase; no symmetry levels."""
    analysis = rings_analysis()
    hkl = np.array([[1, 1, 1], [2, 0, 0], [2, 2, 0], [-999] * 3])
    return Identification(True, None, (analysis,), phases=(phase((hkl,), "Au"),))


@pytest.fixture(scope="session")
def refused() -> Identification:
    """An amorphous specimen."""
    analysis = empty_analysis()
    return Identification(False, analysis.refusal, (analysis,))


@pytest.fixture(scope="session")
def uncalibrated() -> Identification:
    """Spots without a scale and without phases."""
    return Identification(True, None, (spots_analysis(pixel_size=None),))
