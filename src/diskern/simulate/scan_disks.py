"""Convergent-beam patterns by the hundred: every disk a two-beam rocking curve.

Each reflection is treated as alone with the direct beam (two-beam dynamical theory, absorption
left out: Williams & Carter, Transmission Electron Microscopy, ch. 13), with the excitation error
of each point of its disk.  Positions are exact; intensities have the right fringes and
magnitude away from zone axes and are an approximation on them.  Milliseconds a pattern.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from diskern.crystal.crystal import Crystal
from diskern.crystal.orientation import excitation_error
from diskern.physics import wavelength
from diskern.simulate.probe import Probe, aperture_coverage
from diskern.simulate.structure_factors import Reflections

Floats = NDArray[np.float64]
_MOST_ELEMENTS = 1 << 24


class TwoBeamDisks:
    """The disks of one crystal on one detector, for any orientation, strain and thickness.

    Parameters
    ----------
    g_max : reflections out to here, 1/Å.
    s_max : reflections whose excitation error stays beyond this over the whole disk are left
        out, 1/Å.
    """

    def __init__(
        self,
        crystal: Crystal,
        probe: Probe,
        shape: tuple[int, int],
        pixel_size: float,
        *,
        g_max: float = 1.6,
        s_max: float = 0.04,
    ) -> None:
        reflections = Reflections.of(crystal.primitive(), g_max)
        reflections = reflections.select(reflections.allowed)
        self._g = reflections.g
        self._coupling = 1 / reflections.extinction_distance(probe.energy)
        self._probe, self._shape, self._pixel, self._s_max = probe, shape, pixel_size, s_max
        self._wavelength = wavelength(probe.energy)
        self._half = math.ceil(probe.k_reach / pixel_size + 1)
        self._area = self._covered(np.zeros((1, 2)))[0].sum()

    def patterns(
        self,
        rotations: Floats,
        stretches: Floats,
        thicknesses: Floats,
        centres: Floats,
    ) -> NDArray[np.float32]:
        """(B, H, W) fractions of the incident beam.

        Parameters
        ----------
        rotations, stretches : (B, 3, 3) crystal → lab, and I + e in the lab frame.
        thicknesses : (B,) in Å.
        centres : (B, 2) row and column in px of the direct beam.
        """
        side = 2 * self._half + 1
        step = max(1, _MOST_ELEMENTS // (side * side * 150))
        parts = [
            self._block(
                rotations[i : i + step],
                stretches[i : i + step],
                thicknesses[i : i + step],
                centres[i : i + step],
            )
            for i in range(0, len(rotations), step)
        ]
        return np.concatenate(parts)

    def _block(
        self, rotations: Floats, stretches: Floats, thicknesses: Floats, centres: Floats
    ) -> NDArray[np.float32]:
        which, lab, s_g = self._near_sphere(rotations, stretches)
        frame, coupling = which[0], self._coupling[which[1]]
        # The transverse part of K + g is kept at the exit face: disks sit at (g_x, g_y).
        places = centres[frame] + lab[:, 1::-1] / self._pixel
        depth = thicknesses[frame]
        canvas = np.zeros((len(rotations), *self._shape), dtype=np.float32)
        # The direct disk loses, point by point, what the others take.
        direct = self._offsets(centres)
        taken = np.zeros(direct.shape[:3])
        lost = self._rocking(lab, s_g, coupling, depth, direct[frame])
        torch.from_numpy(taken).index_add_(0, torch.from_numpy(frame), torch.from_numpy(lost))
        room = 0.95 / np.maximum(taken.max(axis=(1, 2)), 0.95)
        self._add(canvas, np.arange(len(centres)), centres, 1 - taken * room[:, None, None])
        disks = self._rocking(lab, s_g, coupling, depth, self._offsets(places))
        self._add(canvas, frame, places, disks * room[frame, None, None])
        return canvas

    def _near_sphere(
        self, rotations: Floats, stretches: Floats
    ) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Floats, Floats]:
        """Frame and reflection numbers, g in the lab frame and s_g of all that can be seen."""
        # g' = (I + e)^-T R g; I + e is symmetric.
        lab = self._g @ np.swapaxes(np.linalg.inv(stretches) @ rotations, 1, 2)
        s_g = excitation_error(lab, self._wavelength)
        widened = self._s_max + self._wavelength * self._probe.k_reach * np.hypot(
            lab[..., 0], lab[..., 1]
        )
        frame, index = np.nonzero(np.abs(s_g) < widened)
        return (frame, index), lab[frame, index], s_g[frame, index]

    def _offsets(self, places: Floats) -> Floats:
        """(N, P, P, 2) offsets (k_y, k_x) in 1/Å of a disk's pixels from its middle."""
        steps = np.arange(-self._half, self._half + 1)
        away = np.round(places) - places
        rows = (away[:, 0, None] + steps) * self._pixel
        cols = (away[:, 1, None] + steps) * self._pixel
        return np.stack(np.broadcast_arrays(rows[:, :, None], cols[:, None, :]), axis=-1)

    def _rocking(
        self, lab: Floats, s_g: Floats, coupling: Floats, depth: Floats, k: Floats
    ) -> Floats:
        """(N, P, P) two-beam intensity at incident directions k (k_y, k_x)."""
        slope = self._wavelength * lab
        s = s_g[:, None, None] - (
            slope[:, None, None, 1] * k[..., 0] + slope[:, None, None, 0] * k[..., 1]
        )
        inverse = coupling[:, None, None]
        effective = np.sqrt(s * s + inverse * inverse)
        swing = np.sin(np.pi * depth[:, None, None] * effective)
        return np.asarray((inverse / effective * swing) ** 2)

    def _covered(self, places: Floats) -> Floats:
        """(N, P, P) open fraction of each disk's pixels."""
        k = torch.from_numpy(np.ascontiguousarray(self._offsets(places)))
        open_part = aperture_coverage(self._probe, k[..., 0], k[..., 1], (self._pixel,) * 2)
        return np.asarray(open_part.numpy())

    def _add(
        self,
        canvas: NDArray[np.float32],
        frame: NDArray[np.int64],
        places: Floats,
        intensity: Floats,
    ) -> None:
        """Add disks (N, P, P) to their frames, whatever falls off the detector left out."""
        height, width = self._shape
        steps = np.arange(-self._half, self._half + 1)
        middle = np.round(places).astype(np.int64)
        rows = (middle[:, 0, None] + steps)[:, :, None]
        cols = (middle[:, 1, None] + steps)[:, None, :]
        value = intensity * self._covered(places) / self._area
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        flat = (frame[:, None, None] * height + rows) * width + cols
        canvas.reshape(-1)[:] += np.bincount(
            flat[inside], weights=value[inside], minlength=canvas.size
        ).astype(np.float32)
