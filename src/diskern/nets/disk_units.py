"""Units in which a convergent-beam pattern needs no calibration, and the way back to V and 1/Å.

With k_R the radius of the beam's aperture in 1/Å, lengths in reciprocal space are counted in
k_R and those along the beam in λ k_R²: the paraxial wave equation then holds no wavelength and
no camera length (divide k by k_R, z by 1/(λ k_R²), U by k_R²).  A pattern is determined by

    G = g/k_R,   Q = s_g/(λ k_R²),   W = 1/(ξ_g λ k_R²),   τ = t λ k_R²,

so V_g and q_z that a network reads in these units become volts and 1/Å through λ k_R² alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diskern.physics import interaction_parameter, wavelength


def unit_of(energy: float, aperture: float) -> float:
    """λ k_R² in 1/Å of an ``aperture`` k_R in 1/Å at an energy in eV: the unit of Q and W."""
    return wavelength(energy) * aperture**2


def volts_of(coupling: ArrayLike, energy: float, unit: ArrayLike) -> NDArray[np.float64]:
    """|V_g| in V of couplings W in ``unit`` 1/Å: 1/ξ_g = σ |V_g|/π."""
    scale = math.pi / interaction_parameter(energy)
    return np.asarray(np.asarray(coupling) * np.asarray(unit) * scale, dtype=np.float64)
