"""Convergent-beam patterns: one public function, the engine chosen by validity and cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import check_energy
from diskern.simulate.saed_options import resolve_orientation

if TYPE_CHECKING:
    from diskern.simulate.bloch import BlochOptions
    from diskern.simulate.multislice_cbed import MultisliceOptions

BLOCH_BEAMS = 1500
"""Beams up to which Bloch waves are the cheaper engine (cells up to about 1500 Å³)."""


def simulate_cbed(
    crystal: Crystal,
    zone_axis: ArrayLike | None = None,
    *,
    orientation: Rotation | None = None,
    energy: float = 200e3,
    semiangle: float | ArrayLike = 2.0,
    thickness: float | ArrayLike = 200.0,
    shape: tuple[int, int] = (256, 256),
    pixel_size: float = 0.015,
    method: Literal["auto", "bloch", "multislice"] = "auto",
    options: BlochOptions | MultisliceOptions | None = None,
) -> NDArray[np.float32]:
    """Simulate convergent-beam patterns of one crystal at one or more thicknesses.

    Parameters
    ----------
    zone_axis : [u, v, w] along the beam, or
    orientation : the rotation crystal → lab; exactly one of the two.
    energy : eV.
    semiangle : convergence half-angle in mrad, above 0 (`simulate_saed` for a parallel beam); a
        number or several, which by Bloch waves cost little more than the largest alone.
    thickness : Å, a number or several.
    shape, pixel_size : (H, W) px and 1/Å per px; the direct beam falls on (H // 2, W // 2).
    method : "bloch" is exact for a perfect crystal, "multislice" takes any number of beams;
        "auto" takes multislice where the cell is large, Bloch waves elsewhere.  Both give the
        interference of a probe in focus over the crystal's origin where disks overlap.
    options : `BlochOptions` or `MultisliceOptions`; settles the method where that is "auto".

    Returns
    -------
    (T, H, W) float32, fractions of the incident beam in each pixel; (A, T, H, W) for A semiangles.

    Raises
    ------
    DiskernError
        Where a value is impossible or two values contradict each other.
    """
    rotation = resolve_orientation(crystal, zone_axis, orientation)
    energy = check_energy(energy)
    angles = np.atleast_1d(np.asarray(semiangle, dtype=np.float64))
    for angle in angles.ravel().tolist():
        if not (math.isfinite(angle) and 0 < angle <= 200):
            raise DiskernError(
                f"semiangle={angle} mrad must be above 0 and at most 200; use simulate_saed for "
                "a parallel beam"
            )
    if angles.ndim != 1 or not len(angles):
        raise DiskernError(f"semiangle has the shape {angles.shape}; give a number or a list")
    chosen: str = method
    if method == "auto":
        chosen = _settled_by(options) or choose_method(crystal, energy, float(angles.max()))
    if chosen not in ("bloch", "multislice"):
        raise DiskernError(f"method={method!r} is unknown; use auto, bloch or multislice")
    engine = _by_bloch if chosen == "bloch" else _by_multislice
    images = engine(
        crystal, rotation, energy, angles.tolist(), thickness, shape, pixel_size, options
    )
    return images if np.ndim(semiangle) else images[0]


def choose_method(
    crystal: Crystal, energy: float, semiangle: float
) -> Literal["bloch", "multislice"]:
    """The quicker engine for this crystal and probe."""
    from diskern.simulate.bloch import BlochOptions

    kept = BlochOptions()
    # Reciprocal-lattice points in a lens of radius g_max and height 2 s_max.
    widened = kept.s_max + 0.5 * kept.g_max * semiangle * 1e-3
    volume = crystal.primitive().volume
    beams = volume * math.pi * kept.g_max**2 * 2 * widened
    return "bloch" if beams <= BLOCH_BEAMS else "multislice"


def _settled_by(options: Any) -> str | None:
    return {"BlochOptions": "bloch", "MultisliceOptions": "multislice", "NoneType": None}.get(
        type(options).__name__, "bloch"
    )


def _by_bloch(
    crystal: Crystal,
    orientation: Rotation,
    energy: float,
    semiangles: list[float],
    thickness: ArrayLike,
    shape: tuple[int, int],
    pixel_size: float,
    options: Any,
) -> NDArray[np.float32]:
    from diskern.simulate.bloch import BlochOptions
    from diskern.simulate.bloch_cbed import coherent_cbed
    from diskern.simulate.probe import Probe

    if options is not None and not isinstance(options, BlochOptions):
        raise DiskernError(f"options is a {type(options).__name__}; bloch takes BlochOptions")
    probes = [Probe(energy, angle) for angle in semiangles]
    return coherent_cbed(
        crystal, orientation, probes, thickness, shape, pixel_size, options=options
    )


def _by_multislice(
    crystal: Crystal,
    orientation: Rotation,
    energy: float,
    semiangles: list[float],
    thickness: ArrayLike,
    shape: tuple[int, int],
    pixel_size: float,
    options: Any,
) -> NDArray[np.float32]:
    from diskern.simulate.multislice_cbed import MultisliceOptions, cbed_multislice

    if options is not None and not isinstance(options, MultisliceOptions):
        raise DiskernError(
            f"options is a {type(options).__name__}; multislice takes MultisliceOptions"
        )
    depths = np.atleast_1d(np.asarray(thickness, dtype=float))
    place = (crystal, orientation, energy)
    on = (depths, shape, pixel_size)
    return np.stack([cbed_multislice(*place, a, *on, options=options) for a in semiangles])
