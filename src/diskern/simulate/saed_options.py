"""What a spot simulation may vary, kinematic or dynamical, and checks of its values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import zone_axis_orientation
from diskern.errors import DiskernError
from diskern.simulate.scattering import Parametrization, check_parametrization
from diskern.simulate.shape_factors import ShapeFactor, check_shape_factor

Absorption = float | Literal["thermal"] | None


@dataclass(frozen=True)
class SaedOptions:
    """What a spot simulation may vary beyond crystal, orientation, energy and thickness.

    Attributes
    ----------
    shape_factor : "gaussian", "sinc2" (parallel-sided foil) or "lorentzian".
    width : rms rel-rod in 1/Å; by default from the thickness, or 0.01 without one.  A width
        above the thickness's own describes bending or mosaic spread at the same integral.
    max_excitation_error : in 1/Å; by default 4 widths of a Gaussian, 12 of the other shapes.
    precession_angle : semi-angle of the precessing beam in mrad, or None.
    double_diffraction : light up extinct reflections by the second Born order (needs a
        thickness well below the extinction distances).
    min_intensity : reflections weaker than this share of the strongest are left out.
    parametrization : scattering-factor table, see `diskern.simulate.scattering`.
    absorption : for ``method="bloch"``, imaginary over real part of the potential, "thermal" for
        the loss to thermal diffuse scattering, or None.
    """

    shape_factor: ShapeFactor = "gaussian"
    width: float | None = None
    max_excitation_error: float | None = None
    precession_angle: float | None = None
    double_diffraction: bool = False
    min_intensity: float = 1e-6
    parametrization: Parametrization = "peng"
    absorption: Absorption = None

    def __post_init__(self) -> None:
        check_shape_factor(self.shape_factor)
        check_parametrization(self.parametrization)
        for name in ("width", "max_excitation_error", "precession_angle"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise DiskernError(f"{name}={value} must be a positive number, or None")
        if self.precession_angle is not None and self.precession_angle > 200:
            raise DiskernError(f"precession_angle={self.precession_angle} mrad exceeds 200 mrad")
        check_absorption(self.absorption)
        if not 0 <= self.min_intensity < 1:
            raise DiskernError(f"min_intensity={self.min_intensity} must lie in [0, 1)")


def resolve_orientation(
    crystal: Crystal, zone_axis: ArrayLike | None, orientation: Rotation | None
) -> Rotation:
    """The one rotation that a zone axis or an orientation describes."""
    if (zone_axis is None) == (orientation is None):
        raise DiskernError("give either zone_axis=(u, v, w) or orientation=Rotation, one of them")
    if orientation is None:
        return zone_axis_orientation(crystal, np.asarray(zone_axis, dtype=float))
    if not isinstance(orientation, Rotation):
        raise DiskernError(
            f"orientation is a {type(orientation).__name__}; give a scipy Rotation crystal → lab"
        )
    if not orientation.single and len(orientation) != 1:
        raise DiskernError(
            f"orientation holds {len(orientation)} rotations; simulate_saed_batch takes many"
        )
    return orientation if orientation.single else orientation[0]


def resolve_options(options: SaedOptions | None, settings: dict[str, Any]) -> SaedOptions:
    """``options`` with single fields replaced by name."""
    known = SaedOptions.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise DiskernError(f"{name!r} is no simulation setting; known: {', '.join(known)}")
    return replace(options or SaedOptions(), **settings)


def check_absorption(absorption: Any) -> None:
    """Raise where an absorption is neither "thermal" nor a fraction."""
    if absorption is None or absorption == "thermal":
        return
    if isinstance(absorption, str) or not 0 <= absorption <= 1:
        raise DiskernError(
            f"absorption={absorption} is no fraction; give 0 to 1, 'thermal' or None"
        )


def check_thickness(thickness: float | None) -> None:
    """Raise where a thickness in Å is given and impossible."""
    if thickness is not None and not (math.isfinite(thickness) and 0 < thickness <= 1e6):
        raise DiskernError(f"thickness={thickness} Å must be above 0 and at most 1e6 Å")
