"""Spot patterns of one crystal, kinematic or dynamical."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.saed_options import SaedOptions, resolve_options, resolve_orientation
from diskern.simulate.spot_pattern import SpotPattern
from diskern.simulate.structure_factors import Reflections


def simulate_saed(
    crystal: Crystal,
    zone_axis: ArrayLike | None = None,
    *,
    orientation: Rotation | None = None,
    energy: float = 200e3,
    g_max: float = 2.0,
    thickness: float | None = None,
    method: Literal["kinematic", "bloch"] = "kinematic",
    options: SaedOptions | None = None,
    **settings: Any,
) -> SpotPattern:
    """Simulate the spot pattern of one crystal.

    Parameters
    ----------
    crystal : the structure, with its occupancies and displacements.
    zone_axis : [u, v, w] along the beam, or
    orientation : the rotation crystal → lab; exactly one of the two.
    energy : eV.
    g_max : largest |g| in 1/Å.
    thickness : foil thickness in Å.  With it intensities are fractions of the incident beam;
        without, they are relative to the strongest reflection.
    method : "kinematic", or "bloch" for dynamical diffraction (needs a thickness).
    options, **settings : the fields of `SaedOptions`, as an object or by name.

    Returns
    -------
    SpotPattern, strongest reflection first, without the direct beam.

    Raises
    ------
    DiskernError
        Where a value is impossible or two values contradict each other.

    Examples
    --------
    >>> pattern = simulate_saed(silicon, (0, 1, 1), thickness=200.0)  # doctest: +SKIP
    """
    rotation = resolve_orientation(crystal, zone_axis, orientation)
    opts = resolve_options(options, settings)
    if method == "bloch":
        from diskern.simulate.bloch import saed_bloch

        return saed_bloch(crystal, rotation, energy, g_max, thickness, opts)
    if method != "kinematic":
        raise DiskernError(f"method={method!r} is unknown; use kinematic or bloch")
    reflections = Reflections.of(crystal, g_max, opts.parametrization)
    return simulate_saed_batch(
        reflections, rotation, energy=energy, thickness=thickness, options=opts
    )[0]
