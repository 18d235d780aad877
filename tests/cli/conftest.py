"""A made-up answer and an `identify` that returns it, so that the verbs are tested alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diskern.bragg.analysis import Analysis
from diskern.bragg.lattice import Lattice2D
from diskern.bragg.spots import Spots
from diskern.crystal.common import common_phases
from diskern.patterns.geometry import Centre
from diskern.patterns.pattern import Pattern
from diskern.symmetry.identification import Identification, PhaseMatch, Ranked, ZoneAxis
from diskern.symmetry.kinematic_table import kinematic_table


def made_up(source: str = "a.tif", phase: str = "Si", space_group: int = 227) -> Identification:
    """Nine spots of a square lattice, cubic, one phase."""
    indices = np.array([(m, n) for m in (-1, 0, 1) for n in (-1, 0, 1) if m or n])
    position = 32.0 + 10.0 * indices
    spots = Spots(position, np.full((8, 2), 0.1), np.ones(8), np.full(8, 0.1), np.ones(8))
    lattice = Lattice2D(
        np.array([32.0, 32.0]), np.eye(2) * 10, np.eye(6) * 1e-4, np.arange(8), indices, 0.05, 80.0
    )
    image = np.random.default_rng(0).poisson(20, (64, 64)).astype(np.float32)
    analysis = Analysis(
        Pattern.from_array(image, 0.02, 200e3, source=source), np.zeros((64, 64), np.uint16),
        np.zeros((64, 64), np.float32), Centre(32, 32, 0.1, "lattice"), spots, (lattice,), None,
        "spots", None,
    )  # fmt: skip
    hkl = np.column_stack([indices, np.zeros(8, int)])
    match = PhaseMatch(
        phase, phase, space_group, 0.9, 0.01, 1.0, 0.02, np.eye(3)[None], (((0, 0, 1), 0.1),),
        (hkl,), 1.0,
    )  # fmt: skip
    return Identification(
        True, None, (analysis,), ((ZoneAxis((0, 0, 1), 0.9),),),
        system=(Ranked("cubic", 0.95, tuple(range(195, 231))),),
        extinction_symbol=(Ranked("Fd--", 0.9, (203, 227)),),
        space_group=(Ranked("Fd-3m", 0.7, (227,)), Ranked("Fd-3", 0.3, (203,))),
        ambiguity_set=(203, 227), phases=(match,), reasons=("h + k = 4n on 0kl",),
        provenance={"version": "x"},
    )  # fmt: skip


@pytest.fixture
def rings_file(tmp_path: Path) -> Path:
    """Rings of gold at 0.005 1/Å per px, stretched by 2 %."""
    gold = next(c for c in common_phases() if c.name == "Au")
    length, height, _ = kinematic_table(gold).powder
    y, x = np.mgrid[:256, :256] - 128.0
    radius = np.hypot(x * 1.01, y / 1.01) * 0.005
    lines = zip(length[:6], height[:6], strict=True)
    image = sum(h * np.exp(-0.5 * ((radius - g) / 0.006) ** 2) for g, h in lines)
    image = 300 * image + 2e4 * np.exp(-0.5 * (radius / 0.02) ** 2) + 60 * np.exp(-radius / 0.2)
    counts = np.random.default_rng(0).poisson(image + 20).astype(np.uint16)
    Image.fromarray(counts).save(tmp_path / "rings.tif")
    return tmp_path / "rings.tif"


@pytest.fixture
def answer() -> Identification:
    return made_up()


@pytest.fixture
def refusal(answer: Identification) -> Identification:
    analysis = replace(
        answer.analyses[0], spots=Spots.empty(), lattices=(), kind="none", refusal="only halos"
    )
    return Identification(False, "only halos", (analysis,))


class Asked:
    """Stands in for `identify`: keeps what it was asked, returns what it was told."""

    def __init__(self, answers: list[Identification]) -> None:
        self.answers, self.calls = answers, []

    def __call__(self, patterns: Any, **known: Any) -> Identification:
        self.calls.append((list(patterns), known))
        return self.answers[min(len(self.calls), len(self.answers)) - 1]


@pytest.fixture
def identify_says(monkeypatch: pytest.MonkeyPatch):
    """Replace `identify` by one that gives these answers; returns its record."""

    def install(*answers: Identification) -> Asked:
        asked = Asked(list(answers))
        monkeypatch.setattr("diskern.symmetry.identify.identify", asked)
        return asked

    return install
