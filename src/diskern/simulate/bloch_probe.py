"""Convergent-beam patterns of a coherent probe from Bloch waves: disks may overlap.

A crystal mixes an incident wave vector k only with k + g.  The directions of a probe's aperture
therefore fall into families {k + g} that know nothing of each other, and the waves of one family
enter the same eigenproblem together, as one vector with the aperture's amplitude in every beam
that lies in it.  What leaves in a beam is then the coherent sum of all disks that meet there.
One direction of each family is enough, so a large aperture, whose disks overlap many times,
costs no more than one that just fills the space between reflections.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import wavelength
from diskern.simulate.bloch import BlochOptions, BlochWaves
from diskern.simulate.bloch_cbed import DirectionGrid, draw_disks, oversampling
from diskern.simulate.probe import Probe, aperture_coverage
from diskern.simulate.render import Detector

Floats = NDArray[np.float64]
_MET = 0.5
"""Share of the largest excitation error of a beam up to which a wave of the aperture enters in it.
At 0.9 the members of a family often do not agree on who belongs to it."""
_REAL = 1e-9
"""Imaginary part of a phase factor that is rounding; real waves are done in half the time."""
_SEAM = 4.0
"""Steps over which one member of a family hands over to another."""


class Families(NamedTuple):
    """One direction, more where two share the part, of every family of an aperture.

    Attributes
    ----------
    nodes : (K,) of the directions in the grid's ``k``.
    entry : (K, N) amplitudes of the probe in the N beams; real for a probe in focus over the
        origin of the beams' coupling.
    share : (K,) part of the family that the direction stands for.
    """

    nodes: NDArray[np.int64]
    entry: NDArray[np.complex128] | Floats
    share: Floats


def coherent_cbed(
    crystal: Crystal,
    orientation: Rotation,
    probe: Probe,
    thicknesses: ArrayLike,
    shape: tuple[int, int],
    pixel_size: float,
    *,
    options: BlochOptions | None = None,
    centre: ArrayLike = (0.0, 0.0, 0.0),
) -> NDArray[np.float32]:
    """Pattern of a focused probe at one place of a perfect crystal.

    Parameters
    ----------
    orientation : rotation crystal → lab.
    probe : its energy, aperture and aberrations.
    thicknesses : (T,) in Å.
    shape, pixel_size : (H, W) px and 1/Å per px; the direct beam falls on (H // 2, W // 2).
    centre : fractional coordinates of the crystal point on the entrance face under the probe.

    Returns
    -------
    (T, H, W) float32 fractions of the incident beam.

    Raises
    ------
    DiskernError
        For a parallel beam, a detector that cannot be, or more beams than can be solved.

    Notes
    -----
    Si, ZnS and a triclinic crystal at 8 mrad and 200 kV, beams to 2.5 1/Å, differ from multislice
    in a cut box by 2 to 4 % of the intensity apart from single pixels, sums of intensities by 12
    to 60 %.  The edges of disks are drawn half a pixel soft, which moves 0.3 to 2 %.
    """
    if not probe.semiangle > 0:
        raise DiskernError("semiangle=0 mrad is a parallel beam; use simulate_saed for it")
    depths = np.atleast_1d(np.asarray(thicknesses, dtype=np.float64))
    options = options or BlochOptions(dtype="float32")
    waves = BlochWaves(crystal, orientation, probe.energy, options, k_reach=probe.k_reach)
    place = orientation.apply(np.asarray(centre, dtype=np.float64) @ crystal.lattice)
    grid = DirectionGrid(probe, pixel_size, oversampling(waves, pixel_size, depths))
    found = families(waves, probe, grid, place - waves.beams.origin)
    flux = waves.intensities(depths, grid.k[found.nodes], found.entry)
    flux = flux * torch.as_tensor(found.share).to(flux)[:, None, None]
    curves = flux.new_zeros((len(depths), len(waves), grid.source.size))
    curves[..., torch.as_tensor(grid.place[found.nodes])] = flux.permute(1, 2, 0)
    curves = curves.view(len(depths), len(waves), *grid.source.shape)
    images = draw_disks(curves, waves.beams.g[:, :2], Detector(shape, pixel_size), grid)
    return np.asarray(images.float().cpu().numpy())


def families(waves: BlochWaves, probe: Probe, grid: DirectionGrid, place: Floats) -> Families:
    """Nodes of a grid of directions that stand for the whole aperture.

    The member nearest to the axis stands for its family.  Where two are about as near they share
    it, smoothly over a few steps of the grid, which does not repeat from member to member.

    Parameters
    ----------
    place : (3,) in Å, of the probe on the entrance face, from the origin of ``waves.beams.U``.
    """
    k, step, g = grid.k, grid.pitch, waves.beams.g
    near = np.flatnonzero(np.linalg.norm(g[:, :2], axis=1) < 2 * probe.k_reach + 2 * step)
    q = k[:, None] + g[None, near, :2]
    coverage = _open(probe, q, step)
    # Further from the sphere a wave does not mix with the others of its family.
    met = np.abs(waves.excitation_errors(k)[:, near]) <= _MET * waves.options.s_max
    coverage[~met] = 0.0
    distance = np.where(coverage > 0, (q**2).sum(-1), np.inf)
    shortest = np.linalg.norm(g[near[1:], :2], axis=1).min(initial=1.0)
    seam = 2 * _SEAM * grid.pitch * shortest
    nearest = distance.min(1, keepdims=True)
    part = np.clip(1 - (distance - np.where(np.isfinite(nearest), nearest, 0)) / seam, 0, 1)
    part *= part * (3 - 2 * part)
    share = part[:, 0] / np.maximum(part.sum(1), 1e-30)
    nodes = np.flatnonzero(share > 0)
    phase = np.exp(-2j * math.pi * (g[near] @ place)) * _turned(probe, q[nodes])
    if np.abs(phase.imag).max() < _REAL:
        phase = phase.real
    entry = np.zeros((len(nodes), len(waves)), dtype=phase.dtype)
    entry[:, near] = np.sqrt(coverage[nodes]) * phase
    # The parts of all families together are the beam.
    flux = share[nodes] @ coverage[nodes].sum(1) / grid.oversample**2
    return Families(nodes, entry, share[nodes] / flux)


def _open(probe: Probe, k: Floats, step: float) -> Floats:
    found = aperture_coverage(
        probe, torch.from_numpy(k[..., 1]), torch.from_numpy(k[..., 0]), (step, step)
    )
    return np.asarray(found.numpy())


def _turned(probe: Probe, k: Floats) -> NDArray[np.complex128] | float:
    """Phase factors of the aberrations at (..., 2) wave vectors."""
    if not probe.aberrations.any:
        return 1.0
    k_y, k_x = torch.from_numpy(k[..., 1]), torch.from_numpy(k[..., 0])
    return np.asarray(
        np.exp(-1j * probe.aberrations.phase(k_y, k_x, wavelength(probe.energy)).numpy())
    )
