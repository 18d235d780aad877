"""Numbers of a measured lattice with their uncertainties, in the unit that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diskern.bragg.lattice import Lattice2D
from diskern.patterns.geometry import Flaw

Floats = NDArray[np.float64]

FLAW_WORDS = {
    Flaw.MISSING: "missing pixels",
    Flaw.DEAD: "dead pixels",
    Flaw.HOT: "hot pixels",
    Flaw.SATURATED: "saturated",
    Flaw.BLOOMING: "blooming",
    Flaw.BEAM_STOP: "beam stop",
    Flaw.OVERLAY: "scale bar, text or frame",
    Flaw.CROSS: "wide pixels between detector chips",
}


@dataclass(frozen=True)
class LatticeMeasure:
    """|a|, |b| (in ``unit``) and their angle (degrees), each with its standard uncertainty.

    For a single row of spots the b and angle entries are NaN.
    """

    a: float
    b: float
    angle: float
    sigma_a: float
    sigma_b: float
    sigma_angle: float
    unit: str

    @property
    def spacings(self) -> tuple[float, float]:
        """The lattice-plane distances 1/|a|, 1/|b| in Å; NaN where the scale is unknown."""
        if self.unit == "px":
            return float("nan"), float("nan")
        return 1 / self.a, 1 / self.b


def lattice_measure(lattice: Lattice2D, pixel_size: float | None) -> LatticeMeasure:
    """Lengths and angle of a 2-D lattice, uncertainties by first-order propagation.

    The uncertainties are those of the fit; the scale's own error is common to both lengths and
    is not in them.  ``pixel_size`` in 1/Å gives 1/Å, None gives px.
    """
    scale = 1.0 if pixel_size is None else pixel_size
    a, b = np.asarray(lattice.basis, dtype=float)
    covariance = np.asarray(lattice.covariance, dtype=float)[2:, 2:]
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    unit_a, unit_b = a / length_a, b / length_b
    none = np.zeros(2)
    cosine = float(np.clip(unit_a @ unit_b, -1, 1))
    sine = float(np.sqrt(max(1 - cosine**2, 1e-12)))
    to_a = -(unit_b - cosine * unit_a) / (length_a * sine)
    to_b = -(unit_a - cosine * unit_b) / (length_b * sine)
    return LatticeMeasure(
        a=length_a * scale,
        b=length_b * scale,
        angle=float(np.degrees(np.arccos(cosine))),
        sigma_a=_propagate(np.r_[unit_a, none], covariance) * scale,
        sigma_b=_propagate(np.r_[none, unit_b], covariance) * scale,
        sigma_angle=float(np.degrees(_propagate(np.r_[to_a, to_b], covariance))),
        unit="px" if pixel_size is None else "1/Å",
    )


def _propagate(gradient: Floats, covariance: Floats) -> float:
    used = gradient != 0
    variance = gradient[used] @ covariance[np.ix_(used, used)] @ gradient[used]
    return float(np.sqrt(variance)) if variance >= 0 else float("nan")


def masked_shares(flaws: NDArray[np.uint16]) -> dict[str, float]:
    """What was masked and how much of the image: words → share, largest first."""
    shares = {
        words: float(np.count_nonzero(flaws & int(flag)) / flaws.size)
        for flag, words in FLAW_WORDS.items()
    }
    return dict(sorted(((k, v) for k, v in shares.items() if v), key=lambda item: -item[1]))
