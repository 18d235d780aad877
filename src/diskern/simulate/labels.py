"""Exact labels for what a network or a fit should find in a pattern.

Each reflection carries the modulus of its potential V_g, the signed distance q_z at which the
Ewald sphere passes it, and how visible the two make it.  They come straight from the reflection
list, so they depend on neither the detector nor a Fourier window, nor on thickness through
dynamical diffraction (Munshi et al., npj Comput. Mater. 8 (2022) 254 read them off a simulated
box instead).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import check_energy, wavelength
from diskern.simulate.excitation import excitation_errors
from diskern.simulate.render import Detector, draw_disks, draw_gaussians
from diskern.simulate.scattering import Parametrization
from diskern.simulate.shape_factors import DEFAULT_WIDTH, shape_factor
from diskern.simulate.structure_factors import Reflections

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BraggLabels:
    """What is true of each reflection near the Ewald sphere, most visible first.

    Attributes
    ----------
    hkl : (N, 3) indices in the crystal's own cell.
    q : (N, 2) detector position (q_x, q_y) in 1/Å.
    v_g : (N,) |V_g| in V.
    q_z : (N,) excitation error in 1/Å, positive inside the Ewald sphere.
    visibility : (N,) in [0, 1]: rel-rod S(q_z), times (|V_g|/largest)² of the pattern.
    depth : rms width in 1/Å of the rel-rod S.
    """

    hkl: NDArray[np.int64]
    q: Floats
    v_g: Floats
    q_z: Floats
    visibility: Floats
    depth: float = DEFAULT_WIDTH

    def __len__(self) -> int:
        return len(self.v_g)


def bragg_labels(
    crystal: Crystal | Reflections,
    orientation: Rotation,
    energy: float = 200e3,
    *,
    g_max: float = 2.0,
    depth: float = DEFAULT_WIDTH,
    reach: float = 4.0,
    parametrization: Parametrization = "peng",
) -> BraggLabels:
    """Labels of all allowed reflections within ``reach`` depths of the Ewald sphere.

    Parameters
    ----------
    depth : rms width of the rel-rod in 1/Å along the beam.
    reach : reflections with |q_z| up to ``reach`` · ``depth`` are listed.

    Raises
    ------
    DiskernError
        For an impossible energy, depth or g_max.
    """
    if not (math.isfinite(depth) and depth > 0):
        raise DiskernError(f"depth={depth} must be a positive number in 1/Å")
    table = crystal
    if isinstance(table, Crystal):
        table = Reflections.of(table, g_max, parametrization)
    table = table.select(table.allowed)
    lab = orientation.apply(table.g)
    q_z = excitation_errors(lab, wavelength(check_energy(energy)))
    near = np.abs(q_z) <= reach * depth
    v_g, q_z = np.abs(table.V())[near], q_z[near]
    strength = v_g / v_g.max() if len(v_g) else v_g
    visibility = strength**2 * shape_factor("gaussian", q_z, depth)
    order = np.argsort(-visibility, kind="stable")
    return BraggLabels(
        table.hkl[near][order],
        lab[near][order, :2],
        v_g[order],
        q_z[order],
        visibility[order],
        depth,
    )


@dataclass(frozen=True, eq=False)
class LabelImages:
    """Labels on the grid of a pattern.

    Attributes
    ----------
    v_g : (H, W) |V_g| S(q_z) in V summed over reflections that fall on the pixel.
    q_z : (H, W) mean excitation error in 1/Å, weighted with ``v_g``; 0 where nothing falls.
    visibility : (H, W) in [0, 1], the largest for which a reflection covers the pixel fully.
    """

    v_g: NDArray[np.float32]
    q_z: NDArray[np.float32]
    visibility: NDArray[np.float32]


def render_labels(
    labels: BraggLabels,
    shape: tuple[int, int],
    pixel_size: float,
    radius: float,
    *,
    profile: Literal["disk", "gaussian"] = "disk",
    centre: tuple[float, float] | None = None,
) -> LabelImages:
    """Draw labels as disks (or Gaussians) of height 1 times their value.

    Parameters
    ----------
    radius : disk radius, or rms radius of the Gaussians, in px.
    """
    if profile not in ("disk", "gaussian"):
        raise DiskernError(f"profile={profile!r} is unknown; use disk or gaussian")
    if not (math.isfinite(radius) and radius > 0):
        raise DiskernError(f"radius={radius} px must be a positive number")
    rows, cols = Detector(shape, pixel_size, centre=centre).pixels(labels.q)
    damped = labels.v_g * shape_factor("gaussian", labels.q_z, labels.depth)
    weights = np.stack([damped, damped * labels.q_z, labels.visibility])
    rows, cols = (np.broadcast_to(a, weights.shape) for a in (rows, cols))
    if profile == "disk":
        images = draw_disks(rows, cols, weights, shape, radius)
    else:
        # draw_gaussians keeps the flux; a height of 1 needs the inverse of the central share.
        images = draw_gaussians(rows, cols, weights, shape, radius)
        images = images / math.erf(0.5 / (math.sqrt(2) * radius)) ** 2
    v_g, moment, visibility = images
    covered = v_g > 1e-4 * v_g.max(initial=0.0)
    q_z = np.where(covered, moment / np.where(covered, v_g, 1), 0).astype(np.float32)
    return LabelImages(v_g, q_z, np.minimum(visibility, 1))
