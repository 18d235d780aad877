"""Simulated camera images with known truth: spots, rings, background and every common flaw."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass
class Canvas:
    """An expectation in electrons that is drawn on and then recorded.

    ``centre`` is (row, column); ``spots`` collects (row, col, electrons) of what was drawn.
    """

    shape: tuple[int, int]
    centre: tuple[float, float]
    seed: int = 0
    spots: list[tuple[float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        y, x = np.indices(self.shape, dtype=float)
        self.y, self.x = y, x
        self.radius = np.hypot(y - self.centre[0], x - self.centre[1])
        self.azimuth = np.arctan2(y - self.centre[0], x - self.centre[1])
        self.mean = np.zeros(self.shape)

    def background(self, level: float = 5.0, peak: float = 110.0, decay: float = 40.0) -> Canvas:
        """A steep foot of the beam on a slow halo, as on hybrid-pixel frames."""
        self.mean += peak * np.exp(-self.radius / decay) + level * np.exp(-self.radius / 400)
        return self

    def spot(self, row: float, col: float, electrons: float, sigma: float = 1.5) -> Canvas:
        """A Gaussian spot."""
        square = (self.y - row) ** 2 + (self.x - col) ** 2
        self.mean += electrons / (2 * np.pi * sigma**2) * np.exp(-square / (2 * sigma**2))
        self.spots.append((row, col, electrons))
        return self

    def disk(self, row: float, col: float, electrons: float, radius: float = 5.0) -> Canvas:
        """A disk with a soft edge."""
        away = np.hypot(self.y - row, self.x - col)
        shape = 0.5 - 0.5 * np.tanh((away - radius) / 0.6)
        self.mean += electrons * shape / shape.sum()
        self.spots.append((row, col, electrons))
        return self

    def beam(self, electrons: float = 2e5, sigma: float = 2.0) -> Canvas:
        """The direct beam; not counted among the spots."""
        self.spot(*self.centre, electrons, sigma)
        self.spots.pop()
        return self

    def lattice(
        self,
        a: tuple[float, float],
        b: tuple[float, float],
        electrons: float = 2000.0,
        sigma: float = 1.5,
        envelope: float = 0.35,
        friedel: float = 1.0,
    ) -> Canvas:
        """Spots on a lattice, intensities log-normal under a Gaussian envelope.

        ``friedel`` is the spread (natural log) between the two of a pair.
        """
        basis = np.array([a, b])
        reach = envelope * min(self.shape)
        pair: dict[tuple[int, int], float] = {}
        for m in range(-30, 31):
            for n in range(-30, 31):
                place = np.array(self.centre) + np.array([m, n]) @ basis
                away = float(np.hypot(*(np.array([m, n]) @ basis)))
                inside = all(4 < p < s - 5 for p, s in zip(place, self.shape, strict=True))
                if (m, n) == (0, 0) or not inside or away > 2.2 * reach:
                    continue
                common = pair.setdefault(max((m, n), (-m, -n)), float(self.rng.normal(0, 0.7)))
                own = common + friedel * float(self.rng.normal())
                counts = electrons * np.exp(own - 0.5 * (away / reach) ** 2)
                self.spot(float(place[0]), float(place[1]), counts, sigma)
        return self

    def ring(
        self,
        radius: float,
        height: float,
        width: float = 2.0,
        ratio: float = 1.0,
        angle: float = 0.0,
        grains: int = 0,
    ) -> Canvas:
        """A ring on an ellipse; of ``grains`` spots where given, else continuous."""
        stretch = 1 + (ratio - 1) / 2 * np.cos(2 * (self.azimuth - np.radians(angle)))
        shape = np.exp(-((self.radius / stretch - radius) ** 2) / (2 * width**2))
        if grains:
            turn = self.rng.uniform(-np.pi, np.pi, grains)
            weight = self.rng.lognormal(0, 0.8, grains)
            for t, w in zip(turn, weight, strict=True):
                r = radius * (1 + (ratio - 1) / 2 * np.cos(2 * (t - np.radians(angle))))
                row, col = self.centre[0] + r * np.sin(t), self.centre[1] + r * np.cos(t)
                self.spot(row, col, w * height * 2 * np.pi * width**2, width)
                self.spots.pop()
        else:
            self.mean += height * shape
        return self

    def beam_stop(self, angle: float = 0.0, half_width: float = 14.0) -> NDArray[np.bool_]:
        """A bar from the centre to the border towards ``angle``; returns what it covers."""
        t = np.radians(angle)
        dy, dx = self.y - self.centre[0], self.x - self.centre[1]
        along, across = dy * np.sin(t) + dx * np.cos(t), -dy * np.cos(t) + dx * np.sin(t)
        covered = (along > -half_width) & (np.abs(across) < half_width)
        self.mean = np.where(covered, 0.002 * self.mean, self.mean)
        return covered

    def counts(self) -> Floats:
        """A hybrid-pixel frame: Poisson counts."""
        return self.rng.poisson(self.mean).astype(float)

    def camera(
        self, gain: float = 3.0, pedestal: float = 10.0, read: float = 1.5, bits: int = 16
    ) -> Floats:
        """A CCD frame: gain, pedestal, read-out noise, full well at the top of the scale."""
        image = gain * self.rng.poisson(self.mean) + pedestal
        image = image + self.rng.normal(0, read, self.shape)
        return np.clip(np.round(image), 0, 2**bits - 1)

    def picture(self, top: float, gamma: float = 1.0) -> NDArray[np.uint8]:
        """An 8-bit picture in which ``top`` electrons are white."""
        noisy = self.rng.poisson(self.mean) / top
        return np.round(255 * np.clip(noisy, 0, 1) ** gamma).astype(np.uint8)


def jpeg(picture: NDArray[np.uint8], quality: int = 85) -> NDArray[np.uint8]:
    """The scars of one JPEG compression."""
    from io import BytesIO

    from PIL import Image

    store = BytesIO()
    Image.fromarray(picture).save(store, format="JPEG", quality=quality)
    return np.asarray(Image.open(store))


def hexagonal(centre: tuple[float, float], length: float, turn: float = 10.0) -> tuple:
    """Two basis vectors (row, col) of a hexagonal net."""
    t = np.radians([turn, turn + 60])
    return tuple(length * np.array([np.sin(s), np.cos(s)]) for s in t)


def decagonal(scale: float, reach: float, window: float = 1.6) -> Floats:
    """(N, 3) row, col offsets and weights of a ten-fold quasiperiodic star of spots.

    Integer combinations of a regular five-star, weighted by their length in the complementary
    (perpendicular) star, as cut-and-project structures give.
    """
    from itertools import product

    step = 2 * np.pi * np.arange(5) / 5
    parallel = np.stack([np.sin(step), np.cos(step)], 1)
    perpendicular = np.stack([np.sin(2 * step), np.cos(2 * step)], 1)
    numbers = np.array(list(product(range(-3, 4), repeat=4)))
    numbers = np.concatenate([numbers, np.zeros((len(numbers), 1), int)], axis=1)
    place, hidden = scale * numbers @ parallel, np.linalg.norm(numbers @ perpendicular, axis=1)
    away = np.linalg.norm(place, axis=1)
    keep = (hidden < window) & (away < reach) & (away > 1)
    return np.column_stack([place[keep], np.exp(-2 * hidden[keep] ** 2)])
