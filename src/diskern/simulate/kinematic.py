"""Kinematic spot patterns of a crystal in one or very many orientations.

Intensities follow I_g = (π t/ξ_g)² S(s_g): the first Born approximation for a foil that is thin
against the extinction distance.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from diskern.crystal.crystal import Crystal
from diskern.errors import DiskernError
from diskern.physics import check_energy, wavelength
from diskern.simulate.arrays import (
    index_like,
    like,
    namespace,
    places,
    rows_at,
    scatter_max,
    zeros,
)
from diskern.simulate.double_diffraction import second_order
from diskern.simulate.excitation import errors_of
from diskern.simulate.saed_options import SaedOptions, check_thickness, resolve_options
from diskern.simulate.shape_factors import (
    DEFAULT_WIDTH,
    ShapeFactor,
    shape_factor,
    width_of,
)
from diskern.simulate.spot_pattern import SpotBatch
from diskern.simulate.structure_factors import Reflections

CHUNK = 2**21
"""Orientation × reflection products held at a time (about 100 MB in float64)."""


def simulate_saed_batch(
    crystal: Crystal | Reflections,
    orientations: Rotation | Any,
    *,
    energy: float = 200e3,
    g_max: float = 2.0,
    thickness: float | None = None,
    options: SaedOptions | None = None,
    device: str | None = None,
    **settings: Any,
) -> SpotBatch:
    """Simulate the kinematic patterns of one crystal in B orientations at once.

    Parameters
    ----------
    crystal : the structure, or its `Reflections` where they are used again and again.
    orientations : scipy Rotation of B elements, or (B, 3, 3) matrices crystal → lab.  A float32
        torch tensor is computed in float32 on its own device.
    device : torch device to compute on; None is numpy, unless ``orientations`` is a tensor.
    energy, g_max, thickness, options, **settings : as for `simulate_saed`.

    Returns
    -------
    SpotBatch of padded (B, N) arrays.
    """
    opts = resolve_options(options, settings)
    check_thickness(thickness)
    lam = wavelength(check_energy(energy))
    if opts.double_diffraction and thickness is None:
        raise DiskernError("double_diffraction needs a thickness in Å; add e.g. thickness=200")
    table = crystal
    if isinstance(table, Crystal):
        table = Reflections.of(table, g_max, opts.parametrization)
    matrices = _matrices(orientations, device)
    born = _BornSeries(table, energy, thickness, opts, matrices)
    step = max(1, CHUNK // max(1, len(born.g)))
    parts = [born(matrices[i : i + step], lam) for i in range(0, len(matrices), step)]
    return _join(parts, energy, thickness)


class _BornSeries:
    """The reflections of one crystal laid out for one library, and what turns s into intensity."""

    def __init__(
        self,
        table: Reflections,
        energy: float,
        thickness: float | None,
        options: SaedOptions,
        reference: Any,
    ) -> None:
        self.options, self.thickness = options, thickness
        natural = DEFAULT_WIDTH if thickness is None else width_of(thickness)
        self.width = natural if options.width is None else options.width
        tails = 4 if options.shape_factor == "gaussian" else 12
        self.limit = options.max_excitation_error or tails * self.width
        # Second-order scattering also reaches extinct reflections.
        rows = table if options.double_diffraction else table.scattering
        self.table = rows
        # The last row of the lists is that of padding.
        blank = np.zeros((1, 3), dtype=np.int64)
        self.listed_hkl = index_like(np.concatenate([rows.hkl, blank]), reference)
        self.listed_g = like(np.concatenate([rows.g, blank]), reference)
        self.g = self.listed_g[:-1]
        self.square = (self.g * self.g).sum(-1)
        if thickness is None:
            strength = np.abs(rows.F) ** 2
        else:
            amplitude = math.pi * wavelength(energy) * thickness * np.abs(rows.U(energy))
            # A given width spreads the same rocking-curve integral.
            strength = amplitude**2 * (natural / self.width)
        self.strength = like(strength, reference)
        self.energy = energy

    def __call__(self, matrices: Any, lam: float) -> SpotBatch:
        """Patterns of (B, 3, 3) orientations."""
        excess, near = self._near_sphere(matrices[:, 2], lam)
        found = places(near)
        row = found // len(self.g)
        column = found - row * len(self.g)
        errors = errors_of(excess.reshape(-1)[found], lam)
        bright = self.strength[column] * self._profile(matrices, row, column, errors, lam)
        if not self.options.double_diffraction:
            # Most of what a large cell brings near the sphere is too weak to be kept.
            top = scatter_max(len(matrices), row, bright)
            kept = bright > self.options.min_intensity * top[row]
            row, column, errors, bright = (a[kept] for a in (row, column, errors, bright))
        slot, count = _slots(row, len(matrices))
        shape = (len(matrices), max(1, int(count.max())) if len(count) else 1)
        which = zeros(shape, column) + len(self.g)
        sg, intensity = zeros(shape, matrices), zeros(shape, matrices)
        which[row, slot], sg[row, slot], intensity[row, slot] = column, errors, bright
        if self.options.double_diffraction and self.thickness is not None:
            intensity = intensity + second_order(
                self.table.crystal,
                rows_at(self.listed_hkl, which),
                sg,
                self.energy,
                self.thickness,
                self.table.parametrization,
            )
        return self._sorted(which, matrices, sg, intensity)

    def _near_sphere(self, beam: Any, lam: float) -> tuple[Any, Any]:
        """(B, P) |k+g|² - k², and whether |s_g| stays within the limit.

        |s| ≤ L means that |k+g| lies between n(L) and n(-L), n(s) = (s² + k²)^½ - s: a bound on
        |k+g|² - k² = 2k g_z + g², one product for all reflections and orientations.  ``beam`` is
        (B, 3) in the crystal's frame.
        """
        k, limit = 1 / lam, self.limit
        along = beam @ self.g.T
        excess = 2 * k * along + self.square
        low, high = ((math.hypot(s, k) - s) ** 2 - k * k for s in (limit, -limit))
        slack = 0.0
        if self.options.precession_angle is not None:
            tilt = self.options.precession_angle * 1e-3
            radial = (self.square - along**2).clip(0) ** 0.5
            slack = 2 * k * (radial * math.sin(tilt) + abs(along) * tilt**2)
        return excess, (excess >= low - slack) & (excess <= high + slack)

    def _profile(self, matrices: Any, row: Any, column: Any, s: Any, lam: float) -> Any:
        kind, width = self.options.shape_factor, self.width
        if self.options.precession_angle is None:
            return shape_factor(kind, s, width)
        lab = namespace(matrices).einsum("nij,nj->ni", matrices[row], self.g[column])
        return precession_average(lab, lam, self.options.precession_angle, kind, width)

    def _sorted(self, which: Any, matrices: Any, s: Any, intensity: Any) -> SpotBatch:
        xp = namespace(s)
        strongest = xp.amax(intensity, 1)[:, None]
        count = ((intensity > self.options.min_intensity * strongest) & (strongest > 0)).sum(1)
        keep = max(1, int(count.max())) if len(count) else 1
        order = xp.argsort(-intensity)[:, :keep]
        rows = index_like(np.arange(len(order))[:, None], s)
        intensity, s, which = (a[rows, order] for a in (intensity, s, which))
        if self.thickness is None:
            intensity = intensity / xp.where(strongest > 0, strongest, xp.ones_like(strongest))
        seen = index_like(np.arange(keep), count) < count[:, None]
        which = xp.where(seen, which, len(self.g))
        return SpotBatch(
            rows_at(self.listed_hkl, which),
            rows_at(self.listed_g, which) @ xp.stack([matrices[:, 0], matrices[:, 1]], 2),
            s * seen,
            intensity * seen,
            count,
        )


def precession_average(lab: Any, lam: float, angle: float, kind: ShapeFactor, width: float) -> Any:
    """(...) mean of the shape factor over a beam precessing at ``angle`` mrad.

    The azimuth enters only as its cosine, so half a turn sampled at midpoints is enough; the
    number of samples resolves the sharpest reflection.
    """
    xp = namespace(lab)
    tilt, k = angle * 1e-3, 1 / lam
    radial = xp.sqrt((lab[..., :2] ** 2).sum(-1))
    square = (lab * lab).sum(-1)
    sweep = float(radial.max()) * math.sin(tilt) if math.prod(radial.shape) else 0.0
    samples = int(min(2048, max(16, math.ceil(3 * sweep / width))))
    total = zeros(tuple(radial.shape), radial)
    for azimuth in (np.arange(samples) + 0.5) * (math.pi / samples):
        along = radial * (math.sin(tilt) * math.cos(azimuth)) + lab[..., 2] * math.cos(tilt)
        total = total + shape_factor(kind, errors_of(2 * k * along + square, lam), width)
    return total / samples


def _matrices(orientations: Any, device: str | None) -> Any:
    matrices = orientations.as_matrix() if isinstance(orientations, Rotation) else orientations
    if namespace(matrices) is np:
        matrices = np.asarray(matrices, dtype=np.float64)
    if tuple(matrices.shape[-2:]) != (3, 3) or matrices.ndim not in (2, 3):
        raise DiskernError(f"orientations have shape {tuple(matrices.shape)}; give (B, 3, 3)")
    matrices = matrices.reshape(-1, 3, 3)
    if device is None:
        return matrices
    import torch

    return torch.as_tensor(matrices, device=device)


def _slots(row: Any, rows: int) -> tuple[Any, Any]:
    """Place within its row of every entry of ascending ``row``, and (rows,) counts."""
    count = namespace(row).bincount(row, minlength=rows)
    start = namespace(row).cumsum(count, 0) - count
    return index_like(np.arange(len(row)), count) - start[row], count


def _join(parts: list[SpotBatch], energy: float, thickness: float | None) -> SpotBatch:
    if not parts:
        raise DiskernError("no orientation was given; pass at least one rotation")
    if len(parts) == 1:
        return replace(parts[0], energy=energy, thickness=thickness)
    longest = max(p.intensity.shape[1] for p in parts)
    xp = namespace(parts[0].intensity)

    def joined(name: str) -> Any:
        blocks = []
        for part in parts:
            array = getattr(part, name)
            full = zeros((array.shape[0], longest, *array.shape[2:]), array)
            full[:, : array.shape[1]] = array
            blocks.append(full)
        return xp.concatenate(blocks)

    count = xp.concatenate([p.count for p in parts])
    hkl, q, s, intensity = (joined(name) for name in ("hkl", "q", "s_g", "intensity"))
    return SpotBatch(hkl, q, s, intensity, count, energy, thickness)
