"""The rel-rod: how much of a reflection is seen at an excitation error s.

Every shape is normalised as a rocking curve, ∫ S(s) ds = 1/t, so that thickness and shape can
be chosen freely and the integrated intensity (π t/ξ_g)²/t of kinematic theory is kept.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from diskern.errors import DiskernError
from diskern.simulate.arrays import namespace

ShapeFactor = Literal["gaussian", "sinc2", "lorentzian"]
SHAPE_FACTORS: tuple[ShapeFactor, ...] = ("gaussian", "sinc2", "lorentzian")
DEFAULT_WIDTH = 0.01
"""rms rel-rod in 1/Å where no thickness is known; that of a foil of 40 Å."""


def width_of(thickness: float) -> float:
    """Rms width σ in 1/Å of the Gaussian that has the area of sinc²(t s): 1/(t √2π).

    It is also the rel-rod of a crystal with a Gaussian envelope exp(-z²/2τ²), τ = 0.28 t:
    the three-dimensional Gaussian-windowed crystal of Ra et al., RSC Adv. 11, 38307 (2021).
    """
    return 1 / (thickness * math.sqrt(2 * math.pi))


def thickness_of(width: float) -> float:
    """The inverse of `width_of`: Å from 1/Å."""
    return 1 / (width * math.sqrt(2 * math.pi))


def shape_factor(kind: ShapeFactor, s: Any, width: float) -> Any:
    """S(s), 1 at s = 0, of rms-equivalent ``width`` in 1/Å; s in 1/Å.

    ``gaussian`` exp(-s²/2σ²); ``sinc2`` (sin π t s/π t s)², the parallel-sided foil;
    ``lorentzian`` 1/(1 + (π t s)²); all have area σ√2π = 1/t.
    """
    xp = namespace(s)
    t = thickness_of(width)
    if kind == "gaussian":
        return xp.exp(-0.5 * (s / width) ** 2)
    if kind == "sinc2":
        return xp.sinc(t * s) ** 2
    return 1 / (1 + (math.pi * t * s) ** 2)


def check_shape_factor(name: str) -> ShapeFactor:
    """Return ``name`` where it is a known shape, else raise."""
    if name not in SHAPE_FACTORS:
        raise DiskernError(f"shape_factor={name!r} is unknown; use {', '.join(SHAPE_FACTORS)}")
    return name
