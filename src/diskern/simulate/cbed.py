"""Convergent-beam patterns: one public function, the engine chosen by validity and cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import check_energy, wavelength
from diskern.simulate.kinematic import simulate_saed_batch
from diskern.simulate.saed_options import resolve_orientation

if TYPE_CHECKING:
    from diskern.simulate.bloch import BlochOptions
    from diskern.simulate.multislice_cbed import MultisliceOptions

BLOCH_BEAMS = 1500
"""Beams up to which Bloch waves are the cheaper engine (cells up to about 1500 Å³)."""
VISIBLE = 0.01
"""Reflections above this share of the strongest count for the overlap of disks."""


def simulate_cbed(
    crystal: Crystal,
    zone_axis: ArrayLike | None = None,
    *,
    orientation: Rotation | None = None,
    energy: float = 200e3,
    semiangle: float = 2.0,
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
    semiangle : convergence half-angle in mrad, above 0 (`simulate_saed` for a parallel beam).
    thickness : Å, a number or several.
    shape, pixel_size : (H, W) px and 1/Å per px; the direct beam falls on (H // 2, W // 2).
    method : "bloch" is exact for a perfect crystal, "multislice" takes any number of beams;
        "auto" takes multislice where the cell is large, Bloch waves elsewhere.  Where disks
        overlap both give the interference of a probe in focus over the crystal's origin.
    options : `BlochOptions` or `MultisliceOptions`; settles the method where that is "auto".

    Returns
    -------
    (T, H, W) float32, fractions of the incident beam in each pixel.

    Raises
    ------
    DiskernError
        Where a value is impossible or two values contradict each other.
    """
    rotation = resolve_orientation(crystal, zone_axis, orientation)
    energy = check_energy(energy)
    if not (math.isfinite(semiangle) and 0 < semiangle <= 200):
        raise DiskernError(
            f"semiangle={semiangle} mrad must be above 0 and at most 200; use simulate_saed for "
            "a parallel beam"
        )
    chosen: str = method
    if method == "auto":
        chosen = _settled_by(options) or choose_method(crystal, energy, semiangle)
    if chosen == "bloch":
        return _by_bloch(
            crystal, rotation, energy, semiangle, thickness, shape, pixel_size, options
        )
    if chosen != "multislice":
        raise DiskernError(f"method={method!r} is unknown; use auto, bloch or multislice")
    return _by_multislice(
        crystal, rotation, energy, semiangle, thickness, shape, pixel_size, options
    )


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


def disks_overlap(crystal: Crystal, orientation: Rotation, energy: float, semiangle: float) -> bool:
    """Whether the disks of two visible reflections touch."""
    spots = simulate_saed_batch(
        crystal, orientation, energy=energy, g_max=1.5, min_intensity=VISIBLE
    )[0]
    centres = np.concatenate([np.zeros((1, 2)), spots.q])
    diameter = 2 * semiangle * 1e-3 / wavelength(energy)
    return len(centres) > 1 and bool(pdist(centres).min() < diameter)


def _settled_by(options: Any) -> str | None:
    return {"BlochOptions": "bloch", "MultisliceOptions": "multislice", "NoneType": None}.get(
        type(options).__name__, "bloch"
    )


def _by_bloch(
    crystal: Crystal,
    orientation: Rotation,
    energy: float,
    semiangle: float,
    thickness: ArrayLike,
    shape: tuple[int, int],
    pixel_size: float,
    options: Any,
) -> NDArray[np.float32]:
    from diskern.simulate.bloch import BlochOptions, BlochWaves
    from diskern.simulate.bloch_cbed import cbed_disks
    from diskern.simulate.probe import Probe

    if options is not None and not isinstance(options, BlochOptions):
        raise DiskernError(f"options is a {type(options).__name__}; bloch takes BlochOptions")
    opts = options or BlochOptions(dtype="float32")
    if disks_overlap(crystal, orientation, energy, semiangle):
        from diskern.simulate.bloch_probe import coherent_cbed

        probe = Probe(energy, semiangle)
        return coherent_cbed(
            crystal, orientation, probe, thickness, shape, pixel_size, options=opts
        )
    reach = math.sin(semiangle * 1e-3) / wavelength(energy)
    waves = BlochWaves(crystal, orientation, energy, opts, k_reach=reach)
    images = cbed_disks(waves, semiangle, thickness, shape, pixel_size)
    return np.asarray(images.float().cpu().numpy())


def _by_multislice(
    crystal: Crystal,
    orientation: Rotation,
    energy: float,
    semiangle: float,
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
    return cbed_multislice(
        crystal,
        orientation,
        energy,
        semiangle,
        np.atleast_1d(np.asarray(thickness, dtype=float)),
        shape,
        pixel_size,
        options=options,
    )
